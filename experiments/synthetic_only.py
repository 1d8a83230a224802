"""Can synthetic images replace the real ones: how good is a classifier that never sees a real image?

Top-1 on real test images of a classifier trained on synthetic ones alone is the classification accuracy score (CAS) of
its generator (Ravuri & Vinyals 2019, 1905.10887). Each generator's images are given in the number of the base set and
in ten times that (five times, at fashion).

Run: jaxmoust study --config=experiments/synthetic_only.py --workdir=runs/synthetic_only
     jaxmoust study --config=experiments/synthetic_only.py:fashion --workdir=runs/synthetic_only_fashion
     jaxmoust study --config=experiments/synthetic_only.py:cifar10 --workdir=runs/synthetic_only_cifar10
     (and imagenet100; experiments/parts.py says which data the scales want)
Cost:
Result:
"""

import ml_collections
import parts


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Args: arg: digits (the default), fashion, cifar10 or imagenet100; "quick": every part for seconds; by ","."""
    scale = parts.read(arg)
    many = parts.of(scale, digits=10, fashion=5, cifar10=10, imagenet100=10) * scale.n_base
    config = parts.study(
        scale,
        "synthetic_only",
        f"Without any of the {scale.n_base:,} real images that its generator may have learnt from, how good is a "
        f"classifier of {scale.n_base:,} or {many:,} synthetic ones?",
    )
    config.generators = {name: parts.generator(scale, name) for name in parts.WORDS if name != "sd"}
    config.sets = {name: parts.drawn(scale, name, many) for name in parts.WORDS}
    config.arms = (
        *parts.controls(scale, many),
        *(
            parts.arm(
                f"{name}_{n}",
                f"{parts.headed(name)}, {n:,}",
                f"No real image at all: {n:,} images of {what}.",
                (name,),
                parts.share(**{name: 1.0}),
                data=dict(n_synthetic=n),
            )
            for name, (_, what) in parts.WORDS.items()
            for n in (scale.n_base, many)
        ),
    )
    return config
