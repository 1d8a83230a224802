"""How many synthetic images should stand beside the real ones: a quarter as many, or ten times as many?

The study concatenates real and synthetic images and shuffles; so does this, at one number of steps for all, so that a
larger set is not also more training: each synthetic image more is a draw less of the real ones.

Run: jaxmoust study --config=experiments/syn_real_ratio.py --workdir=runs/syn_real_ratio
     jaxmoust study --config=experiments/syn_real_ratio.py:fashion --workdir=runs/syn_real_ratio_fashion
     jaxmoust study --config=experiments/syn_real_ratio.py:cifar10 --workdir=runs/syn_real_ratio_cifar10
     (and imagenet100; experiments/parts.py says which data the scales want)
Cost: 19 min at digits, on 2 CPU cores (x86_64, jax 0.10.2) with other jobs on them, 6 to 9 s a classifier.
Result (digits: Top-1 on 797 test images, mean of 5 seeds and points over real only with their 95 % intervals; *
significant at 5 % after Holm's correction):
    Real only                         93.65 [93.41, 93.89]
    Real, duplicated                  93.60 [93.35, 93.85]  -0.05 [-0.51, +0.41]
    Real, stronger augmentation       94.28 [93.18, 95.38]  +0.63 [-0.61, +1.87]
    Real + EDM, 0.25 to 1             93.63 [92.83, 94.42]  -0.03 [-0.72, +0.67]
    Real + EDM, 0.5 to 1              93.30 [92.56, 94.04]  -0.35 [-1.02, +0.31]
    Real + EDM, 1 to 1                93.30 [92.10, 94.50]  -0.35 [-1.54, +0.84]
    Real + EDM, 2 to 1                93.30 [92.43, 94.17]  -0.35 [-1.29, +0.59]
    Real + EDM, 4 to 1                93.45 [92.04, 94.86]  -0.20 [-1.49, +1.09]
    Real + EDM, 10 to 1               92.72 [91.24, 94.20]  -0.93 [-2.39, +0.53]
    Real + outside, 0.25 to 1         93.73 [92.95, 94.51]  +0.08 [-0.91, +1.06]
    Real + outside, 0.5 to 1          93.68 [92.83, 94.52]  +0.03 [-0.88, +0.93]
    Real + outside, 1 to 1            93.43 [92.35, 94.50]  -0.23 [-1.22, +0.77]
    Real + outside, 2 to 1            93.50 [92.48, 94.52]  -0.15 [-1.16, +0.86]
    Real + outside, 4 to 1            92.77 [91.39, 94.15]  -0.88 [-2.26, +0.51]
    Real + outside, 10 to 1           88.38 [87.34, 89.42]  -5.27 [-6.67, -3.87] *
    Real + outside, tuned, 0.25 to 1  93.32 [92.02, 94.63]  -0.33 [-1.56, +0.91]
    Real + outside, tuned, 0.5 to 1   93.45 [92.80, 94.10]  -0.20 [-0.80, +0.39]
    Real + outside, tuned, 1 to 1     93.43 [92.18, 94.67]  -0.23 [-1.53, +1.08]
    Real + outside, tuned, 2 to 1     93.32 [92.20, 94.45]  -0.33 [-1.38, +0.73]
    Real + outside, tuned, 4 to 1     92.35 [91.25, 93.44]  -1.30 [-2.43, -0.18]
    Real + outside, tuned, 10 to 1    90.82 [89.04, 92.59]  -2.84 [-4.74, -0.93]
In words: with 100 real digits no ratio of any generator gains. To about two synthetic images a real one nothing is lost
    either; at ten to one, at equal steps, images from outside cost 5 points and those of the tuned generator some 3.
    Nothing peaks near 1 to 1, as Azizi et al. 2023 (2304.08466) saw with a far stronger generator.
Result (fashion: 1,000 garments, 10,000 test images, 3 seeds, differences by Student's t over them; 5 min to draw 10,000
images and 43 s a classifier on 2 CPU cores, 30 min where another experiment has left the generator in the same store):
    Real only                    82.51 [81.01, 84.01]
    Real, duplicated             82.48 [81.97, 82.98]  -0.04 [-1.97, +1.89]
    Real, stronger augmentation  81.76 [80.90, 82.62]  -0.75 [-1.77, +0.26]
    Real + EDM, 0.25 to 1        82.10 [81.22, 82.99]  -0.41 [-2.51, +1.69]
    Real + EDM, 0.5 to 1         81.48 [81.16, 81.80]  -1.03 [-2.51, +0.44]
    Real + EDM, 1 to 1           80.46 [79.93, 80.98]  -2.06 [-3.90, -0.22]
    Real + EDM, 2 to 1           79.86 [78.49, 81.23]  -2.66 [-5.05, -0.27]
    Real + EDM, 4 to 1           79.35 [78.58, 80.12]  -3.16 [-5.43, -0.90]
    Real + EDM, 10 to 1          78.00 [77.81, 78.18]  -4.52 [-6.14, -2.89]
In words: the more of them the worse, from a quarter (0.4 points, within doubt) to ten times as many (4.5 points of
    Top-1, a quarter more errors); from 1 to 1 on each loss is told from chance alone, and with three seeds none after
    Holm (10 to 1: p = 0.055). These garments teach less than the real images whose turns they take.
"""

import ml_collections
import parts

RATIOS = (0.25, 0.5, 1, 2, 4, 10)


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Args: arg: digits (the default), fashion, cifar10 or imagenet100; "quick": every part for seconds; by ","."""
    scale = parts.read(arg)
    # At fashion no generator from outside has ever seen a garment.
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
