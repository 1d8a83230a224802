"""Does it pay to drop the synthetic images that a judge trusts least?

The study drops the lowest fifth by CLIP; He et al. 2023 (2210.07574) keep what CLIP gives more than 1 / K of K classes.
Here a judge is what the real images alone can train: a classifier, by how sure it is of the class that an image was
made for, and a domain classifier, by p(real | image) / p(synthetic | image). The images are those of the outside
generator as it is (at fashion, of an EDM): half of each batch, or, by the word `only`, all of it. `clip=DIR`, the
folder of a CLIP in Hugging Face's layout, lets it judge too.

Run: jaxmoust study --config=experiments/filters.py --workdir=runs/filters
     jaxmoust study --config=experiments/filters.py:only --workdir=runs/filters_only
     jaxmoust study --config=experiments/filters.py:fashion --workdir=runs/filters_fashion
     jaxmoust study --config=experiments/filters.py:cifar10,clip=DIR --workdir=runs/filters_cifar10
     (and imagenet100; experiments/parts.py says which data the scales want)
Cost: 5 min each at digits, on 2 CPU cores (x86_64, jax 0.10.2) with other jobs on them.
Result (digits, no CLIP: Top-1 on 797 test images, mean of 5 seeds and points over all images with their 95 %
intervals; * significant at 5 % after Holm's correction):
                                              half real                   no real image
    Real only                                 93.65 +0.10 [-1.18, +1.38]  93.65 +40.53 [+35.45, +45.60] *
    Real, duplicated                          93.60 +0.05 [-1.16, +1.26]  93.60 +40.48 [+35.68, +45.28] *
    Real, stronger augmentation               94.28 +0.73 [-1.06, +2.51]  94.28 +41.15 [+36.36, +45.95] *
    All                                       93.55 [92.29, 94.81]        53.12 [48.19, 58.06]
    Without the fifth of least confidence     93.85 +0.30 [-0.54, +1.15]  52.25 -0.88 [-9.01, +7.25]
    Without the fifth of least density ratio  93.78 +0.23 [-0.69, +1.14]  54.18 +1.05 [-4.97, +7.07]
    Confidence above chance                   93.78 +0.23 [-1.12, +1.57]  56.66 +3.54 [-0.85, +7.93]
    Weighted by density ratio                 93.98 +0.43 [-0.63, +1.48]  56.44 +3.31 [-3.58, +10.21]
In words: no filter and no weight is told apart from taking every image. The images from outside are far from
    handwriting as a whole: the classifier of the real images gives their classes 0.28 to 0.29 on average (0.80 to 0.82
    of an EDM's images), and what is above chance, 673 to 769 of 1,000, trains a classifier little better than all.
"""

import ml_collections
import parts

DROPPED = 0.2


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Args: arg: digits (the default), fashion, cifar10 or imagenet100; "only"; clip=DIR; "quick"; by ","."""
    scale = parts.read(arg, "only", "clip=")
    only = "only" in scale.words
    made = parts.of(scale, digits="sd", fashion="edm", cifar10="sd", imagenet100="sd")
    config = parts.study(
        scale,
        "filters_only" if only else "filters",
        f"{'In place of' if only else 'Beside'} {scale.n_base:,} real images, are {scale.num_images:,} synthetic ones "
        "worth more without those that a judge trusts least?",
        baseline="all",
    )
    config.generators = {} if made == "sd" else {made: parts.generator(scale, made)}
    config.sets = {made: parts.drawn(scale, made)}
    config.scores = dict(confidence=dict(arm="real", config="configs/score/classifier.py:confidence", overrides={}))
    config.domains = dict(density_ratio=dict(parts.look(scale, "domain", made), seeds="all"))
    judges = [
        ("confidence", "confidence", "the classifier of the real images"),
        ("density_ratio", "density ratio", "the domain classifier"),
    ]
    if "clip" in scale.words:
        judges.append(("clip", "CLIP's confidence", "CLIP"))
        config.scores.clip = dict(arm="", config="configs/score/clip.py", overrides=dict(clip=scale.words.clip))
    shares = parts.share(**{made: 1.0 if only else 0.5})

    def arm(
        name: str, title: str, description: str, score: str = "", sampler: dict | None = None, **data: dict
    ) -> dict:
        return parts.arm(name, title, description, (made,), sampler or shares, data=dict(scores=score, **data))

    config.arms = (
        *parts.controls(scale),
        arm("all", "All", "Every synthetic image."),
        *(
            arm(
                f"{score}_fifth",
                f"Without the fifth of least {title}",
                f"Of each class the fifth dropped that {judge} trusts least.",
                score,
                drop_lowest=DROPPED,
            )
            for score, title, judge in judges
        ),
        *(
            arm(
                f"{score}_chance",
                f"{title[0].upper()}{title[1:]} above chance",
                f"What {judge} gives more than 1 / K, of K classes.",
                score,
                keep_above="1/C",
            )
            for score, title, judge in judges
            if score != "density_ratio"  # no probability of a class
        ),
        arm(
            "density_ratio_weighted",
            "Weighted by density ratio",
            "All of them, each drawn in proportion to p(real | image) / p(synthetic | image).",
            "density_ratio",
            dict(shares, name="weighted", weights={"real": 1.0, made: "scores"}),
        ),
    )
    return config
