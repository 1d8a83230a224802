"""ViT-Ti with patches of 4 px on CIFAR-10 from scratch, alone or mixed with a synthetic set.

Run: jaxmoust train --config=configs/classifier/cifar10_vit.py --workdir=runs/cifar10_vit
     jaxmoust train --config=configs/classifier/cifar10_vit.py:synthetic=runs/edm,share=0.5 --workdir=runs/mix
     (the verb `data prepare` puts tfds:cifar10 where TFDS looks for it)
Settings: Lee et al. 2021 (2112.13492), section 4.1: AdamW, batch 128, 100 epochs, 10 of them warm-up, rate 1e-3, decay
    0.05, mixup, cutmix, label smoothing and stochastic depth of 0.1; with RandAugment where they have AutoAugment,
    and without their erasing. Their plain ViT, of 2.8 M parameters, reaches 93.58 %.
Not run at this size.
"""

import ml_collections
import variants

WORDS = variants.WORDS


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Args: arg: "quick"; or synthetic=DIR,share=0.5,name=edm mixes in the set of that name."""
    config = ml_collections.ConfigDict()
    config.task = "classify"
    config.data = dict(source="tfds:cifar10")
    config.model = dict(
        name="vit", width=192, depth=12, num_heads=3, patch_px=4, stochastic_depth=0.1, dtype="bfloat16"
    )
    config.augment = dict(flip=True, crop_px=4, randaugment_ops=2, mixup=0.8, cutmix=1.0, fill="constant")
    config.method = dict(smoothing=0.1)
    config.optim = dict(name="adamw", warmup_steps=3_906, weight_decay=0.05)
    config.train = dict(batch_size=128, num_steps=39_062, log_steps=100, eval_steps=3_906, checkpoint_steps=3_906)
    config.eval = dict(batch_size=1000)
    return variants.finish(config, arg, model=dict(width=16, depth=2, num_heads=2))
