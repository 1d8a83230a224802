"""Ablation A: does it pay to fine-tune an external generator on the real images that one has?

The study samples from external generators as they are. Here the same generator is used as it is, with adapters (LoRA)
fine-tuned on the base set, and with its whole U-Net fine-tuned on it, beside an EDM trained on the base set alone; each
without real images and mixed with them, for as many steps of as many images. At `fashion` the external generator
has seen typeset digits and no clothes.

Run: jaxmoust study --config=experiments/generator_finetuning.py --workdir=runs/generator_finetuning
     jaxmoust study --config=experiments/generator_finetuning.py:fashion --workdir=runs/generator_finetuning_fashion
     jaxmoust study --config=experiments/generator_finetuning.py:cifar10 --workdir=runs/generator_finetuning_cifar10
     (and imagenet100; experiments/parts.py says which data the scales want)
Cost: 19 min at digits on one CPU core (x86_64, jax 0.10.2), generators and all.
Result (digits, --until-decided --most_seeds=10: Top-1 on 797 test images, mean over the seeds with its 95 %
interval, points over real only with intervals that hold for all comparisons and looks together, seeds, verdict with a
margin of 1 point):
    Real only                       93.54 [93.31, 93.76]                           10
    Real, duplicated                93.57 [93.19, 93.94]  -0.11 [-0.87, +0.66]      7  equivalent
    Real, stronger augmentation     94.13 [93.52, 94.74]  +0.59 [-1.11, +2.29]     10  undecided
    EDM only                        90.50 [89.14, 91.86]  -3.04 [-5.46, -0.61]     10  worse
    External SD only                52.40 [48.65, 56.15]  -41.25 [-55.54, -26.97]   5  worse
    External SD + LoRA only         76.34 [71.05, 81.62]  -17.31 [-32.71, -1.92]    5  worse
    External SD, fine-tuned only    82.06 [78.20, 85.92]  -11.61 [-19.48, -3.75]    7  worse
    Real + EDM                      93.94 [93.50, 94.38]  +0.40 [-0.55, +1.35]     10  undecided
    Real + external SD              93.39 [92.92, 93.85]  -0.15 [-1.37, +1.07]     10  undecided
    Real + external SD + LoRA       94.04 [93.51, 94.57]  +0.50 [-0.55, +1.55]     10  undecided
    Real + external SD, fine-tuned  93.90 [93.56, 94.24]  +0.36 [-0.41, +1.13]     10  undecided
In words: fine-tuning pays where there are no real images: adapters gain 23.9 points [17.1, 30.8] on the generator as it
    is, fine-tuning all of the U-Net 28.6 [21.1, 36.2] (paired over five seeds, by Student's t), which is 4.7 [-0.4,
    9.7] more than adapters. It does not reach the EDM trained on the same 100, which is 8.6 [5.4, 11.8] above. All four
    alone are worse than the real images. Mixed with these, each is within 1.6 points of real only, and whether that is
    a point or less ten seeds leave undecided. Of an earlier run, in the features of a real-trained classifier, seed 0:
    FID 5.89 as it is, 1.06 with adapters, 1.02 fine-tuned, 0.71 of the EDM, 0.26 between training and test images;
    recall 0.06, 0.10, 0.10, 0.55 and 0.89: fine-tuned images are near real ones and much less varied. A domain
    classifier distinguishes all four from the 100 real digits in 98.5 to 99 %.
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
