"""How many synthetic images should stand beside the real ones: a quarter as many, or ten times as many?

The study concatenates real and synthetic images and shuffles; so does this, at one number of steps for all, so that a
larger set is not also more training: each synthetic image more is a draw less of the real ones.

Run: jaxmoust study --config=experiments/syn_real_ratio.py --workdir=runs/syn_real_ratio
     jaxmoust study --config=experiments/syn_real_ratio.py:fashion --workdir=runs/syn_real_ratio_fashion
     jaxmoust study --config=experiments/syn_real_ratio.py:cifar10 --workdir=runs/syn_real_ratio_cifar10
     (and imagenet100; experiments/parts.py says which data the scales want)
Cost: 4 min at digits, on 2 CPU cores (x86_64, jax 0.10.2), where other experiments have left the generators and most
    sets in the same store; 2.7 s a classifier.
Result (digits: Top-1 on 797 test images, mean of 5 seeds and points over real only with their 95 % intervals; *
significant at 5 % after Holm's correction):
    Real only                                  93.65 [93.33, 93.97]
    Real, duplicated                           93.50 [93.37, 93.63]  -0.15 [-0.68, +0.38]
    Real, stronger augmentation                94.35 [93.41, 95.30]  +0.70 [-0.62, +2.03]
    Real + EDM, 0.25 to 1                      93.70 [92.85, 94.55]  +0.05 [-0.87, +0.97]
    Real + EDM, 0.5 to 1                       93.25 [92.35, 94.15]  -0.40 [-1.40, +0.59]
    Real + EDM, 1 to 1                         93.30 [92.14, 94.46]  -0.35 [-1.69, +0.99]
    Real + EDM, 2 to 1                         93.38 [92.67, 94.08]  -0.28 [-1.18, +0.62]
    Real + EDM, 4 to 1                         93.58 [91.98, 95.17]  -0.08 [-1.69, +1.54]
    Real + EDM, 10 to 1                        92.80 [91.54, 94.06]  -0.85 [-2.26, +0.56]
    Real + external SD, 0.25 to 1              93.85 [93.13, 94.57]  +0.20 [-0.79, +1.20]
    Real + external SD, 0.5 to 1               93.83 [93.06, 94.59]  +0.18 [-0.61, +0.96]
    Real + external SD, 1 to 1                 93.40 [92.23, 94.57]  -0.25 [-1.29, +0.79]
    Real + external SD, 2 to 1                 93.50 [92.35, 94.65]  -0.15 [-1.38, +1.08]
    Real + external SD, 4 to 1                 92.80 [91.39, 94.20]  -0.85 [-2.42, +0.71]
    Real + external SD, 10 to 1                88.18 [87.21, 89.16]  -5.47 [-6.96, -3.98] *
    Real + external SD, fine-tuned, 0.25 to 1  93.50 [92.23, 94.77]  -0.15 [-1.52, +1.22]
    Real + external SD, fine-tuned, 0.5 to 1   93.43 [92.60, 94.25]  -0.23 [-1.13, +0.68]
    Real + external SD, fine-tuned, 1 to 1     93.38 [92.04, 94.71]  -0.28 [-1.83, +1.28]
    Real + external SD, fine-tuned, 2 to 1     93.30 [92.30, 94.30]  -0.35 [-1.46, +0.76]
    Real + external SD, fine-tuned, 4 to 1     92.32 [91.38, 93.27]  -1.33 [-2.42, -0.24]
    Real + external SD, fine-tuned, 10 to 1    90.92 [89.19, 92.65]  -2.74 [-4.72, -0.75]
In words: with 100 real digits no ratio of any generator gains. To about two synthetic images a real one nothing is lost
    either; at ten to one, at equal steps, images of the external generator cost 5 points, and fine-tuned some 3.
    Nothing peaks near 1 to 1, as Azizi et al. 2023 (2304.08466) saw with a far stronger generator.
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
