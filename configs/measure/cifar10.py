"""How close a synthetic set is to CIFAR-10, and whether its generator copied it.

Run: jaxmoust measure --config=configs/measure/cifar10.py:clip --workdir=runs/measured --config.set=runs/edm_set \
       --config.extractor.path=clip-vit-large-patch14-336
     jaxmoust measure --config=configs/measure/cifar10.py:classifier --workdir=runs/measured_resnet \
       --config.set=runs/edm_set --config.extractor.path=runs/cifar10_resnet18
Settings: flipped copies count, as the generators of configs/generator/cifar10_*.py learn from flipped images too. The
    published CMMD is on CLIP's ViT-L/14 at 336 px. For a floor of as many images: --config.num_images=10000.
Not run at this size.
"""

import ml_collections

WORDS = ("quick|clip|vit|inception|classifier",)  # of arg; others are refused


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Args: arg: "quick"; or the extractor: "clip" (the default), "vit", "inception" or "classifier"."""
    quick = arg == "quick"
    config = ml_collections.ConfigDict()
    config.task = "measure"
    config.extractor = dict(name="classifier" if quick else arg or "clip")
    config.data = dict(source="tfds:cifar10", n_base=100 if quick else 0)
    config.num_images = 100 if quick else 0
    config.num_pairs = 4 if quick else 24
    return config
