"""Adapters of Stable Diffusion 3.5 medium (LoRA, 2106.09685), trained on CIFAR-10's images, from 32 px to 512.

Run: jaxmoust fit --config=configs/generator/sd35_medium_lora.py --workdir=runs/sd35_medium_lora
     (CIFAR-10 as `jaxmoust data prepare` leaves it; the pipeline is
     gated: log in by HF_TOKEN, or give a folder: --config.pipeline.path=DIR)
Recipe: that of sd3_medium_lora.py; 5 GiB for one image on a device.
Not run at this size.
"""

import ml_collections
import sd3_medium_lora

WORDS = ("quick",)  # of arg; others are refused


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Args: arg: "quick" trains for seconds; --config.pipeline.path names a small pipeline of this kind."""
    config = sd3_medium_lora.get_config(arg)
    config.pipeline.path = "stabilityai/stable-diffusion-3.5-medium"
    return config
