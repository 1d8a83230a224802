"""Draws CIFAR-10's classes with Stable Diffusion 1.5 after it was trained on them: 50,000 images brought to 32 px.

Run: jaxmoust sample --config=configs/sample/sd15_finetuned.py --workdir=runs/sd15_finetuned
     (after configs/generator/sd15_lora.py; of the other, --config.pipeline.path=runs/sd15_full)
Settings: guidance 2 as Sariyildiz et al. 2023 (2212.08420) find best for training images, below the usual 7.5 (the
    sweep is --config.sample.guidance=1 ... 7.5); 50 DDIM steps at the checkpoint's own spacing.
Not run at this size.
"""

import ml_collections
import sd15_cifar10

WORDS = ("quick",)  # of arg; others are refused


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Args: arg: "quick" few images and steps of the small pipeline that comes with the package."""
    quick = arg == "quick"
    config = sd15_cifar10.get_config(arg)
    config.pipeline.update(path="tiny_sd" if quick else "runs/sd15_lora", variant="")
    config.name = "sd15_finetuned"
    config.num_images = 20 if quick else 50_000
    return config
