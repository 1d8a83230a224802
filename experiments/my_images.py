"""Do images from a generator that was trained on one's own images help a classifier trained on the same images?

A recipe says for which images networks, lengths and augmentation are:
    digits     100 digits of 8 px; or images as small and as few
    photos     a folder of colour images, brought to 32 px: small networks, some hours on 2 CPU cores
    published  the same folder, with the published networks for CIFAR-10, trained as long: days on a GPU
"quick" beside a recipe ("photos,quick") runs every part of it for seconds; its numbers mean nothing.

Run: jaxmoust study --config=experiments/my_images.py --workdir=runs/my_images
     jaxmoust study --config=experiments/my_images.py:photos --workdir=runs/my_photos --config.data.path=DIR
     (--config.data.n_base=N takes N of the images; --config.data.image_px and --config.data.channels bring them to
     another size)
Cost: digits 5 min 20 s on 2 CPU cores (x86_64, jax 0.10.2), peak memory 1.6 GB. Of photos, parts were timed on 800
    made-up images, on such cores with five other jobs on them: 1.5 and 1.6 s a step of EDM and DDPM (1,800 each), 0.14
    and 0.15 s an image drawn (2,000 a set, a set of either for each seed), 106 s a classifier (18 of them); so, in all,
    somewhat under 3 hours.
Result (digits: Top-1 on 797 test digits, 3 seeds, 95 % interval): real 93.60 [93.06, 94.14], duplicated 93.68 [92.28,
    95.09], augmented 93.94 [91.42, 96.45], edm_only 93.10 [89.36, 96.84], edm_mixed 93.56 [90.73, 96.39],
    ddpm_mixed 93.10 [90.13, 96.07]; no difference to real only is significant after Holm's correction.
"""

import ml_collections
import parts

DIGITS, FASHION, CIFAR10 = (parts.SCALES[name] for name in ("digits", "fashion", "cifar10"))
GENERATORS = ("edm", "ddpm")
FOLDER = dict(data=dict(source="folder", image_px=32, channels=3))
RECIPES = dict(
    digits={**DIGITS, "num_images": 2000},
    photos={
        **FASHION,
        **FOLDER,
        "num_images": 2000,
        "num_train": 1000,  # as n_base: a folder's images are all taken
        "classifier": "configs/classifier/cifar10_resnet18.py:small",
        "stronger_words": "cutout besides flips and crops",
        "fit": {name: dict(config=f"configs/generator/cifar10_{name}.py:small") for name in GENERATORS},
    },
    published={**CIFAR10, **FOLDER},
)
QUICK_IMAGES = 40  # of each set
WORDS = ("|".join(RECIPES), "quick")  # of arg; others are refused


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Args: arg: a recipe, "digits" (if there is none), "photos" or "published"; "quick": for seconds; both by ","."""
    words = arg.split(",")
    name = next((word for word in words if word in RECIPES), "digits")
    quick = "quick" in words
    scale = ml_collections.ConfigDict({**RECIPES[name], "name": name, "quick": quick, "seeds": (0, 1, 2)})
    num_images = QUICK_IMAGES if quick else scale.num_images
    question = (
        "Do images from a generator trained on the same real images help a classifier, "
        "against training longer, duplicating, or augmenting harder?"
    )
    config = parts.study(scale, "my_images", question)
    config.generators = {name: parts.generator(scale, name) for name in GENERATORS}
    config.sets = {name: parts.drawn(scale, name, num_images) for name in GENERATORS}
    config.arms = (*parts.controls(scale), parts.only("edm"), parts.mixed("edm"), parts.mixed("ddpm"))
    return config
