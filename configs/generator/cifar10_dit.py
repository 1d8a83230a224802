"""A DiT on CIFAR-10, 32 x 32 colour (Peebles & Xie 2022, 2212.09748), by the flow of SiT (Ma et al. 2024, 2401.08740).

Nobody has published a recipe for these pixels. Network, AdamW at 1e-4 without decay or warm-up and an average of decay
0.9999 a step of 256 images are the papers'; DiT-S/2 and 100 million images are a choice, as are bfloat16 and flips.

Run: jaxmoust fit --config=configs/generator/cifar10_dit.py --workdir=runs/cifar10_dit
     jaxmoust sample --config=configs/sample/edm.py --workdir=runs/dit_set --config.generator=runs/cifar10_dit
     (CIFAR-10 as `jaxmoust data prepare` leaves it)
"""

import ml_collections
import variants

WORDS = ("quick",)  # of arg; others are refused


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Args: arg: "quick" trains a small network for seconds, as a smoke test."""
    config = ml_collections.ConfigDict()
    config.task = "diffuse"
    config.data = dict(source="tfds:cifar10", image_px=32, channels=3)
    config.model = dict(name="dit_s", patch_size=2, dtype="bfloat16")
    config.method = dict(name="flow", label_dropout=0.1)
    config.augment = dict(flip=True)
    config.optim = dict(
        name="adamw",
        learning_rate=1e-4,
        decay=False,
        ema_half_life_images=1_774_368.0,  # 0.9999 a step of 256 images
    )
    config.train = dict(batch_size=256, num_steps=400_000, log_steps=100, eval_steps=10_000, checkpoint_steps=10_000)
    config.eval = dict(batch_size=256)
    if arg == "quick":
        network = dict(width=16, depth=2, num_heads=2, patch_size=4)
        variants.quick(config, model=network, eval=dict(batch_size=16))
    return config
