"""Which published recipe for synthetic images pays: the same real images, classifier, steps and controls for all.

A recipe is one file of presets/, which says its source, what is theirs and what is ours: datadream, da_fusion,
real_fake, discl, bob, diff_mix, real_guidance, tada. real_fake and bob need a caption of each training image, which
digits have; at other scales captions=FILE names them (docs/captions.md), and without it these two are left out.

Run: jaxmoust study --config=experiments/recipes.py --workdir=runs/recipes
     jaxmoust study --config=experiments/recipes.py:fashion,recipe=diff_mix+da_fusion --workdir=runs/recipes_fashion
     jaxmoust study --config=experiments/recipes.py:cifar10,captions=FILE.json --workdir=runs/recipes_cifar10
Not run yet.
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


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Args: arg: digits (the default), fashion, cifar10 or imagenet100; recipe=NAME+NAME; captions=FILE; "quick"."""
    scale = parts.read(arg, "recipe=", "captions=")
    config = parts.study(
        scale,
        "recipes",
        f"With {scale.n_base:,} real images, which published recipe for synthetic images helps a classifier?",
        vary=parts.VARY,
    )
    config.data.captions = scale.words.get("captions", captions.DIGITS if scale.name == "digits" else "")
    known = tuple(name for name in PRESETS if config.data.captions or name not in CAPTIONED)
    names = tuple(scale.words["recipe"].split("+")) if scale.words.get("recipe") else known
    if unknown := [name for name in names if name not in known]:
        raise ValueError(
            f"got recipe={'+'.join(unknown)}, expected of {', '.join(known)}, by '+'"
            + ("." if config.data.captions else f"; {' and '.join(CAPTIONED)} want captions=FILE.")
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
