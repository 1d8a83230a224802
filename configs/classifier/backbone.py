"""A public backbone (DINOv2, CLIP, a ViT, a ResNet ...) as a classifier of one's own photographs.

Run: jaxmoust train --config=configs/classifier/backbone.py:backbone=DIR --workdir=runs/probe --config.data.path=PHOTOS
     (DIR may be a name on the hub; "probe", the default, fits a head on features; "lora" trains adapters, "full" all)
Settings: Bao et al. 2022 (2106.08254), appendix H, for the decay by layers; Hu et al. 2021 (2106.09685) for adapters.
"""

import ml_collections
import variants

WORDS = (*variants.WORDS, "backbone=", "probe|lora|full")
LORA = dict(learning_rate=1e-3, warmup_steps=50, clip_norm=1.0, weight_decay=0.01)
OPTIM = dict(lora=LORA, full=dict(LORA, learning_rate=1e-4, weight_decay=0.05, layer_decay=0.75))


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Args: arg: "probe", "lora" or "full"; backbone=DIR; "quick"; synthetic=DIR,share=0.5,name=edm; by ","."""
    words = dict(word.partition("=")[::2] for word in arg.split(",") if word)
    learn = next((word for word in OPTIM if word in words), "probe")
    config = ml_collections.ConfigDict(dict(task="classify", method=dict(learn=learn)))
    config.data = dict(source="folder", image_px=224, channels=3)
    config.model = dict(name="backbone", weights=words.get("backbone", ""))
    config.augment = dict(flip=True, crop_px=16)
    config.optim = dict(name="adamw", **OPTIM.get(learn, {}))
    config.train, config.eval = dict(batch_size=64, num_steps=500, log_steps=50), dict(batch_size=64)
    return variants.finish(config, arg, data=dict(image_px=8), augment=dict(crop_px=1))
