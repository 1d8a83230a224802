"""Adapters of Stable Diffusion 1.5 (LoRA, 2106.09685), trained on CIFAR-10's images, from 32 px to 512.

Run: jaxmoust fit --config=configs/generator/sd15_lora.py --workdir=runs/sd15_lora
     (CIFAR-10 as `jaxmoust data prepare` leaves it; the pipeline comes from the Hugging Face hub, or from a folder:
     --config.pipeline.path=DIR)
Recipe: the LoRA example published with diffusers (examples/text_to_image/README.md): adapters on every attention of the
    U-Net, AdamW at a constant 1e-4, mirrored images; its script's defaults: rank and alpha 4, weight decay 0.01,
    gradients clipped at norm 1. There a batch is one image, for 100 epochs of a small set; here 8, as many devices
    share them, for the 15,000 steps of its example for the whole U-Net. One caption in ten is empty, as guidance wants
    (Ho & Salimans 2022, 2207.12598). Computing in bfloat16 is a choice of ours; parameters stay float32.
Cost:
Result:
"""

import ml_collections

WORDS = ("quick",)  # of arg; others are refused


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Args: arg: "quick" trains adapters of the package's own pipeline for seconds, to see that all parts meet."""
    quick = arg == "quick"
    config = ml_collections.ConfigDict()
    config.task = "finetune"
    config.pipeline = dict(
        path="tiny_sd" if quick else "stable-diffusion-v1-5/stable-diffusion-v1-5",
        dtype="float32" if quick else "bfloat16",
        remat=True,
    )
    config.data = dict(source="tfds:cifar10", n_base=100 if quick else 0, image_px=32, channels=3)
    config.prompts = dict(template="a photo of a {}")
    config.method = dict(image_px=32 if quick else 512, rank=4, alpha=4.0)
    config.augment = dict(flip=True)
    config.optim = dict(name="adamw", learning_rate=1e-4, decay=False, weight_decay=0.01, clip_norm=1.0)
    config.train = dict(
        batch_size=16 if quick else 8,
        num_steps=4 if quick else 15_000,
        log_steps=2 if quick else 100,
        eval_steps=0 if quick else 2500,
        checkpoint_steps=0 if quick else 2500,
    )
    config.eval = dict(batch_size=16 if quick else 64)
    config.grid = dict(per_class=0 if quick else 4, sampler="dpmpp_2m", num_steps=20, per_device_batch=4)
    return config
