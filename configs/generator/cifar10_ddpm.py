"""DDPM on CIFAR-10, 32 x 32 colour, with classes (Ho et al. 2020, 2006.11239).

Network and recipe are those of appendix B and the code published with it: 35.7 M parameters, linear betas, Adam at
2e-4 after 5,000 steps of warm-up, gradients clipped at norm 1, an average of decay 0.9999, dropout 0.1, left-right
flips, 800,000 steps of 128 images. Theirs is unconditional, FID 3.17; here each class has an embedding, because a
classifier's training images need labels.

Run: jaxmoust fit --config=configs/generator/cifar10_ddpm.py --workdir=runs/cifar10_ddpm
     (CIFAR-10 as `jaxmoust data prepare` leaves it; or --config.data.source=folder --config.data.path=DIR)
"""

import ml_collections


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Args: arg: "quick" trains a small network for seconds, to see that all parts meet."""
    quick = arg == "quick"
    config = ml_collections.ConfigDict()
    config.seed = 0
    config.task = "diffuse"
    config.data = dict(
        source="tfds:cifar10",
        path="",
        classes="",
        n_base=100 if quick else 0,
        base_seed=0,
        n_per_class=0,
        imbalance="",
        imbalance_ratio=0.0,
        image_px=32,
        channels=3,
        digest="",
        decoded="auto",
        map_dir="",
    )
    config.model = dict(name="ddpm_cifar10", dropout=0.1, dtype="float32")
    if quick:
        config.model.update(base_channels=8, channel_multipliers=(1, 2), num_blocks=1)
    config.method = dict(name="ddpm", num_timesteps=1000, beta_start=1e-4, beta_end=0.02, label_dropout=0.0)
    config.augment = dict(flip=True, nonleaky=0.0)
    config.optim = dict(
        name="adam",
        learning_rate=2e-4,
        warmup_steps=0 if quick else 5000,
        decay=False,
        clip_norm=1.0,
        ema_half_life_images=887_184.0,  # 0.9999 a step of 128 images
    )
    config.train = dict(
        batch_size=16 if quick else 128,
        num_steps=4 if quick else 800_000,
        log_steps=2 if quick else 100,
        eval_steps=0 if quick else 20_000,
        checkpoint_steps=0 if quick else 10_000,
        best_metric="",
    )
    config.eval = dict(batch_size=16 if quick else 256)
    return config
