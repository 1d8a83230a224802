"""EDM on Fashion-MNIST, 28 x 28 grey, or any images of about that size (Karras et al. 2022, 2206.00364).

Run: jaxmoust fit --config=configs/generator/fashion_edm.py --workdir=runs/fashion_edm
Cost of "small" (1,000 images) on 2 CPU cores, x86_64, jax 0.10.2, with other jobs on them: 1,137 s.
Result of "small": loss 0.267 on the 1,000 images, 0.276 held out; experiments/fashion.py says what its samples do.
"""

import ml_collections
import variants

WORDS = ("quick|small",)  # of arg; others are refused


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Args: arg: "small": 0.64 M parameters, for 2 CPU cores; "quick": seconds, as a smoke test."""
    config = ml_collections.ConfigDict()
    config.task = "diffuse"
    config.data = dict(source="fashion_mnist")
    config.model = dict(
        name="unet",
        base_channels=64,
        channel_multipliers=(1, 2, 2),
        num_blocks=2,
        attention_px=(7,),
        middle_attention=False,
        resample="pool",
        dropout=0.1,
    )
    config.method = dict(name="edm")
    config.augment = dict(flip=True, fill="constant")
    config.optim = dict(name="adam", learning_rate=1e-3, warmup_steps=500, ema_half_life_images=100_000.0)
    config.train = dict(batch_size=128, num_steps=40_000, log_steps=100, eval_steps=2000, checkpoint_steps=2000)
    config.eval = dict(batch_size=128)
    if arg == "quick":
        network = dict(base_channels=8, channel_multipliers=(1, 2), num_blocks=1, attention_px=())
        variants.quick(config, model=network)
    if arg == "small":
        variants.small(config, attention_px=7)
    return config
