"""EDM on a base set of scikit-learn's digits, 8 x 8 grey (Karras et al. 2022, 2206.00364).

Run: jaxmoust fit --config=configs/generator/digits_edm.py --workdir=runs/edm
"""

import ml_collections
import variants

WORDS = ("quick",)  # of arg; others are refused


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Args: arg: "quick" trains for seconds, as a smoke test."""
    config = ml_collections.ConfigDict()
    config.task = "diffuse"
    config.data = dict(source="digits", n_base=100)
    config.model = dict(
        name="unet",
        base_channels=20,
        channel_multipliers=(1, 2),
        num_blocks=1,
        attention_px=(),
        middle_attention=False,
        resample="pool",
        dropout=0.1,
    )
    config.method = dict(name="edm")
    config.augment = dict(translate_px=0.5, rotate_deg=6.0, scale=0.06, fill="constant")
    config.optim = dict(name="adam", learning_rate=2e-3, warmup_steps=100, ema_half_life_images=10_000.0)
    config.train = dict(batch_size=128, num_steps=800, log_steps=100, eval_steps=200, checkpoint_steps=200)
    config.eval = dict(batch_size=128)
    if arg == "quick":
        variants.quick(config, model=dict(base_channels=8), train=dict(batch_size=32, num_steps=20, log_steps=10))
    return config
