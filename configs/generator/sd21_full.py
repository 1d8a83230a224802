"""The whole U-Net of Stable Diffusion 2.1-base, trained on ImageNet-100's images at 512 px.

Run: jaxmoust fit --config=configs/generator/sd21_full.py --workdir=runs/sd21_full --config.data.path=DIR
     (DIR holds train/CLASS/*.JPEG and a validation split; --config.data.classes=FILE names the 100 classes, one a line;
     --config.prompts.words_file=FILE says what folders such as n01440764 are called, as JSON; the 768 px model is
     --config.pipeline.path=stabilityai/stable-diffusion-2-1 --config.method.image_px=768)
Recipe: the example published with diffusers (examples/text_to_image/README.md): AdamW at a constant 1e-5, weight decay
    0.01, gradients clipped at norm 1, an average of weights that keeps 0.9999 a step (a half-life of 6,931 steps),
    mirrored images, 15,000 steps. There batches are of 4; 32 here, as many devices share them. One caption in ten is
    empty, as guidance wants (Ho & Salimans 2022, 2207.12598). Computing in bfloat16 is a choice of ours; parameters
    stay float32.
Not run at this size.
"""

import ml_collections
import sd15_full

WORDS = ("quick",)  # of arg; others are refused


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Args: arg: "quick" trains the U-Net of the package's own pipeline for seconds, as a smoke test."""
    quick = arg == "quick"
    config = sd15_full.get_config(arg)
    config.pipeline.path = "tiny_sd" if quick else "stabilityai/stable-diffusion-2-1-base"
    config.data.update(source="folder", image_px=64 if quick else 512)
    config.grid.per_class = 0 if quick else 1
    return config
