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
Cost:
Result:
"""

import ml_collections

WORDS = ("quick",)  # of arg; others are refused


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Args: arg: "quick" trains the U-Net of the package's own pipeline for seconds, to see that all parts meet."""
    quick = arg == "quick"
    config = ml_collections.ConfigDict()
    config.task = "finetune"
    config.pipeline = dict(
        path="tiny_sd" if quick else "stabilityai/stable-diffusion-2-1-base",
        dtype="float32" if quick else "bfloat16",
        remat=True,
    )
    config.data = dict(source="folder", n_base=100 if quick else 0, image_px=64 if quick else 512, channels=3)
    config.prompts = dict(template="a photo of a {}")
    config.method = dict(image_px=32 if quick else 512)
    config.augment = dict(flip=True)
    config.optim = dict(
        name="adamw",
        learning_rate=1e-5,
        decay=False,
        weight_decay=0.01,
        clip_norm=1.0,
        ema_half_life_images=32 * 6931.0,
    )
    config.train = dict(
        batch_size=16 if quick else 32,
        num_steps=4 if quick else 15_000,
        log_steps=2 if quick else 100,
        eval_steps=0 if quick else 2500,
        checkpoint_steps=0 if quick else 2500,
    )
    config.eval = dict(batch_size=16 if quick else 64)
    config.grid = dict(per_class=0 if quick else 1, sampler="dpmpp_2m", num_steps=20, per_device_batch=4)
    return config
