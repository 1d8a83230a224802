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
    Real only                       93.65 [93.33, 93.97]
    Real, duplicated                93.50 [93.37, 93.63]  -0.15 [-0.68, +0.38]
    Real, stronger augmentation     94.35 [93.41, 95.30]  +0.70 [-0.62, +2.03]
    EDM, 100                        83.84 [78.17, 89.51]  -9.81 [-15.68, -3.94] *
    EDM, 1,000                      90.36 [87.55, 93.18]  -3.29 [-6.11, -0.47]
    DDPM, 100                       79.70 [70.63, 88.77]  -13.95 [-23.17, -4.73]
    DDPM, 1,000                     87.90 [84.01, 91.80]  -5.75 [-9.69, -1.80]
    External SD, 100                40.35 [36.76, 43.94]  -53.30 [-57.10, -49.50] *
    External SD, 1,000              53.15 [48.49, 57.81]  -40.50 [-45.38, -35.62] *
    External SD + LoRA, 100         73.93 [69.54, 78.31]  -19.72 [-23.94, -15.51] *
    External SD + LoRA, 1,000       76.36 [71.24, 81.49]  -17.29 [-22.14, -12.44] *
    External SD, fine-tuned, 100    80.63 [77.23, 84.02]  -13.02 [-16.26, -9.79] *
    External SD, fine-tuned, 1,000  81.51 [75.24, 87.77]  -12.15 [-18.38, -5.91] *
In words: no synthetic set replaces 100 real digits. The EDM trained on them comes nearest, within 3.3 points with ten
    images for each real one. Nine more images for each gain 6.5 points [1.6, 11.5] with the EDM, paired over seeds, and
    0.9 [-4.0, 5.7] with the fine-tuned external generator, which lacks variety rather than number.
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
