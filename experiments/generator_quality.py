"""How good must a generator inside the data set be: EDM or DDPM, and trained on how many real images?

The study compares a plain DDPM with an EDM. Both are trained here on the classifier's own base set (few) and on a
larger set that holds it (many). Many is what nobody has who has the base set alone: its generator hands on what it
learnt from real images that the classifier never sees, and so shows what is lost to the size of the base set.

Run: jaxmoust study --config=experiments/generator_quality.py --workdir=runs/generator_quality
     jaxmoust study --config=experiments/generator_quality.py:fashion --workdir=runs/generator_quality_fashion
     jaxmoust study --config=experiments/generator_quality.py:cifar10 --workdir=runs/generator_quality_cifar10
     (and imagenet100; experiments/parts.py says which data the scales want)
Cost:
Result:
"""

import ml_collections
import parts

METHODS = dict(edm="EDM", ddpm="DDPM")


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Args: arg: digits (the default), fashion, cifar10 or imagenet100; "quick": every part for seconds; by ","."""
    scale = parts.read(arg)
    few, many = parts.sizes(
        scale, digits=(100, 1000), fashion=(1000, 4000), cifar10=(5000, 50_000), imagenet100=(12_500, 126_689)
    )
    scale.n_base, scale.num_images = few, min(10 * few, scale.num_images)
    config = parts.study(
        scale,
        "generator_quality",
        f"Beside {few:,} real images, are those of an EDM worth more than those of a DDPM, and how much more are they "
        f"worth when the generator was trained on {many:,} real images in place of the same {few:,}?",
    )
    arms = list(parts.controls(scale))
    for name, method in METHODS.items():
        for made, n_base in ((name, few), (f"{name}_many", many)):
            title = f"{method} of {n_base:,}"
            config.generators[made] = parts.generator(scale, name, data=parts.base_set(scale, n_base))
            config.sets[made] = parts.drawn(scale, name, generator=made)
            config.measures[made] = parts.look(scale, "measure", made)
            what = f"an {method}" if method[0] in "AEIOU" else f"a {method}"
            what = f"{what} trained on {n_base:,} real images"
            arms.append(parts.only(made, scale.num_images, f"{title},", what))
            arms.append(parts.mixed(made, title, what))
    config.arms = tuple(arms)
    return config
