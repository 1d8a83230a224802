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
Cost: 22 min at digits, on 2 CPU cores (x86_64, jax 0.10.2) with other jobs on them, 6 to 9 s a classifier.
Result (digits: Top-1 on 797 test images, mean of 5 seeds and points over real only with their 95 % intervals; *
significant at 5 % after Holm's correction over 20 comparisons):
    Real only, 50                     86.95 [85.37, 88.53]
    Real, duplicated, 50              86.68 [85.34, 88.01]  -0.28 [-1.38, +0.82]
    Real, stronger augmentation, 50   87.48 [86.39, 88.57]  +0.53 [-1.12, +2.18]
    Real only, 100                    93.65 [93.41, 93.89]
    Real, duplicated, 100             93.60 [93.35, 93.85]  -0.05 [-0.51, +0.41]
    Real, stronger augmentation, 100  94.28 [93.18, 95.38]  +0.63 [-0.61, +1.87]
    Real only, 200                    95.56 [94.49, 96.63]
    Real, duplicated, 200             95.46 [95.16, 95.76]  -0.10 [-1.09, +0.89]
    Real, stronger augmentation, 200  95.88 [95.41, 96.36]  +0.33 [-0.59, +1.24]
    Real only, 400                    97.84 [97.25, 98.43]
    Real, duplicated, 400             97.72 [97.03, 98.40]  -0.13 [-1.13, +0.88]
    Real, stronger augmentation, 400  97.06 [96.60, 97.53]  -0.78 [-1.49, -0.06]
    Real only, 700                    98.34 [97.97, 98.72]
    Real only, 1,000                  98.49 [98.15, 98.84]
    50 real + 50 EDM                  85.42 [84.46, 86.38]  -1.53 [-2.79, -0.27]
    50 real + 150 EDM                 85.35 [83.52, 87.17]  -1.61 [-3.13, -0.08]
    50 real + 500 EDM                 84.07 [83.25, 84.88]  -2.89 [-3.98, -1.79] *
    100 real + 100 EDM                93.30 [92.10, 94.50]  -0.35 [-1.54, +0.84]
    100 real + 300 EDM                93.90 [92.83, 94.97]  +0.25 [-0.76, +1.26]
    100 real + 1,000 EDM              92.72 [91.24, 94.20]  -0.93 [-2.39, +0.53]
    200 real + 200 EDM                95.41 [94.46, 96.36]  -0.15 [-1.68, +1.38]
    200 real + 600 EDM                94.78 [93.67, 95.89]  -0.78 [-1.62, +0.07]
    200 real + 2,000 EDM              94.40 [92.89, 95.92]  -1.15 [-2.41, +0.10]
    400 real + 400 EDM                97.47 [97.03, 97.90]  -0.38 [-0.86, +0.10]
    400 real + 1,200 EDM              96.26 [95.67, 96.85]  -1.58 [-2.23, -0.93] *
    400 real + 4,000 EDM              95.26 [94.10, 96.41]  -2.58 [-4.20, -0.97]
In words: of an EDM this small (800 steps on the same digits) no number of images can be named that is worth a real
    one. Of twelve mixtures one is better in the mean than its real images alone, within chance (100 with 300); beside
    400, where real only reaches 97.8 %, all lose in the mean, and 1,200 of them significantly: with 4,000 the 400 do as
    much as 153 [127, 195] real images alone. `jaxmoust equivalence` refuses a rate, and says why.
Result (fashion: 10,000 test images, 3 seeds, differences by Student's t over them, after Holm's correction over 15
comparisons; on 2 CPU cores, each experiment on one of them: 23 min for each of three EDMs, a minute for 1,000 images,
75 to 90 s a classifier):
    Real only, 125                      68.06 [66.26, 69.87]
    Real only, 250                      75.61 [74.36, 76.86]
    Real, duplicated, 250               75.76 [73.73, 77.78]  +0.15 [-1.22, +1.52]
    Real, stronger augmentation, 250    75.89 [74.96, 76.82]  +0.28 [-1.89, +2.45]
    Real only, 500                      81.42 [81.08, 81.75]
    Real, duplicated, 500               81.67 [80.01, 83.33]  +0.25 [-1.28, +1.78]
    Real, stronger augmentation, 500    81.06 [80.36, 81.76]  -0.35 [-1.09, +0.38]
    Real only, 1,000                    82.43 [80.42, 84.45]
    Real, duplicated, 1,000             82.88 [80.54, 85.22]  +0.45 [-2.30, +3.19]
    Real, stronger augmentation, 1,000  81.60 [80.26, 82.95]  -0.83 [-1.58, -0.08]
    Real only, 2,000                    83.04 [80.93, 85.15]
    250 real + 250 EDM                  76.38 [74.74, 78.02]  +0.77 [-0.38, +1.93]
    250 real + 500 EDM                  76.37 [74.36, 78.39]  +0.76 [-1.63, +3.16]
    250 real + 1,000 EDM                77.19 [76.52, 77.86]  +1.58 [-0.33, +3.49]
    500 real + 500 EDM                  80.83 [80.80, 80.86]  -0.59 [-0.91, -0.27]
    500 real + 1,000 EDM                79.74 [78.46, 81.02]  -1.68 [-2.65, -0.71]
    500 real + 2,000 EDM                78.90 [78.58, 79.21]  -2.52 [-2.94, -2.10] *
    1,000 real + 1,000 EDM              80.62 [80.00, 81.24]  -1.81 [-4.39, +0.76]
    1,000 real + 2,000 EDM              79.84 [78.27, 81.41]  -2.59 [-5.16, -0.03]
    1,000 real + 4,000 EDM              79.37 [78.31, 80.43]  -3.06 [-6.00, -0.12]
In words: images of an EDM seem to help where real ones are few, and cost where they are not. Beside 250 garments 1,000
    of them gain 1.6 points, within chance of three seeds (drawn as half of each batch 1,000 of the same EDM gain 2.2,
    generator_quality.py); on the curve of real images that mixture does as much as 272 [245, 308] garments. Beside 500
    and 1,000 every mixture loses in the mean, the 500 with 2,000 significantly, and the 1,000 with 4,000 of them do as
    much as 384 [335, 446] garments alone. The law, fitted to all three mixtures beside 250, finds less there than the
    best of them: the first real garment more is worth 96 [20, no bound] images. `jaxmoust equivalence` refuses to say
    how many 50 more would take, beside 250 as it is more than were tried, beside 500 and 1,000 as no mixture gained.
    The study found a gain at every size. Here 600 steps bound what more images can teach: 2,000 real garments reach
    83.0 %, 1.6 points more than 500 do, and the smooth curve that the mixtures are compared with misses these means by
    up to 0.9 points.
"""

import ml_collections
import parts


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Args: arg: digits (the default), fashion, cifar10 or imagenet100; "quick": every part for seconds; by ","."""
    scale = parts.read(arg)
    curve = parts.sizes(
        scale,
        digits=(50, 100, 200, 400, 700, 1000),
        fashion=(125, 250, 500, 1000, 2000),
        cifar10=(2500, 5000, 12_500, 25_000, 50_000),
        imagenet100=(6000, 12_500, 25_000, 50_000, 126_689),
    )
    bases = [
        curve[i]
        for i in parts.of(scale, digits=(0, 1, 2, 3), fashion=(1, 2, 3), cifar10=(1, 2, 3), imagenet100=(1, 2, 3))
    ]
    ratios = parts.of(scale, digits=(1, 3, 10), fashion=(1, 2, 4), cifar10=(0.5, 1, 4), imagenet100=(0.5, 1, 2))
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
