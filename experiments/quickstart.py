"""Do generated images help a classifier of 100 digits: of a generator trained on those 100, or of one from outside?

Ablation A of the study on a small scale: the outside generator, a tiny Stable Diffusion that knows typeset digits, is
drawn from as it is, with adapters tuned on the 100 digits, and with its whole U-Net tuned on them.

Run: jaxmoust study --config=experiments/quickstart.py --workdir=runs/quickstart   (or `make quickstart`)
Cost: 9 min 5 s, after an installation of 1 min 13 s, on 2 CPU cores (x86_64, jax 0.10.2).
Result (Top-1 on 797 test digits, 3 seeds, 95 % interval; * significantly other than real only after Holm's correction):
    real 93.64 [92.86, 94.43], duplicated 93.52 [93.34, 93.70], augmented 94.06 [91.94, 96.18];
    edm_only 89.84 [82.76, 96.92], edm_mixed 93.52 [92.52, 94.52], ddpm_mixed 92.85 [91.11, 94.58];
    outside, synthetic only: as it is 53.74 [41.21, 66.27] *, LoRA 77.04 [63.55, 90.52], tuned 82.73 [75.24, 90.22];
    outside, mixed: as it is 94.06 [93.58, 94.54], LoRA 93.39 [90.97, 95.81], tuned 93.48 [92.12, 94.83].
"""

import ml_collections

NUM_IMAGES = 1000  # of every synthetic set

WORDS = ("quick",)  # of arg; others are refused


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Args: arg: "quick" runs every part for seconds; its numbers mean nothing."""
    quick = ":quick" if arg == "quick" else ""
    size = {} if quick else dict(num_images=NUM_IMAGES)
    no_grid = dict(grid=dict(per_class=0))  # the page shows what is drawn
    config = ml_collections.ConfigDict()
    config.task = "study"
    config.name = "quickstart"
    config.question = (
        "With 100 real digits (10 a class), do images help a classifier that come from a generator trained on those "
        "same 100, or from one of typeset digits, as it is or fine-tuned?"
    )
    config.baseline = "real"
    config.seeds = (0, 1, 2)
    config.data = dict(source="digits", n_base=100)
    config.generators = dict(
        edm=dict(config=f"configs/generator/digits_edm.py{quick}"),
        ddpm=dict(config=f"configs/generator/digits_ddpm.py{quick}"),
        sd_lora=dict(config=f"configs/generator/digits_tiny_sd_lora.py{quick}", **no_grid),
        sd_full=dict(config=f"configs/generator/digits_tiny_sd_full.py{quick}", **no_grid),
    )
    config.sets = dict(
        edm=dict(generator="edm", config=f"configs/sample/edm.py{quick}", **size),
        ddpm=dict(generator="ddpm", config=f"configs/sample/ddim.py{quick}", **size),
        sd=dict(generator="", config=f"configs/sample/tiny_sd.py{quick}", **size),
        sd_lora=dict(generator="sd_lora", config=f"configs/sample/tiny_sd.py{quick}", **size),
        sd_full=dict(generator="sd_full", config=f"configs/sample/tiny_sd.py{quick}", **size),
    )
    looked = ("edm", "sd", "sd_lora", "sd_full")
    config.domains = {name: _look(name, f"configs/domain/digits.py{quick}") for name in looked}
    config.measures = {name: _look(name, f"configs/measure/digits.py{quick}") for name in ("ddpm", *looked)}
    config.classifier = f"configs/classifier/digits_resnet.py{quick}"
    config.arms = (
        _arm("real", "Real only", "The base set and nothing else."),
        _arm(
            "duplicated",
            "Real, duplicated",
            "Each image of the base set 11 times: what a larger pool gives without a new image.",
            data=dict(copies=11),
        ),
        _arm(
            "augmented",
            "Real, stronger augmentation",
            "The base set under rotation, scaling and cutout besides the shifts: what classical augmentation gives.",
            augment=dict(rotate_deg=10.0, scale=0.1, cutout_px=2),
        ),
        _arm(
            "edm_only",
            "EDM only",
            "No real image at all: 1,000 images of the EDM.",
            sets=("edm",),
            sampler=_share(edm=1.0),
        ),
        _arm("edm_mixed", "Real + EDM", "Half of each batch real, half EDM.", sets=("edm",), sampler=_share(edm=0.5)),
        _arm(
            "ddpm_mixed", "Real + DDPM", "Half of each batch real, half DDPM.", sets=("ddpm",), sampler=_share(ddpm=0.5)
        ),
        *_external("sd", "outside", "the outside generator as it is"),
        *_external("sd_lora", "outside, LoRA", "the outside generator with adapters tuned on the base set"),
        *_external("sd_full", "outside, tuned", "the outside generator with its U-Net tuned on the base set"),
    )
    return config


def _external(name: str, title: str, what: str) -> tuple[dict, dict]:
    return (
        _arm(
            f"{name}_only",
            f"{title[0].upper()}{title[1:]} only",
            f"No real image at all: 1,000 images of {what}.",
            sets=(name,),
            sampler=_share(**{name: 1.0}),
        ),
        _arm(
            f"{name}_mixed",
            f"Real + {title}",
            f"Half of each batch real, half of {what}.",
            sets=(name,),
            sampler=_share(**{name: 0.5}),
        ),
    )


def _look(name: str, config: str) -> dict:
    """What looks at a set beside a classifier of the real images."""
    return dict(set=name, arm="real", config=config)


def _share(**sets: float) -> dict:
    return dict(name="share", shares={"real": 1.0 - sum(sets.values()), **sets})


def _arm(name: str, title: str, description: str, **differs) -> dict:
    """An arm: its words, and what differs of the classifier: sets, sampler, sections."""
    return dict(name=name, title=title, description=description, **differs)
