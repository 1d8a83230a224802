"""ResNet-50 on ImageNet-100 (some 126,700 + 5,000 images) at 224 px, alone or mixed with a synthetic set.

Run: jaxmoust train --config=configs/classifier/imagenet100_resnet50.py --workdir=runs/imagenet100_resnet50
     jaxmoust train --config=configs/classifier/imagenet100_resnet50.py:synthetic=runs/edm,share=0.5 --workdir=runs/mix
     (with --config.data.path=DIR as for ImageNet, and --config.data.classes=FILE, the hundred classes, one a line)
Settings: those of ImageNet (Goyal et al. 2017, 1706.02677, section 5.1) at a batch of 256, for 100 epochs: rate 0.1,
    5 epochs of warm-up, decay 1e-4, random-resized-crop and flips, a cosine, labels smoothed by 0.1.
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
        source="folder",
        n_base=200 if quick else 0,
        image_px=64 if quick else 224,
        channels=3,
        random_crop=0.08,
        test_crop=0.875,
        synthetic=(words["synthetic"],) if "synthetic" in words else (),
    )
    config.sampler = dict(name="random")
    if "synthetic" in words:
        share = float(words.get("share", 0.5))
        config.sampler = dict(name="share", shares={"real": 1.0 - share, words.get("name", "edm"): share})
    config.model = dict(
        name="resnet",
        block="bottleneck",
        stage_sizes=(1,) if quick else (3, 4, 6, 3),
        width=4 if quick else 64,
        dtype="float32" if quick else "bfloat16",
    )
    config.augment = dict(flip=True)
    config.method = dict(smoothing=0.1)
    config.optim = dict(name="sgd", learning_rate=0.1, warmup_steps=0 if quick else 2_475, weight_decay=1e-4)
    config.train = dict(
        batch_size=32 if quick else 256,
        num_steps=4 if quick else 49_500,
        log_steps=2 if quick else 100,
        eval_steps=0 if quick else 4_950,
        checkpoint_steps=0 if quick else 4_950,
    )
    config.eval = dict(batch_size=100 if quick else 1000)
    return config
