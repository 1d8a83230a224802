"""EDM on ImageNet-100 at 64 x 64 colour, with classes (Karras et al. 2022, 2206.00364).

Nobody has published a recipe for these 100 classes. Network and recipe are those that Karras et al. give for a set of
64 px images of about that size, FFHQ (appendix F.3; 70,000 against some 127,000): DDPM++ of 61.8 M parameters, Adam at
2e-4 after a linear warm-up over 10 million images, an average that forgets half in 0.5 million, dropout 0.05, non-leaky
augmentation with probability 0.15, 200 million images in batches of 256. All of ImageNet they train with ADM
(--config.model.name=adm_64px, 296 M), batches of 4096, 1e-4, dropout 0.1, no augmentation, a half-life of 50 million
images, 2,500 million images. Computing in bfloat16 is a choice of ours; parameters stay float32.

Run: jaxmoust fit --config=configs/generator/imagenet100_edm.py --workdir=runs/imagenet100_edm --config.data.path=DIR
     (DIR holds train/CLASS/*.JPEG and a validation split; --config.data.classes=FILE names the 100 classes, one a line)
"""

import ml_collections
import variants

WORDS = ("quick",)  # of arg; others are refused


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Args: arg: "quick" trains a small network for seconds, as a smoke test."""
    config = ml_collections.ConfigDict()
    config.task = "diffuse"
    config.data = dict(source="folder", image_px=64, channels=3)
    config.model = dict(name="ddpmpp_64px", dtype="bfloat16")
    config.method = dict(name="edm")
    config.augment = dict(nonleaky=0.15)
    config.optim = dict(
        name="adam", learning_rate=2e-4, warmup_steps=39_062, decay=False, ema_half_life_images=500_000.0
    )
    config.train = dict(batch_size=256, num_steps=781_250, log_steps=100, eval_steps=10_000, checkpoint_steps=10_000)
    config.eval = dict(batch_size=256)
    if arg == "quick":
        network = dict(base_channels=8, channel_multipliers=(1, 1, 2), num_blocks=1)
        variants.quick(config, model=network, train=dict(batch_size=8), eval=dict(batch_size=16))
    return config
