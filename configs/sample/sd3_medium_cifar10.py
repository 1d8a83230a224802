"""Draws CIFAR-10's classes with Stable Diffusion 3 medium as it is, from text: 10,000 images, brought to 32 px.

Run: jaxmoust sample --config=configs/sample/sd3_medium_cifar10.py --workdir=runs/sd3_medium_cifar10
     (gated: log in by HF_TOKEN, or give a folder: --config.pipeline.path=DIR)
Settings: 28 steps and guidance 7 as diffusers' documentation of Stable Diffusion 3 has them; bfloat16, as are the
    parameters. At 512 px a batch of 8 takes about 10 GiB, at the 1,024 px of training 4 take 32:
    --config.sample.image_px=0.
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
        path="stabilityai/stable-diffusion-3-medium-diffusers",
        variant="",
        param_dtype="float32" if quick else "bfloat16",
    )
    config.name = "sd3"
    if not quick:
        config.sample.update(num_steps=28, guidance=7.0, per_device_batch=8, image_px=512)
    return config
