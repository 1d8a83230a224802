"""Ablation B: how should real and synthetic images be mixed while a classifier trains?

The study concatenates and shuffles (`random`). The other samplers draw from the same pool (the base set and 2,000
images of an EDM that was trained on it) in another way, for as many steps of as many images. Three arms without
synthetic images are the controls.

Run: jaxmoust study --config=experiments/sampling_strategy.py --workdir=runs/sampling
     jaxmoust study --config=experiments/sampling_strategy.py:imbalanced --workdir=runs/sampling_imbalanced
Cost: 8 min each on 2 CPU cores (x86_64, jax 0.10.2), peak memory 1.1 GB.
Result (Top-1 on 797 test digits, 5 seeds, mean and points over random with their 95 % intervals; * significant at 5 %
after Holm's correction):
                      balanced                              imbalanced
    random            92.32 [90.77, 93.87]                  86.80 [85.49, 88.11]
    real only         93.65  +1.33 [-0.32, +2.98]           87.98  +1.18 [-0.45, +2.81]
    augmented         94.28  +1.96 [+0.12, +3.80]           86.73  -0.08 [-1.93, +1.78]
    duplicated        93.50  +1.18 [+0.13, +2.23]           87.95  +1.15 [-0.63, +2.94]
    share             93.63  +1.30 [-0.25, +2.86]           85.77  -1.03 [-2.38, +0.32]
    class-balanced    93.55  +1.23 [-1.14, +3.60]           88.51  +1.71 [+0.77, +2.64] *
    square-root       93.55  (the same draws, as classes    87.68  +0.88 [-1.00, +2.76]
    effective number  93.55   are equally large)            88.01  +1.20 [-0.34, +2.75]
    weighted          93.55  +1.23 [-0.43, +2.89]           87.33  +0.53 [-1.29, +2.35]
    ramp up           93.27  +0.95 [-0.73, +2.64]           85.14  -1.66 [-3.55, +0.24]
    ramp down         93.55  +1.23 [-0.44, +2.90]           87.90  +1.10 [-1.83, +4.04]
    synthetic first   93.50  +1.18 [-0.25, +2.61]           87.25  +0.45 [-1.25, +2.15]
    easy to hard      93.27  +0.95 [-0.86, +2.77]           86.50  -0.30 [-2.72, +2.12]
In words: with classes of one size no sampler is told apart from the study's shuffle. Where half of the classes are
rare, drawing classes evenly from both halves beats the shuffle (p = 0.043 after Holm over 12 comparisons), and is 2.7
points above share, which draws the same halves without regard to classes. Compared with real only instead
(`--config.baseline=real`), no arm is significantly better or worse: class-balanced +0.53 [-0.92, +1.97].
"""

import ml_collections


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Args: arg: "imbalanced": half of the classes cut to a fifth; "quick": every part for seconds; or both, by ","."""
    words = set(arg.split(",")) - {""}
    quick, imbalanced = ":quick" if "quick" in words else "", "imbalanced" in words
    config = ml_collections.ConfigDict()
    config.task = "study"
    config.name = "sampling_strategy_imbalanced" if imbalanced else "sampling_strategy"
    base = "60 real digits (five classes of 10 images, five of 2)" if imbalanced else "100 real digits (10 a class)"
    config.question = (
        f"With {base} and 2,000 images of an EDM trained on them, "
        "does it matter how a classifier's batches are drawn from the two?"
    )
    config.baseline = "random"
    config.seeds = (0, 1, 2, 3, 4)
    config.data = dict(
        source="digits",
        path="",
        classes="",
        n_base=100,
        base_seed=0,
        n_per_class=0,
        imbalance="",
        imbalance_ratio=0.0,
        image_px=0,
        channels=0,
    )
    if imbalanced:
        config.data.update(imbalance="step", imbalance_ratio=5.0)
    config.generators = dict(edm=dict(config=f"configs/generator/digits_edm.py{quick}", overrides={}))
    config.sets = dict(edm=dict(generator="edm", config=f"configs/sample/edm.py{quick}", overrides={}))
    config.scores = dict(confidence=dict(arm="real", config="configs/score/classifier.py:confidence", overrides={}))
    config.classifier = f"configs/classifier/digits_resnet.py{quick}"
    half = dict(shares=dict(real=0.5, edm=0.5))
    scored = dict(data=dict(scores="confidence"))
    config.arms = (
        _arm(
            "random", "Random", "The study's way: one shuffle of all images, each once an epoch.", dict(name="random")
        ),
        _arm("real", "Real only", "The base set and nothing else.", dict(name="random"), sets=()),
        _arm(
            "augmented",
            "Real, stronger augmentation",
            "The base set under rotation, scaling and cutout besides the shifts.",
            dict(name="random"),
            sets=(),
            overrides=dict(augment=dict(rotate_deg=10.0, scale=0.1, cutout_px=2)),
        ),
        _arm(
            "duplicated",
            "Real, duplicated",
            "The base set copied to the size of the pool: what more draws of the same images give.",
            dict(name="random"),
            sets=(),
            overrides=dict(data=dict(copies=34 if imbalanced else 21)),
        ),
        _arm("share", "Share", "Half of each batch real, half synthetic.", dict(name="share", **half)),
        _arm(
            "class_balanced",
            "Class-balanced",
            "Half and half; in each half every class equally often.",
            dict(name="class_power", power=0.0, **half),
        ),
        _arm(
            "square_root",
            "Square-root",
            "Half and half; in each half a class in proportion to the root of its size.",
            dict(name="class_power", power=0.5, **half),
        ),
        _arm(
            "effective_number",
            "Effective number",
            "Half and half; in each half a class by its effective number at beta 0.9 (fits classes of 2 to 10 images; "
            "0.9999 would draw these classes alike).",
            dict(name="effective_number", beta=0.9, **half),
        ),
        _arm(
            "weighted",
            "Weighted by confidence",
            "Half and half; a synthetic image in proportion to what a real-trained classifier gives its class.",
            dict(name="weighted", weights=dict(real=1.0, edm="scores"), **half),
            overrides=scored,
        ),
        _arm("ramp_up", "Ramp up", "From real only to synthetic only.", dict(name="ramp", start=0.0, end=1.0)),
        _arm("ramp_down", "Ramp down", "From synthetic only to real only.", dict(name="ramp", start=1.0, end=0.0)),
        _arm(
            "synthetic_first",
            "Synthetic first",
            "Synthetic images for half of the steps, then real ones.",
            dict(name="stages", stages=((0.5, dict(edm=1.0)), (0.5, dict(real=1.0)))),
        ),
        _arm(
            "easy_to_hard",
            "Easy to hard",
            "Half and half; of the synthetic images the fifth that a real-trained classifier is surest of, growing to "
            "all of each class at four fifths of training.",
            dict(name="easy_to_hard", start=0.2, full_at=0.8, per_class=True, **half),
            overrides=scored,
        ),
    )
    return config


def _arm(
    name: str, title: str, description: str, sampler: dict, sets: tuple = ("edm",), overrides: dict | None = None
) -> dict:
    overrides = overrides or {}
    return dict(name=name, title=title, description=description, sets=sets, sampler=sampler, overrides=overrides)
