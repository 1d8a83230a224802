"""Weight against number: do many synthetic images that count little do what few that count fully do?

A grid of how many synthetic images there are for each real one and of what their loss is multiplied with
(`method.lambda_syn`), of an EDM trained on the same real images. Batches are half real, half synthetic throughout, so
that the number says only how often a synthetic image comes again.

Run: jaxmoust study --config=experiments/weight_and_number.py --workdir=runs/weight_and_number
     jaxmoust study --config=experiments/weight_and_number.py:fashion --workdir=runs/weight_and_number_fashion
     jaxmoust study --config=experiments/weight_and_number.py:cifar10 --workdir=runs/weight_and_number_cifar10
Not run yet.
"""

import ml_collections
import parts

RATIOS = (1, 4, 10)
WEIGHTS = (0.1, 0.3, 1.0, 3.0)


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Args: arg: digits (the default), fashion, cifar10 or imagenet100; "quick": every part for seconds; by ","."""
    scale = parts.read(arg)
    ratios = RATIOS[: 2 if scale.name == "imagenet100" else 3]
    largest = ratios[-1] * scale.n_base
    config = parts.study(
        scale,
        "weight_and_number",
        f"Beside {scale.n_base:,} real images, how many synthetic ones should a classifier train on, and how much "
        "should each count?",
        vary=parts.VARY,
    )
    config.generators = dict(edm=parts.generator(scale, "edm"))
    config.sets = dict(edm=parts.drawn(scale, "edm", largest))
    config.arms = (
        *parts.controls(scale, largest),
        *(
            parts.arm(
                f"edm_{ratio}_weight_{weight:g}".replace(".", "_"),
                f"Real + EDM, {ratio} to 1, weight {weight:g}",
                f"Half of each batch real, half of {ratio * scale.n_base:,} images of an EDM trained on the base set, "
                f"whose loss is multiplied with {weight:g}.",
                ("edm",),
                parts.share(edm=0.5),
                data=dict(n_synthetic=ratio * scale.n_base),
                method=dict(lambda_syn=weight),
            )
            for ratio in ratios
            for weight in WEIGHTS
        ),
    )
    return config
