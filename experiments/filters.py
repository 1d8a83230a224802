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
Cost:
Result:
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
