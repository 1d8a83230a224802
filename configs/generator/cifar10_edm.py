"""EDM on CIFAR-10, 32 x 32 colour, with classes (Karras et al. 2022, 2206.00364).

Network and recipe are those of appendix F.3 and of the code published with it: DDPM++ of 55.7 M parameters, Adam at
1e-3 after a linear warm-up over 10 million images, an average that forgets half in 0.5 million, dropout 0.13, non-leaky
augmentation with probability 0.12 and no other flips, 200 million images in batches of 512. Published: FID 1.79 at 35
evaluations an image (configs/sample/edm.py).

Run: jaxmoust fit --config=configs/generator/cifar10_edm.py --workdir=runs/cifar10_edm
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
    config.model = dict(name="ddpmpp_cifar10", dropout=0.13, dtype="float32")
    if quick:
        config.model.update(base_channels=8, channel_multipliers=(1, 2), num_blocks=1)
    config.method = dict(name="edm", sigma_data=0.5, label_dropout=0.0)
    config.augment = dict(flip=False, nonleaky=0.12)
    config.optim = dict(
        name="adam",
        learning_rate=1e-3,
        warmup_steps=0 if quick else 19_531,
        decay=False,
        clip_norm=0.0,
        ema_half_life_images=500_000.0,
    )
    config.train = dict(
        batch_size=16 if quick else 512,
        num_steps=4 if quick else 390_625,
        log_steps=2 if quick else 100,
        eval_steps=0 if quick else 5000,
        checkpoint_steps=0 if quick else 5000,
        best_metric="",
    )
    config.eval = dict(batch_size=16 if quick else 256)
    return config
