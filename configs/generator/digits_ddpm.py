"""DDPM on a base set of scikit-learn's digits, 8 x 8 grey (Ho et al. 2020, 2006.11239).

Run: jaxmoust fit --config=configs/generator/digits_ddpm.py --workdir=runs/ddpm
"""

import ml_collections

WORDS = ("quick",)  # of arg; others are refused


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Args: arg: "quick" trains for seconds, to see that all parts meet."""
    quick = arg == "quick"
    config = ml_collections.ConfigDict()
    config.task = "diffuse"
    config.data = dict(source="digits", n_base=100)
    config.model = dict(
        name="unet",
        base_channels=8 if quick else 20,
        channel_multipliers=(1, 2),
        num_blocks=1,
        attention_px=(),
        middle_attention=False,
        resample="pool",
        dropout=0.1,
    )
    config.method = dict(name="ddpm")
    config.augment = dict(translate_px=0.5, rotate_deg=6.0, scale=0.06, fill="constant")
    config.optim = dict(
        name="adam", learning_rate=2e-3, warmup_steps=0 if quick else 100, ema_half_life_images=10_000.0
    )
    config.train = dict(
        batch_size=32 if quick else 128,
        num_steps=20 if quick else 800,
        log_steps=10 if quick else 100,
        eval_steps=0 if quick else 200,
        checkpoint_steps=0 if quick else 200,
    )
    config.eval = dict(batch_size=128)
    return config
