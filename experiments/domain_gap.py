"""Can synthetic images be told from real ones, and does the one that is harder to tell train the better classifier?

A second classifier learns to tell a generator's images from real ones that neither it nor the generator has seen; its
accuracy on others is the domain gap. The study's two panels show the two kinds in the features of that classifier, and
in those of one that learnt the classes from real images alone. Each seed has a set and a domain classifier of its own.

Run: jaxmoust study --config=experiments/domain_gap.py --workdir=runs/domain_gap
     jaxmoust study --config=experiments/domain_gap.py:fashion --workdir=runs/domain_gap_fashion
     jaxmoust study --config=experiments/domain_gap.py:cifar10 --workdir=runs/domain_gap_cifar10
     (and imagenet100; experiments/parts.py says which data the scales want)
Cost:
Result:
"""

import ml_collections
import parts


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Args: arg: digits (the default), fashion, cifar10 or imagenet100; "quick": every part for seconds; by ","."""
    scale = parts.read(arg)
    # At fashion no generator from outside has ever seen a garment.
    generators = ("edm", "ddpm") if scale.name == "fashion" else tuple(parts.WORDS)
    # Where the base set is all there is, nothing is left that a generator inside it has not seen.
    if not scale.quick:
        scale.n_base = parts.of(scale, digits=100, fashion=1000, cifar10=25_000, imagenet100=60_000)
    config = parts.study(
        scale,
        "domain_gap",
        f"Can a classifier tell images of a generator that knows {scale.n_base:,} real images from other real images, "
        "and do those that are harder to tell help more?",
    )
    config.generators = {name: parts.generator(scale, name) for name in generators if name != "sd"}
    config.sets = {name: parts.drawn(scale, name) for name in generators}
    config.domains = {name: dict(parts.look(scale, "domain", name, real="unused"), seeds="all") for name in generators}
    config.measures = {name: parts.look(scale, "measure", name) for name in generators}
    config.arms = (
        *parts.controls(scale),
        *(parts.only(name, scale.num_images) for name in generators),
        *(parts.mixed(name) for name in generators),
    )
    return config
