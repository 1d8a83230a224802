"""A public backbone (DINOv2, CLIP, a ViT, a ResNet ...) as a classifier of one's own photographs.

"probe", the default, computes features once and fits a linear head: seconds, on a laptop. "lora" trains adapters on the
backbone's matrices, "full" all of it, each layer at 0.75 of the rate of the one above.

Run: jaxmoust train --config=configs/classifier/backbone.py:backbone=DIR --workdir=runs/probe --config.data.path=PHOTOS
     jaxmoust train --config=configs/classifier/backbone.py:backbone=DIR,lora --workdir=runs/lora \
       --config.data.path=PHOTOS
     (backbone=NAME is a name on the hub; --config.data.image_px=518 for what was trained at that size)
Settings: of "full", Dosovitskiy et al. 2021 (2010.11929), section 4, by AdamW; decay of the rate by layers: Bao et al.
    2022 (2106.08254), appendix H; of "lora", Hu et al. 2021 (2106.09685), rank 8.
Cost:
Result:
"""

import ml_collections
import variants

WORDS = (*variants.WORDS, "backbone=", "probe|lora|full")
TRAINED = dict(
    lora=dict(learning_rate=1e-3, warmup_steps=50, clip_norm=1.0, weight_decay=0.01),
    full=dict(learning_rate=1e-4, warmup_steps=50, clip_norm=1.0, weight_decay=0.05),
)


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Args: arg: "probe", "lora" or "full"; backbone=DIR; "quick"; synthetic=DIR,share=0.5,name=edm; by ","."""
    words = dict(word.partition("=")[::2] for word in arg.split(",") if word)
    learn = next((word for word in ("lora", "full") if word in words), "probe")
    config = ml_collections.ConfigDict()
    config.task = "classify"
    config.data = dict(source="folder", image_px=224, channels=3)
    config.model = dict(name="backbone", weights=words.get("backbone", ""))
    config.augment = dict(flip=True, crop_px=16)
    config.method = dict(learn=learn)
    config.optim = dict(name="adamw", **TRAINED.get(learn, {}))
    config.train = dict(batch_size=64, num_steps=500, log_steps=50)
    config.eval = dict(batch_size=64)
    quick = dict(data=dict(image_px=8), augment=dict(crop_px=1))
    return variants.finish(config, arg, **quick)
