"""How close a synthetic set of digits is to the real ones, and whether its generator copied them.

Run: jaxmoust measure --config=configs/measure/digits.py --workdir=runs/edm_measured --config.set=runs/edm_set \
       --config.extractor.path=runs/real
Cost: COST
Result: RESULT
"""

import ml_collections


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Args: arg: "quick"; or the extractor: classifier (the default), vit or clip."""
    quick = arg == "quick"
    config = ml_collections.ConfigDict()
    config.task = "measure"
    config.set = ""
    config.extractor = dict(name="classifier" if quick else arg or "classifier", path="")
    config.data = dict(
        source="digits",
        path="",
        classes="",
        n_base=100,
        base_seed=0,
        n_per_class=0,
        imbalance="",
        imbalance_ratio=0.0,
        copies=1,
        image_px=0,
        channels=0,
        digest="",
    )
    config.eval = dict(batch_size=256)
    config.num_images = 100 if quick else 0
    config.num_pairs = 4 if quick else 12
    config.flips = False
    return config
