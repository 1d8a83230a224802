"""WideResNet-28-10 on CIFAR-100 (50,000 + 10,000 images, 32 x 32), alone or mixed with a synthetic set.

Run: jaxmoust train --config=configs/classifier/cifar100_wrn.py --workdir=runs/cifar100_wrn
     jaxmoust train --config=configs/classifier/cifar100_wrn.py:synthetic=runs/edm,share=0.5 --workdir=runs/mix
     (the verb `data prepare` puts tfds:cifar100 where TFDS looks for it)
Settings: Zagoruyko & Komodakis 2016 (1605.07146), section 3: Nesterov, batch 128, 200 epochs, rate 0.1, decay 5e-4,
    flips and crops out of 4 px of reflected border; the rate falls by a cosine instead of three steps, and no norm
    is decayed. They report 80.75 % without dropout, 81.15 % with 0.3.
Cost:
Result:
"""

import ml_collections

WORDS = ("quick", "synthetic=", "share=", "name=")  # of arg; others are refused


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Args: arg: "quick"; or synthetic=DIR,share=0.5,name=edm mixes in the set of that name."""
    words = dict(word.partition("=")[::2] for word in arg.split(",") if word)
    quick = "quick" in words
    config = ml_collections.ConfigDict()
    config.task = "classify"
    config.data = dict(
        source="tfds:cifar100",
        n_base=200 if quick else 0,
        synthetic=(words["synthetic"],) if "synthetic" in words else (),
    )
    config.sampler = dict(name="random")
    if "synthetic" in words:
        share = float(words.get("share", 0.5))
        config.sampler = dict(name="share", shares={"real": 1.0 - share, words.get("name", "edm"): share})
    config.model = dict(
        name="wide_resnet",
        depth=10 if quick else 28,
        widen=1 if quick else 10,
        dtype="float32" if quick else "bfloat16",
    )
    config.augment = dict(flip=True, crop_px=4)
    config.optim = dict(name="sgd", learning_rate=0.1, weight_decay=5e-4)
    config.train = dict(
        batch_size=32 if quick else 128,
        num_steps=4 if quick else 78_125,
        log_steps=2 if quick else 100,
        eval_steps=0 if quick else 7_812,
        checkpoint_steps=0 if quick else 7_812,
    )
    config.eval = dict(batch_size=100 if quick else 1000)
    return config
