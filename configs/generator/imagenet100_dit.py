"""The study's DiT on ImageNet-100 at 256 x 256: on latents of Stable Diffusion's VAE (Peebles & Xie 2022, 2212.09748).

The paper's for 1,000 classes: DiT-XL/2 (675 M), latents of sd-vae-ft-ema, DDPM, AdamW at 1e-4 without decay or warm-up,
an average of decay 0.9999 a step of 256 images, flips, 7 million steps; 250 steps of sampling, guidance 1.5. For these
100 classes nobody has published one: a tenth of the images, so here DiT-B/2 and 400,000 steps; the variance is not
learnt. Latents are encoded once. --config.method.name=flow trains it as SiT is (2401.08740).

Run: jaxmoust fit --config=configs/generator/imagenet100_dit.py --workdir=runs/imagenet100_dit --config.data.path=DIR
     jaxmoust sample --config=configs/sample/ddim_latents.py --workdir=runs/dit_set \
       --config.generator=runs/imagenet100_dit
     (DIR holds train/CLASS/*.JPEG and a validation split; --config.data.classes=FILE names the 100 classes, one a line)
"""

import ml_collections
import variants

WORDS = ("quick",)  # of arg; others are refused


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Args: arg: "quick" trains a small network on latents of the embedded VAE for seconds."""
    config = ml_collections.ConfigDict()
    config.task = "diffuse"
    config.data = dict(source="folder", image_px=256, channels=3)
    config.latents = dict(path="stabilityai/sd-vae-ft-ema")
    config.model = dict(name="dit_b", patch_size=2, dtype="bfloat16")
    config.method = dict(name="ddpm", label_dropout=0.1)
    config.augment = dict(flip=True)
    config.optim = dict(
        name="adamw",
        learning_rate=1e-4,
        decay=False,
        ema_half_life_images=1_774_368.0,  # 0.9999 a step of 256 images
        ema_others=(500_000.0, 8_000_000.0),
    )
    config.train = dict(batch_size=256, num_steps=400_000, log_steps=100, eval_steps=10_000, checkpoint_steps=10_000)
    config.eval = dict(batch_size=64)
    if arg == "quick":
        network = dict(width=16, depth=2, num_heads=2)
        small = dict(data=dict(image_px=32), latents=dict(path="tiny_sd"), eval=dict(batch_size=16))
        variants.quick(config, model=network, **small)
        config.data.n_base = 100
    return config
