"""A small ResNet on a base set of scikit-learn's digits, 8 x 8 grey, alone or mixed with a synthetic set.

Run: jaxmoust train --config=configs/classifier/digits_resnet.py --workdir=runs/real
     jaxmoust train --config=configs/classifier/digits_resnet.py:synthetic=runs/edm_set,share=0.5 --workdir=runs/mixed
"""

import ml_collections

WORDS = ("quick", "synthetic=", "share=", "name=")  # of arg; others are refused


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Args: arg: "quick"; or synthetic=DIR,share=0.5,name=edm mixes in the set of that name."""
    words = dict(word.partition("=")[::2] for word in arg.split(",") if word)
    quick = "quick" in words
    config = ml_collections.ConfigDict()
    config.task = "classify"
    config.data = dict(source="digits", n_base=100, synthetic=(words["synthetic"],) if "synthetic" in words else ())
    config.sampler = dict(name="random")
    if "synthetic" in words:
        share = float(words.get("share", 0.5))
        config.sampler = dict(name="share", shares={"real": 1.0 - share, words.get("name", "edm"): share})
    config.model = dict(
        name="resnet", block="basic", stage_sizes=(1,) if quick else (1, 1), width=4 if quick else 24, stem="cifar"
    )
    config.augment = dict(translate_px=1.0, fill="constant")
    config.method = dict(smoothing=0.1)
    config.optim = dict(name="adamw", learning_rate=2e-3, warmup_steps=0 if quick else 50, weight_decay=0.05)
    config.train = dict(
        batch_size=32 if quick else 64,
        num_steps=10 if quick else 500,
        log_steps=5 if quick else 50,
        eval_steps=0 if quick else 100,
    )
    return config
