"""Ablation B: how should real and synthetic images be mixed while a classifier trains?

The study concatenates and shuffles (`random`). The other samplers draw from the same pool (the base set and the images
of an EDM that was trained on it) in another way, for as many steps of as many images. Three arms without synthetic
images are the controls. "imbalanced" cuts half of the classes to a fifth; a fourth control then adjusts logits by the
classes' shares of the draws (Menon et al. 2021), which a gain on rare classes must beat.

Run: jaxmoust study --config=experiments/sampling_strategy.py --workdir=runs/sampling
     jaxmoust study --config=experiments/sampling_strategy.py:imbalanced --workdir=runs/sampling_imbalanced
     jaxmoust study --config=experiments/sampling_strategy.py:fashion --workdir=runs/sampling_fashion
     jaxmoust study --config=experiments/sampling_strategy.py:cifar10,imbalanced --workdir=runs/sampling_cifar10
     (and imagenet100; experiments/parts.py says which data the scales want)
Cost: 43 min at digits on one CPU core beside other jobs (x86_64, jax 0.10.2), of which an EDM for each seed is most;
    imbalanced an hour.
Result (digits, --until-decided --most_seeds=10, a generator for each seed: Top-1 on 797 test images and points over
random with intervals that hold for all comparisons and looks together; all are undecided after ten seeds):
                                 100, 10 of each class        60, ten or two of a class
    Random                       93.00 [92.07, 93.92]         86.73 [84.80, 88.65]
    Real only                    93.54 +0.54 [-1.17, +2.25]   87.94 +1.22 [-2.26, +4.70]
    Real, duplicated             93.36 +0.36 [-1.32, +2.05]   87.55 +0.83 [-2.57, +4.23]
    Real, stronger augmentation  94.13 +1.13 [-0.72, +2.98]   86.55 -0.18 [-3.75, +3.40]
    Real, logit-adjusted                                      89.13 +2.41 [-1.14, +5.96]
    Share                        94.17 +1.17 [-0.44, +2.78]   85.90 -0.83 [-4.21, +2.56]
    Class-balanced               93.68 +0.68 [-0.96, +2.31]   87.62 +0.89 [-2.55, +4.33]
    Square-root                  93.68 +0.68 [-0.96, +2.31]   87.14 +0.41 [-3.03, +3.86]
    Effective number             93.68 +0.68 [-0.96, +2.31]   87.69 +0.97 [-2.41, +4.34]
    Weighted by confidence       93.45 +0.45 [-1.18, +2.09]   86.62 -0.10 [-3.49, +3.29]
    Ramp up                      93.55 +0.55 [-1.07, +2.17]   85.40 -1.33 [-4.80, +2.14]
    Ramp down                    93.61 +0.61 [-1.02, +2.25]   87.11 +0.39 [-3.07, +3.85]
    Synthetic first              93.75 +0.75 [-0.87, +2.37]   87.82 +1.09 [-2.28, +4.47]
    Easy to hard                 93.22 +0.23 [-1.43, +1.88]   86.51 -0.21 [-3.64, +3.22]
In words: with classes of one size no sampler is found to be better than one shuffle, nor equivalent to it: at most 2.8
    points are gained or 1.5 lost. Share is the highest in the mean, 1.2 points [0.4, 2.0] by Student's t over the ten
    seeds alone, and so the first to ask again. Where half of the classes are rare, none is decided either: a generator
    for each seed makes the shuffle spread by 2.7 points over seeds. Paired over the ten seeds, each difference by
    itself: drawing classes evenly gains 1.7 points [0.6, 2.9] on share, which draws the same halves without regard to
    classes. Logit adjustment, without a synthetic image, has the highest mean: 1.2 [0.0, 2.4] above real only, 1.3
    [0.1, 2.5] of balanced accuracy, 5.9 [1.5, 10.3] of the worst class (61.3 to 67.1 %), and 1.5 [0.3, 2.7] above
    classes drawn evenly. So no sampler beats it.
Result (fashion: 1,000 real images, 5,000 images of the EDM, 10,000 test images, 3 seeds, differences by Student's t
over them; where another experiment has left the sets in the same store 20 min, 45 s a classifier on 2 CPU cores):
    Random                       78.75 [78.70, 78.81]
    Real only                    82.51 [81.01, 84.01]  +3.76 [+2.26, +5.26]
    Real, duplicated             82.54 [81.48, 83.61]  +3.79 [+2.70, +4.88] *
    Real, stronger augmentation  81.76 [80.90, 82.62]  +3.01 [+2.11, +3.90] *
    Share                        80.91 [79.68, 82.14]  +2.15 [+0.95, +3.36]
    Class-balanced               81.28 [80.17, 82.39]  +2.53 [+1.38, +3.68]
    Square-root                  81.28 [80.17, 82.39]  +2.53 [+1.38, +3.68]
    Effective number             81.28 [80.17, 82.39]  +2.53 [+1.38, +3.68]
    Weighted by confidence       80.80 [80.42, 81.18]  +2.04 [+1.64, +2.45] *
    Ramp up                      79.57 [79.23, 79.92]  +0.82 [+0.52, +1.12] *
    Ramp down                    81.51 [80.70, 82.32]  +2.76 [+1.91, +3.61] *
    Synthetic first              81.88 [80.81, 82.95]  +3.13 [+2.10, +4.15] *
    Easy to hard                 81.06 [79.82, 82.30]  +2.31 [+1.11, +3.51]
In words: here it matters. Every sampler beats the shuffle, in which five of six images are synthetic, each alone at p
    below 0.02; after Holm over 12 comparisons weights, the ramps and synthetic first do, the others miss it by little
    (p = 0.055). Against real images alone the shuffle costs 3.8 points [2.3, 5.3], half and half 1.6 [-1.0, 4.2],
    synthetic images first 0.6 [-0.7, 1.9]: the fewer of them a sampler shows, and the earlier, the better, and none
    gains. With even classes the three samplers by class are one; neither they nor weights nor a curriculum differ
    significantly from share.
"""

import ml_collections
import parts


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Args: arg: digits (the default), fashion, cifar10 or imagenet100; "imbalanced"; "quick"; by ","."""
    scale = parts.read(arg, "imbalanced")
    imbalanced, ratio = "imbalanced" in scale.words, 2 if scale.quick else 5
    large = scale.n_base // scale.num_classes
    small = large // ratio
    base = f"{scale.n_base:,} real images"
    if imbalanced:
        base = f"real images of {scale.num_classes} classes, {large:,} in one half of them and {small:,} in the other,"
    config = parts.study(
        scale,
        "sampling_strategy_imbalanced" if imbalanced else "sampling_strategy",
        f"With {base} and {scale.num_images:,} of an EDM trained on them, does it matter how a classifier's batches "
        "are drawn from the two?",
        baseline="random",
        vary=parts.VARY,
    )
    if imbalanced:
        config.data.update(imbalance="step", imbalance_ratio=float(ratio))
        scale.n_base = scale.num_classes * (large + small) // 2  # what is left, which the duplicates are copies of
    beta = parts.of(scale, digits=0.9, fashion=0.99, cifar10=0.9999, imagenet100=0.999)
    config.generators = dict(edm=parts.generator(scale, "edm"))
    config.sets = dict(edm=parts.drawn(scale, "edm"))
    config.scores = dict(confidence=dict(arm="real", config="configs/score/classifier.py:confidence"))
    half = dict(shares=dict(real=0.5, edm=0.5))
    scored = dict(data=dict(scores="confidence"))
    config.arms = (
        _mixed(
            "random", "Random", "The study's way: one shuffle of all images, each once an epoch.", dict(name="random")
        ),
        *parts.controls(scale),
        *([parts.adjusted()] if imbalanced else []),
        _mixed("share", "Share", "Half of each batch real, half synthetic.", dict(name="share", **half)),
        _mixed(
            "class_balanced",
            "Class-balanced",
            "Half and half; in each half every class equally often.",
            dict(name="class_power", power=0.0, **half),
        ),
        _mixed(
            "square_root",
            "Square-root",
            "Half and half; in each half a class in proportion to the root of its size.",
            dict(name="class_power", power=0.5, **half),
        ),
        _mixed(
            "effective_number",
            "Effective number",
            f"Half and half; in each half a class by its effective number at beta {beta:g}, which fits its size; "
            "nearer to 1 would draw classes as small as these alike.",
            dict(name="effective_number", beta=beta, **half),
        ),
        _mixed(
            "weighted",
            "Weighted by confidence",
            "Half and half; a synthetic image in proportion to what a real-trained classifier gives its class.",
            dict(name="weighted", weights=dict(real=1.0, edm="scores"), **half),
            **scored,
        ),
        _mixed("ramp_up", "Ramp up", "From real only to synthetic only.", dict(name="ramp", start=0.0, end=1.0)),
        _mixed("ramp_down", "Ramp down", "From synthetic only to real only.", dict(name="ramp", start=1.0, end=0.0)),
        _mixed(
            "synthetic_first",
            "Synthetic first",
            "Synthetic images for half of the steps, then real ones.",
            dict(name="stages", stages=((0.5, dict(edm=1.0)), (0.5, dict(real=1.0)))),
        ),
        _mixed(
            "easy_to_hard",
            "Easy to hard",
            "Half and half; of the synthetic images the fifth that a real-trained classifier is surest of, growing to "
            "all of each class at four fifths of training.",
            dict(name="easy_to_hard", start=0.2, full_at=0.8, per_class=True, **half),
            **scored,
        ),
    )
    return config


def _mixed(name: str, title: str, description: str, sampler: dict, **differs: dict) -> dict:
    return parts.arm(name, title, description, ("edm",), sampler, **differs)
