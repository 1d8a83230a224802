"""How close a synthetic set of digits is to the real ones, and whether its generator copied them.

Run: jaxmoust measure --config=configs/measure/digits.py --workdir=runs/edm_measured --config.set=runs/edm_set \
       --config.extractor.path=runs/real
Cost: 1.5 s on one of 2 CPU cores (2,000 synthetic, 100 training and 797 test images).
Result: of the quickstart's two generators, trained on 100 digits, by its real-only classifier; the floor in brackets:
    EDM FID 1.16 [0.27], CMMD 0.091 [0.014], precision 0.67 [0.75], recall 0.55 [0.93]; DDPM 1.57, 0.150, 0.58, 0.44.
    Neither copies: 0.3 and 0.05 % of the images are suspicious in pixels, 0.6 and 0.3 % in features, where 1 % of the
    held-out digits are. Coverage is 1 of both and of the floor: 2,000 images reach all of 100 balls.
"""

import ml_collections

WORDS = ("quick|classifier|vit|clip|inception",)  # of arg; others are refused


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Args: arg: "quick"; or the extractor: "classifier" (the default), "vit", "clip" or "inception"."""
    quick = arg == "quick"
    config = ml_collections.ConfigDict()
    config.task = "measure"
    config.extractor = dict(name="classifier" if quick else arg or "classifier")
    config.data = dict(source="digits", n_base=100)
    config.num_images = 100 if quick else 0
    config.num_pairs = 4 if quick else 12
    config.flips = False
    return config
