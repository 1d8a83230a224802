"""How good must a generator inside the data set be: EDM or DDPM, and trained on how many real images?

The study compares a plain DDPM with an EDM. Both are trained here on the classifier's own base set (few) and on a
larger set that holds it (many). Many is what nobody has who has the base set alone: its generator hands on what it
learnt from real images that the classifier never sees, and so shows what is lost to the size of the base set.

Run: jaxmoust study --config=experiments/generator_quality.py --workdir=runs/generator_quality
     jaxmoust study --config=experiments/generator_quality.py:fashion --workdir=runs/generator_quality_fashion
     jaxmoust study --config=experiments/generator_quality.py:cifar10 --workdir=runs/generator_quality_cifar10
     (and imagenet100; experiments/parts.py says which data the scales want)
Cost: 6.5 min at digits, on 2 CPU cores (x86_64, jax 0.10.2), where other experiments have left the generators of 100
    digits and their sets in the same store.
Result (digits: Top-1 on 797 test images, mean of 5 seeds and points over real only with their 95 % intervals; *
significant at 5 % after Holm's correction):
    Real only                    93.65 [93.41, 93.89]
    Real, duplicated             93.60 [93.35, 93.85]  -0.05 [-0.51, +0.41]
    Real, stronger augmentation  94.28 [93.18, 95.38]  +0.63 [-0.61, +1.87]
    EDM of 100, only             90.44 [87.96, 92.92]  -3.21 [-5.54, -0.88]
    Real + EDM of 100            93.60 [93.08, 94.12]  -0.05 [-0.79, +0.69]
    EDM of 1,000, only           94.55 [93.57, 95.54]  +0.90 [-0.50, +2.31]
    Real + EDM of 1,000          95.23 [94.72, 95.75]  +1.58 [+0.77, +2.40] *
    DDPM of 100, only            88.36 [84.72, 91.99]  -5.29 [-8.85, -1.74]
    Real + DDPM of 100           93.10 [92.37, 93.83]  -0.55 [-1.37, +0.26]
    DDPM of 1,000, only          91.79 [88.93, 94.66]  -1.86 [-4.76, +1.04]
    Real + DDPM of 1,000         94.73 [94.04, 95.42]  +1.08 [+0.34, +1.82]
In words: a better generator is one that has seen more. Trained on the same 100 digits, neither gains; the EDM alone
    beats the DDPM alone by 2.1 points [0.3, 3.9], paired over seeds, and mixed they are not told apart. Trained on
    1,000, the EDM's 1,000 images beside the 100 real ones gain 1.6 points, the one significant gain of all these
    experiments, and alone they do as well as the 100 real ones (+0.9 [-0.5, +2.3]): they carry what 900 other real
    images taught their generator. FID to the 100 training images says the contrary (0.70 of the EDM of 100, 0.89 of
    that of 1,000; precision 0.67 and 0.44): it rewards staying near them.
Result (fashion: 250 and 1,000 garments, 10,000 test images, 3 seeds, differences by Student's t over them; 23 min for
each EDM, 27 and 35 for the DDPMs, a minute for 1,000 images, 75 to 175 s a classifier, on one of 2 CPU cores with other
jobs on the other):
    Real only                    75.61 [74.36, 76.86]
    Real, duplicated             75.76 [73.73, 77.78]  +0.15 [-1.22, +1.52]
    Real, stronger augmentation  75.89 [74.96, 76.82]  +0.28 [-1.89, +2.45]
    EDM of 250, only             74.62 [72.29, 76.96]  -0.99 [-2.08, +0.11]
    Real + EDM of 250            77.79 [76.61, 78.96]  +2.18 [+0.80, +3.55]
    EDM of 1,000, only           77.18 [75.55, 78.81]  +1.57 [+1.02, +2.12]
    Real + EDM of 1,000          80.60 [79.30, 81.90]  +4.99 [+4.59, +5.39] *
    DDPM of 250, only            75.31 [73.06, 77.55]  -0.30 [-2.36, +1.76]
    Real + DDPM of 250           77.21 [74.60, 79.82]  +1.60 [+0.23, +2.97]
    DDPM of 1,000, only          77.39 [74.38, 80.41]  +1.78 [-0.78, +4.35]
    Real + DDPM of 1,000         80.36 [78.54, 82.19]  +4.75 [+3.47, +6.03] *
In words: with 250 garments every generator's mean is a gain when half of each batch is its images, the larger where it
    has seen more: those of 1,000 garments gain 5.0 (EDM) and 4.8 (DDPM) points beside 250 real ones, significant, and
    2.8 [1.1, 4.5] and 3.2 [1.5, 4.8] more than those of the same 250, paired over seeds. These gain 2.2 and 1.6, which
    after Holm three seeds do not tell from chance (p = 0.15 and 0.22). The 1,000 garments themselves give 82.4 %
    (base_size.py), so that 1,000 images hand on most of what 750 more would. EDM and DDPM are not told apart in any of
    the four pairs, though the EDM's FID to the 250 is the lower (0.80 to 1.31, and 1.10 to 1.36 of 1,000), and FID
    again prefers the generators that have seen those 250 alone. The nearest-neighbour test finds no copies of these
    250: at most 1.6 % of a set are suspicious, as are 1.0 % of held-out garments. Among the 750 others that the larger
    generators have seen, copies were not looked for in this run.
"""

import ml_collections
import parts

METHODS = dict(edm="EDM", ddpm="DDPM")


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Args: arg: digits (the default), fashion, cifar10 or imagenet100; "quick": every part for seconds; by ","."""
    scale = parts.read(arg)
    few, many = parts.sizes(
        scale, digits=(100, 1000), fashion=(250, 1000), cifar10=(5000, 50_000), imagenet100=(12_500, 126_689)
    )
    ratio = parts.of(scale, digits=10, fashion=4, cifar10=10, imagenet100=10)
    scale.n_base, scale.num_images = few, min(ratio * few, scale.num_images)
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
            # Near the few, and copies of what it learnt from: of the many, where it did.
            config.measures[made] = parts.look(scale, "measure", made)
            if n_base != few:
                own = parts.look(scale, "measure", made, data=parts.base_set(scale, n_base))
                config.measures[f"{made}_own"] = own
            what = f"an {method}" if method[0] in "AEIOU" else f"a {method}"
            what = f"{what} trained on {n_base:,} real images"
            arms.append(parts.only(made, scale.num_images, f"{title},", what))
            arms.append(parts.mixed(made, title, what))
    config.arms = tuple(arms)
    return config
