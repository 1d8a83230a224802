"""Distinguishes Fashion-MNIST (28 x 28 grey) from a synthetic set: the domain gap, and a score of each image.

Run: jaxmoust domain --config=configs/domain/fashion.py --workdir=runs/edm_set/scores/density_ratio \
       --config.set=runs/edm_set --config.classifier=runs/fashion
     (the files come with Debian's package dataset-fashion-mnist, or lie in --config.data.path=DIR)
What is compared: `real="base"`, the base set, gives a score that knows no more real images than an arm which trains on
    it; a generator that was trained inside the base set may have copied some of them. `real="unused"` compares with
    real images that neither has seen, which is the cleaner measure of the gap.
Cost: 92 s of processor time (x86_64, jax 0.10.2).
Result (1,000 base images, 5,000 of an EDM trained on them, seed 0): 82.2 % right [80.4, 83.8], AUC 0.901
    [0.886, 0.914] on 2,000 held-out images; overlap 0.90 in the features of the domain classifier, 1.00 in
    those of a real-trained one. The density ratio's mean over the synthetic images is 0.96 (1 if it were exact).
"""

import ml_collections

WORDS = ("quick",)  # of arg; others are refused


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Args: arg: "quick"."""
    quick = arg == "quick"
    config = ml_collections.ConfigDict()
    config.task = "domain"
    config.data = dict(source="fashion_mnist", n_base=200 if quick else 1000)
    config.model = dict(
        name="resnet", block="basic", stage_sizes=(1,) if quick else (1, 1, 1), width=4 if quick else 16, stem="cifar"
    )
    config.augment = dict(flip=True, crop_px=2, fill="constant")
    config.optim = dict(name="sgd", learning_rate=0.1, warmup_steps=0 if quick else 20, weight_decay=5e-4)
    config.train = dict(batch_size=32 if quick else 64, num_steps=4 if quick else 300, log_steps=2 if quick else 50)
    config.eval = dict(batch_size=1000)
    return config
