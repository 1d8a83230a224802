"""Distinguishes CIFAR-10 (32 x 32) from a synthetic set of it: the domain gap, and a score of each image.

Run: jaxmoust domain --config=configs/domain/cifar10.py --workdir=runs/edm_set/scores/density_ratio \
       --config.set=runs/edm_set --config.classifier=runs/cifar10_resnet18
     (the verb `data prepare` puts tfds:cifar10 where TFDS looks for it)
What is compared: `real="base"`, the base set, gives a score that knows no more real images than an arm which trains on
    it; a generator that was trained inside the base set may have copied some of them. `real="unused"` compares with
    real images that neither has seen, which is the cleaner measure of the gap.
Both kinds are brought to 32 px in the same way; a set that was sampled larger, or kept as JPEG, may be recognised by
    the traces of that. --config.data.image_px=16 compares what is left of both at half the size.
Not run at this size.
"""

import ml_collections

WORDS = ("quick",)  # of arg; others are refused


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Args: arg: "quick"."""
    quick = arg == "quick"
    config = ml_collections.ConfigDict()
    config.task = "domain"
    config.data = dict(source="tfds:cifar10", n_base=200 if quick else 0)
    config.model = dict(
        name="resnet",
        block="basic",
        stage_sizes=(1,) if quick else (2, 2, 2, 2),
        width=4 if quick else 64,
        stem="cifar",
        dtype="float32" if quick else "bfloat16",
    )
    config.augment = dict(flip=True, crop_px=4, fill="constant")
    config.optim = dict(name="sgd", learning_rate=0.1, warmup_steps=0 if quick else 200, weight_decay=5e-4)
    config.train = dict(
        batch_size=32 if quick else 128,
        num_steps=4 if quick else 8_000,
        log_steps=2 if quick else 100,
        checkpoint_steps=0 if quick else 2_000,
    )
    config.eval = dict(batch_size=100 if quick else 1000)
    return config
