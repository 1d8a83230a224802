"""Ablation A: does it pay to fine-tune an external generator on the real images that one has?

The study samples from external generators as they are. Here the same generator is used as it is, with adapters (LoRA)
fine-tuned on the base set, and with its whole U-Net fine-tuned on it, beside an EDM trained on the base set alone; each
without real images and mixed with them, for as many steps of as many images. At `fashion` the external generator
has seen typeset digits and no clothes.

Run: jaxmoust study --config=experiments/generator_finetuning.py --workdir=runs/generator_finetuning
     jaxmoust study --config=experiments/generator_finetuning.py:fashion --workdir=runs/generator_finetuning_fashion
     jaxmoust study --config=experiments/generator_finetuning.py:cifar10 --workdir=runs/generator_finetuning_cifar10
     (and imagenet100; experiments/parts.py says which data the scales want)
Cost: 3.5 min at digits, on 2 CPU cores (x86_64, jax 0.10.2) with other jobs on them, where synthetic_only.py has left
    its generators and sets in the same store.
Result (digits: Top-1 on 797 test images, mean of 5 seeds and points over real only with their 95 % intervals; *
significant at 5 % after Holm's correction):
    Real only                       93.65 [93.33, 93.97]
    Real, duplicated                93.50 [93.37, 93.63]  -0.15 [-0.68, +0.38]
    Real, stronger augmentation     94.35 [93.41, 95.30]  +0.70 [-0.62, +2.03]
    EDM only                        90.36 [87.55, 93.18]  -3.29 [-6.11, -0.47]
    External SD only                53.15 [48.49, 57.81]  -40.50 [-45.38, -35.62] *
    External SD + LoRA only         76.36 [71.24, 81.49]  -17.29 [-22.14, -12.44] *
    External SD, fine-tuned only    81.51 [75.24, 87.77]  -12.15 [-18.38, -5.91] *
    Real + EDM                      93.63 [93.14, 94.11]  -0.03 [-0.82, +0.77]
    Real + external SD              93.58 [92.57, 94.58]  -0.08 [-1.14, +0.99]
    Real + external SD + LoRA       93.68 [92.69, 94.66]  +0.03 [-1.07, +1.12]
    Real + external SD, fine-tuned  93.48 [93.00, 93.96]  -0.18 [-0.84, +0.49]
In words: fine-tuning pays where there are no real images: adapters gain 23.2 points [14.6, 31.9] on the generator as it
    is, fine-tuning all of the U-Net 28.4 [18.8, 37.9], which is 5.1 [-0.2, 10.5] more than adapters (paired over
    seeds). It does not reach the EDM trained on the same 100, which is 8.9 [3.5, 14.2] above. Mixed with the real
    images none of the four differs significantly from real only, so that there fine-tuning pays nothing. In the
    features of a real-trained classifier, seed 0: FID 5.89 as it is, 1.06 with adapters, 1.02 fine-tuned, 0.71 of the
    EDM, 0.26 between training and test images; recall 0.06, 0.10, 0.10, 0.55 and 0.89: fine-tuned images are near real
    ones and much less varied. A domain classifier distinguishes all four from the 100 real digits in 98.5 to 99 %.
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
        f"With {scale.n_base:,} real images, do those of an external generator help a classifier more after it was "
        "fine-tuned on the same real images, and more than those of one that was trained on them alone?",
    )
    config.generators = {name: parts.generator(scale, name) for name in GENERATORS if name != "sd"}
    config.sets = {name: parts.drawn(scale, name) for name in GENERATORS}
    config.domains = {name: parts.diagnostic(scale, "domain", name) for name in GENERATORS}
    config.measures = {name: parts.diagnostic(scale, "measure", name) for name in GENERATORS}
    config.arms = (
        *parts.controls(scale),
        *(parts.only(name) for name in GENERATORS),
        *(parts.mixed(name) for name in GENERATORS),
    )
    return config
