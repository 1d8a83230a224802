"""Do images that lie there already help: of a generator that somebody else ran, or more real ones that were retrieved?

No generator is trained or sampled: the set is read from files and brought to the study's size. At digits and fashion it
is the whole training split, beside a base set that is a part of it: what retrieving more real images would give, which
is the control that any generator has to stand up to. At cifar10 it is CIFAKE: 50,000 images of Stable Diffusion 1.4
(Bird and Lotfi 2023, 2303.14126), a folder or its zip archive.

Run: jaxmoust study --config=experiments/external_images.py --workdir=runs/external_images
     jaxmoust study --config=experiments/external_images.py:fashion --workdir=runs/external_images_fashion
     jaxmoust study --config=experiments/external_images.py:cifar10,cifake=FILE --workdir=runs/external_images_cifar10
     (experiments/parts.py says which data the scales want)
Not run yet.
"""

import ml_collections
import parts

RETRIEVED = ("retrieved", "retrieved images", "the training split, the base set among them")
CIFAKE = ("cifake", "CIFAKE", "Stable Diffusion 1.4")


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Args: arg: "digits" (the default), "fashion" or "cifar10"; cifake=FILE; "quick": for seconds; by ","."""
    scale = parts.read(arg, "cifake=")
    if scale.name == "imagenet100":
        raise ValueError(f"got {arg!r}, expected digits, fashion, cifar10, cifake=FILE and quick, by ','.")
    name, title, what = CIFAKE if scale.name == "cifar10" else RETRIEVED
    config = parts.study(scale, "external_images", f"Do {title} help beside {scale.n_base:,} real images?")
    if name == "cifake":
        config.sets = dict(cifake=dict(path=scale.words.get("cifake") or "cifake", source="cifake_fake", split="train"))
    else:
        source = dict(task="imported", source=scale.data.source, split="train", made_by="retrieved")
        config.sets = dict(retrieved=source)
    config.arms = (
        *parts.controls(scale, scale.num_train),
        parts.only(name, title[0].upper() + title[1:], what),
        parts.mixed(name, title, what),
    )
    return config
