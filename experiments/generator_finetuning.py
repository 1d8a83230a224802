"""Ablation A: does it pay to tune a generator from outside on the real images that one has?

The study draws from generators of other data as they are. Here the same generator is drawn from as it is, with adapters
(LoRA) tuned on the base set, and with its whole U-Net tuned on it, beside an EDM trained on the base set alone; each
without real images and mixed with them, for as many steps of as many images. At `fashion` the outside generator knows
typeset digits and no garment: as it is, it is as far outside as can be.

Run: jaxmoust study --config=experiments/generator_finetuning.py --workdir=runs/generator_finetuning
     jaxmoust study --config=experiments/generator_finetuning.py:fashion --workdir=runs/generator_finetuning_fashion
     jaxmoust study --config=experiments/generator_finetuning.py:cifar10 --workdir=runs/generator_finetuning_cifar10
     (and imagenet100; experiments/parts.py says which data the scales want)
Cost:
Result:
"""

import ml_collections
import parts

GENERATORS = ("edm", "sd", "sd_lora", "sd_full")


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Args: arg: digits (the default), fashion, cifar10 or imagenet100; "quick": every part for seconds; by ","."""
    scale = parts.read(arg)
    config = parts.study(
        scale,
        "generator_finetuning",
        f"With {scale.n_base:,} real images, do those of an outside generator help a classifier more after it was "
        "tuned on the same real images, and more than those of one that was trained on them alone?",
    )
    config.generators = {name: parts.generator(scale, name) for name in GENERATORS if name != "sd"}
    config.sets = {name: parts.drawn(scale, name) for name in GENERATORS}
    config.domains = {name: parts.look(scale, "domain", name) for name in GENERATORS}
    config.measures = {name: parts.look(scale, "measure", name) for name in GENERATORS}
    config.arms = (
        *parts.controls(scale),
        *(parts.only(name, scale.num_images) for name in GENERATORS),
        *(parts.mixed(name) for name in GENERATORS),
    )
    return config
