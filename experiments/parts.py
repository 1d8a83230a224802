"""What the experiments share: the scales they run at, the controls that each of them carries, how an arm is written.

A scale is a data set, a classifier of its size, and the generators that there are for it:
    digits       scikit-learn's handwriting, 8 px; minutes on 2 CPU cores; the default
    fashion      Fashion-MNIST, 28 px; an hour or two on 2 CPU cores; the files come with Debian's package
                 dataset-fashion-mnist, or lie in --config.data.path=DIR
    cifar10      32 px, published networks, for accelerators; the verb `data prepare` puts it where TFDS looks for it
    imagenet100  224 px, published networks, for accelerators; --config.data.path=DIR holds train/CLASS/*.JPEG and a
                 validation split, --config.data.classes=FILE names the hundred classes, one a line, and
                 --config.sets.sd.prompts.words_file=FILE says what folders such as n01440764 are called, as JSON,
                 to each set that is asked for in words
"quick" beside a scale ("fashion,quick") runs every part of it for seconds; its numbers mean nothing.

Of the generators, edm, ddpm and dit (none at digits) are trained on the base set (internal). sd is external:
pre-trained on other images, and sampled as it is. sd_lora and sd_full are the same, fine-tuned on the base set: a tiny
Stable Diffusion of typeset digits at the small scales, Stable Diffusion 1.5 and 2.1-base at the large ones. There sd2
and sd3 are 2.1-base and 3 medium as they are, asked alike.
"""

import ml_collections

EDM, DDIM = dict(config="configs/sample/edm.py"), dict(config="configs/sample/ddim.py")
TINY_SD = dict(config="configs/sample/tiny_sd.py")
EXTERNAL = ("sd", "sd_lora", "sd_full")
NO_GRID = dict(grid=dict(per_class=0))  # a study's page shows what is drawn
# The tiny Stable Diffusion reads 24 tokens, most of them letters, and this leaves room for "Ankle boot".
GARMENT = dict(prompts=dict(template="a photo of a {}"))
TINY_SD_GARMENT = dict(**TINY_SD, **GARMENT)
# Garments are ten times as many as digits: three times as many steps.
ON_GARMENTS = dict(**GARMENT, **NO_GRID, train=dict(num_steps=600))
AT_64, AT_256, AT_512 = dict(data=dict(image_px=64)), dict(data=dict(image_px=256)), dict(data=dict(image_px=512))
SD21 = dict(config="configs/sample/sd21_imagenet100.py", **AT_256)
# Both at the pixels that 2.1-base was trained for, and the guidance of training images; steps as of either's own file.
ALIKE = dict(sample=dict(image_px=512, guidance=2.0))
SD2 = dict(config="configs/sample/sd21_imagenet100.py", **ALIKE)
SD3 = dict(config="configs/sample/sd3_medium_cifar10.py", **ALIKE)

# A generator is trained as `fit` says, those without are drawn from as they are, and drawn from as `sample` says: a
# configuration file, and what differs from it.
SCALES = dict(
    digits=dict(
        data=dict(source="digits", image_px=0, channels=0),
        seeds=(0, 1, 2, 3, 4),
        num_classes=10,
        num_train=1000,
        n_base=100,
        num_images=1000,
        classifier="configs/classifier/digits_resnet.py",
        stronger=dict(rotate_deg=10.0, scale=0.1, cutout_px=2),
        stronger_words="rotation, scaling and cutout besides the shifts",
        domain=dict(config="configs/domain/digits.py"),
        measure=dict(config="configs/measure/digits.py"),
        fit=dict(
            edm=dict(config="configs/generator/digits_edm.py"),
            ddpm=dict(config="configs/generator/digits_ddpm.py"),
            sd_lora=dict(config="configs/generator/digits_tiny_sd_lora.py", **NO_GRID),
            sd_full=dict(config="configs/generator/digits_tiny_sd_full.py", **NO_GRID),
        ),
        sample=dict(edm=EDM, ddpm=DDIM, **dict.fromkeys(EXTERNAL, TINY_SD)),
    ),
    fashion=dict(
        data=dict(source="fashion_mnist", image_px=0, channels=0),
        seeds=(0, 1, 2),
        num_classes=10,
        num_train=60_000,
        n_base=1000,
        num_images=5000,
        classifier="configs/classifier/fashion_resnet.py:small",
        stronger=dict(cutout_px=8),
        stronger_words="cutout besides flips and shifts",
        domain=dict(config="configs/domain/fashion.py"),
        measure=dict(config="configs/measure/cifar10.py:classifier"),
        fit=dict(
            edm=dict(config="configs/generator/fashion_edm.py:small"),
            ddpm=dict(config="configs/generator/fashion_ddpm.py:small"),
            dit=dict(config="configs/generator/fashion_dit.py:small"),
            sd_lora=dict(config="configs/generator/digits_tiny_sd_lora.py", **ON_GARMENTS),
            sd_full=dict(config="configs/generator/digits_tiny_sd_full.py", **ON_GARMENTS),
        ),
        # Of EDM and DDPM 23 and 24 evaluations an image, about half of what the two papers spend.
        sample=dict(
            edm=dict(**EDM, sample=dict(num_steps=12, per_device_batch=125)),
            ddpm=dict(**DDIM, sample=dict(num_steps=24, per_device_batch=125)),
            dit=dict(**EDM, sample=dict(num_steps=12, per_device_batch=125)),
            **dict.fromkeys(EXTERNAL, TINY_SD_GARMENT),
        ),
    ),
    cifar10=dict(
        data=dict(source="tfds:cifar10", image_px=32, channels=3),
        seeds=(0, 1, 2, 3, 4),
        num_classes=10,
        num_train=50_000,
        n_base=50_000,
        num_images=50_000,
        classifier="configs/classifier/cifar10_resnet18.py",
        stronger=dict(randaugment_ops=2, cutout_px=16),
        stronger_words="RandAugment and cutout besides flips and crops",
        domain=dict(config="configs/domain/cifar10.py"),
        measure=dict(config="configs/measure/cifar10.py:classifier"),
        fit=dict(
            edm=dict(config="configs/generator/cifar10_edm.py"),
            ddpm=dict(config="configs/generator/cifar10_ddpm.py"),
            dit=dict(config="configs/generator/cifar10_dit.py"),
            sd_lora=dict(config="configs/generator/sd15_lora.py"),
            sd_full=dict(config="configs/generator/sd15_full.py"),
        ),
        sample=dict(
            edm=EDM,
            ddpm=DDIM,
            dit=dict(**EDM, sample=dict(num_steps=50)),
            sd=dict(config="configs/sample/sd15_cifar10.py"),
            sd_lora=dict(config="configs/sample/sd15_finetuned.py"),
            sd_full=dict(config="configs/sample/sd15_finetuned.py"),
            sd2=SD2,
            sd3=SD3,
        ),
    ),
    imagenet100=dict(
        data=dict(source="folder", image_px=224, channels=3),
        seeds=(0, 1, 2),
        num_classes=100,
        num_train=126_689,
        n_base=126_689,
        num_images=126_689,
        classifier="configs/classifier/imagenet100_resnet50.py",
        stronger=dict(randaugment_ops=2),
        stronger_words="RandAugment besides flips and crops",
        domain=dict(config="configs/domain/cifar10.py", **AT_64),
        measure=dict(config="configs/measure/cifar10.py:classifier", num_images=10_000),
        fit=dict(
            edm=dict(config="configs/generator/imagenet100_edm.py", **AT_64),
            ddpm=dict(config="configs/generator/imagenet100_ddpm.py", **AT_64),
            dit=dict(config="configs/generator/imagenet100_dit.py", **AT_256),
            sd_lora=dict(config="configs/generator/sd21_lora.py", **AT_512),
            sd_full=dict(config="configs/generator/sd21_full.py", **AT_512),
        ),
        sample=dict(
            edm=EDM,
            ddpm=DDIM,
            dit=dict(config="configs/sample/ddim_latents.py"),
            sd=SD21,
            sd_lora=dict(**SD21, pipeline=dict(variant="")),
            sd_full=dict(**SD21, pipeline=dict(variant="")),
            sd2=dict(**SD2, **AT_256),
            sd3=dict(**SD3, **AT_256),
        ),
    ),
)

# What each seed has of its own where the question is about generators: a claim about one training of each is none.
VARY = ("init", "order", "draw", "generator")

# A generator's title, and what its images are of.
WORDS = dict(
    edm=("EDM", "an EDM trained on the base set"),
    ddpm=("DDPM", "a DDPM trained on the base set"),
    sd=("external SD", "the external generator as it is"),
    sd_lora=("external SD + LoRA", "the external generator with adapters fine-tuned on the base set"),
    sd_full=("external SD, fine-tuned", "the external generator with its U-Net fine-tuned on the base set"),
)

# In the quick variant: so many base images a class, so many synthetic ones for each, and of SCALES what takes hours.
QUICK_PER_CLASS, QUICK_RATIO = 2, 2
QUICK_LEFT_OUT = ("sample", "train", "grid", "num_images")


def read(arg: str, *words: str, scales: dict[str, dict] = SCALES) -> ml_collections.ConfigDict:
    """Reads an experiment's argument: a scale, "quick", and words of the experiment's own, by ",".

    Args: words: "only" may be given as it stands, "clip=" with a value. scales: those there are.
    Returns: the scale with its `name`, `quick`, and `words`, those of the experiment's own that were given, each with
        its value; "" where it takes none.
    Raises: ValueError: a word that is none of these, or two scales.
    """
    given = [word for word in arg.split(",") if word]
    names = [word for word in given if word in scales] or ["digits"]
    values = {name + equals: value for name, equals, value in (word.partition("=") for word in given)}
    if set(values) - {*scales, "quick", *words} or len(names) > 1:
        allowed = f"one of {', '.join(scales)}, and {', '.join(('quick', *words))}"
        raise ValueError(f"got {arg!r}, expected {allowed}, by ','.")
    scale = ml_collections.ConfigDict(scales[names[0]])
    scale.name, scale.quick = names[0], "quick" in given
    scale.words = {word.rstrip("="): values[word] for word in words if word in values}
    if scale.quick:
        scale.n_base = QUICK_PER_CLASS * scale.num_classes
        scale.num_images = QUICK_RATIO * scale.n_base
    return scale


def of(scale: ml_collections.ConfigDict, **by_name):
    """The one of these that is given for the scale."""
    return by_name[scale.name]


def sizes(scale: ml_collections.ConfigDict, **by_name: tuple[int, ...]) -> tuple[int, ...]:
    """Sizes of real sets, ascending, as given for the scale; in the quick variant, small ones."""
    given = by_name[scale.name]
    return tuple(QUICK_PER_CLASS * scale.num_classes * 2**i for i in range(len(given))) if scale.quick else given


def base_set(scale: ml_collections.ConfigDict, n_base: int = 0) -> dict:
    """The field of a data section that chooses so many real images; 0 is the scale's own number."""
    n_base = n_base or scale.n_base
    return dict(n_base=0 if n_base == scale.num_train else n_base)  # 0 takes all there are, should some be missing


def study(
    scale: ml_collections.ConfigDict,
    name: str,
    question: str,
    n_base: int = 0,
    baseline: str | tuple[str, ...] = "real",
    vary: tuple[str, ...] = ("init", "order", "draw"),
) -> ml_collections.ConfigDict:
    """An experiment without generators, sets and arms yet, of the scale's data, classifier and seeds.

    Args:
        n_base: size of the base set; 0 is the scale's own.
        baseline: the arm that others are compared with, or one for each base set.
        vary: what each seed has of its own.
    """
    config = ml_collections.ConfigDict()
    config.task = "study"
    config.name = name if scale.name == "digits" else f"{name}_{scale.name}"
    config.question = question
    config.baseline = baseline
    config.seeds = scale.seeds
    config.vary = vary
    config.data = dict(**scale.data, **base_set(scale, n_base))
    config.generators, config.sets, config.scores, config.domains, config.measures = {}, {}, {}, {}, {}
    config.classifier = _path(scale, scale.classifier)
    return config


def generator(scale: ml_collections.ConfigDict, name: str, n_base: int = 0, **differs: dict) -> dict:
    """The training of one of the scale's generators on the base set, or on one of n_base images, with what differs."""
    return {**_on(scale, _entry(scale, scale.fit[name]), n_base), **differs}


def drawn(
    scale: ml_collections.ConfigDict, name: str, num_images: int = 0, generator: str = "", title: str = ""
) -> dict:
    """A set of one of the scale's generators.

    Args: num_images: 0 is the scale's own number. generator: what the experiment calls the generator, if not `name`.
        title: what the page calls the set, if not as the generator.
    """
    entry = {**_entry(scale, scale.sample[name]), "num_images": num_images or scale.num_images}
    fitted = name in scale.fit
    if scale.quick and not fitted:  # the small pipeline in place of a public one, which no test can load
        entry["pipeline"] = dict(path="tiny_sd", variant="")
    return dict(generator=generator or (name if fitted else ""), title=title or headed(name), **entry)


def diagnostic(
    scale: ml_collections.ConfigDict, kind: str, name: str, arm: str = "real", n_base: int = 0, **differs
) -> dict:
    """A look at a set, "domain" or "measure", beside the classifier of an arm; real images as of `generator`."""
    return {**_on(scale, _entry(scale, scale[kind]), n_base), "set": name, "arm": arm, **differs}


def _on(scale: ml_collections.ConfigDict, entry: dict, n_base: int) -> dict:
    """An entry on so many real images, of the size that it says; 0 is as it stands."""
    return {**entry, "data": {**entry.get("data", {}), **base_set(scale, n_base)}} if n_base else entry


def _entry(scale: ml_collections.ConfigDict, entry: ml_collections.ConfigDict) -> dict:
    """A configuration file and what differs from it; in the quick variant its own, with its own lengths."""
    kept = {name: value for name, value in entry.items() if not (scale.quick and name in QUICK_LEFT_OUT)}
    return {**kept, "config": _path(scale, entry.config)}


def _path(scale: ml_collections.ConfigDict, path: str) -> str:
    return f"{path.partition(':')[0]}:quick" if scale.quick else path


def controls(scale: ml_collections.ConfigDict, num_images: int = 0, n_base: int = 0) -> tuple[dict, dict, dict]:
    """The three arms that every comparison carries: the base set alone, duplicated, and under stronger augmentation.

    Args:
        num_images: how many synthetic images the duplicates stand beside; 0 is the scale's own number.
        n_base: size of the base set, where it is not the study's; it goes into names and titles.
    """
    name, title, own = (f"_{n_base}", f", {n_base:,}", base_set(scale, n_base)) if n_base else ("", "", {})
    copies = 1 + round((num_images or scale.num_images) / (n_base or scale.n_base))
    return (
        arm(f"real{name}", f"Real only{title}", "The base set and nothing else.", **_of_data(own)),
        arm(
            f"duplicated{name}",
            f"Real, duplicated{title}",
            f"Each image of the base set {copies} times: what a larger pool gives without a new image.",
            data=dict(copies=copies, **own),
        ),
        arm(
            f"augmented{name}",
            f"Real, stronger augmentation{title}",
            f"The base set under {scale.stronger_words}: what classical augmentation gives.",
            augment=scale.stronger.to_dict(),
            **_of_data(own),
        ),
    )


def adjusted() -> dict:
    """The control of a base set with rare classes: a gain on these has to be more than this one's."""
    return arm(
        "adjusted",
        "Real, logit-adjusted",
        "The base set, trained on logits adjusted by how often each class is drawn: what rare classes gain without a "
        "new image.",
        method=dict(logit_adjustment=1.0),
    )


def _of_data(fields: dict) -> dict:
    return dict(data=fields) if fields else {}


def only(name: str, title: str = "", what: str = "") -> dict:
    """An arm of one set and no real image at all. Title and what its images are of are the generator's of that name."""
    title, what = title or headed(name), what or WORDS[name][1]
    words = f"No real image at all: images of {what}."
    return arm(f"{name}_only", f"{title} only", words, (name,), share(**{name: 1.0}))


def mixed(name: str, title: str = "", what: str = "") -> dict:
    """An arm of half real and half synthetic images in each batch; title and `what` as in `only`."""
    title, what = title or WORDS[name][0], what or WORDS[name][1]
    words = f"Half of each batch real, half of {what}."
    return arm(f"{name}_mixed", f"Real + {title}", words, (name,), share(**{name: 0.5}))


def headed(name: str) -> str:
    """A generator's title as the first word of a line."""
    title = WORDS[name][0]
    return title[0].upper() + title[1:]


def share(**sets: float) -> dict:
    """The sampler that gives each set its part of every batch, and what is left to the real images."""
    return dict(name="share", shares={"real": 1.0 - sum(sets.values()), **sets})


def arm(
    name: str,
    title: str,
    description: str,
    sets: tuple[str, ...] = (),
    sampler: dict | None = None,
    **differs: dict,
) -> dict:
    """An arm: its words, the sets it mixes in, how batches are drawn (None: shuffled), what differs in its training."""
    drawn_by = dict(sampler=sampler) if sampler else {}
    return dict(name=name, title=title, description=description, sets=sets, **drawn_by, **differs)
