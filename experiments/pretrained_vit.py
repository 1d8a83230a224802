"""Do synthetic images still help a pre-trained network?

The study fine-tunes a ViT-L/16 that was trained on ImageNet-21k, and finds little to gain. At cifar10 and imagenet100
this does the same: `pretrained=FILE` is its public checkpoint. At digits and fashion a small ViT is trained first,
inside the study, on images of the external generator as it is, of typeset digits; the arms begin as that. Two
arms of the same network begin from scratch.

Run: jaxmoust study --config=experiments/pretrained_vit.py --workdir=runs/pretrained_vit
     jaxmoust study --config=experiments/pretrained_vit.py:fashion --workdir=runs/pretrained_vit_fashion
     jaxmoust study --config=experiments/pretrained_vit.py:cifar10,pretrained=FILE --workdir=runs/pretrained_vit_cifar10
     (and imagenet100; experiments/parts.py says which data the scales want, configs/classifier/vit_l16_finetune.py
     which files)
Cost: 55 min at digits on one CPU core (x86_64, jax 0.10.2) beside other jobs, some 20 s a classifier.
Result (digits, --until-decided --most_seeds=10: Top-1 on 797 test images, mean over the seeds with its 95 %
interval, points over real only with intervals that hold for all comparisons and looks together, seeds, verdict with a
margin of 1 point):
    Real only                    73.85 [71.62, 76.08]                           10
    Real, duplicated             74.00 [71.44, 76.57]  +0.15 [-3.96, +4.27]     10  undecided
    Real, stronger augmentation  71.71 [69.36, 74.06]  -2.15 [-6.66, +2.37]     10  undecided
    EDM only                     59.17 [55.69, 62.65]  -14.71 [-24.10, -5.31]    5  worse
    Real + EDM                   71.37 [69.23, 73.50]  -2.48 [-6.43, +1.46]     10  undecided
    Real only, from scratch      62.99 [57.89, 68.08]  -10.89 [-21.19, -0.59]    5  worse
    Real + EDM, from scratch     59.42 [57.03, 61.82]  -14.45 [-23.58, -5.32]    5  worse
    Before                       22.58 [13.68, 31.49]  -51.36 [-86.36, -16.36]   3  worse
In words: what the ViT learnt from typeset digits is worth 10.9 points, though alone it reads less than a quarter of
    handwriting. The EDM's images gain nothing: with it -2.5 [-3.7, -1.2], from scratch -3.6 [-10.7, +3.6] (paired over
    ten and five seeds, by Student's t, each by itself): the study's finding of a limited benefit for a strong network,
    in small. A ViT this small is a poor measure of either, and its seeds spread by 3 points; digits_resnet reaches
    93.54 % on the same images. Of 80 runs, --until-decided made 58.
"""

import ml_collections
import parts

VIT_L16 = "configs/classifier/vit_l16_finetune.py"


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Args: arg: digits (the default), fashion, cifar10 or imagenet100; pretrained=FILE; "quick"; by ","."""
    scale = parts.read(arg, "pretrained=")
    inside = scale.name in ("digits", "fashion")
    file = scale.words.get("pretrained", "")
    if inside == bool(file) and not scale.quick:
        raise ValueError(
            f"got {arg!r}, expected pretrained=FILE at cifar10 and imagenet100, and there only. A ViT-L/16 in one of "
            f"the layouts that {VIT_L16} names. At digits and fashion the study trains what it begins with."
        )
    scale.classifier = parts.of(
        scale,
        digits="configs/classifier/digits_vit.py",
        fashion="configs/classifier/fashion_vit.py:small",
        cifar10=f"{VIT_L16}:pretrained={file}",
        imagenet100=f"{VIT_L16}:pretrained={file}",
    )
    config = parts.study(
        scale,
        "pretrained_vit",
        f"Do {scale.num_images:,} images of an EDM help a ViT that was trained before on something else and now learns "
        f"from {scale.n_base:,} real images?",
    )
    config.generators = dict(edm=parts.generator(scale, "edm"))
    config.sets = dict(edm=parts.drawn(scale, "edm"))
    begin = {}
    before = ()
    if inside:
        begin = dict(start="outside")
        config.sets.outside = parts.drawn(scale, "sd", 5 * scale.num_images)
        what = f"{5 * scale.num_images:,} images of the external generator as it is"
        sampler = parts.share(outside=1.0)
        before = (parts.arm("outside", "Before", f"What others begin as: {what}.", ("outside",), sampler),)
    nothing = dict(method=dict(pretrained=""))
    config.arms = (
        *(dict(control, **begin) for control in parts.controls(scale)),
        dict(parts.only("edm"), **begin),
        dict(parts.mixed("edm"), **begin),
        parts.arm("real_anew", "Real only, from scratch", "The same network without what it learnt before.", **nothing),
        parts.arm(
            "edm_mixed_anew",
            "Real + EDM, from scratch",
            "Half of each batch real, half of the EDM; without what it learnt before.",
            ("edm",),
            parts.share(edm=0.5),
            **nothing,
        ),
        *before,
    )
    return config
