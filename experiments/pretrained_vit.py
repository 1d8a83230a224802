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
Cost: 19 min at digits, on 2 CPU cores (x86_64, jax 0.10.2) with other jobs on them, some 15 s a classifier.
Result (digits: Top-1 on 797 test images, mean of 5 seeds and points over real only with their 95 % intervals; *
significant at 5 % after Holm's correction):
    Real only                    72.85 [69.15, 76.55]
    Real, duplicated             73.78 [69.70, 77.85]  +0.93 [-0.49, +2.35]
    Real, stronger augmentation  72.80 [66.37, 79.22]  -0.05 [-2.91, +2.80]
    EDM only                     59.35 [55.21, 63.49]  -13.50 [-15.82, -11.18] *
    Real + EDM                   70.77 [66.02, 75.51]  -2.08 [-3.82, -0.34]
    Real only, from scratch      62.74 [57.86, 67.61]  -10.11 [-17.85, -2.38]
    Real + EDM, from scratch     59.05 [56.02, 62.07]  -13.80 [-18.25, -9.35] *
    Before                       24.79 [22.59, 26.99]  -48.06 [-53.34, -42.77] *
In words: what the ViT learnt from typeset digits is worth 10.1 points [2.3, 17.9], paired over seeds, though alone it
    reads a quarter of handwriting. The EDM's images gain nothing, with it (-2.1 [-3.8, -0.3]) or without (-3.7
    [-11.0, +3.7]): the study's finding of a limited benefit for a strong network, in small. A ViT this small is a
    poor measure of either; digits_resnet reaches 93.65 % on the same images.
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
