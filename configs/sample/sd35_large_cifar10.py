"""Draws CIFAR-10's classes with Stable Diffusion 3.5 large as it is, from text: 10,000 images, brought to 32 px.

Run: jaxmoust sample --config=configs/sample/sd35_large_cifar10.py --workdir=runs/sd35_large_cifar10
     (gated: log in by HF_TOKEN, or give a folder: --config.pipeline.path=DIR)
Settings: 40 steps and guidance 4.5 as Hugging Face's post on its release has them, and Stability's sd3.5
    (sd3_infer.py), of another solver. bfloat16, as are the parameters. A batch of 8: 24 GiB at 512 px.
Not run at this size.
"""

import ml_collections
import sd3_medium_cifar10

WORDS = ("quick",)  # of arg; others are refused


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Args: arg: "quick": few images and steps, as a smoke test; --config.pipeline.path is still needed."""
    config = sd3_medium_cifar10.get_config(arg)
    config.pipeline.path = "stabilityai/stable-diffusion-3.5-large"
    config.name = "sd35_large"
    if arg != "quick":
        config.sample.update(num_steps=40, guidance=4.5)
    return config
