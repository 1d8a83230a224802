"""Every experiment at every scale: it lays out, and carries what a comparison must carry."""

import functools
from pathlib import Path

import pytest

from jaxmoust.jobs.parts.configure import configuration
from jaxmoust.jobs.parts.registry import BadInput, schema_of
from jaxmoust.study.expand import expand
from jaxmoust.study.experiment import Experiment, Run

ROOT = Path(__file__).parents[1]
SCALES = ("digits", "fashion", "cifar10", "imagenet100")
# Experiments without scales, and the words that they take.
OTHERS = {"fashion.py": ("", "vit"), "my_images.py": ("digits", "photos", "published"), "quickstart.py": ("",)}
OTHERS["photographs.py"] = ("base=80,mine=DIR", "external", "finetune,arms=sd_20+sd_lora_50", "external,packaged")
OTHERS["external_images.py"] = ("digits", "fashion", "cifar10,cifake=DIR")
SCALED = sorted({path.name for path in (ROOT / "experiments").glob("*.py")} - {"parts.py", *OTHERS})
EVERY = [(file, arg) for file, args in {**dict.fromkeys(SCALED, SCALES), **OTHERS}.items() for arg in args]
EVERY += [("generator_quality.py", f"{scale},{word}") for scale in ("cifar10", "imagenet100") for word in ("sd", "dit")]
EVERY += [("recipes.py", "photographs"), ("recipes.py", "photographs,captions=captions.json")]

# What an experiment wants besides its scale.
WANTED = {("pretrained_vit.py", scale): ",pretrained=vit.npz" for scale in ("cifar10", "imagenet100")}
WANTED["recipes.py", "photographs"] = ",backbone=DIR,base=80"


@pytest.fixture(autouse=True)
def from_root(monkeypatch):
    monkeypatch.chdir(ROOT)


@functools.cache
def completed(file: str, arg: str) -> dict:
    wanted = WANTED.get((file, arg.partition(",")[0]), "")
    return configuration(f"experiments/{file}:{arg}{wanted}", [])[1]


@functools.cache
def lay_out(file: str, arg: str) -> Experiment:
    """An experiment without its data: a stage is told from another by its configuration alone."""
    return expand(completed(file, arg), schema_of, lambda config: config)


def real_only(run: Run) -> bool:
    return not run.stage.config["data"]["synthetic"]


def test_every_experiment_has_the_four_scales_or_is_known():
    for file in SCALED:
        assert "digits (the default), fashion, cifar10 or imagenet100" in (ROOT / "experiments" / file).read_text()


@pytest.mark.parametrize("quick", ["", "quick"])
@pytest.mark.parametrize(("file", "arg"), EVERY)
def test_experiment_carries_three_controls_of_each_base_set_and_three_seeds(file, arg, quick):
    experiment = lay_out(file, ",".join(word for word in (arg, quick) if word))
    assert len(experiment.seeds) >= 3
    runs = {run.arm.name: run for run in experiment.runs if run.seed == experiment.seeds[0]}
    for name, run in runs.items():
        mixed = run.stage.config
        if real_only(run):
            continue
        beside = [
            one.stage.config
            for one in runs.values()
            if real_only(one) and one.stage.config["data"]["n_base"] == mixed["data"]["n_base"]
        ]
        plain = [one for one in beside if one["data"]["copies"] == 1 and one["augment"] == mixed["augment"]]
        assert plain and any(one["data"]["copies"] > 1 for one in beside), name
        assert any(one["augment"] != mixed["augment"] for one in beside), name


def test_experiment_of_a_scale_is_named_after_it():
    names = [completed(file, scale)["name"] for file in SCALED for scale in SCALES]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("quick", ["", ",quick"])
@pytest.mark.parametrize(
    ("recipe", "config", "image_px", "cutout_px"),
    [
        ("digits", "digits_resnet.py", 0, 2),
        ("photos", "cifar10_resnet18.py:small", 32, 8),
        ("published", "cifar10_resnet18.py", 32, 16),
    ],
)
def test_recipe_of_my_images_trains_everything_at_its_own_size(recipe, config, image_px, cutout_px, quick):
    experiment = lay_out("my_images.py", recipe + quick)
    config = f"{config.partition(':')[0]}:quick" if quick else config
    _, classifier, _ = configuration(f"configs/classifier/{config}", [])
    runs = {run.arm.name: run.stage.config for run in experiment.runs}
    assert list(runs) == ["real", "duplicated", "augmented", "edm_only", "edm_mixed", "ddpm_mixed"]
    assert all((run["model"], run["train"]) == (classifier["model"], classifier["train"]) for run in runs.values())
    assert runs["augmented"]["augment"]["cutout_px"] == cutout_px
    fitted = [stage.config for stage in experiment.stages if stage.kind == "fit"]
    assert {one["method"]["name"] for one in fitted} == {"edm", "ddpm"}
    assert {one["data"]["image_px"] for one in (*fitted, *runs.values())} == {image_px}
    assert experiment.data["source"] == ("folder" if image_px else "digits")


def test_my_images_as_it_stands_is_of_digits():
    named, bare = ([stage.name for stage in lay_out("my_images.py", arg).stages] for arg in ("digits", ""))
    assert named == bare


def test_photos_learn_flipped_and_with_no_digits_augmentation():
    for stage in lay_out("my_images.py", "photos").stages:
        if augment := stage.config.get("augment"):
            assert augment["flip"] and not any(augment.get(name) for name in ("rotate_deg", "scale", "translate_px"))


@pytest.mark.parametrize("file", [*SCALED, "my_images.py", "quickstart.py"])
def test_duplicates_say_how_often_each_image_is_there_which_no_size_of_the_base_set_changes(file):
    runs = [run for run in lay_out(file, "").runs if run.arm.name.startswith("duplicated")]
    assert runs
    for run in runs:
        words, copies = run.arm.description, run.stage.config["data"]["copies"]
        assert f"Each image of the base set {copies} times" in words and "size" not in words


@pytest.mark.parametrize("file", SCALED)
def test_stages_of_a_plan_are_told_apart_in_words(file):
    experiment = lay_out(file, "digits")
    words = [experiment.describe(stage) for stage in experiment.stages]
    assert sorted(set(words)) == sorted(words)


@pytest.mark.parametrize("arg", ["bogus", "digits,fashion", "digits,imbalance"])
@pytest.mark.parametrize("file", SCALED)
def test_unknown_scale_or_two_are_refused_with_those_there_are(file, arg):
    with pytest.raises(
        BadInput, match=r"expected one of digits, fashion, cifar10, imagenet100(, photographs)?, and quick"
    ):
        configuration(f"experiments/{file}:{arg}", [])


@pytest.mark.parametrize("arg", ["cifar10", "digits,pretrained=vit.npz"])
def test_public_checkpoint_is_wanted_where_none_is_trained_and_only_there(arg):
    with pytest.raises(BadInput, match="expected pretrained=FILE at cifar10 and imagenet100"):
        configuration(f"experiments/pretrained_vit.py:{arg}", [])


@pytest.mark.parametrize("arg", ["fashion,dit", "cifar10,dit", "imagenet100,dit", "fashion,dit,quick"])
def test_dit_stands_beside_edm_and_ddpm_where_it_is_asked_for(arg):
    config, plain = completed("generator_quality.py", arg), completed("generator_quality.py", arg.replace(",dit", ""))
    assert {*config["generators"]} - {*plain["generators"]} == {"dit", "dit_many"}
    assert len(config["arms"]) == len(plain["arms"]) + 4
    assert config["generators"]["dit"]["model"]["name"] == ("dit_b" if "imagenet100" in arg else "dit_s")
    with pytest.raises(BadInput, match=r"'digits,dit'.*fashion, cifar10 or imagenet100"):
        completed("generator_quality.py", "digits,dit")


@pytest.mark.parametrize(
    ("scale", "millions"),
    [
        ("fashion", {"edm": 0.1152, "ddpm": 0.1152, "dit": 0.1152}),
        ("cifar10", {"edm": 200, "ddpm": 102.4, "dit": 102.4}),
        ("imagenet100", {"edm": 200, "ddpm": 200, "dit": 102.4}),
    ],
)
def test_internal_generators_see_as_many_images_as_the_experiment_says(scale, millions):
    generators = completed("generator_quality.py", f"{scale},dit")["generators"]
    for name, expected in millions.items():
        for of in (generators[name]["train"], generators[f"{name}_many"]["train"]):
            assert of["num_steps"] * of["batch_size"] / 1e6 == pytest.approx(expected, rel=1e-5)
    batches = {generators[name]["train"]["batch_size"] for name in millions}
    assert scale != "fashion" or batches == {64}


@pytest.mark.parametrize("quick", ["", ",quick"])
def test_dit_of_imagenet100_works_on_latents_of_its_own_size_and_is_guided(quick):
    config = completed("generator_quality.py", f"imagenet100,dit{quick}")
    fitted, drawn = config["generators"]["dit"], config["sets"]["dit"]
    vae = "tiny_sd" if quick else "stabilityai/sd-vae-ft-ema"
    assert (fitted["data"]["image_px"], fitted["method"]["name"], fitted["latents"]["path"]) == (256, "ddpm", vae)
    assert (drawn["sample"]["solver"], drawn["sample"]["guidance"], drawn["sample"]["clip"]) == ("euler", 1.5, False)
    fits = [stage.config for stage in lay_out("generator_quality.py", f"imagenet100,dit{quick}").stages]
    sides = {one["model"]["name"]: one["data"]["image_px"] for one in fits if one["task"] == "diffuse"}
    assert sides["dit_b"] == 256 and {side for name, side in sides.items() if name != "dit_b"} == {64}


@pytest.mark.parametrize("arg", ["cifar10,sd", "imagenet100,sd"])
def test_stable_diffusion_2_and_3_are_asked_alike_in_the_place_of_internal_generators(arg):
    config, plain = completed("generator_quality.py", arg), completed("generator_quality.py", arg.replace(",sd", ""))
    assert not config["generators"] and config["name"] != plain["name"]
    assert [arm["name"] for arm in config["arms"][3:]] == ["sd2_only", "sd2_mixed", "sd3_only", "sd3_mixed"]
    second, third = (config["sets"][name] for name in ("sd2", "sd3"))
    assert "stable-diffusion-2-1-base" in second["pipeline"]["path"]
    assert "stable-diffusion-3-medium" in third["pipeline"]["path"]
    alike = [
        (one["prompts"], one["num_images"], one["data"], one["sample"]["image_px"], one["sample"]["guidance"])
        for one in (second, third)
    ]
    assert alike[0] == alike[1] and alike[0][3:] == (512, 2.0)
    for other in ("digits,sd", f"{arg},dit"):
        with pytest.raises(BadInput, match=f"got '{other}'.*expected"):
            completed("generator_quality.py", other)


def test_arms_of_photographs_that_are_named_bring_their_sets_alone():
    kinds = {stage.kind for stage in lay_out("photographs.py", "external,arms=sd_20+sd_50").stages}
    assert "fit" not in kinds and {"features", "sample", "train", "domain", "measure"} <= kinds
    config = completed("photographs.py", "external,mine=DIR,arms=mine_20")
    assert (set(config["sets"]), config["generators"], config["domains"]) == ({"mine"}, {}, {})


def test_retrieved_photographs_are_a_control_of_every_rung_of_photographs():
    for rung in ("probe", "external", "finetune"):
        config = completed("photographs.py", f"{rung},retrieved=DIR")
        assert config["sets"]["retrieved"]["made_by"] == "retrieved"
        mixed = [arm for arm in config["arms"] if "retrieved" in arm["sets"]]
        assert [(arm["name"], arm["sampler"]["shares"]["retrieved"]) for arm in mixed] == [
            ("retrieved_20", 0.2),
            ("retrieved_50", 0.5),
        ]


def test_recipes_of_photographs_fine_tune_a_public_network_beside_images_of_stable_diffusion():
    experiment = lay_out("recipes.py", "photographs,captions=captions.json")
    config = completed("recipes.py", "photographs,captions=captions.json")
    every = [arm["name"] for arm in completed("recipes.py", "digits")["arms"]]
    assert [arm["name"] for arm in config["arms"]] == [name for name in every if name != "tada"]
    with pytest.raises(BadInput, match="tada wants a classifier that begins from nothing"):
        completed("recipes.py", "photographs,recipe=tada")
    trained = [run.stage.config for run in experiment.runs]
    assert {(one["model"]["weights"], one["method"]["learn"], one["data"]["n_base"]) for one in trained} == {
        ("DIR", "full", 80)
    }
    assert {one["data"]["near_duplicates_by"] for one in trained} == {"DIR"}
    pipelines = {one["pipeline"]["path"] for one in config["sets"].values() if not one["generator"]}
    assert pipelines == {"stable-diffusion-v1-5/stable-diffusion-v1-5"}
    assert {stage.config["data"]["image_px"] for stage in experiment.stages if stage.kind == "fit"} == {512}
    assert {one["num_images"] for name, one in config["sets"].items() if not name.startswith("discl")} == {400}


@pytest.mark.parametrize(
    "arg", ["photographs", "photographs,backbone=DIR", "photographs,base=0,backbone=DIR", "base=0"]
)
def test_recipes_want_a_network_and_a_number_of_photographs_and_nowhere_else(arg):
    with pytest.raises(BadInput, match="expected backbone=DIR and base=N, from 1, at photographs, and only there"):
        configuration(f"experiments/recipes.py:{arg}", [])
