"""DDPM on Fashion-MNIST, 28 x 28 grey (Ho et al. 2020, 2006.11239): fashion_edm.py but for the method.

Betas, predicted noise and clipped gradients are theirs; network, images seen and learning rate are fashion_edm.py's, so
that the two generators differ in what they are asked to learn.

Run: jaxmoust fit --config=configs/generator/fashion_ddpm.py --workdir=runs/fashion_ddpm
Cost of "small" (1,000 images) on 2 CPU cores, x86_64, jax 0.10.2, with other jobs on them: 884 s.
Result of "small": loss 0.0466 on the 1,000 images, 0.0487 held out; experiments/fashion.py says what its samples do.
"""

import fashion_edm
import ml_collections

WORDS = ("quick|small",)  # of arg; others are refused


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Args: arg: "small": 0.64 M parameters, for 2 CPU cores; "quick": seconds, as a smoke test."""
    config = fashion_edm.get_config(arg)
    config.method = dict(name="ddpm")
    config.optim.clip_norm = 1.0
    return config
