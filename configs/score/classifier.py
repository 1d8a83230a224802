"""Scores a synthetic set by a trained classifier: how sure it is of the class that each image was made for.

Run: jaxmoust score --config=configs/score/classifier.py --workdir=runs/edm_set/scores/confidence \
       --config.checkpoint=runs/real --config.set=runs/edm_set
"""

import ml_collections


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Args: arg: the score: confidence p(class | image) (the default), margin or certainty."""
    config = ml_collections.ConfigDict()
    config.task = "score"
    config.checkpoint = ""
    config.set = ""
    config.score = arg or "confidence"
    config.folds = 0  # 2 and up: a classifier that learnt from the set is trained anew on each part, to judge the rest
    config.eval = dict(batch_size=256)
    return config
