"""Does it pay to fine-tune an external generator on a caption of each image, and to shuffle the contexts?

The same adapters are fine-tuned under the name of each image's class, or under its own caption with the name kept. Sets
are then sampled by the name; by the captions; by the captions of all images with the class put in the place of the one
they name; and by those of other classes alone. Without captions at both ends the second half cannot help: a network
that was never told of a context cannot vary it.

At digits and fashion captions say how bold an image is and, of digits, whether it leans, as measured
(experiments/assets/caption_images.py). Of photographs, docs/captions.md says how to have a vision-language model write
them.

Run: jaxmoust study --config=experiments/captions.py --workdir=runs/captions
     jaxmoust study --config=experiments/captions.py:fashion,captions=FILE.json --workdir=runs/captions_fashion
     jaxmoust study --config=experiments/captions.py:cifar10,captions=FILE.json --workdir=runs/captions_cifar10
Not run yet.
"""

import ml_collections
import parts

DIGITS = "experiments/assets/digits_captions.json"
SETS = {
    "names": ("by class name", "the fine-tuned generator, asked by the name of the class"),
    "own": ("by captions", "the generator fine-tuned on captions, asked by them"),
    "shuffled": ("by shuffled captions", "the generator fine-tuned on captions, asked by those of all classes"),
    "others": ("by captions of other classes", "the generator fine-tuned on captions, asked by other classes' ones"),
}
PROMPTS = dict(
    own=dict(template="", contexts="own"),
    shuffled=dict(template="", contexts="shuffle"),
    others=dict(template="", contexts="shuffle", other_class=True),
)


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Args: arg: digits (the default), fashion, cifar10 or imagenet100; captions=FILE; "quick"; by ","."""
    scale = parts.read(arg, "captions=")
    config = parts.study(
        scale,
        "captions",
        f"With {scale.n_base:,} real images, does a generator that was fine-tuned on a caption of each of them help a "
        "classifier more than one that was fine-tuned on class names alone?",
        vary=parts.VARY,
    )
    config.data.captions = scale.words.get("captions", DIGITS if scale.name == "digits" else "")
    config.generators = dict(
        names=parts.generator(scale, "sd_lora"),
        captioned=parts.generator(scale, "sd_lora", prompts=PROMPTS["own"]),
    )
    for name, (title, _) in SETS.items():
        generator = "names" if name == "names" else "captioned"
        config.sets[name] = parts.drawn(scale, "sd_lora", generator=generator, title=f"External SD + LoRA {title}")
        if name != "names":
            config.sets[name].prompts = PROMPTS[name]
    config.measures = {name: parts.diagnostic(scale, "measure", name) for name in SETS}
    config.arms = (
        *parts.controls(scale),
        *(parts.only(name, f"LoRA {title}", what) for name, (title, what) in SETS.items()),
        *(parts.mixed(name, f"LoRA {title}", what) for name, (title, what) in SETS.items()),
    )
    return config
