"""Features of a folder's images by a public backbone, for all the linear probes on them.

Run: jaxmoust features --config=configs/features.py:DIR --workdir=runs/features --config.data.path=PHOTOS
"""

import ml_collections


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Args: arg: the backbone: a folder, a file, or a name on the hub."""
    data, model = dict(source="folder", image_px=224, channels=3), dict(name="backbone", weights=arg)
    look = dict(views=5, augment=dict(flip=True, crop_px=16), eval=dict(batch_size=64))
    return ml_collections.ConfigDict(dict(task="features", data=data, model=model, **look))
