"""Draws CIFAR-10's classes with Stable Diffusion 3.5 large as it is, from text: 10,000 images, brought to 32 px.

Run: jaxmoust sample --config=configs/sample/sd35_large_cifar10.py --workdir=runs/sd35_large_cifar10
     (gated: log in by HF_TOKEN, or give a folder: --config.pipeline.path=DIR)
Settings: 28 steps and guidance 3.5, as public scripts have them; its gated card was not read, and Stability's sd3.5
    (sd3_infer.py) has 40 and 4.5, of another solver. bfloat16, as are the parameters. A batch of 8: 24 GiB at 512 px.
Cost:
Result:
"""

import ml_collections
import sd15_cifar10

WORDS = ("quick",)  # of arg; others are refused


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Args: arg: "quick": few images and steps, to see that all parts meet; --config.pipeline.path is still needed."""
    quick = arg == "quick"
    config = sd15_cifar10.get_config(arg)
    config.pipeline.update(
        path="stabilityai/stable-diffusion-3.5-large", variant="", param_dtype="float32" if quick else "bfloat16"
    )
    config.name = "sd35_large"
    if not quick:
        config.sample.update(num_steps=28, guidance=3.5, per_device_batch=8, image_px=512)
    return config
