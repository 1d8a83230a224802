"""Can synthetic images be told from real ones, and does the one that is harder to tell train the better classifier?

A second classifier learns to tell a generator's images from real ones that neither it nor the generator has seen; its
accuracy on others is the domain gap. The study's two panels show the two kinds in the features of that classifier, and
in those of one that learnt the classes from real images alone. Each seed has a set and a domain classifier of its own.

Run: jaxmoust study --config=experiments/domain_gap.py --workdir=runs/domain_gap
     jaxmoust study --config=experiments/domain_gap.py:fashion --workdir=runs/domain_gap_fashion
     jaxmoust study --config=experiments/domain_gap.py:cifar10 --workdir=runs/domain_gap_cifar10
     (and imagenet100; experiments/parts.py says which data the scales want)
Cost: 4 min at digits, on 2 CPU cores (x86_64, jax 0.10.2), where other experiments have left generators, sets and
    most classifiers in the same store; 7 s for each of 25 domain classifiers.
Result (digits: Top-1 on 797 test images, mean of 5 seeds and points over real only with their 95 % intervals; *
significant at 5 % after Holm's correction):
    Real only                    93.65 [93.41, 93.89]
    Real, duplicated             93.60 [93.35, 93.85]  -0.05 [-0.51, +0.41]
    Real, stronger augmentation  94.28 [93.18, 95.38]  +0.63 [-0.61, +1.87]
    EDM only                     90.44 [87.96, 92.92]  -3.21 [-5.54, -0.88]
    DDPM only                    88.36 [84.72, 91.99]  -5.29 [-8.85, -1.74]
    Outside only                 53.12 [48.19, 58.06]  -40.53 [-45.60, -35.45] *
    Outside, LoRA only           76.49 [71.90, 81.07]  -17.16 [-21.59, -12.74] *
    Outside, tuned only          81.46 [75.54, 87.37]  -12.20 [-18.04, -6.35] *
    Real + EDM                   93.60 [93.08, 94.12]  -0.05 [-0.79, +0.69]
    Real + DDPM                  93.10 [92.37, 93.83]  -0.55 [-1.37, +0.26]
    Real + outside               93.55 [92.29, 94.81]  -0.10 [-1.38, +1.18]
    Real + outside, LoRA         93.63 [92.89, 94.36]  -0.03 [-0.77, +0.72]
    Real + outside, tuned        93.55 [93.10, 94.00]  -0.10 [-0.57, +0.37]
    Told right (1,800 images, half of them digits that neither side has seen; 50 is chance), and the overlap in the
    features of the real-trained classifier, seed 0: EDM 98.2 [97.9, 98.6], 0.98; DDPM 99.5 [99.2, 99.8], 0.97;
    outside 99.7 [99.6, 99.8], 0.55; LoRA 99.8 [99.7, 99.9], 0.83; tuned 99.9 [99.9, 100.0], 0.78.
In words: every set can be told, nearly always, and that from outside hardly better than the EDM's: the gap says that
    generators this small leave traces, not which of them trains the better classifier. The overlap in the features of
    a classifier of real images says more: as it is, the outside generator has the least and trains the worst, and
    those inside the most and the best. Mixed with real images no arm differs, so that there nothing can be ranked.
Result (fashion: 1,000 garments, 10,000 test images, 3 seeds, differences by Student's t over them; 24 min where another
experiment has left the sets in the same store, 48 s a classifier and 65 s a domain classifier on 2 CPU cores):
    Real only                    82.51 [81.01, 84.01]
    Real, duplicated             82.54 [81.48, 83.61]  +0.03 [-2.48, +2.54]
    Real, stronger augmentation  81.76 [80.90, 82.62]  -0.75 [-1.77, +0.26]
    EDM only                     77.09 [76.65, 77.52]  -5.43 [-6.63, -4.23] *
    DDPM only                    77.87 [76.00, 79.74]  -4.64 [-6.93, -2.35]
    Real + EDM                   80.91 [79.68, 82.14]  -1.61 [-4.20, +0.99]
    Real + DDPM                  81.49 [79.92, 83.05]  -1.03 [-4.02, +1.97]
    Told right (10,000 images), and the overlap in the features of the real-trained classifier, seed 0: EDM 80.7
    [67.6, 93.9], 0.94; DDPM 98.4 [98.1, 98.6], 0.87. FID there 0.44 and 0.95 of 5,000 images, 0.03 of all test images.
In words: the DDPM's garments are told from real ones nearly always and the EDM's in about four of five cases, and yet
    the EDM's train no better a classifier (the DDPM's +0.8 [-0.8, 2.4] alone, +0.6 [-0.9, 2.0] mixed): the gap does not
    say which images help. Alone, both are some 5 points worse than the real images (of the DDPM p = 0.064 after Holm);
    mixed in, they cost 1 to 1.6, which three seeds do not tell from chance.
"""

import ml_collections
import parts


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Args: arg: digits (the default), fashion, cifar10 or imagenet100; "quick": every part for seconds; by ","."""
    scale = parts.read(arg)
    # At fashion no generator from outside has ever seen a garment.
    generators = ("edm", "ddpm") if scale.name == "fashion" else tuple(parts.WORDS)
    # Where the base set is all there is, nothing is left that a generator inside it has not seen.
    if not scale.quick:
        scale.n_base = parts.of(scale, digits=100, fashion=1000, cifar10=25_000, imagenet100=60_000)
    config = parts.study(
        scale,
        "domain_gap",
        f"Can a classifier tell images of a generator that knows {scale.n_base:,} real images from other real images, "
        "and do those that are harder to tell help more?",
    )
    config.generators = {name: parts.generator(scale, name) for name in generators if name != "sd"}
    config.sets = {name: parts.drawn(scale, name) for name in generators}
    config.domains = {name: dict(parts.look(scale, "domain", name, real="unused"), seeds="all") for name in generators}
    config.measures = {name: parts.look(scale, "measure", name) for name in generators}
    config.arms = (
        *parts.controls(scale),
        *(parts.only(name, scale.num_images) for name in generators),
        *(parts.mixed(name) for name in generators),
    )
    return config
