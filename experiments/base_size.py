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
Cost: 22 min at digits, on 2 CPU cores (x86_64, jax 0.10.2) with a test suite on them, 3 to 7 s a classifier.
Result (digits: Top-1 on 797 test images, mean of 5 seeds and points over real only with their 95 % intervals; *
significant at 5 % after Holm's correction over 20 comparisons):
    Real only, 50                     86.83 [85.19, 88.46]
    Real, duplicated, 50              86.62 [85.54, 87.71]  -0.20 [-1.22, +0.82]
    Real, stronger augmentation, 50   87.48 [86.48, 88.48]  +0.65 [-1.14, +2.45]
    Real only, 100                    93.65 [93.33, 93.97]
    Real, duplicated, 100             93.50 [93.37, 93.63]  -0.15 [-0.68, +0.38]
    Real, stronger augmentation, 100  94.35 [93.41, 95.30]  +0.70 [-0.62, +2.03]
    Real only, 200                    95.61 [94.46, 96.75]
    Real, duplicated, 200             95.58 [95.38, 95.79]  -0.03 [-1.12, +1.07]
    Real, stronger augmentation, 200  95.78 [95.13, 96.44]  +0.18 [-0.84, +1.19]
    Real only, 400                    97.92 [97.32, 98.52]
    Real, duplicated, 400             97.64 [96.90, 98.38]  -0.28 [-1.31, +0.75]
    Real, stronger augmentation, 400  97.09 [96.62, 97.56]  -0.83 [-1.57, -0.09]
    Real only, 700                    98.34 [98.04, 98.64]
    Real only, 1,000                  98.44 [98.05, 98.84]
    50 real + 50 EDM                  85.50 [84.60, 86.39]  -1.33 [-2.73, +0.07]
    50 real + 150 EDM                 85.32 [83.57, 87.07]  -1.51 [-2.77, -0.24]
    50 real + 500 EDM                 83.99 [83.07, 84.91]  -2.84 [-4.22, -1.46] *
    100 real + 100 EDM                93.30 [92.14, 94.46]  -0.35 [-1.69, +0.99]
    100 real + 300 EDM                93.78 [92.53, 95.03]  +0.13 [-1.16, +1.41]
    100 real + 1,000 EDM              92.80 [91.54, 94.06]  -0.85 [-2.26, +0.56]
    200 real + 200 EDM                95.31 [94.39, 96.22]  -0.30 [-1.75, +1.15]
    200 real + 600 EDM                94.88 [93.96, 95.81]  -0.73 [-1.71, +0.25]
    200 real + 2,000 EDM              94.50 [93.28, 95.73]  -1.10 [-2.25, +0.04]
    400 real + 400 EDM                97.52 [96.97, 98.06]  -0.40 [-0.80, +0.00]
    400 real + 1,200 EDM              96.34 [95.52, 97.16]  -1.58 [-2.49, -0.67]
    400 real + 4,000 EDM              95.28 [94.08, 96.49]  -2.63 [-4.26, -1.01]
In words: of an EDM this small (800 steps on the same digits) no number of images can be named that is worth a real one.
    Of twelve mixtures one is better in the mean than its real images alone, within chance (100 with 300); beside 400,
    where real only reaches 97.9 %, all lose in the mean, the more the more: with 4,000 the 400 do as much as 151 [126,
    192] real images alone. Significant after Holm is the loss of 500 beside 50. `jaxmoust equivalence` refuses a rate,
    and says why.
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
In words: images of an EDM seem to help where real ones are few, and cost where they are not. Beside 250 real images
    1,000 of them gain 1.6 points, within chance of three seeds (drawn as half of each batch 1,000 of the same EDM gain
    2.2, generator_quality.py); on the curve of real images that mixture does as much as 272 [245, 308] real images.
    Beside 500 and 1,000 every mixture loses in the mean, the 500 with 2,000 significantly, and the 1,000 with 4,000 of
    them do as much as 384 [335, 446] real images alone. The law, fitted to all three mixtures beside 250, finds less
    there than the best of them: the first real image more is worth 96 [20, no bound] images. `jaxmoust equivalence`
    refuses to say how many 50 more would take, beside 250 as it is more than were tried, beside 500 and 1,000 as no
    mixture gained. The study found a gain at every size. Here 600 steps bound what more images can teach: 2,000 real
    images reach 83.0 %, 1.6 points more than 500 do, and the smooth curve that the mixtures are compared with misses
    these means by up to 0.9 points.
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
        config.sets[f"edm_{n}"] = parts.drawn(scale, "edm", round(ratios[-1] * n), "edm", f"EDM of {n:,}")
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
