"""A small ResNet on Fashion-MNIST (60,000 + 10,000 images, 28 x 28 grey), alone or mixed with a synthetic set.

Run: jaxmoust train --config=configs/classifier/fashion_resnet.py --workdir=runs/fashion
     (the files come with Debian's package dataset-fashion-mnist, or lie in --config.data.path=DIR)
Cost: 806 s on 2 CPU cores (x86_64, jax 0.10.2), 9 epochs; "small" 40 s alone on them.
Result: Top-1 91.63, Top-5 99.88 on the 10,000 test images (seed 0). "small" with 1,000 images, 3 seeds: Top-1 82.51
    [81.01, 84.01] on real images, 77.09 and 77.87 on those of an EDM and a DDPM, 80.91 and 81.49 on halves of both
    (experiments/fashion.py). At a learning rate of 0.1 so few steps end at 80.08 on the same real images.
"""

import ml_collections
import variants

WORDS = ("quick|small", *variants.WORDS[1:])


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Args: arg: "small": few steps, for 1,000 images on 2 CPU cores; "quick"; or synthetic=DIR,share=0.5,name=edm."""
    config = ml_collections.ConfigDict()
    config.task = "classify"
    config.data = dict(source="fashion_mnist")
    config.model = dict(name="resnet", block="basic", stage_sizes=(1, 1, 1), width=16, stem="cifar")
    config.augment = dict(flip=True, crop_px=2, fill="constant")
    config.optim = dict(name="sgd", learning_rate=0.1, warmup_steps=200, weight_decay=5e-4)
    config.train = dict(batch_size=128, num_steps=4200, log_steps=100, eval_steps=1400, checkpoint_steps=1400)
    config.eval = dict(batch_size=1000)
    if "small" in arg.split(","):
        config.optim.update(learning_rate=0.4, warmup_steps=50)
        config.train.update(batch_size=64, num_steps=600, eval_steps=0, checkpoint_steps=0)
    return variants.finish(config, arg, model=dict(stage_sizes=(1,), width=4), eval=dict(batch_size=1000))
