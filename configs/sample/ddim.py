"""Draws a synthetic set from a DDPM by DDIM, 50 evaluations an image (Song et al. 2021, 2010.02502).

Every estimate of x0 is kept in [-1, 1].

Run: jaxmoust sample --config=configs/sample/ddim.py --workdir=runs/ddpm_set --config.generator=runs/ddpm
"""

import ml_collections

WORDS = ("quick",)  # of arg; others are refused


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Args: arg: "quick" draws a few images, as a smoke test."""
    quick = arg == "quick"
    config = ml_collections.ConfigDict()
    config.task = "sample"
    config.num_images = 40 if quick else 2000
    config.shard_images = 20 if quick else 500
    config.sample = dict(solver="euler", num_steps=4 if quick else 50, clip=True, per_device_batch=20 if quick else 250)
    return config
