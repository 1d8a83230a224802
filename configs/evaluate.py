"""Evaluates a trained classifier; by default on the test split of the data set it was trained on.

Run: jaxmoust evaluate --config=configs/evaluate.py --workdir=runs/real_eval --config.checkpoint=runs/real
"""

import ml_collections

WORDS = ()  # of arg; others are refused


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Args: arg: none."""
    config = ml_collections.ConfigDict()
    config.task = "evaluate"
    return config
