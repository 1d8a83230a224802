"""How many synthetic images should stand beside the real ones: a quarter as many, or ten times as many?

The study concatenates real and synthetic images and shuffles; so does this, at one number of steps for all, so that a
larger set is not also more training: each synthetic image more is a draw less of the real ones.

Run: jaxmoust study --config=experiments/syn_real_ratio.py --workdir=runs/syn_real_ratio
     jaxmoust study --config=experiments/syn_real_ratio.py:fashion --workdir=runs/syn_real_ratio_fashion
     jaxmoust study --config=experiments/syn_real_ratio.py:cifar10 --workdir=runs/syn_real_ratio_cifar10
     (and imagenet100; experiments/parts.py says which data the scales want)
Cost: 16 min at digits on one CPU core (x86_64, jax 0.10.2), where generator_finetuning.py has left the generators and
    most sets in the same store.
Result (digits, --until-decided --most_seeds=10: Top-1 on 797 test images, mean over the seeds with its 95 %
interval, points over real only with intervals that hold for all comparisons and looks together, seeds, verdict with a
margin of 1 point):
    Real only                                  93.54 [93.31, 93.76]                        10
    Real, duplicated                           93.36 [92.85, 93.88]  -0.18 [-1.14, +0.79]  10  undecided
    Real, stronger augmentation                94.13 [93.52, 94.74]  +0.59 [-1.16, +2.34]  10  undecided
    Real + EDM, 0.25 to 1                      93.49 [93.09, 93.89]  -0.05 [-1.07, +0.97]  10  equivalent
    Real + EDM, 0.5 to 1                       93.27 [92.69, 93.86]  -0.26 [-1.45, +0.92]  10  undecided
    Real + EDM, 1 to 1                         93.36 [92.88, 93.85]  -0.18 [-1.23, +0.88]  10  undecided
    Real + EDM, 2 to 1                         93.20 [92.53, 93.87]  -0.34 [-1.58, +0.90]  10  undecided
    Real + EDM, 4 to 1                         93.22 [92.42, 94.03]  -0.31 [-1.75, +1.12]  10  undecided
    Real + EDM, 10 to 1                        92.77 [91.91, 93.64]  -0.77 [-2.28, +0.75]  10  undecided
    Real + external SD, 0.25 to 1              93.71 [93.22, 94.20]  +0.18 [-0.89, +1.24]  10  undecided
    Real + external SD, 0.5 to 1               93.14 [92.32, 93.96]  -0.40 [-1.75, +0.94]  10  undecided
    Real + external SD, 1 to 1                 93.06 [92.47, 93.66]  -0.48 [-1.78, +0.82]  10  undecided
    Real + external SD, 2 to 1                 92.85 [91.95, 93.75]  -0.69 [-2.36, +0.98]  10  undecided
    Real + external SD, 4 to 1                 92.11 [91.18, 93.04]  -1.43 [-3.34, +0.48]  10  undecided
    Real + external SD, 10 to 1                88.18 [87.06, 89.30]  -5.47 [-9.56, -1.38]   5  worse
    Real + external SD, fine-tuned, 0.25 to 1  93.45 [92.95, 93.95]  -0.09 [-1.09, +0.91]  10  undecided
    Real + external SD, fine-tuned, 0.5 to 1   93.56 [93.06, 94.07]  +0.03 [-1.02, +1.07]  10  equivalent
    Real + external SD, fine-tuned, 1 to 1     93.49 [92.99, 93.98]  -0.05 [-1.09, +0.99]  10  undecided
    Real + external SD, fine-tuned, 2 to 1     93.38 [92.88, 93.87]  -0.16 [-1.37, +1.05]  10  undecided
    Real + external SD, fine-tuned, 4 to 1     92.80 [92.15, 93.45]  -0.74 [-2.08, +0.60]  10  undecided
    Real + external SD, fine-tuned, 10 to 1    91.63 [90.76, 92.50]  -1.91 [-3.59, -0.22]  10  worse
In words: with 100 real digits no ratio of any generator gains, and ten to one of the external generator is worse, by
    5.5 points as it is and 1.9 fine-tuned. A quarter of the EDM's and a half of the fine-tuned generator's are
    equivalent to none; up to two to one the others are within 2.4 points, and undecided. Nothing peaks near 1 to 1, as
    Azizi et al. 2023 (2304.08466) saw with a far stronger generator.
Result (fashion: 1,000 real images, 10,000 test images, 3 seeds, differences by Student's t over them; 5 min to draw
10,000 images and 43 s a classifier on 2 CPU cores, 30 min where another experiment has left the generator in the same
store):
    Real only                    82.51 [81.01, 84.01]
    Real, duplicated             82.48 [81.97, 82.98]  -0.04 [-1.97, +1.89]
    Real, stronger augmentation  81.76 [80.90, 82.62]  -0.75 [-1.77, +0.26]
    Real + EDM, 0.25 to 1        82.10 [81.22, 82.99]  -0.41 [-2.51, +1.69]
    Real + EDM, 0.5 to 1         81.48 [81.16, 81.80]  -1.03 [-2.51, +0.44]
    Real + EDM, 1 to 1           80.46 [79.93, 80.98]  -2.06 [-3.90, -0.22]
    Real + EDM, 2 to 1           79.86 [78.49, 81.23]  -2.66 [-5.05, -0.27]
    Real + EDM, 4 to 1           79.35 [78.58, 80.12]  -3.16 [-5.43, -0.90]
    Real + EDM, 10 to 1          78.00 [77.81, 78.18]  -4.52 [-6.14, -2.89]
In words: the more of them the worse, from a quarter (0.4 points, within the interval) to ten times as many (4.5 points
    of Top-1, a quarter more errors); from 1 to 1 on each loss is significant alone, and with three seeds none after
    Holm (10 to 1: p = 0.055). These images teach less than the real ones in whose place they are drawn.
"""

import ml_collections
import parts

RATIOS = (0.25, 0.5, 1, 2, 4, 10)


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Args: arg: digits (the default), fashion, cifar10 or imagenet100; "quick": every part for seconds; by ","."""
    scale = parts.read(arg)
    # At fashion there is no external generator of clothes.
    generators = ("edm",) if scale.name == "fashion" else ("edm", "sd", "sd_full")
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
                f"Real + {parts.WORDS[name][0]}, {ratio:g} to 1",
                f"{round(ratio * scale.n_base):,} images of {parts.WORDS[name][1]} beside the real ones, in one "
                "shuffle.",
                (name,),
                dict(name="random"),
                data=dict(n_synthetic=round(ratio * scale.n_base)),
            )
            for name in generators
            for ratio in RATIOS
        ),
    )
    return config
