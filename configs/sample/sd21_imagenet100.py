"""Draws ImageNet-100's classes with Stable Diffusion 2.1-base as it is, from text, at 512 px, brought to 256 px.

Run: jaxmoust sample --config=configs/sample/sd21_imagenet100.py --workdir=runs/sd21_imagenet100 --config.data.path=DIR
     (DIR and the names of its classes as in configs/generator/sd21_full.py; the pipeline comes from the Hugging Face
     hub, or from a folder: --config.pipeline.path=DIR)
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
    config.pipeline.path = "tiny_sd" if quick else "stabilityai/stable-diffusion-2-1-base"
    config.data.update(source="folder", image_px=256)
    config.name = "sd21"
    config.num_images = 20 if quick else 126_689
    return config
