"""Do synthetic images help with one's own photographs, where the classifier starts from public weights?

Three rungs, each for what the one below leaves open; all of them share a store, so nothing is computed twice.
    probe      a linear head on features that are computed once: real only, duplicated, stronger augmentation, the
               learning curve of real images, and sets that lie there (mine=DIR: made elsewhere; retrieved=DIR: real
               photographs that were found); minutes on a laptop
    external   Stable Diffusion as it is, and with adapters tuned on the base set, a fifth and a half of every batch;
               with domain gap, fidelity and copies; a GPU
    finetune   the backbone itself, on the arms of `external` that are named (arms=sd_lora_20+sd_50)

Words: path=DIR holds the photographs (a folder a class, or train/ and test/), backbone=DIR the public weights (or their
name on the hub), px=N the side that images are written and trained at (256), base=N how many photographs are learnt
from: each seed then takes N others (0, the default: all of them, the same at every seed), words=FILE what folders are
called, as JSON. Retrieved photographs are the control for generated ones: the same share of real images that were found
in place of being sampled (Geng et al. 2024, 2406.05184).
"packaged" is `make photographs`: patches of photographs that come with scikit-image and scikit-learn, a small backbone,
and the package's own small pipeline in the place of Stable Diffusion.

Run: jaxmoust study --config=experiments/photographs.py:path=DIR,backbone=DIR --workdir=runs/photographs --dry-run
     jaxmoust study --config=experiments/photographs.py:path=DIR,backbone=DIR --workdir=runs/photographs
     jaxmoust study --config=experiments/photographs.py:external,path=DIR,backbone=DIR --workdir=runs/photographs_sd
Cost: `make photographs`, its first two rungs, 9 min 40 s on 2 CPU cores with installation, beside another
    job (8 min 52 s of processor time).
Result: of 160 patches, 375 tested (`packaged`). 20 seeds: real only 82.65 % [81.88, 83.43], duplicated equivalent
    within 1 point, stronger augmentation worse by 4.49 points [2.31, 6.67]; 80 patches 77.91 %, 40 patches 66.28 %.
    3 seeds of the small pipeline: a fifth of it -1.60 points [-5.35, 2.15], half -3.20 [-7.40, 1.00]; with adapters
    -0.27 [-3.75, 3.22] and -2.58 [-6.45, 1.30]: none is decided. `finetune,packaged,arms=sd_20` with
    --config.classifier.train.num_steps=200, 3 seeds, 12 trainings in 21 minutes beside other jobs: real only 64.71 %
    [60.01, 69.41], far below the linear head; duplicated -0.89 points [-10.14, 8.36], stronger augmentation worse by
    13.96 [2.80, 25.11], a fifth of the small pipeline -5.51 [-20.29, 9.27], undecided. Own photographs and Stable
    Diffusion were not run.
"""

import ml_collections
import parts

WORDS = (
    "probe|external|finetune",
    "packaged",
    "quick",
    "path=",
    "backbone=",
    "px=",
    "base=",
    "mine=",
    "retrieved=",
    "words=",
    "arms=",
)
SD, LORA = dict(config="configs/sample/sd15_cifar10.py"), dict(config="configs/sample/sd15_finetuned.py")
TUNE = dict(config="configs/generator/sd15_lora.py", data=dict(image_px=512))
TINY = dict(config="configs/sample/tiny_sd.py", prompts=dict(template="a photo of a {}"))
TINY_TUNE = dict(
    config="configs/generator/digits_tiny_sd_lora.py",
    prompts=dict(template="a photo of a {}"),
    train=dict(num_steps=100),
    **parts.NO_GRID,
)
SHARES = dict(sd_20=("sd", 0.2), sd_50=("sd", 0.5), sd_lora_20=("sd_lora", 0.2), sd_lora_50=("sd_lora", 0.5))
TITLES = dict(sd="external SD", sd_lora="external SD + LoRA", mine="the set of mine", retrieved="retrieved photographs")
QUICK_TUNE = dict(config="configs/generator/digits_tiny_sd_lora.py:quick")
QUESTIONS = dict(
    external="Do images of Stable Diffusion help a linear head on public features of one's own photographs?",
    finetune="Do images of Stable Diffusion help a public network that is fine-tuned on one's own photographs?",
    probe="What do more photographs, augmentation, and images that lie there add to a linear head?",
)
PACKAGED = dict(path="runs/photographs/images", backbone="runs/photographs/backbone", px="32", base="160")


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Args: arg: "probe", "external" or "finetune"; "packaged"; "quick"; path=DIR, backbone=DIR, px=N, base=N,
    mine=DIR, retrieved=DIR, words=FILE, arms=A+B; by ",".
    """
    given = dict(word.partition("=")[::2] for word in arg.split(",") if word)
    words = {**(PACKAGED if "packaged" in given else {}), **given}
    rung = next((word for word in QUESTIONS if word in words), "probe")
    base, px = int(words.get("base", 0)), int(words.get("px", 256))
    config = ml_collections.ConfigDict()
    config.task = "study"
    config.name = f"photographs_{rung}"
    config.question = QUESTIONS[rung]
    few = 3 if "packaged" in words or "quick" in words else 5
    config.seeds = tuple(range(few if rung != "probe" or "quick" in words else 20))
    config.vary = ("init", "order", "draw", *(("base",) if base else ()))
    backbone = words.get("backbone", "")
    config.data = dict(source="folder", path=words.get("path", ""), image_px=px, channels=3, n_base=base)
    config.data.near_duplicates_by = backbone  # which says what is in train and in test, cut or mirrored
    config.generators, config.sets, config.scores, config.domains, config.measures = {}, {}, {}, {}, {}
    learn = "full" if rung == "finetune" else "probe"
    config.classifier = dict(
        config=f"configs/classifier/backbone.py:{learn},backbone={backbone}",
        augment=dict(crop_px=max(px // 16, 1)),
    )
    mixed = {}
    for name in [name for name in ("mine", "retrieved") if name in words]:
        mixed |= {f"{name}_20": (name, 0.2), f"{name}_50": (name, 0.5)}
        made_by = dict(made_by=name) if name == "retrieved" else {}
        config.sets[name] = dict(config="configs/sample/imported.py", path=words[name], **made_by)
    if rung != "probe":
        mixed |= SHARES
        _external(config, words)
    if "arms" in words:
        if unknown := set(words["arms"].split("+")) - set(mixed):
            raise ValueError(f"got arms={'+'.join(sorted(unknown))}, expected {'+'.join(mixed) or 'none'} of {rung}")
        mixed = {name: mixed[name] for name in words["arms"].split("+")}
        _leave_out(config, {*TITLES} - {of for of, _ in mixed.values()})
    fewer = [n for n in (base // 4, base // 2) if n and rung == "probe"]
    config.baseline = (*(f"real_{n}" for n in fewer), "real") if fewer else "real"
    config.arms = (*_real_alone(fewer, px), *(_mixed(name, *of) for name, of in mixed.items()))
    return config


def _leave_out(config: ml_collections.ConfigDict, unused: set[str]) -> None:
    """Takes sets that no arm mixes in out of a study, with what is measured of them and what samples them."""
    for table in (config.sets, config.domains, config.measures, config.generators):
        for name in unused & {*table}:
            del table[name]


def _real_alone(fewer: list[int], px: int) -> list[dict]:
    """The controls, and the learning curve: so many of the photographs."""
    stronger = dict(randaugment_ops=2, scale=0.2, crop_px=max(px // 8, 1))
    what = "RandAugment, scaling and larger shifts besides flips: what classical augmentation gives."
    three = "Each photograph three times: what a larger pool gives without a new image."
    return [
        parts.arm("real", "Real only", "The photographs and nothing else."),
        parts.arm("duplicated", "Real, duplicated", three, data=dict(copies=3)),
        parts.arm("augmented", "Real, stronger augmentation", what, augment=stronger),
        *(parts.arm(f"real_{n}", f"Real only, {n}", f"{n} photographs alone.", data=dict(n_base=n)) for n in fewer),
    ]


def _mixed(name: str, of: str, part: float) -> dict:
    what = f"{part:.0%} of every batch of {TITLES[of]}, the rest real."
    return parts.arm(name, f"Real + {TITLES[of]}, {part:.0%}", what, (of,), parts.share(**{of: part}))


def _external(config: ml_collections.ConfigDict, words: dict) -> None:
    """Puts the external generator, its tuned sister, and what is measured of both into a study."""
    quick, small = "quick" in words, "quick" in words or "packaged" in words
    asked = dict(prompts=dict(words_file=words["words"])) if "words" in words else {}
    number = dict(num_images=40 if quick else 320 if small else 1000)
    config.generators = dict(sd_lora=QUICK_TUNE if quick else {**(TINY_TUNE if small else TUNE), **asked})
    tiny = {**TINY, "config": f"{TINY['config']}:quick"} if quick else TINY
    config.sets.sd = {**(tiny if small else SD), **asked, **number}
    config.sets.sd_lora = {**(tiny if small else LORA), **asked, **number, "generator": "sd_lora"}
    domain = dict(config="configs/domain/digits.py" if small else "configs/domain/cifar10.py")
    measure = dict(config="configs/measure/digits.py" if small else "configs/measure/cifar10.py:classifier")
    for name in ("sd", "sd_lora"):
        config.domains[name] = dict(domain, set=name, arm="real", data=dict(image_px=min(config.data.image_px, 64)))
        config.measures[name] = dict(measure, set=name, arm="real")
