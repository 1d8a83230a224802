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

WORDS = ("quick|small",)  # of arg; others are refused


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Args: arg: "small": 0.64 M parameters, for 2 CPU cores; "quick": seconds, to see that all parts meet."""
    quick, small = arg == "quick", arg == "small"
    config = ml_collections.ConfigDict()
    config.task = "diffuse"
    config.data = dict(source="tfds:cifar10", n_base=100 if quick else 0, image_px=32, channels=3)
    config.model = dict(name="ddpm_cifar10")
    if quick:
        config.model.update(base_channels=8, channel_multipliers=(1, 2), num_blocks=1)
    if small:
        config.model = dict(
            name="unet",
            base_channels=16,
            channel_multipliers=(1, 2, 4),
            num_blocks=1,
            attention_px=(8,),
            middle_attention=False,
            resample="pool",
            dropout=0.1,
        )
    config.method = dict(name="ddpm")
    config.augment = dict(flip=True)
    config.optim = dict(
        name="adam",
        learning_rate=2e-3 if small else 2e-4,
        warmup_steps=0 if quick else 100 if small else 5000,
        decay=small,
        clip_norm=1.0,
        ema_half_life_images=100_000.0 if small else 887_184.0,  # 0.9999 a step of 128 images
    )
    config.train = dict(
        batch_size=16 if quick else 64 if small else 128,
        num_steps=4 if quick else 1800 if small else 800_000,
        log_steps=2 if quick else 100,
        eval_steps=0 if quick or small else 20_000,
        checkpoint_steps=0 if quick else 600 if small else 10_000,
    )
    config.eval = dict(batch_size=16 if quick else 128 if small else 256)
    return config
