"""Adapters of Stable Diffusion XL base 1.0 (LoRA, 2106.09685), trained on CIFAR-10's images, from 32 px to 1024.

Run: jaxmoust fit --config=configs/generator/sdxl_lora.py --workdir=runs/sdxl_lora
     (CIFAR-10 as `jaxmoust data prepare` leaves it; the pipeline comes from the hub,
     or from a folder: --config.pipeline.path=DIR)
Recipe: the LoRA example published with diffusers (examples/text_to_image/README_sdxl.md): adapters on every attention
    of the U-Net, AdamW at a constant 1e-4, mirrored images, 1,024 px; its script's defaults: rank and alpha 4, weight
    decay 0.01, gradients clipped at norm 1. Steps and batches as sd15_lora.py; frozen parameters are bfloat16, and the
    insides of blocks are computed again on the way back (remat).
Not run at this size.
"""

import ml_collections
import sd15_lora

WORDS = ("quick",)  # of arg; others are refused


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Args: arg: "quick" trains for seconds; --config.pipeline.path names a small pipeline of this kind."""
    quick = arg == "quick"
    config = sd15_lora.get_config(arg)
    how = dict(remat=True, param_dtype="float32" if quick else "bfloat16")
    config.pipeline.update(path="stabilityai/stable-diffusion-xl-base-1.0", variant="fp16", **how)
    if not quick:
        config.method.image_px = 1024
        config.eval.batch_size = 8
    return config
