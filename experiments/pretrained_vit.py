"""Do synthetic images still help a network that has learnt to see elsewhere?

The study fine-tunes a ViT-L/16 that was trained on ImageNet-21k, and finds little to gain. At cifar10 and imagenet100
this does the same: `pretrained=FILE` is its public checkpoint. At digits and fashion a small ViT is trained first,
inside the study, on images of the outside generator as it is, which knows typeset digits; the arms begin as that. Two
arms of the same network begin from nothing.

Run: jaxmoust study --config=experiments/pretrained_vit.py --workdir=runs/pretrained_vit
     jaxmoust study --config=experiments/pretrained_vit.py:fashion --workdir=runs/pretrained_vit_fashion
     jaxmoust study --config=experiments/pretrained_vit.py:cifar10,pretrained=FILE --workdir=runs/pretrained_vit_cifar10
     (and imagenet100; experiments/parts.py says which data the scales want, configs/classifier/vit_l16_finetune.py
     which files)
Cost: 19 min at digits, on 2 CPU cores (x86_64, jax 0.10.2) with other jobs on them, some 15 s a classifier.
Result (digits: Top-1 on 797 test images, mean of 5 seeds and points over real only with their 95 % intervals; *
significant at 5 % after Holm's correction):
    Real only                    73.00 [69.56, 76.44]
    Real, duplicated             74.50 [70.34, 78.67]  +1.51 [-0.83, +3.84]
    Real, stronger augmentation  72.50 [65.94, 79.05]  -0.50 [-4.01, +3.01]
    EDM only                     59.70 [55.83, 63.56]  -13.30 [-15.73, -10.87] *
    Real + EDM                   70.97 [66.77, 75.16]  -2.03 [-3.64, -0.43]
    Real only, from nothing      62.63 [57.54, 67.73]  -10.36 [-18.25, -2.48]
    Real + EDM, from nothing     59.12 [55.57, 62.68]  -13.88 [-18.33, -9.42] *
    Before                       24.69 [22.76, 26.63]  -48.31 [-53.25, -43.36] *
In words: what the ViT learnt from typeset digits is worth 10.4 points [2.4, 18.3], paired over seeds, though alone it
    reads a quarter of handwriting. The EDM's images gain nothing, with it (-2.0 [-3.7, -0.4]) or without (-3.5
    [-11.7, +4.6]): the study's finding of a limited benefit for a strong network, in small. A ViT this small is a
    poor judge of either; digits_resnet reaches 93.65 % on the same images.
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
            f"got {arg!r}; allowed is pretrained=FILE at cifar10 and imagenet100, and there only: a ViT-L/16 in one of "
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
        what = f"{5 * scale.num_images:,} images of the outside generator as it is"
        sampler = parts.share(outside=1.0)
        before = (parts.arm("outside", "Before", f"What others begin as: {what}.", ("outside",), sampler),)
    nothing = dict(method=dict(pretrained=""))
    config.arms = (
        *(dict(control, **begin) for control in parts.controls(scale)),
        dict(parts.only("edm", scale.num_images), **begin),
        dict(parts.mixed("edm"), **begin),
        parts.arm("real_anew", "Real only, from nothing", "The same network without what it learnt before.", **nothing),
        parts.arm(
            "edm_mixed_anew",
            "Real + EDM, from nothing",
            "Half of each batch real, half of the EDM; without what it learnt before.",
            ("edm",),
            parts.share(edm=0.5),
            **nothing,
        ),
        *before,
    )
    return config
