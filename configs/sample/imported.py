"""Brings images that something else made to the classes and the size of one's real images, as a synthetic set.

Run: jaxmoust sample --config=configs/sample/imported.py --workdir=runs/mine --config.path=generated \
    --config.data.source=folder --config.data.path=my_images --config.data.image_px=64 --config.data.channels=3
"""

import ml_collections

WORDS = ()  # of arg; others are refused


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Args: arg: none."""
    config = ml_collections.ConfigDict()
    config.task = "imported"
    config.name = "imported"
    config.data = dict(source="digits")
    return config
