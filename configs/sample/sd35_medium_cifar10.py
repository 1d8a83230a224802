"""Draws CIFAR-10's classes with Stable Diffusion 3.5 medium as it is, from text: 10,000 images, brought to 32 px.

Run: jaxmoust sample --config=configs/sample/sd35_medium_cifar10.py --workdir=runs/sd35_medium_cifar10
     (gated: log in by HF_TOKEN, or give a folder: --config.pipeline.path=DIR)
Settings: 40 steps and guidance 4.5, as public scripts have them; its gated card was not read, and Stability's sd3.5
    (sd3_infer.py) has 50 and 5, of another solver. bfloat16, as are the parameters. At 512 px a batch of 8 takes about
    10 GiB, at the 1,024 px of training 4 take 33: --config.sample.image_px=0.
Not run at this size.
"""

import ml_collections
import sd3_medium_cifar10

WORDS = ("quick",)  # of arg; others are refused


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Args: arg: "quick": few images and steps, as a smoke test; --config.pipeline.path is still needed."""
    config = sd3_medium_cifar10.get_config(arg)
    config.pipeline.path = "stabilityai/stable-diffusion-3.5-medium"
    config.name = "sd35_medium"
    if arg != "quick":
        config.sample.update(num_steps=40, guidance=4.5)
    return config
