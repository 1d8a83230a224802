"""Scores a synthetic set by CLIP: the probability of each image's class among the names of all, p(y | x).

Run: jaxmoust score --config=configs/score/clip.py --workdir=runs/edm_set/scores/clip --config.set=runs/edm_set \
       --config.clip=clip-vit-base-patch32
"""

import ml_collections

WORDS = ()  # of arg; others are refused


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Args: arg: none."""
    config = ml_collections.ConfigDict()
    config.task = "clip_score"
    config.prompts = dict(template="a photo of a {}")
    return config
