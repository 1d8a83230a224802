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
    config.seed = 0
    config.task = "text_to_image"
    config.pipeline = dict(path="tiny_sd", revision="", variant="", dtype="float32", lora="", lora_scale=1.0)
    config.data = dict(
        source="digits",
        path="",
        classes="",
        n_base=100,
        base_seed=0,
        n_per_class=0,
        imbalance="",
        imbalance_ratio=0.0,
        image_px=0,
        channels=0,
        digest="",
    )
    config.prompts = dict(
        template="a photo of the digit {}, light on dark",
        templates_file="",
        words_file="",
        captions_file="",
        negative="",
    )
    config.name = "tiny_sd"
    config.num_images = 40 if quick else 2000
    config.shard_images = 20 if quick else 500
    config.from_real = False
    config.sample = dict(
        image_px=0,
        resize_filter="box",
        sampler="dpmpp_2m",
        num_steps=2 if quick else 10,
        guidance=2.0,
        strength=1.0,
        per_device_batch=10 if quick else 50,
    )
    return config
