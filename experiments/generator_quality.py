"""How good must a generator be: EDM or DDPM, and trained on how many real images? Stable Diffusion 2 or 3?

The study compares a plain DDPM with an EDM, and Stable Diffusion 2 with 3. DDPM and EDM are trained here on the
classifier's own base set (few) and on a larger set that holds it (many). Many is what nobody has who has the base set
alone: its generator hands on what it learnt from real images that the classifier never sees, and so shows what is lost
to the size of the base set.

Run: jaxmoust study --config=experiments/generator_quality.py --workdir=runs/generator_quality \
       --config.seeds=0,1,2,3,4,5,6,7,8,9
     jaxmoust study --config=experiments/generator_quality.py:fashion --workdir=runs/generator_quality_fashion
     jaxmoust study --config=experiments/generator_quality.py:cifar10 --workdir=runs/generator_quality_cifar10
     (and imagenet100; experiments/parts.py says which data the scales want)
     "fashion,dit", "cifar10,dit" and "imagenet100,dit" put a DiT beside them. All three of fashion are trained by as
     many steps on batches as large; configs/generator/fashion_dit.py has the seconds of a step, which differ. At the
     other scales each has the budget of its own recipe: EDM 200 million images, DiT 102 million, DDPM 102 million at
     cifar10 and 200 million at imagenet100, where the DiT works on latents of 256 px and the other two at 64 px.
     "cifar10,sd" and "imagenet100,sd" compare Stable Diffusion 2.1-base with 3 medium in their place: both as they are,
    at 512 px and guidance 2, where nothing is trained but classifiers. Both come from the hub (3 is gated), or from
    folders: --config.sets.sd2.pipeline.path=DIR --config.sets.sd3.pipeline.path=DIR. They have not been run yet.
Each seed trains its generators anew. Cost and results are of before that, of one training for all seeds; `--dry-run`
gives today's cost, and --config.vary=init,order,draw the study of then.
Cost: 15 min at digits, on 2 CPU cores (x86_64, jax 0.10.2) with other jobs on them, where the quickstart has left the
    generators of 100 digits and some of their sets in the same store.
Result (digits: Top-1 on 797 test images, mean of 10 seeds and points over real only with their 95 % intervals; *
significant at 5 % after Holm's correction):
    Real only                    93.50 [93.26, 93.74]
    Real, duplicated             93.41 [92.94, 93.89]  -0.09 [-0.53, +0.35]
    Real, stronger augmentation  94.05 [93.47, 94.64]  +0.55 [-0.51, +1.62]
    EDM of 100, only             90.68 [89.28, 92.07]  -2.82 [-4.35, -1.30] *
    Real + EDM of 100            93.96 [93.49, 94.43]  +0.46 [-0.17, +1.09]
    EDM of 1,000, only           94.00 [92.92, 95.08]  +0.50 [-0.99, +2.00]
    Real + EDM of 1,000          95.29 [94.88, 95.71]  +1.79 [+1.00, +2.59] *
    DDPM of 100, only            88.29 [86.59, 90.00]  -5.21 [-7.10, -3.32] *
    Real + DDPM of 100           93.38 [92.89, 93.86]  -0.13 [-0.75, +0.49]
    DDPM of 1,000, only          91.89 [90.09, 93.70]  -1.61 [-3.67, +0.46]
    Real + DDPM of 1,000         94.98 [94.55, 95.41]  +1.48 [+0.81, +2.15] *
In words: a better generator is one that has seen more. Trained on the same 100 digits, neither gains; the EDM alone
    beats the DDPM alone by 2.4 points [1.3, 3.5], mixed by 0.6 [0.3, 0.9], paired over seeds. Trained on 1,000, 1,000
    images of either beside the 100 real ones gain, 1.8 points of the EDM and 1.5 of the DDPM, the only significant
    gains of these experiments on digits, and the EDM's alone do as well as the 100 real ones (+0.5 [-1.0, +2.0]): they
    carry what 900 other real images taught their generator. FID to the 100 training images says the contrary (0.71 of
    the EDM of 100, 0.90 of that of 1,000; precision 0.67 and 0.45): it rewards staying near them. None copies what it
    learnt from, 100 or 1,000: at most 0.3 % of a set are suspicious, of seed 0, as are 1 % of held-out digits.
Result (fashion: 250 and 1,000 real images, 10,000 test images, 3 seeds, differences by Student's t over them; 23 min
for each EDM, 27 and 35 for the DDPMs, a minute for 1,000 images, 75 to 175 s a classifier, on one of 2 CPU cores with
other jobs on the other):
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
In words: with 250 real images every generator's mean is a gain when half of each batch is its images, the larger where
    it has seen more: those of 1,000 images gain 5.0 (EDM) and 4.8 (DDPM) points beside 250 real ones, significant, and
    2.8 [1.1, 4.5] and 3.2 [1.5, 4.8] more than those of the same 250, paired over seeds. These gain 2.2 and 1.6, which
    after Holm three seeds cannot distinguish from chance (p = 0.15 and 0.22). The 1,000 real images themselves give
    82.4 % (base_size.py), so that 1,000 images hand on most of what 750 more would. EDM and DDPM do not differ
    significantly in any of the four pairs, though the EDM's FID to the 250 is the lower (0.80 to 1.31, and 1.10 to 1.36
    of 1,000), and FID again prefers the generators that have seen those 250 alone. The nearest-neighbour test finds no
    copies of these 250: at most 1.6 % of a set are suspicious, as are 1.0 % of held-out images. Among the 750 others
    that the larger generators have seen, copies were not looked for in this run.
"""

import ml_collections
import parts

METHODS = dict(edm="EDM", ddpm="DDPM")
STABLE_DIFFUSION = dict(
    sd2=("SD 2", "Stable Diffusion 2.1-base as it is"), sd3=("SD 3", "Stable Diffusion 3 medium as it is")
)


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Args: arg: digits (the default), fashion, cifar10 or imagenet100; "quick": in seconds; "dit", "sd"; by ","."""
    scale = parts.read(arg, "dit", "sd")
    methods = METHODS | (dict(dit="DiT") if "dit" in scale.words else {})
    if not all(name in scale.fit for name in methods):
        raise ValueError(f"got {arg!r}: expected fashion, cifar10 or imagenet100 beside 'dit', as digits have no DiT.")
    few, many = parts.sizes(
        scale, digits=(100, 1000), fashion=(250, 1000), cifar10=(5000, 50_000), imagenet100=(12_500, 126_689)
    )
    ratio = parts.of(scale, digits=10, fashion=4, cifar10=10, imagenet100=10)
    scale.n_base, scale.num_images = few, min(ratio * few, scale.num_images)
    if "sd" in scale.words:
        if "dit" in scale.words or "sd3" not in scale.sample:
            raise ValueError(f"got {arg!r}: expected cifar10 or imagenet100 beside 'sd', and no 'dit'.")
        return _stable_diffusion(scale)
    config = parts.study(
        scale,
        "generator_quality",
        f"Beside {few:,} real images, are those of an EDM worth more than those of a DDPM, and how much more are they "
        f"worth when the generator was trained on {many:,} real images in place of the same {few:,}?",
        vary=parts.VARY,
    )
    arms = list(parts.controls(scale))
    for name, method in methods.items():
        for made, n_base in ((name, few), (f"{name}_many", many)):
            title = f"{method} of {n_base:,}"
            config.generators[made] = parts.generator(scale, name, n_base)
            config.sets[made] = parts.drawn(scale, name, generator=made, title=title)
            # Near the few, and copies of what it learnt from: of the many, where it did.
            config.measures[made] = parts.diagnostic(scale, "measure", made)
            if n_base != few:
                config.measures[f"{made}_own"] = parts.diagnostic(scale, "measure", made, n_base=n_base)
            what = f"an {method}" if method[0] in "AEIOU" else f"a {method}"
            what = f"{what} trained on {n_base:,} real images"
            arms.append(parts.only(made, f"{title},", what))
            arms.append(parts.mixed(made, title, what))
    config.arms = tuple(arms)
    return config


def _stable_diffusion(scale: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
    """Stable Diffusion 2 and 3 as they are, beside the same few real images."""
    config = parts.study(
        scale,
        "generator_quality_sd",
        f"Beside {scale.n_base:,} real images, are those of Stable Diffusion 3 worth more than those of 2?",
    )
    arms = list(parts.controls(scale))
    for name, (title, what) in STABLE_DIFFUSION.items():
        config.sets[name] = parts.drawn(scale, name, title=title)
        config.measures[name] = parts.diagnostic(scale, "measure", name)
        arms += [parts.only(name, title, what), parts.mixed(name, title, what)]
    config.arms = tuple(arms)
    return config
