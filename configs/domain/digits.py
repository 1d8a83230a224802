"""Distinguishes digits of scikit-learn, 8 x 8 grey, from a synthetic set: the domain gap, and a score of each image.

Run: jaxmoust domain --config=configs/domain/digits.py --workdir=runs/edm_set/scores/density_ratio \
       --config.set=runs/edm_set --config.classifier=runs/real
What is compared: `real="base"`, the base set, gives a score that knows no more real images than an arm which trains on
    it; a generator that was trained inside the base set may have copied some of them. `real="unused"` compares with
    real images that neither has seen, which is the cleaner measure of the gap.
Cost: 15 s of training and evaluating on 2 CPU cores (x86_64, jax 0.10.2).
Result (100 base digits, 2,000 images of an EDM trained on them, seed 0): 95.5 % right [91.7, 97.6], AUC 0.998 [0.976,
    1.000] on 200 held-out images; of a DDPM 98.0 % [95.0, 99.2], AUC 1.000 [0.980, 1.000]. In the features of the
    domain classifier the kinds lie apart (overlap 0.05, 0.01), in those of a real-trained one they are mixed (1.08,
    1.03). With the 900 real digits outside the base set: 98.1 % [97.4, 98.6] on 1,800, overlaps 0.05 and 0.94. Real
    digits have 17 levels of grey; rounding the EDM's to them changes little (95.0 % right).
"""

import ml_collections

WORDS = ("quick",)  # of arg; others are refused


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Args: arg: "quick"."""
    quick = arg == "quick"
    config = ml_collections.ConfigDict()
    config.task = "domain"
    config.data = dict(source="digits", n_base=100)
    config.model = dict(
        name="resnet", block="basic", stage_sizes=(1,) if quick else (1, 1), width=4 if quick else 24, stem="cifar"
    )
    config.augment = dict(translate_px=1.0, fill="constant")
    config.optim = dict(name="adamw", learning_rate=2e-3, warmup_steps=0 if quick else 20, weight_decay=0.05)
    config.train = dict(batch_size=32 if quick else 64, num_steps=10 if quick else 200, log_steps=5 if quick else 50)
    return config
