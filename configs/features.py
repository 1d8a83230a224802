"""Features of a folder's images by a public backbone, for all the linear probes on them.

Run: jaxmoust features --config=configs/features.py --workdir=runs/features --config.model.weights=DIR \
       --config.data.path=PHOTOS
     (--config.part=test takes the test images, --config.set=DIR a synthetic set)
"""

import ml_collections


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Args: arg: the folder, file or hub name of the backbone."""
    config = ml_collections.ConfigDict()
    config.task = "features"
    config.data = dict(source="folder", image_px=224, channels=3)
    config.model = dict(name="backbone", weights=arg)
    config.augment = dict(flip=True, crop_px=16)
    config.views = 5
    config.eval = dict(batch_size=64)
    return config
