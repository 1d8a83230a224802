"""DDPM on ImageNet-100 at 64 x 64 colour (Ho et al. 2020, 2006.11239): imagenet100_edm.py but for the method.

Nobody has published a recipe for these 100 classes. Betas, predicted noise and clipped gradients are theirs; network,
augmentation, images seen and learning rate are imagenet100_edm.py's, so that the two generators differ in what they are
asked to learn.

Run: jaxmoust fit --config=configs/generator/imagenet100_ddpm.py --workdir=runs/imagenet100_ddpm --config.data.path=DIR
     (DIR holds train/CLASS/*.JPEG and a validation split; --config.data.classes=FILE names the 100 classes, one a line)
"""

import imagenet100_edm
import ml_collections

WORDS = ("quick",)  # of arg; others are refused


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Args: arg: "quick" trains a small network for seconds, as a smoke test."""
    config = imagenet100_edm.get_config(arg)
    config.method = dict(name="ddpm")
    config.optim.clip_norm = 1.0
    return config
