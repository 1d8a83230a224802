"""How many synthetic images are worth one more real image, and how does that change with the real images one has?

The grid that the study's law is fitted to: base sets of several sizes, an EDM trained on each of them, its images
beside them in several ratios; and classifiers of real images alone, at these sizes and above, which say how many real
images would have done as much. Real and synthetic images are concatenated and shuffled, as in the study, and every
classifier takes the same number of steps.

Run: jaxmoust study --config=experiments/base_size.py --workdir=runs/base_size
     jaxmoust equivalence --results=runs/base_size/results.csv --n_base=100 --n_real_plus=50
     jaxmoust study --config=experiments/base_size.py:fashion --workdir=runs/base_size_fashion
     jaxmoust study --config=experiments/base_size.py:cifar10 --workdir=runs/base_size_cifar10
     (and imagenet100; experiments/parts.py says which data the scales want)
Cost:
Result:
"""

import ml_collections
import parts


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Args: arg: digits (the default), fashion, cifar10 or imagenet100; "quick": every part for seconds; by ","."""
    scale = parts.read(arg)
    curve = parts.sizes(
        scale,
        digits=(50, 100, 200, 400, 700, 1000),
        fashion=(250, 500, 1000, 2000, 4000, 8000),
        cifar10=(2500, 5000, 12_500, 25_000, 50_000),
        imagenet100=(6000, 12_500, 25_000, 50_000, 126_689),
    )
    bases = [
        curve[i]
        for i in parts.of(scale, digits=(0, 1, 2, 3), fashion=(0, 2, 4), cifar10=(1, 2, 3), imagenet100=(1, 2, 3))
    ]
    ratios = parts.of(scale, digits=(1, 3, 10), fashion=(0.5, 1, 2), cifar10=(0.5, 1, 4), imagenet100=(0.5, 1, 2))
    config = parts.study(
        scale,
        "base_size",
        f"With {bases[0]:,} to {bases[-1]:,} real images, how many of an EDM trained on them are worth one more real "
        "image?",
        bases[0],
        tuple(f"real_{n}" for n in curve),
    )
    config.generators = dict(edm=parts.generator(scale, "edm"))
    arms = []
    for n in curve:
        real, *others = parts.controls(scale, round(ratios[-1] * n), n)
        arms += [real, *others] if n in bases else [real]
    for n in bases:
        config.sets[f"edm_{n}"] = parts.drawn(scale, "edm", round(ratios[-1] * n), "edm")
        arms += [_mixed(scale, n, ratio) for ratio in ratios]
    config.arms = tuple(arms)
    return config


def _mixed(scale: ml_collections.ConfigDict, n_base: int, ratio: float) -> dict:
    n = round(ratio * n_base)
    return parts.arm(
        f"edm_{n_base}_{n}",
        f"{n_base:,} real + {n:,} EDM",
        f"{n:,} images of an EDM trained on the same {n_base:,} real ones beside them, in one shuffle.",
        (f"edm_{n_base}",),
        dict(name="random"),
        data=dict(n_synthetic=n, **parts.base_set(scale, n_base)),
    )
