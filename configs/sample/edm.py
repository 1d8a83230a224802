"""Draws a synthetic set as Karras et al. 2022 do (2206.00364, Alg. 2): Heun, 18 levels, 35 evaluations an image.

Run: jaxmoust sample --config=configs/sample/edm.py --workdir=runs/edm_set --config.generator=runs/edm
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
    config.sample = dict(num_steps=4 if quick else 18, per_device_batch=20 if quick else 250)
    return config
