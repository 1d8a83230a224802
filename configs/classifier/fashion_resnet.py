"""A small ResNet on Fashion-MNIST (60,000 + 10,000 images, 28 x 28 grey), alone or mixed with a synthetic set.

Run: jaxmoust train --config=configs/classifier/fashion_resnet.py --workdir=runs/fashion
     (the files come with Debian's package dataset-fashion-mnist, or lie in --config.data.path=DIR)
Cost: 806 s on 2 CPU cores (x86_64, jax 0.10.2), 9 epochs; "small" 40 s alone on them.
Result: Top-1 91.63, Top-5 99.88 on the 10,000 test images (seed 0). "small" with 1,000 images, 3 seeds: Top-1 82.51
    [81.01, 84.01] on real images, 77.09 and 77.87 on those of an EDM and a DDPM, 80.91 and 81.49 on halves of both
    (experiments/fashion.py). At a learning rate of 0.1 so few steps end at 80.08 on the same real images.
"""

import ml_collections

WORDS = ("quick|small", "synthetic=", "share=", "name=")  # of arg; others are refused


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Args: arg: "small": few steps, for 1,000 images on 2 CPU cores; "quick"; or synthetic=DIR,share=0.5,name=edm."""
    words = dict(word.partition("=")[::2] for word in arg.split(",") if word)
    quick, small = "quick" in words, "small" in words
    config = ml_collections.ConfigDict()
    config.task = "classify"
    config.data = dict(
        source="fashion_mnist",
        n_base=200 if quick else 0,
        synthetic=(words["synthetic"],) if "synthetic" in words else (),
    )
    config.sampler = dict(name="random")
    if "synthetic" in words:
        share = float(words.get("share", 0.5))
        config.sampler = dict(name="share", shares={"real": 1.0 - share, words.get("name", "edm"): share})
    config.model = dict(
        name="resnet", block="basic", stage_sizes=(1,) if quick else (1, 1, 1), width=4 if quick else 16, stem="cifar"
    )
    config.augment = dict(flip=True, crop_px=2, fill="constant")
    config.optim = dict(
        name="sgd",
        learning_rate=0.4 if small else 0.1,
        warmup_steps=0 if quick else 50 if small else 200,
        weight_decay=5e-4,
    )
    config.train = dict(
        batch_size=32 if quick else 64 if small else 128,
        num_steps=4 if quick else 600 if small else 4200,
        log_steps=2 if quick else 100,
        eval_steps=0 if quick or small else 1400,
        checkpoint_steps=0 if quick or small else 1400,
    )
    config.eval = dict(batch_size=1000)
    return config
