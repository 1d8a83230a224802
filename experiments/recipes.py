"""Which published recipe for synthetic images pays: the same real images, classifier, steps and controls for all.

A recipe is one file of presets/, which says its source, what is theirs and what is ours: datadream, da_fusion,
real_fake, discl, bob, diff_mix, real_guidance, tada. real_fake and bob need a caption of each training image, which
digits have; at other scales captions=FILE names them (docs/captions.md), and without it these two are left out.
photographs are one's own: --config.data.path=DIR holds a folder a class, base=N says how many are learnt from, and
backbone=DIR is a public network (or its name on the hub), which is fine-tuned; the recipes use Stable Diffusion 1.5.
tada is left out there: it asks which images a classifier learns late, and a public network has not learnt from nothing.

Run: jaxmoust study --config=experiments/recipes.py --workdir=runs/recipes
     jaxmoust study --config=experiments/recipes.py:fashion,recipe=diff_mix+da_fusion --workdir=runs/recipes_fashion
     jaxmoust study --config=experiments/recipes.py:cifar10,captions=FILE.json --workdir=runs/recipes_cifar10
     jaxmoust study --config=experiments/recipes.py:photographs,backbone=DIR,base=80 --config.data.path=DIR
       --workdir=runs/recipes_photographs --dry-run
Cost: the three recipes below 4 min 47 s at digits on 2 CPU cores (x86_64, jax 0.10.2), with the controls found in the
    store.
Result (digits, recipe=real_guidance+discl+tada: Top-1 on 797 test images, mean of 5 seeds with its 95 % interval,
points over real only with intervals that hold for all comparisons together, verdict with a margin of 1 point):
    Real only                    93.63 [93.33, 93.93]
    Real, duplicated             93.43 [93.29, 93.56]  -0.20 [-0.70, +0.30]  equivalent
    Real, stronger augmentation  94.25 [93.30, 95.20]  +0.63 [-1.11, +2.36]  undecided
    Real Guidance                93.65 [92.90, 94.40]  +0.03 [-1.07, +1.12]  equivalent
    DisCL                        93.58 [92.80, 94.35]  -0.05 [-1.22, +1.12]  undecided
    TADA                         93.78 [93.28, 94.28]  +0.15 [-0.69, +0.99]  equivalent
In words: with a tiny generator of typeset digits that is not fine-tuned, none of the three gains. The recipes that
    fine-tune were not run, and photographs were not run.
"""

import captions
import ml_collections
import parts
from presets import bob, da_fusion, datadream, diff_mix, discl, real_fake, real_guidance, tada

PRESETS = dict(
    datadream=datadream,
    da_fusion=da_fusion,
    real_fake=real_fake,
    discl=discl,
    bob=bob,
    diff_mix=diff_mix,
    real_guidance=real_guidance,
    tada=tada,
)
CAPTIONED = ("real_fake", "bob")
SCORED = ("tada",)  # by classifiers of a half of the images each, which a public network's head start would spoil
# Photographs at 256 px, as experiments/photographs.py has them; a set has five images for each real one.
RATIO = 5
PHOTOGRAPHS = dict(
    data=dict(source="folder", image_px=256, channels=3),
    seeds=(0, 1, 2, 3, 4),
    num_classes=10,  # of which the quick variant takes images; the folder says how many there are
    num_train=0,
    n_base=0,
    num_images=0,
    classifier="configs/classifier/backbone.py",
    stronger=dict(randaugment_ops=2, scale=0.2, crop_px=32),
    stronger_words="RandAugment, scaling and larger shifts besides flips",
    fit=dict(
        sd_lora=dict(config="configs/generator/sd15_lora.py", **parts.AT_512),
        sd_full=dict(config="configs/generator/sd15_full.py", **parts.AT_512),
    ),
    sample=dict(
        sd=dict(config="configs/sample/sd15_cifar10.py"),
        sd_lora=dict(config="configs/sample/sd15_finetuned.py"),
        sd_full=dict(config="configs/sample/sd15_finetuned.py"),
    ),
)


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Args: arg: digits (the default), fashion, cifar10 or imagenet100, or photographs with backbone=DIR and base=N;
    recipe=NAME+NAME; captions=FILE; "quick"; by ",".
    """
    scales = {**parts.SCALES, "photographs": PHOTOGRAPHS}
    scale = parts.read(arg, "recipe=", "captions=", "backbone=", "base=", scales=scales)
    backbone, base = (scale.words.get(word, "") for word in ("backbone", "base"))
    of_folder = scale.name == "photographs"
    whole = bool(backbone) and base.isdecimal() and int(base) > 0
    if not whole if of_folder else backbone or base:
        raise ValueError(f"got {arg!r}, expected backbone=DIR and base=N, from 1, at photographs, and only there.")
    if of_folder and not scale.quick:
        scale.n_base, scale.num_images = int(base), RATIO * int(base)
    config = parts.study(
        scale,
        "recipes",
        f"With {scale.n_base:,} real images, which published recipe for synthetic images helps a classifier?",
        vary=parts.VARY,
    )
    if of_folder:
        words = f"full,backbone={backbone}" + (",quick" if scale.quick else "")
        config.classifier = f"{PHOTOGRAPHS['classifier']}:{words}"
        config.data.near_duplicates_by = backbone  # which says what is in train and in test, cut or mirrored
    config.data.captions = scale.words.get("captions", captions.DIGITS if scale.name == "digits" else "")
    lacking = (*(() if config.data.captions else CAPTIONED), *(SCORED if of_folder else ()))
    known = tuple(name for name in PRESETS if name not in lacking)
    names = tuple(scale.words["recipe"].split("+")) if scale.words.get("recipe") else known
    if unknown := [name for name in names if name not in known]:
        raise ValueError(
            f"got recipe={'+'.join(unknown)}, expected of {', '.join(known)}, by '+'"
            + ("." if config.data.captions else f"; {' and '.join(CAPTIONED)} want captions=FILE.")
            + (f" {SCORED[0]} wants a classifier that begins from nothing." if of_folder else "")
        )
    arms = []
    for name in names:
        preset = PRESETS[name]
        recipe = preset.get_recipe(parts, scale)
        config.generators.update(recipe["generators"])
        config.sets.update(recipe["sets"])
        config.scores.update(recipe.get("scores", {}))
        words = preset.__doc__.partition("\n")[0]
        arms.append(parts.arm(name, preset.TITLE, words, tuple(recipe["sets"]), **recipe["arm"]))
    config.arms = (*parts.controls(scale), *arms)
    return config
