"""Writes a Stable Diffusion pipeline with everything that was learnt in it, in diffusers' layout.

Run: jaxmoust merge --config=configs/merge.py --workdir=runs/merged --config.pipeline.path=runs/tiny_sd_lora
     (a folder that `fit` left; or a pipeline, and adapters beside it by --config.pipeline.lora=FILE)
"""

import ml_collections

WORDS = ()  # of arg; others are refused


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Args: arg: none."""
    config = ml_collections.ConfigDict()
    config.task = "merge"
    return config
