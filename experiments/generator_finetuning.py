"""Ablation A: does it pay to tune a generator from outside on the real images that one has?

The study draws from generators of other data as they are. Here the same generator is drawn from as it is, with adapters
(LoRA) tuned on the base set, and with its whole U-Net tuned on it, beside an EDM trained on the base set alone; each
without real images and mixed with them, for as many steps of as many images. At `fashion` the outside generator knows
typeset digits and no garment: as it is, it is as far outside as can be.

Run: jaxmoust study --config=experiments/generator_finetuning.py --workdir=runs/generator_finetuning
     jaxmoust study --config=experiments/generator_finetuning.py:fashion --workdir=runs/generator_finetuning_fashion
     jaxmoust study --config=experiments/generator_finetuning.py:cifar10 --workdir=runs/generator_finetuning_cifar10
     (and imagenet100; experiments/parts.py says which data the scales want)
Cost: 3.5 min at digits, on 2 CPU cores (x86_64, jax 0.10.2) with other jobs on them, where synthetic_only.py has left
    its generators and sets in the same store.
Result (digits: Top-1 on 797 test images, mean of 5 seeds and points over real only with their 95 % intervals; *
significant at 5 % after Holm's correction):
    Real only                    93.65 [93.41, 93.89]
    Real, duplicated             93.60 [93.35, 93.85]  -0.05 [-0.51, +0.41]
    Real, stronger augmentation  94.28 [93.18, 95.38]  +0.63 [-0.61, +1.87]
    EDM only                     90.44 [87.96, 92.92]  -3.21 [-5.54, -0.88]
    Outside only                 53.12 [48.19, 58.06]  -40.53 [-45.60, -35.45] *
    Outside, LoRA only           76.49 [71.90, 81.07]  -17.16 [-21.59, -12.74] *
    Outside, tuned only          81.46 [75.54, 87.37]  -12.20 [-18.04, -6.35] *
    Real + EDM                   93.60 [93.08, 94.12]  -0.05 [-0.79, +0.69]
    Real + outside               93.55 [92.29, 94.81]  -0.10 [-1.38, +1.18]
    Real + outside, LoRA         93.63 [92.89, 94.36]  -0.03 [-0.77, +0.72]
    Real + outside, tuned        93.55 [93.10, 94.00]  -0.10 [-0.57, +0.37]
In words: tuning pays where there are no real images: adapters gain 23.4 points [14.8, 31.9] on the generator as it
    is, tuning all of the U-Net 28.3 [19.1, 37.6], which is 5.0 [-0.8, 10.7] more than adapters (paired over seeds).
    It does not reach the EDM trained on the same 100, which is 9.0 [3.5, 14.4] above. Mixed with the real images none
    of the four is told apart from real only, so that there tuning pays nothing. In the features of a real-trained
    classifier, seed 0: FID 5.78 as it is, 1.04 with adapters, 1.00 tuned, 0.70 of the EDM, 0.26 between training and
    test images; recall 0.04, 0.11, 0.09, 0.56 and 0.86: tuned images are near real ones and much less varied. A
    domain classifier tells all four from the 100 real digits in 98.5 to 99 of 100 cases.
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
