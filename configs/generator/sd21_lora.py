"""Adapters of Stable Diffusion 2.1-base (LoRA, 2106.09685), trained on ImageNet-100's images at 512 px.

Run: jaxmoust fit --config=configs/generator/sd21_lora.py --workdir=runs/sd21_lora --config.data.path=DIR
     (DIR holds train/CLASS/*.JPEG and a validation split; --config.data.classes=FILE names the 100 classes, one a line;
     --config.prompts.words_file=FILE says what folders such as n01440764 are called, as JSON; the 768 px model is
     --config.pipeline.path=stabilityai/stable-diffusion-2-1 --config.method.image_px=768)
Recipe: the LoRA example published with diffusers (examples/text_to_image/README.md): adapters on every attention of the
    U-Net, AdamW at a constant 1e-4, mirrored images; its script's defaults: rank and alpha 4, weight decay 0.01,
    gradients clipped at norm 1. There a batch is one image, for 100 epochs of a small set; here 8, as many devices
    share them, for the 15,000 steps of its example for the whole U-Net. One caption in ten is empty, as guidance wants
    (Ho & Salimans 2022, 2207.12598). Computing in bfloat16 is a choice of ours; parameters stay float32.
Not run at this size.
"""

import ml_collections
import sd15_lora
import sd21_full

WORDS = ("quick",)  # of arg; others are refused


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Args: arg: "quick" trains adapters of the package's own pipeline for seconds, as a smoke test."""
    config = sd21_full.get_config(arg)
    recipe = sd15_lora.get_config(arg)
    config.method, config.optim, config.train = recipe.method, recipe.optim, recipe.train
    return config
