"""Can synthetic images replace the real ones: how good is a classifier that never sees a real image?

Top-1 on real test images of a classifier trained on synthetic ones alone is the classification accuracy score (CAS) of
its generator (Ravuri & Vinyals 2019, 1905.10887). Each generator's images are given in the number of the base set and
in ten times that (five times, at fashion).

Run: jaxmoust study --config=experiments/synthetic_only.py --workdir=runs/synthetic_only
     jaxmoust study --config=experiments/synthetic_only.py:fashion --workdir=runs/synthetic_only_fashion
     jaxmoust study --config=experiments/synthetic_only.py:cifar10 --workdir=runs/synthetic_only_cifar10
     (and imagenet100; experiments/parts.py says which data the scales want)
Cost: 10 min at digits on one CPU core (x86_64, jax 0.10.2), where generator_finetuning.py has left its generators and
    sets in the same store.
Result (digits, --until-decided --most_seeds=10: Top-1 on 797 test images, mean over the seeds with its 95 %
interval, points over real only with intervals that hold for all comparisons and looks together, seeds, verdict with a
margin of 1 point):
    Real only                       93.54 [93.31, 93.76]                           10
    Real, duplicated                93.57 [93.19, 93.94]  -0.11 [-0.98, +0.76]      7  equivalent
    Real, stronger augmentation     94.13 [93.52, 94.74]  +0.59 [-1.17, +2.35]     10  undecided
    EDM, 100                        84.50 [80.76, 88.23]  -9.18 [-16.34, -2.02]     7  worse
    EDM, 1,000                      90.50 [89.14, 91.86]  -3.04 [-5.49, -0.58]     10  worse
    DDPM, 100                       79.57 [74.15, 84.98]  -14.11 [-24.14, -4.07]    7  worse
    DDPM, 1,000                     88.33 [86.09, 90.57]  -5.34 [-9.90, -0.78]      7  worse
    External SD, 100                43.79 [30.52, 57.06]  -49.90 [-98.14, -1.65]    3  worse
    External SD, 1,000              52.40 [48.65, 56.15]  -41.25 [-56.65, -25.86]   5  worse
    External SD + LoRA, 100         73.88 [70.18, 77.57]  -19.77 [-31.30, -8.25]    5  worse
    External SD + LoRA, 1,000       76.34 [71.05, 81.62]  -17.31 [-31.75, -2.88]    5  worse
    External SD, fine-tuned, 100    80.10 [77.49, 82.72]  -13.55 [-22.03, -5.07]    5  worse
    External SD, fine-tuned, 1,000  82.06 [78.20, 85.92]  -11.61 [-19.31, -3.92]    7  worse
In words: no synthetic set replaces 100 real digits: every one is worse. The EDM trained on them comes nearest, within
    3.0 points with ten images for each real one, 2.3 [1.2, 3.5] above the DDPM (paired over seven seeds, by Student's
    t). Nine more images for each gain 6.2 points [3.1, 9.2] with the EDM and 0.9 [-3.5, 5.3] with the fine-tuned
    external generator, which lacks variety rather than number.
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
