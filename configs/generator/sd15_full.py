"""The whole U-Net of Stable Diffusion 1.5, trained on CIFAR-10's images, brought from 32 px to 512.

Run: jaxmoust fit --config=configs/generator/sd15_full.py --workdir=runs/sd15_full
     (CIFAR-10 as `jaxmoust data prepare` leaves it; the pipeline comes from the Hugging Face hub, or from a folder:
     --config.pipeline.path=DIR)
Recipe: the example published with diffusers (examples/text_to_image/README.md): AdamW at a constant 1e-5, weight decay
    0.01, gradients clipped at norm 1, an average of weights that keeps 0.9999 a step (a half-life of 6,931 steps),
    mirrored images, 15,000 steps. There batches are of 4; 32 here, as many devices share them. One caption in ten is
    empty, as guidance wants (Ho & Salimans 2022, 2207.12598). Computing in bfloat16 is a choice of ours; parameters
    stay float32.
Not run at this size.
"""

import ml_collections
import variants

WORDS = ("quick",)  # of arg; others are refused


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Args: arg: "quick" trains the U-Net of the package's own pipeline for seconds, as a smoke test."""
    config = ml_collections.ConfigDict()
    config.task = "finetune"
    config.pipeline = dict(path="stable-diffusion-v1-5/stable-diffusion-v1-5", dtype="bfloat16", remat=True)
    config.data = dict(source="tfds:cifar10", image_px=32, channels=3)
    config.prompts = dict(template="a photo of a {}")
    config.method = dict(image_px=512)
    config.augment = dict(flip=True)
    config.optim = dict(
        name="adamw",
        learning_rate=1e-5,
        decay=False,
        weight_decay=0.01,
        clip_norm=1.0,
        ema_half_life_images=32 * 6931.0,
    )
    config.train = dict(batch_size=32, num_steps=15_000, log_steps=100, eval_steps=2500, checkpoint_steps=2500)
    config.eval = dict(batch_size=16)
    config.grid = dict(per_class=4, solver="dpmpp_2m", num_steps=20, per_device_batch=4)
    if arg == "quick":
        pipeline = dict(path="tiny_sd", dtype="float32")
        variants.quick(config, pipeline=pipeline, method=dict(image_px=32), eval=dict(batch_size=16))
    return config
