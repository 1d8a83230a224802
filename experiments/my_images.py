"""Do images from a generator trained inside one's own images help a classifier trained on the same images?

As it stands it asks of 100 digits. Of one's own it is given a folder, --config.data.source=folder
--config.data.path=DIR, what images are brought to, --config.data.image_px and --config.data.channels, and networks of
that size: as in the README, or in notebooks/quickstart.ipynb.

Run: jaxmoust study --config=experiments/my_images.py --workdir=runs/my_images
Cost: of the digits 5 min 20 s on 2 CPU cores (x86_64, jax 0.10.2), peak memory 1.6 GB.
Result (Top-1 on 797 test digits, 3 seeds, 95 % interval): real 93.60 [93.06, 94.14], duplicated 93.68 [92.28, 95.09],
augmented 93.94 [91.42, 96.45], edm_only 93.10 [89.36, 96.84], edm_mixed 93.56 [90.73, 96.39],
ddpm_mixed 93.10 [90.13, 96.07]; no difference to real only is significant after Holm's correction.
"""

import ml_collections


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Args: arg: "quick" runs every part for seconds; its numbers mean nothing."""
    quick = ":quick" if arg == "quick" else ""
    config = ml_collections.ConfigDict()
    config.task = "study"
    config.name = "my_images"
    config.question = (
        "Do images from a generator trained on the same real images help a classifier, "
        "against training longer, duplicating, or augmenting harder?"
    )
    config.baseline = "real"
    config.seeds = (0, 1, 2)
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
    config.generators = dict(
        edm=dict(config=f"configs/generator/digits_edm.py{quick}", overrides={}),
        ddpm=dict(config=f"configs/generator/digits_ddpm.py{quick}", overrides={}),
    )
    config.sets = dict(
        edm=dict(generator="edm", config=f"configs/sample/edm.py{quick}", overrides={}),
        ddpm=dict(generator="ddpm", config=f"configs/sample/ddim.py{quick}", overrides={}),
    )
    config.scores = {}
    config.classifier = f"configs/classifier/digits_resnet.py{quick}"
    config.arms = (
        _arm("real", "Real only", "The base set and nothing else."),
        _arm(
            "duplicated",
            "Real, duplicated",
            "The base set copied to the size of the mixed pool: what more draws of the same images give.",
            overrides=dict(data=dict(copies=21)),
        ),
        _arm(
            "augmented",
            "Real, stronger augmentation",
            "The base set under rotation, scaling and cutout besides the shifts: what classical augmentation gives.",
            overrides=dict(augment=dict(rotate_deg=10.0, scale=0.1, cutout_px=2)),
        ),
        _arm(
            "edm_only",
            "EDM only",
            "No real image at all: 2,000 images of the EDM.",
            sets=("edm",),
            sampler=_share(edm=1.0),
        ),
        _arm("edm_mixed", "Real + EDM", "Half of each batch real, half EDM.", sets=("edm",), sampler=_share(edm=0.5)),
        _arm(
            "ddpm_mixed", "Real + DDPM", "Half of each batch real, half DDPM.", sets=("ddpm",), sampler=_share(ddpm=0.5)
        ),
    )
    return config


def _share(**sets: float) -> dict:
    return dict(name="share", shares={"real": 1.0 - sum(sets.values()), **sets})


def _arm(
    name: str,
    title: str,
    description: str,
    sets: tuple = (),
    sampler: dict | None = None,
    overrides: dict | None = None,
):
    overrides = overrides or {}
    return dict(name=name, title=title, description=description, sets=sets, sampler=sampler, overrides=overrides)
