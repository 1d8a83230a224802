"""Weight against number: do many synthetic images that count little do what few that count fully do?

A grid of how many synthetic images there are for each real one and of what their loss is multiplied with
(`method.lambda_syn`), of an EDM trained on the same real images. Batches are half real, half synthetic throughout, so
that the number says only how often a synthetic image comes again.

Run: jaxmoust study --config=experiments/weight_and_number.py --workdir=runs/weight_and_number
     jaxmoust study --config=experiments/weight_and_number.py:fashion --workdir=runs/weight_and_number_fashion
     jaxmoust study --config=experiments/weight_and_number.py:cifar10 --workdir=runs/weight_and_number_cifar10
Cost: 30 min at digits on one CPU core beside other jobs (x86_64, jax 0.10.2), an EDM for each seed among it.
Result (digits: points of Top-1 on 797 test images above real only, 93.63 % [93.33, 93.93], mean of 5 seeds with a
generator each, by number and weight; with a margin of 1 point two of them, with a *, are equivalent to real only, as is
the base set duplicated; the others are undecided):
    synthetic for each real    weight 0.1  weight 0.3  weight 1  weight 3
                          1         +0.40       +0.35     -0.25     -0.93
                          4        +0.13*       +0.30     +0.13     -0.13
                         10        +0.20*       +0.43     +0.18     -0.53
In words: of the surface fitted to the grid, ten times as many images change Top-1 by +0.2 points [-0.2, 0.6], and ten
    times the weight by -0.6 [-0.8, -0.3]: what these images cost comes with their weight, not with their number. The
    surface is highest at 2.9 [1, 10] for each real one with a weight of 0.2 [0.1, 0.6], +0.4 points [-0.3, 1.2]: no
    gain is shown.
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
