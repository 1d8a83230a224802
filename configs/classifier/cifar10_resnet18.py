"""ResNet-18 on CIFAR-10 (50,000 + 10,000 images, 32 x 32), alone or mixed with a synthetic set.

Run: jaxmoust train --config=configs/classifier/cifar10_resnet18.py --workdir=runs/cifar10_resnet18
     jaxmoust train --config=configs/classifier/cifar10_resnet18.py:synthetic=runs/edm,share=0.5 --workdir=runs/mix
     jaxmoust train --config=configs/classifier/cifar10_resnet18.py:small --workdir=runs/photos \
       --config.data.source=folder --config.data.path=DIR --config.data.image_px=32 --config.data.channels=3
     (the verb `data prepare` puts tfds:cifar10 where TFDS looks for it)
Settings: DeVries & Taylor 2017 (1708.04552), section 4: batch 128, 200 epochs, rate 0.1, decay 5e-4, flips and crops
    out of 4 px of padding; the rate falls by a cosine instead of three steps. They report (table 1) 95.28 +- 0.21 %,
    and 96.01 +- 0.13 % with cutout of 16 px (--config.augment.cutout_px=16).
    "small", for some hundreds or thousands of photos: no ResNet-18 but the 3 blocks of fashion_resnet.py, 16 to 64
    channels, and its "small": rate 0.4, 600 steps of 64.
Cost of "small" (800 made-up images of 32 px) on 2 CPU cores, x86_64, jax 0.10.2, with five other jobs on them: 106 s.
Result:
"""

import ml_collections

WORDS = ("quick|small", "synthetic=", "share=", "name=")  # of arg; others are refused


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Args: arg: "small": a small ResNet, few steps, for 2 CPU cores; "quick"; or synthetic=DIR,share=0.5,name=edm."""
    words = dict(word.partition("=")[::2] for word in arg.split(",") if word)
    quick, small = "quick" in words, "small" in words
    config = ml_collections.ConfigDict()
    config.task = "classify"
    config.data = dict(
        source="tfds:cifar10",
        n_base=200 if quick else 0,
        synthetic=(words["synthetic"],) if "synthetic" in words else (),
    )
    config.sampler = dict(name="random")
    if "synthetic" in words:
        share = float(words.get("share", 0.5))
        config.sampler = dict(name="share", shares={"real": 1.0 - share, words.get("name", "edm"): share})
    config.model = dict(
        name="resnet",
        block="basic",
        stage_sizes=(1,) if quick else (1, 1, 1) if small else (2, 2, 2, 2),
        width=4 if quick else 16 if small else 64,
        stem="cifar",
        dtype="float32" if quick or small else "bfloat16",
    )
    config.augment = dict(flip=True, crop_px=4, fill="constant")
    config.optim = dict(
        name="sgd", learning_rate=0.4 if small else 0.1, warmup_steps=50 if small else 0, weight_decay=5e-4
    )
    config.train = dict(
        batch_size=32 if quick else 64 if small else 128,
        num_steps=4 if quick else 600 if small else 78_125,
        log_steps=2 if quick else 100,
        eval_steps=0 if quick or small else 7_812,
        checkpoint_steps=0 if quick or small else 7_812,
    )
    config.eval = dict(batch_size=100 if quick or small else 1000)
    return config
