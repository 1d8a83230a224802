"""DDPM on CIFAR-10, 32 x 32 colour, with classes (Ho et al. 2020, 2006.11239).

Network and recipe are those of appendix B and the code published with it: 35.7 M parameters, linear betas, Adam at
2e-4 after 5,000 steps of warm-up, gradients clipped at norm 1, an average of decay 0.9999, dropout 0.1, left-right
flips, 800,000 steps of 128 images. Theirs is unconditional, FID 3.17; here each class has an embedding, because a
classifier's training images need labels.

Run: jaxmoust fit --config=configs/generator/cifar10_ddpm.py --workdir=runs/cifar10_ddpm
     jaxmoust fit --config=configs/generator/cifar10_ddpm.py:small --workdir=runs/photos_ddpm \
       --config.data.source=folder --config.data.path=DIR
     (CIFAR-10 as `jaxmoust data prepare` leaves it)
Settings of "small", for some hundreds or thousands of photos: those of fashion_ddpm.py's; of the paper the betas, the
    predicted noise and clipped gradients. A U-Net of 0.64 M parameters, Adam at 2e-3 falling by a cosine, flips, 1,800
    steps of 64.
Cost of "small" on 2 CPU cores, x86_64, jax 0.10.2, with five other jobs on them: 1.6 s a step (100 steps were timed, on
    800 made-up images), so 49 min.
"""

import ml_collections
import variants

WORDS = ("quick|small",)  # of arg; others are refused


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Args: arg: "small": 0.64 M parameters, for 2 CPU cores; "quick": seconds, as a smoke test."""
    config = ml_collections.ConfigDict()
    config.task = "diffuse"
    config.data = dict(source="tfds:cifar10", image_px=32, channels=3)
    config.model = dict(name="ddpm_cifar10")
    config.method = dict(name="ddpm")
    config.augment = dict(flip=True)
    config.optim = dict(
        name="adam",
        learning_rate=2e-4,
        warmup_steps=5000,
        decay=False,
        clip_norm=1.0,
        ema_half_life_images=887_184.0,  # 0.9999 a step of 128 images
    )
    config.train = dict(batch_size=128, num_steps=800_000, log_steps=100, eval_steps=20_000, checkpoint_steps=10_000)
    config.eval = dict(batch_size=256)
    if arg == "quick":
        network = dict(base_channels=8, channel_multipliers=(1, 2), num_blocks=1)
        variants.quick(config, model=network, eval=dict(batch_size=16))
    if arg == "small":
        variants.small(config, attention_px=8)
    return config
