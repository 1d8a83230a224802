"""The U-Net of the embedded tiny Stable Diffusion, trained on images and captions under a text encoder that stays.

The embedded pipeline was built by experiments/assets/tiny_sd.py with this, on typeset digits with ten captions a class
and from random weights; as it stands, it trains the embedded one further, on a folder of one's own.

Run: jaxmoust fit --config=configs/generator/tiny_sd_pretrain.py --config.data.path=DIR --workdir=runs/tiny_sd
Cost: 13 min 24 s on 2 CPU cores (x86_64, jax 0.10.2), after 91 s for the text encoder.
Result: 95.6 % of 2,000 pictures, 15 steps at guidance 2, are read as the digit that was asked for, by a perceptron that
    reads 99.9 % of typeset test images rightly; they are drawn at 96 a second.
"""

import ml_collections
import variants

WORDS = ("quick",)  # of arg; others are refused


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Args: arg: "quick" trains for seconds, as a smoke test."""
    config = ml_collections.ConfigDict()
    config.task = "finetune"
    config.pipeline = dict(path="tiny_sd")
    config.data = dict(source="folder", n_base=19_200, image_px=32)
    config.prompts = dict(template="a photo of the digit {}")
    config.method = dict(image_px=32, precompute=True)
    config.optim = dict(name="adam", learning_rate=2e-3, warmup_steps=200, clip_norm=1.0, ema_half_life_images=20_000.0)
    config.train = dict(batch_size=64, num_steps=5000, log_steps=100, eval_steps=1250, checkpoint_steps=500)
    config.eval = dict(batch_size=64)
    config.grid = dict(per_class=2, solver="dpmpp_2m", num_steps=15, per_device_batch=40)
    if arg == "quick":
        variants.quick(config)
    return config
