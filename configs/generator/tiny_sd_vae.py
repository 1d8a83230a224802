"""The VAE of the embedded tiny Stable Diffusion on 32 px images: of each 4 x 4 pixels it keeps 4 numbers.

The embedded pipeline was built by experiments/assets/tiny_sd.py with this, on typeset digits and from random weights;
as it stands, it trains the embedded VAE further, on a folder of one's own.

Run: jaxmoust fit --config=configs/generator/tiny_sd_vae.py --config.data.path=DIR --workdir=runs/tiny_sd_vae
Cost: 13 min 38 s on 2 CPU cores (x86_64, jax 0.10.2).
Result: images come back with a mean absolute error, of the way from black to white, of 0.011 (typeset digits that it
    did not see) and 0.029 (scikit-learn's handwriting, brought to 32 px).
"""

import ml_collections
import variants

WORDS = ("quick",)  # of arg; others are refused


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Args: arg: "quick" trains for seconds, as a smoke test."""
    config = ml_collections.ConfigDict()
    config.task = "autoencode"
    config.pipeline = dict(path="tiny_sd")
    config.data = dict(source="folder", n_base=19_200, image_px=32)
    # The weight keeps the latents' noise small beside them, and their distribution smooth enough for a small U-Net.
    config.method = dict(image_px=32, kl_weight=1e-3)
    config.optim = dict(name="adam", learning_rate=2e-3, warmup_steps=50, clip_norm=1.0, ema_half_life_images=2_000.0)
    config.train = dict(batch_size=32, num_steps=2500, log_steps=50, eval_steps=1250, checkpoint_steps=500)
    config.eval = dict(batch_size=64)
    if arg == "quick":
        variants.quick(config)
    return config
