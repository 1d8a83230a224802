"""Can synthetic images replace the real ones: how good is a classifier that never sees a real image?

Top-1 on real test images of a classifier trained on synthetic ones alone is the classification accuracy score (CAS) of
its generator (Ravuri & Vinyals 2019, 1905.10887). Each generator's images are given in the number of the base set and
in ten times that (five times, at fashion).

Run: jaxmoust study --config=experiments/synthetic_only.py --workdir=runs/synthetic_only
     jaxmoust study --config=experiments/synthetic_only.py:fashion --workdir=runs/synthetic_only_fashion
     jaxmoust study --config=experiments/synthetic_only.py:cifar10 --workdir=runs/synthetic_only_cifar10
     (and imagenet100; experiments/parts.py says which data the scales want)
Cost: 11 min at digits, on 2 CPU cores (x86_64, jax 0.10.2) with other jobs on them.
Result (digits: Top-1 on 797 test images, mean of 5 seeds and points over real only with their 95 % intervals; *
significant at 5 % after Holm's correction):
    Real only                    93.65 [93.41, 93.89]
    Real, duplicated             93.60 [93.35, 93.85]  -0.05 [-0.51, +0.41]
    Real, stronger augmentation  94.28 [93.18, 95.38]  +0.63 [-0.61, +1.87]
    EDM, 100                     83.74 [78.26, 89.22]  -9.91 [-15.43, -4.40] *
    EDM, 1,000                   90.44 [87.96, 92.92]  -3.21 [-5.54, -0.88]
    DDPM, 100                    79.67 [70.65, 88.70]  -13.98 [-23.00, -4.95]
    DDPM, 1,000                  88.36 [84.72, 91.99]  -5.29 [-8.85, -1.74]
    Outside, 100                 40.73 [36.85, 44.60]  -52.92 [-56.79, -49.06] *
    Outside, 1,000               53.12 [48.19, 58.06]  -40.53 [-45.60, -35.45] *
    Outside, LoRA, 100           73.90 [69.20, 78.60]  -19.75 [-24.32, -15.18] *
    Outside, LoRA, 1,000         76.49 [71.90, 81.07]  -17.16 [-21.59, -12.74] *
    Outside, tuned, 100          80.65 [77.40, 83.90]  -13.00 [-16.09, -9.90] *
    Outside, tuned, 1,000        81.46 [75.54, 87.37]  -12.20 [-18.04, -6.35] *
In words: no synthetic set replaces 100 real digits. The EDM trained on them comes nearest, within 3.2 points with ten
    images for each real one. Nine more images for each gain 6.7 points [1.9, 11.5] with the EDM, paired over seeds, and
    0.8 [-3.8, 5.4] with the tuned outside generator, which lacks variety rather than number.
"""

import ml_collections
import parts


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Args: arg: digits (the default), fashion, cifar10 or imagenet100; "quick": every part for seconds; by ","."""
    scale = parts.read(arg)
    many = parts.of(scale, digits=10, fashion=5, cifar10=10, imagenet100=10) * scale.n_base
    config = parts.study(
        scale,
        "synthetic_only",
        f"Without any of the {scale.n_base:,} real images that its generator may have learnt from, how good is a "
        f"classifier of {scale.n_base:,} or {many:,} synthetic ones?",
    )
    config.generators = {name: parts.generator(scale, name) for name in parts.WORDS if name != "sd"}
    config.sets = {name: parts.drawn(scale, name, many) for name in parts.WORDS}
    config.arms = (
        *parts.controls(scale, many),
        *(
            parts.arm(
                f"{name}_{n}",
                f"{parts.headed(name)}, {n:,}",
                f"No real image at all: {n:,} images of {what}.",
                (name,),
                parts.share(**{name: 1.0}),
                data=dict(n_synthetic=n),
            )
            for name, (_, what) in parts.WORDS.items()
            for n in (scale.n_base, many)
        ),
    )
    return config
