"""EDM on CIFAR-10, 32 x 32 colour, with classes (Karras et al. 2022, 2206.00364).

Network and recipe are those of appendix F.3 and of the code published with it: DDPM++ of 55.7 M parameters, Adam at
1e-3 after a linear warm-up over 10 million images, an average that forgets half in 0.5 million, dropout 0.13, non-leaky
augmentation with probability 0.12 and no other flips, 200 million images in batches of 512. Published: FID 1.79 at 35
evaluations an image (configs/sample/edm.py).

Run: jaxmoust fit --config=configs/generator/cifar10_edm.py --workdir=runs/cifar10_edm
     jaxmoust fit --config=configs/generator/cifar10_edm.py:small --workdir=runs/photos_edm \
       --config.data.source=folder --config.data.path=DIR
     (CIFAR-10 as `jaxmoust data prepare` leaves it)
Settings of "small", for some hundreds or thousands of photos: those of fashion_edm.py's, and none of the paper's: a
    U-Net of 0.64 M parameters, Adam at 2e-3 falling by a cosine, flips, 1,800 steps of 64.
Cost of "small" on 2 CPU cores, x86_64, jax 0.10.2, with five other jobs on them: 1.5 s a step (100 steps were timed, on
    800 made-up images), so 45 min.
"""

import ml_collections
import variants

WORDS = ("quick|small",)  # of arg; others are refused


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Args: arg: "small": 0.64 M parameters, for 2 CPU cores; "quick": seconds, as a smoke test."""
    config = ml_collections.ConfigDict()
    config.task = "diffuse"
    config.data = dict(source="tfds:cifar10", image_px=32, channels=3)
    config.model = dict(name="ddpmpp_cifar10")
    config.method = dict(name="edm")
    config.augment = dict(nonleaky=0.12)
    config.optim = dict(
        name="adam", learning_rate=1e-3, warmup_steps=19_531, decay=False, ema_half_life_images=500_000.0
    )
    config.train = dict(batch_size=512, num_steps=390_625, log_steps=100, eval_steps=5000, checkpoint_steps=5000)
    config.eval = dict(batch_size=256)
    if arg == "quick":
        network = dict(base_channels=8, channel_multipliers=(1, 2), num_blocks=1)
        variants.quick(config, model=network, eval=dict(batch_size=16))
    if arg == "small":
        variants.small(config, attention_px=8)
        config.augment = dict(flip=True)
    return config
