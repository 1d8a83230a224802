"""Can synthetic images be distinguished from real ones, and do those that are harder to distinguish train better?

A second classifier learns to tell a generator's images from real ones that neither it nor the generator has seen; its
accuracy on others is the domain gap. The study's two panels show the two kinds in the features of that classifier, and
in those of one that learnt the classes from real images alone. Each seed has a set and a domain classifier of its own.

Run: jaxmoust study --config=experiments/domain_gap.py --workdir=runs/domain_gap
     jaxmoust study --config=experiments/domain_gap.py:fashion --workdir=runs/domain_gap_fashion
     jaxmoust study --config=experiments/domain_gap.py:cifar10 --workdir=runs/domain_gap_cifar10
     (and imagenet100; experiments/parts.py says which data the scales want)
Each seed trains its generators anew. Cost and results are of before that, of one training for all seeds; `--dry-run`
gives today's cost, and --config.vary=init,order,draw the study of then.
Cost: 6 min at digits, on 2 CPU cores (x86_64, jax 0.10.2) with a test suite on them, where other experiments have left
    generators, sets and most classifiers in the same store; 7 s for each of 25 domain classifiers.
Result (digits: Top-1 on 797 test images, mean of 5 seeds and points over real only with their 95 % intervals; *
significant at 5 % after Holm's correction):
    Real only                       93.65 [93.33, 93.97]
    Real, duplicated                93.50 [93.37, 93.63]  -0.15 [-0.68, +0.38]
    Real, stronger augmentation     94.35 [93.41, 95.30]  +0.70 [-0.62, +2.03]
    EDM only                        90.36 [87.55, 93.18]  -3.29 [-6.11, -0.47]
    DDPM only                       87.90 [84.01, 91.80]  -5.75 [-9.69, -1.80]
    External SD only                53.15 [48.49, 57.81]  -40.50 [-45.38, -35.62] *
    External SD + LoRA only         76.36 [71.24, 81.49]  -17.29 [-22.14, -12.44] *
    External SD, fine-tuned only    81.51 [75.24, 87.77]  -12.15 [-18.38, -5.91] *
    Real + EDM                      93.63 [93.14, 94.11]  -0.03 [-0.82, +0.77]
    Real + DDPM                     93.15 [92.34, 93.96]  -0.50 [-1.53, +0.53]
    Real + external SD              93.58 [92.57, 94.58]  -0.08 [-1.14, +0.99]
    Real + external SD + LoRA       93.68 [92.69, 94.66]  +0.03 [-1.07, +1.12]
    Real + external SD, fine-tuned  93.48 [93.00, 93.96]  -0.18 [-0.84, +0.49]
    Correct (1,800 images, half of them digits that neither side has seen; 50 is chance), and the overlap in the
    features of the real-trained classifier, seed 0: EDM 98.2 [98.0, 98.4], 0.98; DDPM 99.6 [99.3, 99.8], 0.98;
    external SD 99.7 [99.6, 99.8], 0.56; LoRA 99.8 [99.7, 99.9], 0.83; fine-tuned 99.9 [99.9, 100.0], 0.78.
In words: every set is distinguished nearly always, the external one hardly better than the EDM's: the gap says that
    generators this small leave traces, not which of them trains the better classifier. The overlap in the features of a
    classifier of real images says more: as it is, the external generator has the least and trains the worst, and the
    internal ones the most and the best. Mixed with real images no arm differs, so that there nothing can be ranked.
Result (fashion: 1,000 real images, 10,000 test images, 3 seeds, differences by Student's t over them; 24 min where
another experiment has left the sets in the same store, 48 s a classifier and 65 s a domain classifier on 2 CPU cores):
    Real only                    82.51 [81.01, 84.01]
    Real, duplicated             82.54 [81.48, 83.61]  +0.03 [-2.48, +2.54]
    Real, stronger augmentation  81.76 [80.90, 82.62]  -0.75 [-1.77, +0.26]
    EDM only                     77.09 [76.65, 77.52]  -5.43 [-6.63, -4.23] *
    DDPM only                    77.87 [76.00, 79.74]  -4.64 [-6.93, -2.35]
    Real + EDM                   80.91 [79.68, 82.14]  -1.61 [-4.20, +0.99]
    Real + DDPM                  81.49 [79.92, 83.05]  -1.03 [-4.02, +1.97]
    Correct (10,000 images), and the overlap in the features of the real-trained classifier, seed 0: EDM 80.7
    [67.6, 93.9], 0.94; DDPM 98.4 [98.1, 98.6], 0.87. FID there 0.44 and 0.95 of 5,000 images, 0.03 of all test images.
In words: the DDPM's images are distinguished nearly always and the EDM's in about four of five cases, and yet
    the EDM's train no better a classifier (the DDPM's +0.8 [-0.8, 2.4] alone, +0.6 [-0.9, 2.0] mixed): the gap does not
    say which images help. Alone, both are some 5 points worse than the real images (of the DDPM p = 0.064 after Holm);
    mixed in, they cost 1 to 1.6, which three seeds cannot distinguish from chance.
"""

import ml_collections
import parts


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Args: arg: digits (the default), fashion, cifar10 or imagenet100; "quick": every part for seconds; by ","."""
    scale = parts.read(arg)
    # At fashion there is no external generator of clothes.
    generators = ("edm", "ddpm") if scale.name == "fashion" else tuple(parts.WORDS)
    # Where the base set is all there is, nothing is left that an internal generator has not seen.
    if not scale.quick:
        scale.n_base = parts.of(scale, digits=100, fashion=1000, cifar10=25_000, imagenet100=60_000)
    config = parts.study(
        scale,
        "domain_gap",
        f"Can a classifier tell images of a generator that knows {scale.n_base:,} real images from other real images, "
        "and do those that are harder to tell help more?",
        vary=parts.VARY,
    )
    config.generators = {name: parts.generator(scale, name) for name in generators if name != "sd"}
    config.sets = {name: parts.drawn(scale, name) for name in generators}
    config.domains = {
        name: dict(parts.diagnostic(scale, "domain", name, real="unused"), seeds="all") for name in generators
    }
    config.measures = {name: parts.diagnostic(scale, "measure", name) for name in generators}
    config.arms = (
        *parts.controls(scale),
        *(parts.only(name) for name in generators),
        *(parts.mixed(name) for name in generators),
    )
    return config
