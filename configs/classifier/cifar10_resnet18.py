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
"""

import ml_collections
import variants

WORDS = ("quick|small", *variants.WORDS[1:])


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Args: arg: "small": a small ResNet, few steps, for 2 CPU cores; "quick"; or synthetic=DIR,share=0.5,name=edm."""
    config = ml_collections.ConfigDict()
    config.task = "classify"
    config.data = dict(source="tfds:cifar10")
    config.model = dict(
        name="resnet", block="basic", stage_sizes=(2, 2, 2, 2), width=64, stem="cifar", dtype="bfloat16"
    )
    config.augment = dict(flip=True, crop_px=4, fill="constant")
    config.optim = dict(name="sgd", learning_rate=0.1, weight_decay=5e-4)
    config.train = dict(batch_size=128, num_steps=78_125, log_steps=100, eval_steps=7_812, checkpoint_steps=7_812)
    config.eval = dict(batch_size=1000)
    if "small" in arg.split(","):
        config.model.update(stage_sizes=(1, 1, 1), width=16, dtype="float32")
        config.optim.update(learning_rate=0.4, warmup_steps=50)
        config.train.update(batch_size=64, num_steps=600, eval_steps=0, checkpoint_steps=0)
        config.eval.batch_size = 100
    return variants.finish(config, arg, model=dict(stage_sizes=(1,), width=4))
