"""Scores a synthetic set by a trained classifier: how sure it is of the class that each image was made for.

Run: jaxmoust score --config=configs/score/classifier.py --workdir=runs/edm_set/scores/confidence \
       --config.checkpoint=runs/real --config.set=runs/edm_set
"""

import ml_collections


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Args: arg: the score: confidence p(class | image) (the default), margin or certainty."""
    config = ml_collections.ConfigDict()
    config.task = "score"
    config.score = arg or "confidence"
    return config
