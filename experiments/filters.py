"""Does it pay to drop the synthetic images with the lowest scores?

The study drops the lowest fifth by CLIP; He et al. 2023 (2210.07574) keep what CLIP gives more than 1 / K of K classes.
Here scores come from what the real images alone can train: a classifier, by how sure it is of the class that an image
was made for, and a domain classifier, by p(real | image) / p(synthetic | image). The images are those of the external
generator as it is (at fashion, of an EDM): half of each batch, or, by the word `only`, all of it. `clip=DIR`, the
folder of a CLIP in Hugging Face's layout, scores by it, too.

Run: jaxmoust study --config=experiments/filters.py --workdir=runs/filters
     jaxmoust study --config=experiments/filters.py:only --workdir=runs/filters_only
     jaxmoust study --config=experiments/filters.py:fashion --workdir=runs/filters_fashion
     jaxmoust study --config=experiments/filters.py:cifar10,clip=DIR --workdir=runs/filters_cifar10
     (and imagenet100; experiments/parts.py says which data the scales want)
Cost: 5 min each at digits, on 2 CPU cores (x86_64, jax 0.10.2) with other jobs on them.
Result (digits, no CLIP: Top-1 on 797 test images, mean of 5 seeds and points over all images with their 95 %
intervals; * significant at 5 % after Holm's correction):
                                              half real                   no real image
    Real only                                 93.65 +0.08 [-0.99, +1.14]  93.65 +40.50 [+35.62, +45.38] *
    Real, duplicated                          93.50 -0.08 [-1.17, +1.02]  93.50 +40.35 [+35.50, +45.20] *
    Real, stronger augmentation               94.35 +0.78 [-0.89, +2.44]  94.35 +41.20 [+36.12, +46.29] *
    All                                       93.58 [92.57, 94.58]        53.15 [48.49, 57.81]
    Without the fifth of least confidence     93.93 +0.35 [-0.08, +0.78]  52.22 -0.93 [-9.03, +7.17]
    Without the fifth of least density ratio  93.55 -0.03 [-0.56, +0.51]  53.68 +0.53 [-7.46, +8.51]
    Confidence above chance                   93.85 +0.28 [-0.78, +1.33]  57.54 +4.39 [-0.91, +9.69]
    Weighted by density ratio                 93.90 +0.33 [-0.24, +0.89]  55.01 +1.86 [-3.53, +7.24]
In words: no filter and no weight differs significantly from taking every image. The external images are far from
    handwriting as a whole: the classifier of the real images gives their classes 0.25 to 0.29 on average (0.80 to 0.82
    of an EDM's images), and what is above chance, 681 to 771 of 1,000, trains a classifier little better than all.
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
        "worth more without those of the lowest scores?",
        baseline="all",
    )
    config.generators = {} if made == "sd" else {made: parts.generator(scale, made)}
    config.sets = {made: parts.drawn(scale, made)}
    config.scores = dict(confidence=dict(arm="real", config="configs/score/classifier.py:confidence"))
    config.domains = dict(density_ratio=dict(parts.diagnostic(scale, "domain", made), seeds="all"))
    judges = [
        ("confidence", "confidence", "the classifier of the real images"),
        ("density_ratio", "density ratio", "the domain classifier"),
    ]
    if "clip" in scale.words:
        judges.append(("clip", "CLIP's confidence", "CLIP"))
        config.scores.clip = dict(arm="", config="configs/score/clip.py", clip=scale.words.clip)
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
