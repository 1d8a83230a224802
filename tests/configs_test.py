"""Every configuration file: it completes, prints as itself, teaches commands that parse, and runs when quick."""

import ast
import csv
import gzip
import importlib
import json
import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_stable_diffusion
from PIL import Image
from tiny_backbone import write_backbone

from jaxmoust.build import make_sampler
from jaxmoust.cli.main import parser_of
from jaxmoust.config import python_text, typed
from jaxmoust.data.pool import Pool
from jaxmoust.data.synthetic.store import open_synthetic
from jaxmoust.jobs.parts.configure import as_config, configuration
from jaxmoust.jobs.parts.inputs import Inputs, Output
from jaxmoust.jobs.parts.job import Job, Outcome, do
from jaxmoust.jobs.parts.registry import BadInput, entries, entry_of, job_of
from jaxmoust.jobs.study import Study

ROOT = Path(__file__).parents[1]
FILES = sorted(
    str(path.relative_to(ROOT))
    for path in (*ROOT.glob("configs/**/*.py"), *ROOT.glob("experiments/*.py"))
    if "def get_config(" in path.read_text()  # others are what these import
)
MANUAL = [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))]
# Here arg is the value of a field: names of classes; a score.
WITHOUT_WORDS = ("configs/import.py", "configs/score/classifier.py", "configs/features.py")
# What an experiment's words want beside them, and what follows a word that takes a value.
VALUES = {"share=": "0.5", "synthetic=": "made", "name=": "made", "pretrained=": "made", "clip=": "made"}
VALUES |= dict.fromkeys(("backbone=", "path=", "mine=", "words="), "made") | {"px=": "32", "base=": "80"}
DIGITS = "configs/classifier/digits_resnet.py"


@pytest.fixture(autouse=True)
def from_root(monkeypatch):
    """Experiments name the files of configs/ from the root of the repository."""
    monkeypatch.chdir(ROOT)


@dataclass(frozen=True)
class File:
    """A configuration file: its docstring, and what may follow its path."""

    path: str

    @property
    def doc(self) -> str:
        return ast.get_docstring(ast.parse((ROOT / self.path).read_text())) or ""

    @property
    def words(self) -> set[str]:
        """What may follow the path's colon, by the docstring of `get_config`: "quick", or of share=0.5 "share="."""
        defined = ast.parse((ROOT / self.path).read_text()).body
        (function,) = (node for node in defined if isinstance(node, ast.FunctionDef) and node.name == "get_config")
        doc = ast.get_docstring(function)
        return {*re.findall(r'(?<=")\w+(?=")', doc), *re.findall(r"\w+=", doc)}

    @property
    def variants(self) -> list[str]:
        """The arguments without a value that the file knows, and none."""
        return ["", *(arg for arg in ("quick", "small") if arg in self.words)]


def completed(path: str, *words: str) -> dict[str, Any]:
    return configuration(path, list(words))[1]


def commands(text: str) -> list[tuple[str, list[str]]]:
    """The command lines in a text: (verb, flags)."""
    text = text.replace("\\\n", " ")  # a line that goes on
    found = re.findall(r"jaxmoust ((?:data )?[a-z]+)((?:\s+--\w[\w.-]*=(?:\"[^\"]*\"|\S)+)+)", text)
    return [(verb, shlex.split(flags)) for verb, flags in found]


@pytest.fixture
def parsed(cli, monkeypatch):
    """Parses a command line as the program does, and returns the configuration it would run."""
    seen = []
    monkeypatch.setattr(importlib.import_module("jaxmoust.cli.main"), "_machine", lambda parsed: None)
    monkeypatch.setattr("jaxmoust.jobs.parts.job.do", lambda config, work: seen.append(config) or Outcome({}))
    monkeypatch.setattr("jaxmoust.jobs.study.main", lambda config, args, command: seen.append(config))

    def parse(verb: str, flags: list[str]) -> dict[str, Any]:
        outcome = cli(shlex.join([verb, *flags]))
        assert outcome.code == 0, outcome.err
        return seen.pop()

    return parse


# --- the files -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", FILES)
def test_config_completes_and_printed_is_a_file_that_completes_to_the_same(tmp_path, path):
    for arg in File(path).variants:
        wanted = ",pretrained=made" if "pretrained_vit" in path and arg == "cifar10" else ""
        _, config, schema = configuration(f"{path}:{arg}{wanted}", [])
        json.dumps(config)  # what config.json will hold
        printed = tmp_path / f"printed_{arg}.py"
        printed.write_text(python_text(config, schema, "printed"))
        assert completed(str(printed)) == config


@pytest.mark.parametrize("path", [path for path in FILES if path not in WITHOUT_WORDS])
def test_config_refuses_an_unknown_word_with_those_of_its_docstring_and_reads_these(path):
    words = File(path).words
    for arg in ("quik", "quick,synthetc=made", "quick=1"):
        with pytest.raises(BadInput, match=f"got '{arg}'.*expected") as refused:
            completed(f"{path}:{arg}")
        said = str(refused.value).partition("expected")[2]
        assert words <= set(re.findall(r"\w+=?", said))
    alone = {"backbone=", "base="} if path == "experiments/recipes.py" else set()
    for word in words - {"pretrained=", "arms=", "dit", "sd"} - alone:  # of some scales, or rungs, alone
        completed(f"{path}:{word}{VALUES.get(word, '')}")


@pytest.mark.parametrize("arg", ["quick,small", "quick,quick", "quick,", "share=0.5,share=0.6"])
def test_config_refuses_words_that_exclude_each_other_or_are_none(cli, tmp_path, arg):
    outcome = cli(f"train --config=configs/classifier/fashion_resnet.py:{arg} --workdir={tmp_path}/work")
    assert outcome.code == 2 and "expected quick or small, synthetic=, share=, name=; each once" in outcome.err


@pytest.mark.parametrize("score", ["confidence", "margin", "certainty"])
def test_score_is_what_stands_after_the_colon(score):
    assert completed(f"configs/score/classifier.py:{score}")["score"] == score
    with pytest.raises(BadInput, match=r"config\.score is '?bogus'?, expected one of confidence, margin, certainty"):
        completed("configs/score/classifier.py:bogus")


def test_files_are_short_and_say_each_thing_once():
    lengths = {path: len(path.read_text().splitlines()) for path in ROOT.glob("configs/**/*.py")}
    assert max(lengths.values()) <= 60 and sum(lengths.values()) <= 1702


def test_words_of_a_classifier_mix_the_set_they_name_into_any_of_them():
    for path in (path for path in FILES if "/classifier/" in path):
        plain, mixed = completed(path), completed(f"{path}:synthetic=sets/edm,share=0.25,name=mine")
        assert plain["data"]["synthetic"] == () and plain["sampler"] == {"name": "random"}
        assert mixed["data"]["synthetic"] == ("sets/edm",)
        assert mixed["sampler"] == {"name": "share", "shares": {"real": 0.75, "mine": 0.25}}
        rest = {"data": {**mixed["data"], "synthetic": ()}, "sampler": {"name": "random"}}
        assert {**mixed, **rest} == plain


def test_configs_that_the_manual_and_the_files_name_are_read():
    texts = [path.read_text() for path in (*MANUAL, *(ROOT / path for path in FILES))]
    named = {name for text in texts for name in re.findall(r"(?:configs|experiments)/[\w/]+\.py:[\w=/.,]*\w", text)}
    assert len(named) > 20
    for name in named:
        completed(name)


@pytest.mark.parametrize("path", MANUAL, ids=lambda path: path.stem)
def test_commands_of_the_manual_parse(parsed, path):
    """Of those with a configuration of this repository; the others are commands, too."""
    for verb, flags in commands(path.read_text()):
        of_verb = [entry for entry in entries() if entry.verb == verb]
        assert of_verb, verb
        if of_verb[0].tasks and any(flag.startswith(("--config=configs/", "--config=experiments/")) for flag in flags):
            parsed(verb, flags)
        elif not of_verb[0].tasks:
            known = {option for action in parser_of(verb)._actions for option in action.option_strings}
            assert known >= {flag.partition("=")[0] for flag in flags if not flag.startswith("--config.")}


def test_readme_is_short_and_its_links_are_files():
    text = (ROOT / "README.md").read_text()
    assert text.count("\n") <= 120
    assert all((ROOT / link).is_file() for link in re.findall(r"\]\(([^)#]+)", text))


@pytest.mark.parametrize("path", FILES)
def test_config_docstring_names_a_command_of_its_own_that_parses(parsed, path):
    module, task = File(path), completed(path)["task"]
    shown = commands(module.doc)
    assert shown and "Run:" in module.doc
    verb = entry_of(task).verb
    assert verb in [named for named, _ in shown]
    for named, flags in shown:
        if named != verb:  # what is done with its result
            assert named in {entry.verb for entry in entries()}
            continue
        assert any(flag.partition(":")[0] == f"--config={path}" for flag in flags)
        assert parsed(verb, flags)["task"] == task


@pytest.mark.parametrize("verb", sorted({entry.verb for entry in entries()}))
def test_help_examples_parse(parsed, cli, verb):
    shown = [flags for named, flags in commands(cli(f"{verb} --help").out) if named == verb]
    assert shown
    for flags in shown:
        config = next((flag.removeprefix("--config=") for flag in flags if flag.startswith("--config=")), "")
        if config and verb != "config":
            parsed(verb, flags)
        elif config:
            completed(config, *(flag for flag in flags if flag.startswith("--config.")))


# A recipe's numbers, as its docstring says who published them: epochs are within half a percent.
EPOCHS = {
    "classifier/bloodmnist_resnet18": (11_959, 100),
    "classifier/cifar10_resnet18": (50_000, 200),
    "classifier/cifar10_vit": (50_000, 100),
    "classifier/cifar100_wrn": (50_000, 200),
    "classifier/imagenet_resnet50": (1_281_167, 90),
    "classifier/imagenet100_resnet50": (126_689, 100),
    "generator/cifar10_ddpm": (50_000, 800_000 * 128 / 50_000),
    "generator/cifar10_edm": (1, 200e6),
    "generator/imagenet100_edm": (1, 200e6),
    "generator/bloodmnist_edm": (1, 25.6e6),
}


@pytest.mark.parametrize("name", EPOCHS)
def test_training_is_as_long_as_its_recipe_says(name):
    train = completed(f"configs/{name}.py")["train"]
    images, epochs = EPOCHS[name]
    assert train["num_steps"] * train["batch_size"] / images == pytest.approx(epochs, rel=5e-3)


PUBLISHED = {
    "classifier/cifar10_resnet18": {"train.batch_size": 128, "optim.learning_rate": 0.1, "optim.weight_decay": 5e-4},
    "classifier/cifar10_vit": {"optim.learning_rate": 1e-3, "optim.weight_decay": 0.05, "method.smoothing": 0.1},
    "classifier/cifar100_wrn": {"model.depth": 28, "model.widen": 10, "optim.learning_rate": 0.1},
    "classifier/imagenet_resnet50": {"train.batch_size": 1024, "optim.learning_rate": 0.4, "optim.weight_decay": 1e-4},
    "classifier/imagenet100_resnet50": {"train.batch_size": 256, "optim.learning_rate": 0.1, "data.image_px": 224},
    "classifier/bloodmnist_resnet18": {"train.batch_size": 128, "optim.name": "adam", "optim.learning_rate": 1e-3},
    "classifier/vit_l16_finetune": {"model.depth": 24, "optim.clip_norm": 1.0, "optim.learning_rate": 0.01},
    "generator/cifar10_ddpm": {"optim.learning_rate": 2e-4, "optim.warmup_steps": 5000, "model.dropout": 0.1},
    "generator/cifar10_edm": {"optim.learning_rate": 1e-3, "model.dropout": 0.13, "augment.nonleaky": 0.12},
    "generator/imagenet100_edm": {"optim.learning_rate": 2e-4, "model.dropout": 0.05, "augment.nonleaky": 0.15},
    "generator/imagenet100_ddpm": {"method.beta_start": 1e-4, "method.beta_end": 0.02, "optim.clip_norm": 1.0},
    "generator/bloodmnist_edm": {"optim.learning_rate": 2e-4, "model.dropout": 0.25, "augment.nonleaky": 0.15},
    "generator/sd15_full": {"optim.learning_rate": 1e-5, "optim.weight_decay": 0.01, "method.rank": 0},
    "generator/sd15_lora": {"optim.learning_rate": 1e-4, "train.batch_size": 8, "method.rank": 4, "method.alpha": 4.0},
    "generator/sd21_full": {"optim.learning_rate": 1e-5, "optim.ema_half_life_images": 32 * 6931, "method.rank": 0},
    "generator/sd21_lora": {"optim.learning_rate": 1e-4, "optim.ema_half_life_images": 0, "method.rank": 4},
    "generator/sdxl_lora": {"optim.learning_rate": 1e-4, "method.image_px": 1024, "optim.weight_decay": 0.01},
    "generator/sd3_medium_lora": {"optim.learning_rate": 4e-4, "train.batch_size": 4, "pipeline.text_length": 77},
    "generator/sd35_medium_lora": {"optim.learning_rate": 4e-4, "optim.weight_decay": 1e-4, "method.rank": 4},
    "generator/sd35_large_lora": {"optim.learning_rate": 4e-4, "pipeline.remat": True, "method.image_px": 512},
    "sample/edm": {"sample.solver": "heun", "sample.num_steps": 18},
    "sample/ddim": {"sample.solver": "euler", "sample.num_steps": 50, "sample.clip": True},
    "sample/sdxl_cifar10": {"sample.guidance": 5.0, "sample.num_steps": 50},
    "sample/sd3_medium_cifar10": {"sample.guidance": 7.0, "sample.num_steps": 28, "pipeline.param_dtype": "bfloat16"},
    "sample/sd35_medium_cifar10": {"sample.guidance": 4.5, "sample.num_steps": 40},
    "sample/sd35_large_cifar10": {"sample.guidance": 4.5, "sample.num_steps": 40, "sample.image_px": 512},
    "sample/sd15_cifar10": {"sample.guidance": 2.0, "sample.num_steps": 50},
    "sample/sd21_imagenet100": {"sample.guidance": 2.0, "sample.num_steps": 50, "data.image_px": 256},
}


def at(config: dict, name: str) -> Any:
    for part in name.split("."):
        config = config[part]
    return config


@pytest.mark.parametrize("name", PUBLISHED)
def test_recipe_has_the_published_hyperparameters(name):
    config = completed(f"configs/{name}.py")
    assert {field: at(config, field) for field in PUBLISHED[name]} == PUBLISHED[name]


# --- the command line's last word ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("section", "words", "expected"),
    [
        ("sampler", ("name=class_power", "power=0.5"), {"name": "class_power", "power": 0.5, "shares": None}),
        ("model", ("name=wide_resnet", "depth=10"), {"name": "wide_resnet", "depth": 10, "dtype": "float32"}),
    ],
)
def test_name_on_the_command_line_brings_the_fields_of_that_one_and_no_other(section, words, expected):
    path = f"{DIGITS}:synthetic=sets/edm,share=0.25"
    config = completed(path, *(f"--config.{section}.{word}" for word in words))[section]
    assert config.items() >= expected.items()
    assert not {"stage_sizes", "stem"} & set(config)
    with pytest.raises(BadInput, match=rf"config\.{section} has no field 'stem'.*Allowed: name"):
        completed(path, f"--config.{section}.{words[0]}", f"--config.{section}.stem=cifar")


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("model.stage_sizes=2,2", (2, 2)),
        ("model.stage_sizes=(2, 2)", (2, 2)),
        ("model.stage_sizes=3", (3,)),
        ("data.synthetic=sets/a,sets/b", ("sets/a", "sets/b")),
        ("optim.learning_rate=1", 1.0),
        ("optim.learning_rate=2e-3", 0.002),
        ("train.num_steps=1e3", 1000),
        ("augment.flip=true", True),
        ("augment.flip=0", False),
    ],
)
def test_typed_value_is_one_of_its_fields_type(word, value):
    found = at(completed(DIGITS, f"--config.{word}"), word.partition("=")[0])
    assert found == value and type(found) is type(value)


def test_every_configuration_of_a_pipeline_takes_adapters_each_with_a_scale():
    words = typed(["--config.pipeline.lora=a.safetensors,runs/b", "--config.pipeline.lora_scale=1.0,0.5"])
    files = [path for path in Path("configs").rglob("*.py") if "config.pipeline" in path.read_text()]
    for path in (*files, "configs/merge.py"):
        section = as_config(str(path), words)["pipeline"]
        assert section["lora"] == ("a.safetensors", "runs/b") and section["lora_scale"] == (1.0, 0.5), path
    assert len(files) >= 8


def test_none_is_typed_where_a_field_may_be_none():
    words = ["--config.sampler.name=effective_number", "--config.sampler.beta=0.9"]
    assert completed(DIGITS, *words, "--config.sampler.shares=real=1.0")["sampler"]["shares"] == {"real": 1.0}
    assert completed(DIGITS, *words, "--config.sampler.shares=None")["sampler"]["shares"] is None
    with pytest.raises(BadInput, match=r"config\.train\.num_steps is '?None'?, expected a whole number"):
        completed(DIGITS, "--config.train.num_steps=None")


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("generators.edm.train.num_steps=300", 300),
        ("sets.edm.sample.num_steps=5", 5),
        ("scores.confidence.score=margin", "margin"),
        ("domains.density_ratio.folds=3", 3),
        ("measures.edm.num_pairs=3", 3),
        ("classifier.optim.learning_rate=1", 1.0),
        ("seeds=7,", (7,)),
        ("data.n_base=50", 50),
    ],
)
def test_field_of_an_experiments_entry_is_set_on_the_command_line(word, value):
    path = "quickstart.py" if "measures" in word else "filters.py:fashion"
    plain, config = (completed(f"experiments/{path}", *words) for words in ((), (f"--config.{word}",)))
    field = word.partition("=")[0]
    assert at(config, field) == value != at(plain, field)


def test_entry_that_an_experiment_does_not_have_is_refused_with_those_it_has():
    with pytest.raises(BadInput, match=r"config\.generators has no entry 'gan'\. Allowed: ddpm, edm, sd_full, sd_lora"):
        completed("experiments/quickstart.py", "--config.generators.gan.train.num_steps=3")


def test_folder_of_images_without_the_word_for_one_is_refused(cli, tmp_path):
    line = f"study --config=experiments/my_images.py --config.data.path={tmp_path} --workdir={tmp_path}/work --dry-run"
    outcome = cli(line)
    assert outcome.code == 2 and "Set data.source=folder" in outcome.err and not (tmp_path / "work").exists()


# --- the quick variants ----------------------------------------------------------------------------------------------


def result(work: Path) -> dict:
    return json.loads((work / "result.json").read_text())


def job(config: dict, inputs: Inputs | None = None) -> Job:
    return job_of(config["task"])(as_config(config), inputs)


def run(config: dict, work: Path) -> dict:
    return do(as_config(config), work).result


@pytest.mark.parametrize("name", ["edm", "ddpm"])
def test_quick_generator_and_its_sampling_run(cli, tmp_path, quick_study, name):
    """Alone, they give what the study's stages gave: the same generator to the last bit."""
    fit, sampled = tmp_path / "fit", tmp_path / "set"
    assert cli(f"fit --config=configs/generator/digits_{name}.py:quick --workdir={fit}").code == 0
    assert result(fit)["generator"] == result(quick_study.stage("fit", method=name))["generator"]
    assert result(fit)["loss_train"] > 0 and result(fit)["loss_heldout"] > 0
    sampling = {"edm": "edm", "ddpm": "ddim"}[name]
    line = f"sample --config=configs/sample/{sampling}.py:quick --config.generator={fit} --workdir={sampled}"
    assert cli(line).code == 0
    expected = quick_study.stage("sample", name=name, seed=0)
    shards = sorted(p.name for p in sampled.glob("*array_record*"))
    assert len(shards) == 2
    for shard in shards:
        assert (sampled / shard).read_bytes() == (expected / shard).read_bytes()


def test_quick_classifier_runs_alone_and_mixed_and_is_evaluated(cli, tmp_path, quick_study):
    assert cli(f"train --config={DIGITS}:quick --workdir={tmp_path}/real").code == 0
    assert result(tmp_path / "real")["n"] == 797
    mixed = f"{DIGITS}:quick,synthetic={quick_study.made},share=0.25"
    assert cli(f"train --config={mixed} --workdir={tmp_path}/mixed").code == 0
    assert (result(tmp_path / "mixed")["share"], result(tmp_path / "mixed")["n_synthetic"]) == (0.25, 40)
    line = f"evaluate --config=configs/evaluate.py --config.checkpoint={tmp_path}/mixed --workdir={tmp_path}/judged"
    assert cli(line).code == 0
    assert result(tmp_path / "judged")["top1"] == result(tmp_path / "mixed")["top1"]


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory) -> Callable[[str], Path]:
    """The folder of a small pipeline of the kind that a configuration names."""
    root = tmp_path_factory.mktemp("pipeline")

    def of(path: str) -> Path:
        kinds = {"sdxl": "xl", "sd3_": "sd3", "sd35_large": "sd3", "sd35": "sd35"}
        kind = next((kind for name, kind in kinds.items() if name in path), 1)
        if not (folder := root / str(kind)).is_dir():
            tiny_stable_diffusion.write_pipeline(folder, kind, shallow=True)
        return folder

    return of


def small_external(path: str, stand_in: Callable[[dict], dict], pipeline: Callable[[str], Path]) -> dict:
    config = completed(f"{path}:quick")
    small = {**config["pipeline"], "path": str(pipeline(path)), "variant": ""}
    return {**config, "data": stand_in(config["data"]), "pipeline": small}


@pytest.mark.parametrize("path", [f for f in FILES if "/sample/sd" in f])
def test_external_generator_is_accepted_by_its_job(path, stand_in, pipeline):
    config = small_external(path, stand_in, pipeline)
    assert completed(path)["pipeline"].keys() == config["pipeline"].keys()
    job(config).check()


def test_external_generator_of_xl_writes_a_set(tmp_path, stand_in, pipeline):
    """Two encoders, guidance from zeros; of 3, tests/models/stable_diffusion walks the steps."""
    config = small_external("configs/sample/sdxl_cifar10.py", stand_in, pipeline)
    run(config, tmp_path / "work")
    assert len(open_synthetic(tmp_path / "work")) == 20


@pytest.mark.parametrize("path", [f for f in FILES if "/sample/sd15" in f or "/sample/sd21" in f])
def test_quick_external_generator_writes_a_set_of_the_data_sets_classes(tmp_path, path, stand_in, pipeline):
    config = small_external(path, stand_in, pipeline)
    side = config["data"]["image_px"]
    for from_real, strength in ((False, 1.0), (True, 0.5)):
        work = tmp_path / str(from_real)
        run({**config, "from_real": from_real, "sample": {**config["sample"], "strength": strength}}, work)
        sampled = open_synthetic(work)
        assert (len(sampled), sampled.shape, len(sampled.class_names)) == (20, (side, side, 3), 10)
        assert result(work)["method"] == "stable_diffusion"
        provenance = json.loads((work / "provenance.json").read_text())
        assert provenance["spec"]["prompts"][3] == "a photo of a class3"
        assert provenance["spec"]["steps"] == (1 if from_real else 2)
    base = Inputs().real(config["data"]).base  # two images of each class, of which the second set's are
    assert sampled.lineage.data == base.digest == result(work)["parents"]
    assert base.labels[sampled.lineage.parents].tolist() == sampled.labels.tolist()
    children = make_sampler({"name": "children", "p": 1.0}, Pool.from_sources([base, sampled]), 0, len(base))
    parents = np.concatenate([np.arange(len(base)), sampled.lineage.parents])
    assert sorted(parents[children.keys(0, len(base))]) == list(range(len(base)))
    planned = Inputs()
    promised = {**result(work), "n": len(sampled)}
    planned.planned["stage"] = Output({**config, "name": "sd"}, promised, None)
    ahead = planned.synthetic("stage", base).lineage
    assert ahead.data == base.digest and ahead.parents.tolist() == sampled.lineage.parents.tolist()
    assert sampled.records.column("parent").tolist() == sampled.lineage.parents.tolist()
    assert set(sampled.records.column("strength").tolist()) == {0.5}


@pytest.mark.parametrize(
    ("section", "fields", "said"),
    [
        ("pipeline", {"path": ""}, r"config\.pipeline\.path is empty"),
        ("pipeline", {"path": "no/such/folder"}, "is no folder"),
        ("pipeline", {"dtype": "int8"}, "'int8'"),
        ("prompts", {"template": "a photo"}, "each with one {}"),
        ("prompts", {"template": "a {} " + "cat " * 30}, "tokens long"),
        ("sample", {"strength": 0.5}, "from_real=True"),
        ("sample", {"guidance": 0.0}, "guidance"),
        ("sample", {"image_px": 17}, "multiples of 2"),
        ("sample", {"colour": 1}, r"config\.sample has no field 'colour'"),
    ],
)
def test_external_generator_refuses_before_anything_is_written(tmp_path, stand_in, pipeline, section, fields, said):
    config = small_external("configs/sample/sd15_cifar10.py", stand_in, pipeline)
    with pytest.raises(ValueError, match=said):
        run({**config, section: {**config[section], **fields}}, tmp_path / "work")
    assert not (tmp_path / "work").exists()


def write_fashion(folder: Path) -> None:
    """Writes the four IDX files of a Fashion-MNIST of 400 + 100 random images."""
    rng = np.random.default_rng(0)
    for prefix, count in (("train", 400), ("t10k", 100)):
        images, labels = rng.integers(0, 256, (count, 28, 28)), np.arange(count) % 10
        for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
            header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">i4").tobytes()
            with gzip.open(folder / f"{prefix}-{kind}-ubyte.gz", "wb", 1) as file:
                file.write(header + array.astype(np.uint8).tobytes())


@pytest.fixture(scope="module")
def fashion(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("fashion")
    write_fashion(folder)
    return folder


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory, fashion) -> Callable[[dict], dict]:
    """Small images of a source's format (of TFDS sets: of their shape) in place of those that have to be downloaded."""
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for split, count in (("train", 20), ("test", 2)):
        for c in range(10):
            (folder / split / f"class{c}").mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 256, (32, 32, 3), np.uint8)
                Image.fromarray(pixels).save(folder / split / f"class{c}" / f"{i}.png")
    arrays = {}
    for split, count in (("train", 200), ("val", 16), ("test", 32)):
        arrays[f"{split}_images"] = rng.integers(0, 256, (count, 28, 28, 3), np.uint8)
        arrays[f"{split}_labels"] = (np.arange(count) % 8).astype(np.uint8)[:, None]
    np.savez(folder / "bloodmnist.npz", **arrays)

    def put(data: dict) -> dict:
        data = {**data, "n_base": min(data["n_base"], 100)}
        if data["source"].startswith("tfds:") or data["source"] == "folder":
            return {**data, "source": "folder", "path": str(folder)}
        paths = {"fashion_mnist": str(fashion), "medmnist": str(folder / "bloodmnist.npz")}
        return {**data, "path": paths.get(data["source"], "")}

    return put


TRAINED = [f for f in FILES if "/classifier/" in f or "/generator/" in f]


def on_stand_in(path: str, arg: str, stand_in: Callable[[dict], dict], pipeline: Callable[[str], Path]) -> dict:
    """A configuration with few images in place of its data, and a small pipeline in place of its own."""
    config = completed(f"{path}:{arg}")
    config["data"] = stand_in(config["data"])
    if config.get("latents", {}).get("path"):
        config["latents"] |= {"path": "tiny_sd", "keep": ""}
    if "pipeline" in config:
        config["pipeline"] |= {"path": str(pipeline(path)), "revision": "", "variant": ""}
        config["method"]["image_px"] = 16
    if config.get("model", {}).get("name") == "backbone":
        config["model"]["weights"] = str(write_backbone(pipeline(path).parent / "backbone", image_px=16))
    if "prompts" in config:
        config["prompts"]["template"] = "a {}"  # it reads few tokens
    return config


@pytest.mark.parametrize(
    ("path", "arg"), [(path, arg) for path in TRAINED for arg in File(path).variants if arg != "quick"]
)
def test_config_is_accepted_by_its_job(path, arg, stand_in, pipeline):
    """Data opened, network built, a loss traced on shapes: everything but compiling and training."""
    job(on_stand_in(path, arg, stand_in, pipeline)).check()


def later(config: dict) -> Inputs:
    """A set and a classifier of a configuration's data that are yet to be made."""
    inputs = Inputs()
    real = inputs.real(config["data"])
    known = {"n": 100, "class_names": real.base.class_names, "image_shape": real.shape}
    inputs.planned["set"] = Output({"name": "set", "num_images": 100}, known, None)
    inputs.planned["classifier"] = Output({}, known, None)
    return inputs


@pytest.mark.parametrize("path", [f for f in FILES if "/domain/" in f])
def test_domain_config_is_accepted_whatever_set_it_will_be_given(path, stand_in):
    config = completed(path)
    config |= {"set": "set", "data": stand_in(config["data"])}
    domain = job(config, later(config))
    domain.check()
    assert domain.training.task.num_classes == 2 and domain.training.task.image_shape == domain.real.shape


@pytest.mark.parametrize("arg", ["", "quick"])
@pytest.mark.parametrize("path", [f for f in FILES if "/measure/" in f])
def test_measuring_config_is_accepted_on_images_of_its_format(path, arg, stand_in):
    config = completed(f"{path}:{arg}")
    config |= {"set": "set", "data": stand_in(config["data"])}
    config["extractor"]["path"] = "classifier"
    measure = job(config, later(config))
    measure.check()
    assert len(measure.real.base) in (100, 200)


# 3.5 trains as 3 does, 2.1 as 1.5, Fashion-MNIST's DiT as CIFAR-10's, ImageNet-100's DDPM as its EDM and
# CIFAR-10's DDPM; all are accepted by their jobs above.
LIKE_OTHERS = ("digits", "sd35", "sd21", "fashion_dit", "imagenet100_ddpm")


@pytest.mark.parametrize("path", [f for f in TRAINED if not any(name in f for name in LIKE_OTHERS)])
def test_quick_config_trains(tmp_path, path, stand_in, pipeline):
    config = on_stand_in(path, "quick", stand_in, pipeline)
    found = run(config, tmp_path / "work")
    if entry_of(config["task"]).verb == "fit":
        assert found["loss_train"] > 0 and found["loss_heldout"] > 0
    else:
        assert found["n_base"] == 100 and found["n"] in (20, 32, 100) and 0 <= found["top1"] <= found["top5"] <= 100


def test_evaluation_crops_test_images_as_training_did(cli, tmp_path, stand_in, pipeline):
    config = on_stand_in("configs/classifier/imagenet_resnet50.py", "quick", stand_in, pipeline)
    losses = []
    for crop in (0.875, 1.0):
        work = tmp_path / f"{crop}"
        run({**config, "data": {**config["data"], "test_crop": crop}}, work)
        line = f"evaluate --config=configs/evaluate.py --config.checkpoint={work} --workdir={work}/judged"
        assert cli(line).code == 0
        losses.append(result(work)["loss"])
        assert result(work / "judged")["loss"] == pytest.approx(losses[-1], rel=1e-6)
    assert losses[0] != pytest.approx(losses[1], rel=1e-4)


def test_quick_experiment_runs_every_arm(quick_study):
    rows = (quick_study.workdir / "results.csv").read_text().splitlines()
    num_arms = len(completed("experiments/quickstart.py")["arms"])
    assert len(rows) == 1 + 2 * num_arms
    assert (quick_study.workdir / "report" / "index.html").stat().st_size > 10_000


def test_quick_sampling_strategies_run_and_the_page_shows_what_each_drew(cli, tmp_path):
    work = tmp_path / "sampling"
    outcome = cli("study --config=experiments/sampling_strategy.py:quick --config.seeds=0, --workdir={work}", work=work)
    assert outcome.code == 0
    with open(work / "results.csv") as file:
        rows = {row["arm"]: row for row in csv.DictReader(file)}
    assert list(rows) == [arm["name"] for arm in completed("experiments/sampling_strategy.py")["arms"]]
    assert {rows[arm]["sampler"] for arm in ("weighted", "easy_to_hard", "ramp_up", "synthetic_first")} == {
        "weighted",
        "easy_to_hard",
        "ramp",
        "stages",
    }
    assert float(rows["share"]["share"]) == 0.5
    assert float(rows["ramp_up"]["share"]) == pytest.approx(0.5, abs=0.005)  # 100 stages of 3 or 4 of 320 draws
    page = (work / "report" / "index.html").read_text()
    assert "What each sampler drew" in page and page.partition("What each sampler drew")[2].count("<svg") >= 8


def test_stable_diffusion_2_beside_3_is_planned_from_folders_of_both(cli, tmp_path, stand_in, pipeline):
    """All that a study checks before it starts: both pipelines are opened and their memory is counted."""
    data = stand_in({"source": "folder", "n_base": 0})
    line = "study --config=experiments/generator_quality.py:cifar10,sd,quick --workdir={work} --dry-run"
    line += " --config.data.source=folder --config.data.path={path} --config.seeds=0,1,2"
    for name, kind in (("sd2", "sd21"), ("sd3", "sd3_")):
        line += f" --config.sets.{name}.pipeline.path={pipeline(kind)}"
        line += f" --config.sets.{name}.prompts.template='a {{{{}}}}'"
    planned = cli(line, work=tmp_path / "work", path=data["path"])
    assert planned.code == 0, planned.err
    assert all(f"sample {name}, seed 2" in planned.out for name in ("sd2", "sd3")) and not (tmp_path / "work").exists()


def test_fashion_studies_of_both_classifiers_share_generators_and_sets(tmp_path, fashion):
    """The second finds the stages of the first in one store."""
    words = [f"--config.data.path={fashion}", "--config.seeds=0,1"]
    stages = []
    for arg in ("quick", "vit,quick"):
        study = Study(completed(f"experiments/fashion.py:{arg}", *words), tmp_path / "stages")
        assert len(study.experiment.runs) == 14
        stages.append({stage.name: stage.kind for stage in study.experiment.stages})
    first, second = stages
    assert {kind for name, kind in second.items() if name not in first} == {"train"}
    assert {first[name] for name in second if name in first} == {"fit", "sample"}
