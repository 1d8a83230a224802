"""A small ViT on Fashion-MNIST (60,000 + 10,000 images, 28 x 28 grey), alone or mixed with a synthetic set.

Run: jaxmoust train --config=configs/classifier/fashion_vit.py --workdir=runs/fashion_vit
     jaxmoust train --config=configs/classifier/fashion_vit.py:synthetic=runs/edm,share=0.5 --workdir=runs/mix
     (the files come with Debian's package dataset-fashion-mnist, or lie in --config.data.path=DIR)
Settings: cifar10_vit's optimizer, with augmentation for grey images of 28 px; 1.2 M parameters, 30 epochs.
Cost: "small" about 180 s on 2 CPU cores (x86_64, jax 0.10.2).
Result: "small" with 1,000 images, 3 seeds: Top-1 73.72 [72.40, 75.03] on the 10,000 test images from real images, 69.89
    and 70.17 from those of an EDM and a DDPM, 72.92 and 72.73 from halves of both (experiments/fashion.py).
"""

import ml_collections
import variants

WORDS = ("quick|small", *variants.WORDS[1:])


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Args: arg: "small": few steps, for 1,000 images on 2 CPU cores; "quick"; or synthetic=DIR,share=0.5,name=edm."""
    config = ml_collections.ConfigDict()
    config.task = "classify"
    config.data = dict(source="fashion_mnist")
    config.model = dict(name="vit", width=128, depth=6, num_heads=4, patch_px=4, stochastic_depth=0.1)
    config.augment = dict(flip=True, crop_px=2, fill="constant")
    config.method = dict(smoothing=0.1)
    config.optim = dict(name="adamw", warmup_steps=1_407, weight_decay=0.05)
    config.train = dict(batch_size=128, num_steps=14_062, log_steps=100, eval_steps=4_687, checkpoint_steps=4_687)
    config.eval = dict(batch_size=1000)
    if "small" in arg.split(","):
        config.model.update(width=64, depth=4)
        config.optim.warmup_steps = 120
        config.train.update(batch_size=64, num_steps=1200, eval_steps=0, checkpoint_steps=0)
    return variants.finish(config, arg, model=dict(width=16, depth=2, num_heads=2))
