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
Cost: 7 to 8 min each at digits on one CPU core (x86_64, jax 0.10.2), where other experiments have left the sets.
Result (digits, no CLIP, --until-decided --most_seeds=10: Top-1 on 797 test images, mean over the seeds, points over all
images with intervals that hold for all comparisons and looks together. With a margin of 1 point all are undecided after
ten seeds, but that real images are better than none, after three):
                                              half real                     no real image
    Real only                                 93.54 +0.15 [-0.97, +1.28]  93.68 +40.07 [+16.76, +63.37]
    Real, duplicated                          93.36 -0.03 [-1.21, +1.16]  93.56 +39.94 [+16.48, +63.41]
    Real, stronger augmentation               94.13 +0.74 [-1.05, +2.53]  93.98 +40.36 [+17.84, +62.88]
    All                                       93.39 [92.92, 93.85]          50.60 [48.21, 52.99]
    Without the fifth of least confidence     93.53 +0.14 [-0.85, +1.12]  52.07 +1.47 [-3.29, +6.22]
    Without the fifth of least density ratio  93.95 +0.56 [-0.22, +1.35]  51.03 +0.43 [-4.97, +5.82]
    Confidence above chance                   93.71 +0.33 [-0.48, +1.14]  54.47 +3.86 [-0.41, +8.14]
    Weighted by density ratio                 93.98 +0.59 [-0.43, +1.61]  53.89 +3.29 [-1.76, +8.33]
In words: no filter and no weight is found to be better than taking every image, nor equivalent to it: what they change
    is between -0.9 and 1.6 points where half is real. Without real images, those of a confidence above chance come
    nearest to a gain, 3.9 points [-0.4, 8.1]. The external images are far from handwriting as a whole: in an earlier
    run the classifier of the real images gave their classes 0.25 to 0.29 on average (0.80 to 0.82 of an EDM's images),
    and 681 to 771 of 1,000 were above chance.
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
