"""Draws CIFAR-10's classes with Stable Diffusion 1.5 as it is, from text: 10,000 images of 512 px, brought to 32 px.

Run: jaxmoust sample --config=configs/sample/sd15_cifar10.py --workdir=runs/sd15_cifar10
     (the pipeline comes from the Hugging Face hub, or from a folder: --config.pipeline.path=DIR)
Settings: guidance 2 as Sariyildiz et al. 2023 (2212.08420) find best for training images, below the usual 7.5; 50 DDIM
    steps at the checkpoint's own spacing.
Not run at this size.
"""

import ml_collections

WORDS = ("quick",)  # of arg; others are refused


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Args: arg: "quick": few images and steps, as a smoke test; --config.pipeline.path is still needed."""
    quick = arg == "quick"
    config = ml_collections.ConfigDict()
    config.task = "text_to_image"
    config.pipeline = dict(
        path="stable-diffusion-v1-5/stable-diffusion-v1-5", variant="fp16", dtype="float32" if quick else "bfloat16"
    )
    config.data = dict(source="tfds:cifar10", image_px=32, channels=3)
    config.prompts = dict(template="a photo of a {}")
    config.name = "sd15"
    config.num_images = 20 if quick else 10_000
    config.shard_images = 10 if quick else 500
    config.sample = dict(num_steps=2 if quick else 50, per_device_batch=2 if quick else 8)
    return config
