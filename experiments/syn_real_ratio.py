"""How many synthetic images should stand beside the real ones: a quarter as many, or ten times as many?

The study concatenates real and synthetic images and shuffles; so does this, at one number of steps for all, so that a
larger set is not also more training: each synthetic image more is a draw less of the real ones.

Run: jaxmoust study --config=experiments/syn_real_ratio.py --workdir=runs/syn_real_ratio
     jaxmoust study --config=experiments/syn_real_ratio.py:fashion --workdir=runs/syn_real_ratio_fashion
     jaxmoust study --config=experiments/syn_real_ratio.py:cifar10 --workdir=runs/syn_real_ratio_cifar10
     (and imagenet100; experiments/parts.py says which data the scales want)
Cost:
Result:
"""

import ml_collections
import parts

RATIOS = (0.25, 0.5, 1, 2, 4, 10)
# Name of a generator -> its title, and what its images are of. At `fashion` there is none from outside to tune that
# has ever seen a garment.
INSIDE = dict(edm=("EDM", "an EDM trained on the base set"))
OUTSIDE = dict(
    sd=("outside", "the outside generator as it is"),
    sd_full=("outside, tuned", "the outside generator with its U-Net tuned on the base set"),
)


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Args: arg: digits (the default), fashion, cifar10 or imagenet100; "quick": every part for seconds; by ","."""
    scale = parts.read(arg)
    generators = INSIDE if scale.name == "fashion" else {**INSIDE, **OUTSIDE}
    largest = int(RATIOS[-1] * scale.n_base)
    config = parts.study(
        scale,
        "syn_real_ratio",
        f"Beside {scale.n_base:,} real images, how many synthetic ones should a classifier train on, at the same "
        "number of steps?",
    )
    config.generators = {name: parts.generator(scale, name) for name in generators if name != "sd"}
    config.sets = {name: parts.drawn(scale, name, largest) for name in generators}
    config.arms = (
        *parts.controls(scale, largest),
        *(
            parts.arm(
                f"{name}_{round(ratio * scale.n_base)}",
                f"Real + {title}, {ratio:g} to 1",
                f"{round(ratio * scale.n_base):,} images of {what} beside the real ones, in one shuffle.",
                (name,),
                dict(name="random"),
                data=dict(n_synthetic=round(ratio * scale.n_base)),
            )
            for name, (title, what) in generators.items()
            for ratio in RATIOS
        ),
    )
    return config
