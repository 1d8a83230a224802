"""Draws CIFAR-10's classes with Stable Diffusion XL base 1.0 as it is, from text: 10,000 images, brought to 32 px.

Run: jaxmoust sample --config=configs/sample/sdxl_cifar10.py --workdir=runs/sdxl_cifar10
     (the pipeline comes from the Hugging Face hub, or from a folder: --config.pipeline.path=DIR)
Settings: 50 steps and guidance 5 are the defaults of torch's StableDiffusionXLPipeline. Files and computation are of
    half precision. The study's guidance for training images, 2, is --config.sample.guidance=2.
Not run at this size.
"""

import ml_collections
import sd15_cifar10

WORDS = ("quick",)  # of arg; others are refused


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Args: arg: "quick": few images and steps, as a smoke test; --config.pipeline.path is still needed."""
    quick = arg == "quick"
    config = sd15_cifar10.get_config(arg)
    config.pipeline.update(
        path="stabilityai/stable-diffusion-xl-base-1.0", variant="fp16", param_dtype="float32" if quick else "bfloat16"
    )
    config.name = "sdxl"
    if not quick:
        config.sample.update(num_steps=50, guidance=5.0, per_device_batch=4)
    return config
