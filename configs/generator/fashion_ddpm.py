"""DDPM on Fashion-MNIST, 28 x 28 grey (Ho et al. 2020, 2006.11239): fashion_edm.py but for the method.

Betas, predicted noise and clipped gradients are theirs; network, images seen and learning rate are fashion_edm.py's, so
that the two generators differ in what they are asked to learn.

Run: jaxmoust fit --config=configs/generator/fashion_ddpm.py --workdir=runs/fashion_ddpm
Cost of "small" (1,000 images) on 2 CPU cores, x86_64, jax 0.10.2, with other jobs on them: 884 s.
Result of "small": loss 0.0466 on the 1,000 images, 0.0487 held out; experiments/fashion.py says what its samples do.
"""

import ml_collections

WORDS = ("quick|small",)  # of arg; others are refused


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Args: arg: "small": 0.64 M parameters, for 2 CPU cores; "quick": seconds, to see that all parts meet."""
    quick, small = arg == "quick", arg == "small"
    config = ml_collections.ConfigDict()
    config.task = "diffuse"
    config.data = dict(source="fashion_mnist", n_base=100 if quick else 0)
    config.model = dict(
        name="unet",
        base_channels=8 if quick else 16 if small else 64,
        channel_multipliers=(1, 2) if quick else (1, 2, 4) if small else (1, 2, 2),
        num_blocks=1 if quick or small else 2,
        attention_px=() if quick else (7,),
        middle_attention=False,
        resample="pool",
        dropout=0.1,
    )
    config.method = dict(name="ddpm")
    config.augment = dict(flip=True, fill="constant")
    config.optim = dict(
        name="adam",
        learning_rate=2e-3 if small else 1e-3,
        warmup_steps=0 if quick else 100 if small else 500,
        clip_norm=1.0,
        ema_half_life_images=100_000.0,
    )
    config.train = dict(
        batch_size=16 if quick else 64 if small else 128,
        num_steps=4 if quick else 1800 if small else 40_000,
        log_steps=2 if quick else 100,
        eval_steps=0 if quick or small else 2000,
        checkpoint_steps=0 if quick else 600 if small else 2000,
    )
    config.eval = dict(batch_size=128)
    return config
