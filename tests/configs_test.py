"""Every configuration file: it loads, is what its job wants, teaches a command that parses, and runs when quick."""

import ast
import csv
import dataclasses
import gzip
import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import ml_collections
import numpy as np
import pytest
import tiny_stable_diffusion
from PIL import Image

from jaxmoust import build, jobs
from jaxmoust import cli as command_line
from jaxmoust.data.synthetic.store import open_synthetic
from jaxmoust.jobs.domain import plan_domain
from jaxmoust.jobs.measure import plan_measure
from jaxmoust.runtime.parallel import Machine
from jaxmoust.study import expand

ROOT = Path(__file__).parents[1]
FILES = sorted(
    str(path.relative_to(ROOT))
    for path in (*ROOT.glob("configs/**/*.py"), *ROOT.glob("experiments/*.py"))
    if "def get_config(" in path.read_text()  # others are what these import
)
SECTIONS = {
    "diffuse": ("fit", jobs.GENERATOR_SECTIONS),
    "finetune": ("fit", jobs.FINETUNE_SECTIONS),
    "autoencode": ("fit", jobs.AUTOENCODE_SECTIONS),
    "merge": ("merge", jobs.MERGE_SECTIONS),
    "import": ("import", jobs.IMPORT_SECTIONS),
    "sample": ("sample", jobs.SAMPLE_SECTIONS),
    "text_to_image": ("sample", jobs.TEXT_TO_IMAGE_SECTIONS),
    "classify": ("train", jobs.CLASSIFIER_SECTIONS),
    "evaluate": ("evaluate", jobs.EVALUATE_SECTIONS),
    "score": ("score", jobs.SCORE_SECTIONS),
    "clip_score": ("score", jobs.CLIP_SCORE_SECTIONS),
    "measure": ("measure", jobs.MEASURE_SECTIONS),
    "domain": ("domain", jobs.DOMAIN_SECTIONS),
    "study": ("study", expand.FIELDS),
}
# Here arg is the value of a field: names of classes; a score, which the job checks.
WITHOUT_WORDS = ("configs/import.py", "configs/score/classifier.py")
# An arm of an experiment says `sampler=None` for the classifier's own.
MAY_BE_NONE = {"sampler"}


@dataclasses.dataclass(frozen=True)
class File:
    """A configuration file: its docstring, and what the program reads of it."""

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

    def get_config(self, arg: str = "") -> ml_collections.ConfigDict:
        return build.read_config(f"{ROOT / self.path}:{arg}")


def leaves(value: object, name: str = ""):
    if isinstance(value, dict):
        for key, child in value.items():
            yield from leaves(child, f"{name}.{key}")
    elif isinstance(value, list | tuple):
        for child in value:
            yield from leaves(child, name)
    else:
        yield name, value


def commands(text: str) -> list[tuple[str, list[str]]]:
    """The command lines in a text: (verb, flags)."""
    text = text.replace("\\\n", " ")  # a line that goes on
    found = re.findall(r"jaxmoust ((?:data )?[a-z]+)((?:\s+--\w[\w.]*=(?:\"[^\"]*\"|\S)+)+)", text)
    return [(verb, shlex.split(flags)) for verb, flags in found]


@pytest.fixture
def parsed(cli, monkeypatch, tmp_path):
    """Parses a command line as the program does, and returns the configuration it would run."""

    def parse(verb: str, flags: list[str]) -> ml_collections.ConfigDict:
        seen = []
        entry = dataclasses.replace(command_line.VERBS[verb], run=lambda values, args: seen.append(values.config))
        monkeypatch.setitem(command_line.VERBS, verb, entry)
        assert cli(shlex.join([verb, *flags])).code == 0
        return seen[0]

    return parse


@pytest.mark.parametrize(
    ("path", "arg"), [(path, arg) for path in FILES for arg in ("", "quick") if not arg or arg in File(path).words]
)
def test_config_has_its_jobs_sections_and_every_field_a_value(path, arg):
    config = File(path).get_config(arg)
    assert isinstance(config, ml_collections.ConfigDict)
    _, sections = SECTIONS[config.task]
    optional = expand.OPTIONAL_FIELDS if config.task == "study" else ()
    assert set(config) - set(optional) == set(sections)
    empty = {name for name, value in leaves(config.to_dict()) if value is None}
    assert {name.rpartition(".")[2] for name in empty} <= MAY_BE_NONE
    json.dumps(config.to_dict())  # what config.json will hold


@pytest.mark.parametrize("path", [path for path in FILES if path not in WITHOUT_WORDS])
def test_config_refuses_an_unknown_word_with_those_of_its_docstring_and_reads_these(path):
    words = File(path).words
    for arg in ("quik", "quick,synthetc=made", "quick=1"):
        with pytest.raises(ValueError, match=f"got '{arg}'.*allowed") as refused:
            File(path).get_config(arg)
        said = str(refused.value).partition("allowed")[2]
        assert words <= set(re.findall(r"\w+=?", said))
    for word in words - {"pretrained="}:  # of some scales alone
        File(path).get_config(word + {"share=": "0.5"}.get(word, "made") * word.endswith("="))


@pytest.mark.parametrize("arg", ["quick,small", "quick,quick", "quick,", "share=0.5,share=0.6"])
def test_config_refuses_words_that_exclude_each_other_or_are_none(cli, tmp_path, arg):
    outcome = cli(f"train --config=configs/classifier/fashion_resnet.py:{arg} --workdir={tmp_path}/work")
    assert outcome.code == 2 and "allowed: quick or small, synthetic=, share=, name=; each once" in outcome.err


def test_configs_that_the_readme_and_the_files_name_are_read():
    texts = [path.read_text() for path in (ROOT / "README.md", *(ROOT / path for path in FILES))]
    named = {name for text in texts for name in re.findall(r"(?:configs|experiments)/[\w/]+\.py:[\w=/.,]*\w", text)}
    assert len(named) > 20
    for name in named:
        build.read_config(f"{ROOT}/{name}")


@pytest.mark.parametrize("path", FILES)
def test_config_on_the_command_line_is_locked_and_typed(parsed, path):
    verb, _ = SECTIONS[File(path).get_config().task]
    config = parsed(verb, [f"--config={path}", "--workdir=w"])
    assert config.is_locked
    with pytest.raises(AttributeError, match="bogus"):
        config.bogus = 1
    with pytest.raises(TypeError, match="task"):
        config.task = 1


@pytest.mark.parametrize("path", FILES)
def test_config_docstring_names_a_command_of_its_own_that_parses(parsed, path):
    module = File(path)
    shown = commands(module.doc)
    assert shown and "Run:" in module.doc
    verb, _ = SECTIONS[module.get_config().task]
    assert verb in [named for named, _ in shown]
    for named, flags in shown:
        if named != verb:  # what is done with its result
            assert named in command_line.VERBS
            continue
        assert any(flag.partition(":")[0] == f"--config={path}" for flag in flags)
        assert parsed(verb, flags).task == module.get_config().task


@pytest.mark.parametrize("verb", command_line.VERBS)
def test_help_examples_parse(parsed, cli, verb):
    shown = [flags for named, flags in commands(cli(f"{verb} --help").out) if named == verb]
    assert shown
    for flags in shown:
        if any(flag.startswith("--config=") for flag in flags):
            parsed(verb, flags)


# --- the quick variants ----------------------------------------------------------------------------------------------


def result(work: Path) -> dict:
    return json.loads((work / "result.json").read_text())


@pytest.mark.parametrize("name", ["edm", "ddpm"])
def test_quick_generator_and_its_sampling_run(cli, tmp_path, quick_study, name):
    """Alone, they give what the study's stages gave: the same generator to the last bit."""
    fit, made = tmp_path / "fit", tmp_path / "set"
    assert cli(f"fit --config=configs/generator/digits_{name}.py:quick --workdir={fit}").code == 0
    assert result(fit)["generator"] == result(quick_study.stage("fit", method=name))["generator"]
    assert result(fit)["loss_train"] > 0 and result(fit)["loss_heldout"] > 0
    sampling = {"edm": "edm", "ddpm": "ddim"}[name]
    line = f"sample --config=configs/sample/{sampling}.py:quick --config.generator={fit} --workdir={made}"
    assert cli(line).code == 0
    expected = quick_study.stage("sample", name=name, seed=0)
    shards = sorted(p.name for p in made.glob("*array_record*"))
    assert len(shards) == 2
    for shard in shards:
        assert (made / shard).read_bytes() == (expected / shard).read_bytes()


def test_quick_classifier_runs_alone_and_mixed_and_is_evaluated(cli, tmp_path, quick_study):
    config = "configs/classifier/digits_resnet.py:quick"
    assert cli(f"train --config={config} --workdir={tmp_path}/real").code == 0
    assert result(tmp_path / "real")["n"] == 797
    mixed = f"{config},synthetic={quick_study.made},share=0.25"
    assert cli(f"train --config={mixed} --workdir={tmp_path}/mixed").code == 0
    assert (result(tmp_path / "mixed")["share"], result(tmp_path / "mixed")["n_synthetic"]) == (0.25, 40)
    line = f"evaluate --config=configs/evaluate.py --config.checkpoint={tmp_path}/mixed --workdir={tmp_path}/judged"
    assert cli(line).code == 0
    assert result(tmp_path / "judged")["top1"] == result(tmp_path / "mixed")["top1"]


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("pipeline") / "small"
    tiny_stable_diffusion.write_pipeline(folder, 1, shallow=True)
    return folder


@pytest.mark.parametrize("path", [f for f in FILES if "/sample/sd" in f])
def test_quick_external_generator_writes_a_set_of_the_data_sets_classes(tmp_path, path, stand_in, pipeline):
    config = File(path).get_config("quick").to_dict()
    config["data"] = stand_in(config["data"])
    config["pipeline"] |= {"path": str(pipeline), "variant": ""}
    side = config["data"]["image_px"]
    for from_real, strength in ((False, 1.0), (True, 0.5)):
        changes = {"from_real": from_real, "sample": {**config["sample"], "strength": strength}}
        work = tmp_path / str(from_real)
        jobs.run(jobs.JOBS["sample"], {**config, **changes}, work)
        made = open_synthetic(work)
        assert (len(made), made.shape, len(made.class_names)) == (20, (side, side, 3), 10)
        assert result(work)["method"] == "stable_diffusion"
        provenance = json.loads((work / "provenance.json").read_text())
        assert provenance["spec"]["prompts"][3] == "a photo of a class3"
        assert provenance["spec"]["steps"] == (1 if from_real else 2)


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
        ("sample", {"colour": 1}, "unknown fields"),
    ],
)
def test_external_generator_refuses_before_anything_is_written(tmp_path, stand_in, pipeline, section, fields, said):
    config = File("configs/sample/sd15_cifar10.py").get_config("quick").to_dict()
    config["data"] = stand_in(config["data"])
    config["pipeline"] |= {"path": str(pipeline), "variant": ""}
    config[section] |= fields
    with pytest.raises(jobs.BadInput, match=said):
        jobs.run(jobs.JOBS["sample"], config, tmp_path / "work")
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
        source = data["source"]
        if source.startswith("tfds:") or source == "folder":
            return {**data, "source": "folder", "path": str(folder)}
        paths = {"fashion_mnist": str(fashion), "medmnist": str(folder / "bloodmnist.npz")}
        return {**data, "path": paths.get(source, "")}

    return put


TRAINED = [f for f in FILES if "/classifier/" in f or "/generator/" in f]


def on_stand_in(path: str, arg: str, stand_in: Callable[[dict], dict], pipeline: Path) -> tuple[str, dict]:
    """A configuration's verb, and its fields with few images in place of its data, and a small pipeline for its own."""
    config = File(path).get_config(arg).to_dict()
    config["data"] = {**stand_in(config["data"]), "n_base": min(config["data"]["n_base"], 100)}
    if "pipeline" in config:
        config["pipeline"] |= {"path": str(pipeline), "revision": "", "variant": ""}
        config["method"]["image_px"] = 16
    if "prompts" in config:
        config["prompts"]["template"] = "a {}"  # it reads few tokens
    return SECTIONS[config["task"]][0], config


@pytest.mark.parametrize(
    ("path", "arg"), [(path, arg) for path in TRAINED for arg in ("", "small") if not arg or arg in File(path).words]
)
def test_config_is_accepted_by_its_job(path, arg, stand_in, pipeline):
    """Data opened, network built, a loss traced on shapes: everything but compiling and training."""
    verb, config = on_stand_in(path, arg, stand_in, pipeline)
    assert callable(jobs.JOBS[verb](config))


@pytest.mark.parametrize("path", [f for f in FILES if "/domain/" in f])
def test_domain_config_is_accepted_whatever_set_it_will_be_given(path, stand_in):
    config = File(path).get_config().to_dict()
    config |= {"set": "later", "data": {**stand_in(config["data"]), "n_base": min(config["data"]["n_base"], 100)}}
    real, training = plan_domain(config, Machine.all())
    assert training.task.num_classes == 2 and training.task.image_shape == real.shape


@pytest.mark.parametrize("arg", ["", "quick"])
@pytest.mark.parametrize("path", [f for f in FILES if "/measure/" in f])
def test_measuring_config_is_accepted_on_images_of_its_format(path, arg, stand_in):
    config = File(path).get_config(arg).to_dict()
    data = {**stand_in(config["data"]), "n_base": min(config["data"]["n_base"], 100)}
    config |= {"set": "set", "extractor": {**config["extractor"], "path": "extractor"}, "data": data}
    assert len(plan_measure(config, Machine.all()).base) in (100, 200)


@pytest.mark.parametrize("path", [f for f in TRAINED if "digits" not in f])
def test_quick_config_trains(tmp_path, path, stand_in, pipeline):
    verb, config = on_stand_in(path, "quick", stand_in, pipeline)
    jobs.run(jobs.JOBS[verb], config, tmp_path / "work")
    found = result(tmp_path / "work")
    if verb == "fit":
        assert found["loss_train"] > 0 and found["loss_heldout"] > 0
    else:
        assert found["n_base"] == 100 and found["n"] in (20, 32, 100) and 0 <= found["top1"] <= found["top5"] <= 100


def test_evaluation_crops_test_images_as_training_did(cli, tmp_path, stand_in, pipeline):
    verb, config = on_stand_in("configs/classifier/imagenet_resnet50.py", "quick", stand_in, pipeline)
    losses = []
    for crop in (0.875, 1.0):
        config["data"]["test_crop"] = crop
        work = tmp_path / f"{crop}"
        jobs.run(jobs.JOBS[verb], config, work)
        line = f"evaluate --config=configs/evaluate.py --config.checkpoint={work} --workdir={work}/judged"
        assert cli(line).code == 0
        losses.append(result(work)["loss"])
        assert result(work / "judged")["loss"] == pytest.approx(losses[-1], rel=1e-6)
    assert losses[0] != pytest.approx(losses[1], rel=1e-4)


def test_quick_experiment_runs_every_arm(quick_study):
    rows = (quick_study.workdir / "results.csv").read_text().splitlines()
    num_arms = len(File("experiments/quickstart.py").get_config().arms)
    assert len(rows) == 1 + 2 * num_arms
    assert (quick_study.workdir / "report" / "index.html").stat().st_size > 10_000


def test_quick_sampling_strategies_run_and_the_page_shows_what_each_drew(cli, tmp_path):
    work = tmp_path / "sampling"
    outcome = cli("study --config=experiments/sampling_strategy.py:quick --config.seeds=0, --workdir={work}", work=work)
    assert outcome.code == 0
    with open(work / "results.csv") as file:
        rows = {row["arm"]: row for row in csv.DictReader(file)}
    assert list(rows) == [arm["name"] for arm in File("experiments/sampling_strategy.py").get_config().arms]
    assert {rows[arm]["sampler"] for arm in ("weighted", "easy_to_hard", "ramp_up", "synthetic_first")} == {
        "weighted",
        "easy_to_hard",
        "ramp",
        "stages",
    }
    assert float(rows["share"]["share"]) == 0.5
    assert float(rows["ramp_up"]["share"]) == pytest.approx(0.5, abs=0.005)  # 100 stages of 3 or 4 of 320 draws
    page = (work / "report" / "index.html").read_text()
    assert "What each sampler drew" in page and page.count('class="band') >= 8


def test_quick_fashion_study_runs_for_both_classifiers_on_one_store(cli, tmp_path, fashion):
    line = f"--config.data.path={fashion} --config.seeds=0,1 --workdir={{work}} --store={tmp_path}/stages"
    first = cli(f"study --config=experiments/fashion.py:quick {line}", work=tmp_path / "resnet")
    second = cli(f"study --config=experiments/fashion.py:vit,quick {line}", work=tmp_path / "vit")
    assert (first.code, second.code) == (0, 0)
    assert "fit edm" in first.out and "fit" not in second.out and "sample" not in second.out
    for work in ("resnet", "vit"):
        with open(tmp_path / work / "results.csv") as file:
            rows = list(csv.DictReader(file))
        assert len(rows) == 14 and {row["arm"] for row in rows if float(row["share"] or 0) == 1.0} == {
            "edm_only",
            "ddpm_only",
        }
