"""The whole U-Net of the embedded tiny Stable Diffusion, trained on a base set of scikit-learn's digits, 8 x 8 grey.

The pipeline knows typeset digits of 32 px; what it learns here is handwriting.

Run: jaxmoust fit --config=configs/generator/digits_tiny_sd_full.py --workdir=runs/tiny_sd_full
Cost: 69 s on 2 CPU cores (x86_64, jax 0.10.2, other jobs on them).
Result: loss at fixed noise 0.172 on the 100 digits and 0.207 on others.
"""

import ml_collections
import variants

WORDS = ("quick",)  # of arg; others are refused


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Args: arg: "quick" trains for seconds, as a smoke test."""
    config = ml_collections.ConfigDict()
    config.task = "finetune"
    config.pipeline = dict(path="tiny_sd")
    config.data = dict(source="digits", n_base=100)
    config.prompts = dict(template="a photo of the digit {}, light on dark")
    config.method = dict(image_px=32, precompute=True)
    config.optim = dict(name="adamw", learning_rate=5e-4, weight_decay=0.01, ema_half_life_images=5_000.0)
    config.train = dict(batch_size=64, num_steps=200, log_steps=100, checkpoint_steps=200)
    config.eval = dict(batch_size=64)
    config.grid = dict(per_class=4, solver="dpmpp_2m", num_steps=15, per_device_batch=20)
    if arg == "quick":
        variants.quick(config)
    return config
