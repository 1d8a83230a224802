"""ResNet-50 on ImageNet-100 (some 126,700 + 5,000 images) at 224 px, alone or mixed with a synthetic set.

Run: jaxmoust train --config=configs/classifier/imagenet100_resnet50.py --workdir=runs/imagenet100_resnet50
     jaxmoust train --config=configs/classifier/imagenet100_resnet50.py:synthetic=runs/edm,share=0.5 --workdir=runs/mix
     (with --config.data.path=DIR as for ImageNet, and --config.data.classes=FILE, the hundred classes, one a line)
Settings: those of ImageNet (Goyal et al. 2017, 1706.02677, section 5.1) at a batch of 256, for 100 epochs: rate 0.1,
    5 epochs of warm-up, decay 1e-4, random-resized-crop and flips, a cosine, labels smoothed by 0.1.
Not run at this size.
"""

import imagenet_resnet50
import ml_collections

WORDS = imagenet_resnet50.WORDS


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Args: arg: "quick"; or synthetic=DIR,share=0.5,name=edm mixes in the set of that name."""
    config = imagenet_resnet50.get_config(arg)
    config.optim.learning_rate = 0.1
    if "quick" not in arg.split(","):
        config.optim.warmup_steps = 2_475
        config.train.update(batch_size=256, num_steps=49_500, eval_steps=4_950, checkpoint_steps=4_950)
    return config
