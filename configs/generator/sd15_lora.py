"""Adapters of Stable Diffusion 1.5 (LoRA, 2106.09685), trained on CIFAR-10's images, from 32 px to 512.

Run: jaxmoust fit --config=configs/generator/sd15_lora.py --workdir=runs/sd15_lora
     (CIFAR-10 as `jaxmoust data prepare` leaves it; the pipeline comes from the Hugging Face hub, or from a folder:
     --config.pipeline.path=DIR)
Recipe: the LoRA example published with diffusers (examples/text_to_image/README.md): adapters on every attention of the
    U-Net, AdamW at a constant 1e-4, mirrored images; its script's defaults: rank and alpha 4, weight decay 0.01,
    gradients clipped at norm 1. There a batch is one image, for 100 epochs of a small set; here 8, as many devices
    share them, for the 15,000 steps of its example for the whole U-Net. One caption in ten is empty, as guidance wants
    (Ho & Salimans 2022, 2207.12598). Computing in bfloat16 is a choice of ours; parameters stay float32.
Not run at this size.
"""

import ml_collections
import sd15_full

WORDS = ("quick",)  # of arg; others are refused


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Args: arg: "quick" trains adapters of the package's own pipeline for seconds, as a smoke test."""
    config = sd15_full.get_config(arg)
    config.method.update(rank=4, alpha=4.0)
    config.optim.update(learning_rate=1e-4, ema_half_life_images=0.0)
    config.train.batch_size = 16 if arg == "quick" else 8
    return config
