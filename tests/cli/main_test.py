"""The command line as a user meets it: what it refuses, in what words, with what exit code, and what it leaves."""

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import planted_equivalence
import pytest
from PIL import Image

from jaxmoust.analysis.equivalence.answer import figure
from jaxmoust.cli.main import _guarded
from jaxmoust.core.tree import named_leaves
from jaxmoust.data.pool import Pool
from jaxmoust.data.sources import registry as sources
from jaxmoust.jobs.parts.job import do
from jaxmoust.jobs.parts.registry import entries
from jaxmoust.runtime import stop
from jaxmoust.runtime.checkpoint import restore_tree

ROOT = Path(__file__).parents[2]
VERBS = list(dict.fromkeys(entry.verb for entry in entries()))
EDM = "--config=configs/generator/digits_edm.py:quick"
RESNET = "--config=configs/classifier/digits_resnet.py:quick"


def contents(folder: Path) -> dict[str, bytes]:
    """Every file under a folder with its bytes: what "nothing was written" is judged by."""
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else b"" for p in folder.rglob("*")}


def assert_refused(outcome, *words: str) -> None:
    """Bad usage or input: exit code 2, one clear message with these words, and no traceback."""
    assert outcome.code == 2, outcome
    assert outcome.err.startswith("jaxmoust: ") and "Traceback" not in outcome.err, outcome.err
    for word in words:
        assert word in outcome.err, f"{word!r} is not in {outcome.err}"


def write_images(folder: Path, per_class: int = 6, size_px: int = 8, classes: str = "0123456789") -> Path:
    """Writes FOLDER/CLASS/*.png from the digits."""
    digits = sources.digits("train")
    for name in classes:
        (folder / name).mkdir(parents=True)
        for i, key in enumerate(np.flatnonzero(digits.labels == int(name))[:per_class]):
            image = Image.fromarray(digits.read(key)[..., 0]).resize((size_px, size_px))
            image.save(folder / name / f"{i:02}.png")
    return folder


# --- usage -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line, words",
    [
        (
            "bogus --workdir={work}",
            ["'bogus'", "equivalence, evaluate, fit, import, measure, merge, sample, score, study, train", "--help"],
        ),
        ("data bogus --workdir={work}", ["'data bogus'", "data import, data inspect"]),
        ("fit --config=configs/nope.py --workdir={work}", ["'configs/nope.py'", "Did you mean 'configs/"]),
        ("fit --config={empty} --workdir={work}", ["get_config"]),
        ("fit --config={broken} --workdir={work}", ["broken.py, line 1: ", "def get_config(:"]),
        (f"fit {EDM} --workdir={{work}} --config.data.n_bse=3", ["config.data", "'n_bse'", "n_base, "]),
        (f"fit {EDM} --workdir={{work}} --config.dta.n_base=3", ["'dta'", "Did you mean 'data'?"]),
        (f"fit {EDM} --workdir={{work}} --config.seed.x=3", ["config.seed is {'x': '3'}", "a whole number"]),
        (f"fit {EDM} --workdir={{work}} --config.data.n_base=three", ["config.data.n_base is three", "a whole number"]),
        (f"fit {EDM} --workdir={{work}} --config.model.dropout=none", ["config.model.dropout is none", "a number"]),
        (f"fit {EDM} --workdir={{work}} --config.train.num_steps=1e999", ["num_steps is 1e999", "a whole number"]),
        (f"fit {EDM} --workdir={{work}} --config.data", ["--config.data gives no value", "--config.data=VALUE"]),
        ("fti --workdir={work}", ["Unknown verb 'fti'", "Did you mean 'fit'?"]),
        (f"fit {EDM} --workdir={{work}} --bogus=3", ["bogus"]),
        (f"fit {EDM} --workdir={{work}} extra", ["'extra'", "--config.field=value"]),
        (f"fit {EDM}", ["--workdir is missing", "jaxmoust fit --config="]),
        (f"fit {EDM} --workdir=", ["--workdir is missing"]),
        ("fit --workdir={work}", ["--config is missing", "jaxmoust fit --config="]),
        ("study --workdir={work}", ["--config is missing", "jaxmoust study --config="]),
        (f"fit {EDM} --workdir={{work}} --num_processes=2 --process_id=0", ["--coordinator"]),
        (
            f"fit {EDM} --workdir={{work}} --coordinator=localhost:1 --num_processes=2",
            ["process_id -1", "0 <= proc"],
        ),
        ("data import --path={work}", ["--path=DIR", "--workdir=DIR"]),
        ("data prepare --path={work}", ["--source=tfds:NAME"]),
        ("data inspect", ["--source=NAME", "--path=DIR"]),
        ("equivalence", ["--results is missing", "jaxmoust equivalence --help"]),
        ("equivalence --results={work}", ["cannot be read", "results.csv of a study"]),
        ("equivalence --results={work} --n_real_plus=5", ["--n_real_plus needs --n_base"]),
        ("equivalence --results={work} --n_base=many", ["n_base", "many"]),
        ("equivalence --results={work} --law=linear", ["linear", "study", "effective"]),
        ("equivalence --results={work} {empty}", ["Unexpected '", "several files are given by commas"]),
    ],
)
def test_usage_is_refused_with_a_remedy(cli, tmp_path, line, words):
    empty, broken = tmp_path / "empty.py", tmp_path / "broken.py"
    empty.write_text("x = 1\n")
    broken.write_text("def get_config(:\n")
    before = contents(tmp_path)
    assert_refused(cli(line, work=tmp_path / "work", empty=empty, broken=broken), *words)
    assert contents(tmp_path) == before


def test_usage_without_a_verb_is_explained(cli):
    outcome = cli("")
    assert outcome.code == 2
    assert all(name in outcome.out for name in VERBS)


def test_usage_config_may_be_two_words_anywhere(cli, tmp_path):
    """The override is read, and refused: so the file before it was found."""
    line = "fit --config.optim.name=bogus --workdir={work} --config configs/generator/digits_edm.py:quick"
    assert_refused(cli(line, work=tmp_path / "work"), "'bogus'", "adam")


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_every_verb_shows_commands_whose_files_exist(cli, verb):
    outcome = cli(f"{verb} --help")
    assert outcome.code == 0
    examples = [line for line in outcome.out.splitlines() if line.startswith(f"  jaxmoust {verb} --")]
    assert examples
    for path in re.findall(r"^  jaxmoust .*--config=([^\s:]+)", outcome.out, re.MULTILINE):
        assert Path(path).is_file()


def test_help_of_the_program_and_of_data_names_every_verb(cli):
    assert all(f"  {name} " in cli("--help").out for name in VERBS)
    shown = cli("data --help")
    assert shown.code == 0
    assert all(f"jaxmoust {name}:" in shown.out for name in VERBS if name.startswith("data "))


def test_console_script_starts():
    """The one test of the installed program; everything else calls the same function in this process."""
    script = Path(sys.executable).with_name("jaxmoust")
    command = [script] if script.exists() else [sys.executable, "-c", "from jaxmoust.cli import main; main()"]
    done = subprocess.run([*command, "--help"], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert "jaxmoust VERB --config=PATH" in done.stdout


def test_config_prints_a_file_that_runs_and_says_the_same(cli, tmp_path):
    line = "config --config={config} --config.seed=3"
    printed = cli(line, config="configs/classifier/digits_resnet.py:quick")
    assert printed.code == 0 and "'seed': 3,  # " in printed.out
    (tmp_path / "mine.py").write_text(printed.out)
    again = cli("config --config={config}", config=tmp_path / "mine.py")
    assert again.out.partition("def get_config")[2] == printed.out.partition("def get_config")[2]
    assert_refused(
        cli("config --config={config} --config.seeds=3", config=tmp_path / "mine.py"), "Did you mean 'seed'?"
    )
    assert_refused(cli("config"), "--config is missing")


@pytest.mark.parametrize("config", ["experiments/quickstart.py:quick", "experiments/filters.py"])
def test_config_prints_an_experiment_that_runs_and_says_the_same(cli, tmp_path, config):
    printed = cli("config --config={config}", config=config)
    assert printed.code == 0
    (tmp_path / "mine.py").write_text(printed.out)
    again = cli("config --config={config}", config=tmp_path / "mine.py")
    assert again.out.partition("def get_config")[2] == printed.out.partition("def get_config")[2]


# --- configurations that cannot run ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line, words",
    [
        (f"fit {EDM} --config.train.batch_size=30", ["train.batch_size 30", "4 devices", "28"]),
        (f"fit {EDM} --config.eval.batch_size=30", ["eval.batch_size 30", "multiples of 4"]),
        (f"fit {EDM} --config.data.n_base=1001", ["n_base=1001", "1000"]),
        (f"fit {EDM} --config.data.n_base=-1", ["n_base=-1", "1000"]),
        (f"fit {EDM} --config.data.source=bogus", ["'bogus'", "digits", "tfds:NAME"]),
        (f"fit {EDM} --config.data.channels=2", ["channels 2", "1 or 3"]),
        (f"fit {EDM} --config.data.digest=0123", ["expected 0123", "have changed"]),
        (f"fit {EDM} --config.data.image_px=9", ["9"]),
        (f"fit {EDM} --config.model.name=bogus", ["config.model.name", "'bogus'", "unet"]),
        (f"fit {EDM} --config.model.dtype=float8", ["config.model.dtype is float8", "float32, bfloat16"]),
        (f"fit {EDM} --config.model.base_channels=7", ["base_channels=7", "even"]),
        (f"fit {EDM} --config.method.name=bogus", ["config.method.name", "'bogus'", "edm"]),
        (f"fit {EDM} --config.method.label_dropout=1.0", ["label_dropout 1.0"]),
        (f"fit {EDM} --config.method.sigma_data=-1.0", ["sigma_data"]),
        (f"fit {EDM} --config.augment.fill=bogus", ["fill='bogus'", "constant"]),
        (f"fit {EDM} --config.optim.name=bogus", ["'bogus'", "adamw"]),
        (f"fit {EDM} --config.optim.warmup_steps=21", ["warmup_steps 21", "20"]),
        (f"fit {EDM} --config.optim.learning_rate=0", ["learning_rate 0", "above 0"]),
        (f"fit {EDM} --config.train.num_steps=0", ["num_steps 0"]),
        (f"fit {EDM} --config.train.log_steps=0", ["log_steps"]),
        (f"fit {EDM} --config.train.best_metric=loss_heldout", ["loss_heldout", "eval_steps 0"]),
        (f"fit {EDM} --config.train.best_metric=bogus --config.train.eval_steps=5", ["'bogus'", "loss_train"]),
        (f"fit {EDM} --config.seed=-1", ["seed -1"]),
        (f"fit {EDM} --config.seed=4294967296", ["seed 4294967296", "2^32"]),
        (f"fit {RESNET}", ["'classify'", "'diffuse'"]),
        (f"train {EDM}", ["'diffuse'", "'classify'"]),
        (f"train {RESNET} --config.sampler.name=bogus", ["config.sampler.name", "'bogus'", "random, share"]),
        (f"train {RESNET} --config.model.stem=bogus", ["stem='bogus'", "cifar"]),
        (f"train {RESNET} --config.data.copies=0", ["copies 0"]),
        (f"train {RESNET} --config.eval.batch_size=30", ["eval.batch_size 30", "multiples of 4"]),
        (f"train {RESNET} --config.method.smoothing=-1.0", ["smoothing"]),
        ("study --config=configs/evaluate.py", ["'evaluate'", "'study'"]),
        ("study --config=experiments/quickstart.py:quick --config.baseline=bogus", ["'bogus'", "'real'"]),
        ("study --config=experiments/quickstart.py:quick --config.seeds=0,0", ["(0, 0)", "each once"]),
        ("study --config=experiments/quickstart.py:quick --config.classifier=configs/nope.py", ["configs/nope.py"]),
        ("study --config=experiments/quickstart.py:quick --config.data.n_base=2000", ["n_base=2000", "1000"]),
        ("sample --config=configs/sample/edm.py:quick", ["config.generator is empty", "--config.generator=DIR"]),
        ("evaluate --config=configs/evaluate.py", ["config.checkpoint is empty", "--config.checkpoint=DIR"]),
    ],
)
def test_config_that_cannot_run_is_refused_before_anything_is_written(cli, tmp_path, line, words):
    assert_refused(cli(line + " --workdir={work}", work=tmp_path / "work"), *words)
    assert contents(tmp_path) == {}


def test_config_of_a_study_is_refused_for_a_score_before_the_first_stage_runs(cli, tmp_path):
    """Or it would be refused after a generator, its sets and the judging classifiers are done."""
    experiment = tmp_path / "experiment.py"
    for change, words in (
        ('["scores"]["confidence"]["config"] = "configs/score/classifier.py:bogus"', [".score is 'bogus'"]),
        ('["scores"]["confidence"]["eval"] = {"batch_size": 0}', ["eval.batch_size"]),
        ('["scores"]["confidence"]["config"] = "configs/score/classifier.py:margin"', ["a weight of -", "scores"]),
        ('["scores"]["confidence"]["arm"] = "random"', ["was itself trained on", "--config.folds=2"]),
    ):
        experiment.write_text(f"""import ml_collections
from jaxmoust.config import read_config

def get_config(arg=""):
    config = read_config("experiments/sampling_strategy.py:quick")
    config{change}
    return ml_collections.ConfigDict(config)
""")
        assert_refused(cli("study --config={path} --workdir={work}", path=experiment, work=tmp_path / "work"), *words)
        assert contents(tmp_path) == {"experiment.py": experiment.read_bytes()}


@pytest.mark.parametrize(
    "change, words",
    [
        ('["arms"][-1]["augment"] = {"cutout_px": -2}', ["cutout_px=-2"]),
        ('["arms"][-1]["data"] = {"n_synthetic": 41}', ["n_synthetic 41", "ddpm holds 40"]),
        ('["arms"][-1]["sampler"]["shares"] = {"real": 0.5, "ddpm": 0.6}', ["sum to 1.1"]),
        ('["arms"][-1]["sampler"] = {"name": "weighted", "weights": {"ddpm": "scores"}}', ["data.scores"]),
        ('["sets"]["ddpm"]["sample"] = {"guidance": 2.0}', ["guidance 2.0", "label_dropout"]),
        ('["sets"]["ddpm"]["num_images"] = 0', ["num_images=0"]),
        ('["generators"]["ddpm"]["optim"] = {"name": "bogus"}', ["'bogus'", "adamw"]),
        ('["generators"]["ddpm"]["config"] = "configs/sample/edm.py"', ["'sample'", "'diffuse'"]),
    ],
)
def test_config_of_a_study_is_refused_for_its_last_stage_before_the_first_runs(cli, tmp_path, change, words):
    """Nothing else would say so until every stage before it is done."""
    experiment = tmp_path / "experiment.py"
    experiment.write_text(f"""import ml_collections
from jaxmoust.config import read_config

def get_config(arg=""):
    config = read_config("experiments/my_images.py:quick")
    config{change}
    return ml_collections.ConfigDict(config)
""")
    outcome = cli("study --config={e} --workdir={w}", e=experiment, w=tmp_path / "work" / "study")
    assert_refused(outcome, *words)
    assert set(contents(tmp_path)) == {"experiment.py"}


def test_workdir_under_a_file_is_refused(cli, tmp_path):
    """What a folder without write permission does too; but tests may run as root, whom no mode stops."""
    (tmp_path / "file").write_text("x")
    outcome = cli(f"train {RESNET} --workdir={{work}}", work=tmp_path / "file" / "work")
    assert_refused(outcome, str(tmp_path / "file" / "work"), "can be made and written")
    assert contents(tmp_path) == {"file": b"x"}


@pytest.mark.parametrize("store", ["file", "file/stages", "readonly", "readonly/stages"])
def test_store_that_cannot_be_written_is_refused_before_anything_is_written(cli, tmp_path, monkeypatch, store):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "readonly").mkdir()
    access = os.access  # for a test by a superuser, who may write everywhere
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).name != "readonly" and access(path, mode))
    before = sorted(tmp_path.rglob("*"))
    line = "study --config=experiments/quickstart.py:quick --workdir={tmp}/work --store={tmp}/{store}"
    outcome = cli(line, tmp=tmp_path, store=store)
    assert_refused(outcome, f"cannot write in the store {tmp_path / store}", "--store=DIR")
    assert sorted(tmp_path.rglob("*")) == before


def test_workdir_of_another_config_is_refused_with_the_difference(cli, quick_study):
    work = quick_study.generator
    before = contents(work)
    outcome = cli("fit --config=configs/generator/digits_ddpm.py:quick --config.seed=7 --workdir={work}", work=work)
    assert_refused(outcome, str(work), "seed: folder has 0, given 7", 'method.name: folder has "edm", given "ddpm"')
    assert contents(work) == before


def test_workdir_in_which_another_process_works_is_refused_at_once_with_who_that_is(cli, tmp_path):
    work = tmp_path / "work"
    script = "import sys, time\nfrom jaxmoust.runtime.lock import lease\n"
    script += "with lease(sys.argv[1]):\n    print(flush=True)\n    time.sleep(3600)"
    other = subprocess.Popen([sys.executable, "-c", script, work / ".lock"], stdout=subprocess.PIPE)
    try:
        other.stdout.readline()
        line = f"train {RESNET} --workdir={{work}}"
        assert_refused(cli(line, work=work), f"{work} is in use by process {other.pid} on ")
        assert list(contents(work)) == [".lock"]
    finally:
        other.kill()
        other.wait()
    assert (work / ".lock").exists()  # it was killed with it: nobody's
    assert cli(line, work=work).code == 0
    assert not (work / ".lock").exists()


def test_workdir_of_images_that_have_changed_is_refused_and_one_of_moved_images_is_found(cli, tmp_path):
    images, work = write_images(tmp_path / "images"), tmp_path / "work"
    line = f"train {RESNET} --config.data.source=folder --config.data.n_base=0 --config.data.path={{path}} "
    first = cli(line + "--workdir={work}", path=images, work=work)
    assert first.code == 0 and "found" not in first.out
    moved = images.rename(tmp_path / "moved")
    (tmp_path / "link").symlink_to(moved)
    for path in (moved, tmp_path / "link"):
        again = cli(line + "--workdir={work}", path=path, work=work)
        assert again.code == 0 and re.search(r"found: it was finished on \d{4}-\d\d-\d\d \d\d:\d\d", again.out)
    files = {file.name: file for file in sorted(moved.rglob("*.png"))}
    before = contents(work)
    for file in files.values():
        pixels = np.array(Image.open(file))
        Image.fromarray(255 - pixels).save(file)
    outcome = cli(line + "--workdir={work}", path=moved, work=work)
    assert_refused(outcome, "data.base: folder has content", "data.test: folder has content")
    assert contents(work) == before


# --- data that cannot be used ----------------------------------------------------------------------------------------


@pytest.fixture
def train_on_folder(cli, tmp_path):
    """Trains on tmp_path/images; returns the outcome, having checked that a refusal wrote nothing."""

    def run(overrides: str = "", config: str = RESNET):
        before = contents(tmp_path)
        line = f"train {config} --config.data.source=folder --config.data.path={{path}} --config.data.n_base=0 "
        outcome = cli(line + overrides + " --workdir={work}", path=tmp_path / "images", work=tmp_path / "work")
        if outcome.code:
            assert contents(tmp_path) == before
        return outcome

    return run


def test_data_folder_missing_or_empty_is_refused(train_on_folder, tmp_path):
    assert_refused(train_on_folder(), str(tmp_path / "images"), "existing folder")
    (tmp_path / "images").mkdir()
    assert_refused(train_on_folder(), str(tmp_path / "images"), "no class folder", "fill the folder")
    write_images(tmp_path / "images", per_class=0)
    assert_refused(train_on_folder(), str(tmp_path / "images" / "0"), "no image")


@pytest.mark.parametrize("kept_bytes", [0, 20, 60], ids=["empty", "half a header", "half the pixels"])
def test_data_unreadable_image_is_named(train_on_folder, tmp_path, kept_bytes):
    """Whether its header or its pixels are gone, and before anything is written."""
    broken = write_images(tmp_path / "images") / "3" / "02.png"
    broken.write_bytes(broken.read_bytes()[:kept_bytes])
    assert_refused(train_on_folder(), str(broken))


def test_data_of_several_sizes_is_refused_without_image_px(train_on_folder, tmp_path):
    images = write_images(tmp_path / "images")
    Image.new("L", (9, 7)).save(images / "4" / "odd.png")
    assert_refused(train_on_folder(), "not all square and of one size", "data.image_px")
    assert train_on_folder("--config.data.image_px=8 --config.data.channels=1").code == 0


@pytest.fixture
def train_mixed(cli, tmp_path):
    """Trains on half digits and half a synthetic set; checks that a refusal wrote nothing."""

    def run(made: Path, overrides: str = "", name: str = "edm"):
        before = contents(tmp_path)
        config = f"configs/classifier/digits_resnet.py:quick,synthetic={made},share=0.5,name={name}"
        outcome = cli(f"train --config={config} {overrides} --workdir={{work}}", work=tmp_path / "work")
        if outcome.code:
            assert contents(tmp_path) == before
        return outcome

    return run


def test_data_synthetic_set_of_other_classes_is_refused(cli, train_mixed, tmp_path):
    images = write_images(tmp_path / "seven", classes="0123456")
    assert cli("data import --path={a} --workdir={b}", a=images, b=tmp_path / "set").code == 0
    assert_refused(
        train_mixed(tmp_path / "set", name="set_seven"), str(tmp_path / "set"), "'6')", "'9')", "same classes"
    )


def test_data_synthetic_set_that_is_none_is_refused(train_mixed, quick_study, tmp_path):
    assert_refused(train_mixed(tmp_path / "nowhere"), str(tmp_path / "nowhere"), "finished synthetic set")
    assert_refused(train_mixed(quick_study.generator), str(quick_study.generator), "finished synthetic set")


def test_data_truncated_shard_is_named(train_mixed, quick_study, tmp_path):
    made = shutil.copytree(quick_study.made, tmp_path / "set")
    shard = sorted(made.glob("*array_record-00001*"))[0]
    shard.write_bytes(shard.read_bytes()[:-100])
    assert_refused(train_mixed(made), shard.name, "run the job that wrote the set again")


def test_data_more_synthetic_images_than_there_are_is_refused(train_mixed, quick_study):
    assert_refused(train_mixed(quick_study.made, "--config.data.n_synthetic=41"), "n_synthetic 41", "holds 40")


def test_data_shares_that_do_not_fit_the_pool_are_refused(train_mixed, quick_study):
    sets = quick_study.made
    assert_refused(train_mixed(sets, "--config.sampler.shares.edm=0.6"), "sum to 1.1", "sum of 1")
    assert_refused(train_mixed(sets, name="ddpm"), "['ddpm', 'real']", "['edm', 'real']")
    assert_refused(train_mixed(sets, "--config.sampler.shares.edm=half"), "half")


def test_generator_that_cannot_be_used_is_refused(cli, quick_study, tmp_path):
    line = "sample --config=configs/sample/{sample}.py:quick --config.generator={generator} --workdir={work} "

    def sample(generator, overrides="", sample="edm"):
        return cli(line + overrides, generator=generator, work=tmp_path / "work", sample=sample)

    edm, ddpm = quick_study.generator, quick_study.stage("fit", method="ddpm")
    assert_refused(sample(tmp_path / "none"), str(tmp_path / "none"), "no finished", "jaxmoust fit")
    assert_refused(sample(quick_study.classifier), "no finished", "jaxmoust fit")
    assert_refused(sample(edm, "--config.sample.guidance=2.0"), "guidance 2.0", "method.label_dropout", "guidance=1.0")
    assert_refused(sample(edm, "--config.sample.sampler=bogus"), "'bogus'", "euler")
    assert_refused(sample(edm, "--config.num_images=0"), "num_images=0")
    assert_refused(sample(edm, "--config.name=Upper"), "name='Upper'", "lower case")
    assert_refused(sample(edm, "--config.seed=-1"), "seed -1")
    assert_refused(sample(ddpm, "--config.sample.num_steps=1001", "ddim"), "1001", "1000")
    assert contents(tmp_path) == {}


def test_evaluate_refuses_a_folder_without_a_finished_classifier(cli, quick_study, tmp_path):
    line = "evaluate --config=configs/evaluate.py --config.checkpoint={origin} --workdir={work} "
    for origin in (tmp_path / "none", quick_study.generator):
        assert_refused(cli(line, origin=origin, work=tmp_path / "work"), str(origin), "no finished", "jaxmoust train")
    write_images(tmp_path / "images", classes="01")
    other = "--config.data.source=folder --config.data.path={path}"
    outcome = cli(line + other, origin=quick_study.classifier, work=tmp_path / "work", path=tmp_path / "images")
    assert_refused(outcome, "'9'", "['0', '1']")
    assert not (tmp_path / "work").exists()


def test_inspect_refuses_what_it_cannot_show(cli, tmp_path):
    assert_refused(cli("data inspect --source=digits --split=bogus"), "'bogus'", "train, test")
    assert_refused(cli("data inspect --path={path}", path=tmp_path), str(tmp_path), "finished synthetic set")
    assert_refused(cli("data inspect --source=digits --picture={path}", path=tmp_path / "a" / "b.png"), "b.png")
    assert_refused(cli("data inspect --source=digits --picture={path}", path=tmp_path / "b.bogus"), ".bogus")
    assert contents(tmp_path) == {}


def test_call_gives_sigterm_back_to_the_program_it_was_made_in(cli):
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    assert cli("data inspect --source=digits").code == 0
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


def test_interrupt_that_work_does_not_look_at_takes_effect_when_it_comes_again(capsys):
    def work():
        with stop.deferred():
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    assert _guarded(work) == 130
    assert "continues from what is finished and the last checkpoint, if any" in capsys.readouterr().err


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 143), (signal.SIGINT, 130)])
def test_every_verb_stops_where_it_is_asked_to_and_says_so(cli, monkeypatch, number, code):
    """Whatever it is doing: the one handler raises, and no verb looks for itself."""
    for verb in ("data_import", "equivalence", "data_inspect"):
        monkeypatch.setattr(f"jaxmoust.jobs.{verb}.main", lambda *args: os.kill(os.getpid(), number))
    for line in ("data import --path=a --workdir=b", "equivalence --results=a", "data inspect --source=digits"):
        outcome = cli(line)
        assert (outcome.code, outcome.out) == (code, "")
        assert outcome.err == "jaxmoust: Stopped on request; the same command continues from what is finished.\n"


def test_full_disk_ends_a_run_in_words(capsys):
    def work():
        with open("/dev/full", "w") as file:
            file.write("x")

    assert _guarded(work) == 1
    assert capsys.readouterr().err.startswith("jaxmoust: [Errno 28] No space left on device. Make room; ")


# --- runs that fail --------------------------------------------------------------------------------------------------


def test_run_that_diverges_fails_and_names_its_step(cli, tmp_path):
    outcome = cli(f"train {RESNET} --config.optim.learning_rate=1e30 --workdir={{work}}", work=tmp_path / "work")
    assert outcome.code == 1
    assert re.search(r"jaxmoust: step \d+: \w+ is (nan|inf)", outcome.err)
    assert "learning rate" in outcome.err and "Traceback" not in outcome.err
    assert not (tmp_path / "work" / "result.json").exists()


def test_run_whose_only_checkpoint_is_truncated_says_so_and_starts_anew(cli, tmp_path):
    line = f"train {RESNET} --workdir={{work}}"
    work = tmp_path / "work"
    assert cli(line, work=work).code == 0
    before = json.loads((work / "result.json").read_text())
    (work / "result.json").unlink()
    for file in (work / "checkpoints").rglob("*"):
        if file.is_file():
            file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.warns(RuntimeWarning, match="step 10"):
        outcome = cli(line, work=work)
    after = json.loads((work / "result.json").read_text())
    assert outcome.code == 0 and {**after, "seconds": 0} == {**before, "seconds": 0}


# --- what is done ----------------------------------------------------------------------------------------------------


def test_train_finished_is_not_trained_again(cli, quick_study):
    """The same command gives the stored result at once; not even the time of a file changes."""
    work = quick_study.generator
    config = json.loads((work / "config.json").read_text())
    times = {p: p.stat().st_mtime_ns for p in work.rglob("*")}
    line = f"fit {EDM} --config.data.digest={config['data']['digest']} --workdir={{work}}"
    outcome = cli(line, work=work)
    assert outcome.code == 0
    assert json.loads((work / "result.json").read_text())["generator"] in outcome.out
    assert outcome.err == ""
    assert {p: p.stat().st_mtime_ns for p in work.rglob("*")} == times


def test_evaluate_equals_what_train_found(cli, tmp_path):
    """On the averaged parameters, which is what `train` judges when it keeps an average."""
    line = f"train {RESNET} --config.optim.ema_half_life_images=100 --workdir={{work}}"
    assert cli(line, work=tmp_path / "trained").code == 0
    line = "evaluate --config=configs/evaluate.py --config.checkpoint={origin} --workdir={work} "
    for batch_size in (256, 52):
        work = tmp_path / f"judged{batch_size}"
        outcome = cli(line + f"--config.eval.batch_size={batch_size}", origin=tmp_path / "trained", work=work)
        assert outcome.code == 0
        trained, judged = (json.loads((f / "result.json").read_text()) for f in (tmp_path / "trained", work))
        same = ("top1", "top5", "n", "per_class", "top1_interval")
        assert {k: judged[k] for k in same} == {k: trained[k] for k in same}
        np.testing.assert_array_equal(np.load(work / "ranks.npy"), np.load(tmp_path / "trained" / "ranks.npy"))


def test_checkpoint_at_best_is_the_best_one_and_another_content(cli, tmp_path):
    """Evaluated, and started from; a loss is best where it is lowest."""
    trained = tmp_path / "trained"
    line = f"train {RESNET} --config.train.eval_steps=2 --config.train.best_metric=loss --workdir={{work}}"
    assert cli(line + " --config.optim.learning_rate=3", work=trained).code == 0
    metrics = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    losses = {of["step"]: of["eval_loss"] for of in metrics if "eval_loss" in of}
    best = min(losses, key=losses.get)
    line = "evaluate --config=configs/evaluate.py --config.checkpoint={origin} --workdir={work}"
    newest = cli(line, origin=trained, work=tmp_path / "evaluated")
    assert newest.code == 0
    assert_refused(cli(line, origin=f"{trained}@best", work=tmp_path / "evaluated"), "checkpoint: folder has content")
    assert cli(line, origin=f"{trained}@best", work=tmp_path / "best").code == 0
    found = json.loads((tmp_path / "best" / "result.json").read_text())
    assert found["loss"] == pytest.approx(losses[best], rel=1e-5) and best != max(losses)
    start = f"train {RESNET} --config.method.pretrained={trained}@best --config.optim.learning_rate=1e-12"
    assert cli(start + " --workdir={work}", work=tmp_path / "started").code == 0
    started, _ = restore_tree(tmp_path / "started" / "checkpoints", "params")
    begun, _ = restore_tree(trained / "checkpoints", "params", "best")
    for name, leaf in named_leaves(begun).items():
        np.testing.assert_allclose(named_leaves(started)[name], leaf, atol=1e-9)


def test_scores_beside_a_set_are_read_by_name(cli, train_mixed, quick_study, tmp_path):
    """Score, then filter by the scores: exactly the lowest fifth is gone, and what was drawn is on record."""
    made = shutil.copytree(quick_study.made, tmp_path / "set")
    assert cli(f"train {RESNET} --workdir={{work}}", work=tmp_path / "judge").code == 0
    line = "score --config=configs/score/classifier.py --config.checkpoint={judge} --config.set={made} --workdir={work}"
    given = {"judge": tmp_path / "judge", "made": made, "work": made / "scores" / "confidence"}
    outcome = cli(line, **given)
    assert outcome.code == 0 and "score confidence" in outcome.out
    scores = np.load(made / "scores" / "confidence" / "scores.npy")
    assert scores.shape == (40,) and np.all((scores > 0) & (scores < 1))

    filtered = "--config.data.scores=confidence --config.data.drop_lowest=0.2 --config.data.drop_per_class=False"
    assert train_mixed(made, filtered).code == 0
    result, drawn = (json.loads((tmp_path / "work" / f).read_text()) for f in ("result.json", "draws.json"))
    assert result["n_synthetic"] == 32 and "kept=132" in result["sampler"]
    assert drawn["source_names"] == ["real", "edm"] and drawn["step_edges"] == list(range(11))
    assert np.array(drawn["counts"]).sum(axis=(1, 2)).tolist() == [32] * 10
    np.testing.assert_array_equal(np.array(drawn["counts"]).sum(axis=(0, 2)), [160, 160])


@pytest.mark.parametrize("n_synthetic", [0, 30])
def test_score_by_a_classifier_that_has_learnt_from_the_set_is_refused(
    cli, train_mixed, quick_study, tmp_path, n_synthetic
):
    made = quick_study.made
    assert train_mixed(made, f"--config.data.n_synthetic={n_synthetic}").code == 0
    line = "score --config=configs/score/classifier.py --config.checkpoint={judge} --config.set={made} --workdir={work}"
    outcome = cli(line, judge=tmp_path / "work", made=made, work=tmp_path / "scores")
    assert_refused(outcome, "was itself trained on", "trained on real images", "--config.folds=2")
    other = quick_study.stage("sample", name="ddpm", seed=0)
    assert cli(line, judge=tmp_path / "work", made=other, work=tmp_path / "scores").code == 0


def test_score_knows_images_of_a_longer_or_a_shorter_set_that_was_drawn_alike(cli, quick_study, train_mixed, tmp_path):
    config = json.loads((quick_study.made / "config.json").read_text())
    short = {**config, "name": "short", "num_images": 20, "generator": str(quick_study.generator)}
    do(short, tmp_path / "short")
    line = "score --config=configs/score/classifier.py --config.checkpoint={judge} --config.set={made} --workdir={work}"
    assert train_mixed(quick_study.made).code == 0
    outcome = cli(line, judge=tmp_path / "work", made=tmp_path / "short", work=tmp_path / "scores")
    assert_refused(outcome, "was itself trained on")


def test_score_cross_fitted_judges_every_image_by_who_has_not_seen_it(
    cli, train_mixed, quick_study, tmp_path, monkeypatch
):
    made = quick_study.made
    assert train_mixed(made, "--config.data.n_synthetic=30").code == 0
    asked = []
    from_sources = Pool.from_sources

    def watched(sources):
        asked.append([len(source) for source in sources])
        return from_sources(sources)

    monkeypatch.setattr(Pool, "from_sources", staticmethod(watched))
    line = (
        "score --config=configs/score/classifier.py --config.folds=2 --config.checkpoint={judge} --config.set={made} "
        "--workdir={work}"
    )
    assert cli(line, judge=tmp_path / "work", made=made, work=tmp_path / "scores").code == 0
    result, scores = json.loads((tmp_path / "scores/result.json").read_text()), np.load(tmp_path / "scores/scores.npy")
    assert result["folds"] == 2 and scores.shape == (40,) and np.all((scores > 0) & (scores < 1))
    assert (tmp_path / "scores/fold0/checkpoints").is_dir() and (tmp_path / "scores/fold1/checkpoints").is_dir()
    # Of the 30 that the classifier learnt from each is kept from exactly one of the two.
    assert [sizes[0] for sizes in asked] == [100, 100] and sum(sizes[1] for sizes in asked) == 30


def test_scores_by_who_may_have_seen_the_test_images_are_refused(cli, train_mixed, quick_study, tmp_path):
    """The judge learnt from a folder that holds test images of the digits for training."""
    made = shutil.copytree(quick_study.made, tmp_path / "set")
    test = sources.digits("test")
    for i in range(200):
        part = "train" if i < 150 else "test"
        path = tmp_path / "digits" / part / test.class_names[test.labels[i]] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(test.read(i)[..., 0]).save(path)
    data = "--config.data.source=folder --config.data.path={digits} --config.data.n_base=0"
    cheat = cli(f"train {RESNET} {data} --workdir={{work}}", digits=tmp_path / "digits", work=tmp_path / "cheat")
    assert cheat.code == 0, cheat.err
    line = "score --config=configs/score/classifier.py --config.checkpoint={judge} --config.set={made} --workdir={work}"
    assert cli(line, judge=tmp_path / "cheat", made=made, work=made / "scores" / "cheat").code == 0
    filtered = "--config.data.scores=cheat --config.data.drop_lowest=0.2"
    assert_refused(train_mixed(made, filtered), "other test images than these", "may have seen")


def test_sample_fills_in_shards_that_a_finished_set_has_lost(cli, quick_study, tmp_path):
    line = f"sample --config=configs/sample/edm.py:quick --config.generator={quick_study.generator} --workdir={{work}}"
    assert cli(line, work=tmp_path / "set").code == 0
    (shard,) = (tmp_path / "set").glob("*.array_record-00000-of-*")
    whole = shard.read_bytes()
    shard.unlink()
    assert cli(line, work=tmp_path / "set").code == 0
    assert shard.read_bytes() == whole


def test_scores_that_do_not_fit_the_set_are_refused(cli, train_mixed, quick_study, tmp_path):
    made = shutil.copytree(quick_study.made, tmp_path / "set")
    assert_refused(train_mixed(made, "--config.data.drop_lowest=0.2"), "drop_lowest 0.2", "jaxmoust score")
    assert_refused(train_mixed(made, "--config.data.scores=bogus"), "'bogus'", "jaxmoust score")
    other = made / "scores" / "other"
    other.mkdir(parents=True)
    (other / "config.json").write_text('{"task": "score"}')
    (other / "result.json").write_text('{"set_digest": "another"}')
    assert_refused(train_mixed(made, "--config.data.scores=other"), "another", "Score this set")
    line = "score --config=configs/score/classifier.py{arg} --config.checkpoint={a} --config.set={b} --workdir={c}"
    nothing = {"a": tmp_path / "none", "b": made, "c": tmp_path / "scores"}
    assert_refused(cli(line, arg="", **nothing), "holds no finished 'classify' run")
    assert_refused(cli(line, arg=":bogus", **nothing), "config.score is 'bogus'", "confidence")


def test_train_on_an_imported_folder_mixes_half_of_it(cli, train_mixed, tmp_path):
    images = write_images(tmp_path / "generated")
    outcome = cli("data import --path={a} --workdir={b}", a=images, b=tmp_path / "set")
    assert outcome.code == 0 and "60 images" in outcome.out
    assert train_mixed(tmp_path / "set", name="set_generated").code == 0
    result = json.loads((tmp_path / "work" / "result.json").read_text())
    assert (result["n_synthetic"], result["share"], result["n"]) == (60, 0.5, 797)


def test_import_of_an_archive_with_a_table_lists_what_it_passed_over(cli, tmp_path):
    write_images(tmp_path / "generated", classes="01")
    (tmp_path / "generated" / "labels.csv").write_text("file,label\n0/00.png,zero\n1/03.png,one\n")
    archive = shutil.make_archive(str(tmp_path / "generated"), "zip", tmp_path / "generated")
    line = "data import --path={a} --labels=labels.csv --generator=mine --guidance=2 --workdir={b}"
    outcome = cli(line, a=archive, b=tmp_path / "set")
    assert outcome.code == 0 and "2 images of 2 classes" in outcome.out
    assert re.search(r"11 files passed over: 0/01\.png, .*labels\.csv", outcome.out)
    spec = json.loads((tmp_path / "set" / "provenance.json").read_text())["spec"]
    assert (spec["generator"], spec["guidance"], spec["class_counts"]) == ("mine", 2.0, [1, 1])
    assert spec["created_by"]["unknown"] == ["seed", "steps"]


def test_import_refuses_a_hostile_archive(cli, tmp_path):
    with zipfile.ZipFile(tmp_path / "hostile.zip", "w") as archive:
        archive.writestr("cat/../../../escaped.png", b"x")
    before = contents(tmp_path)
    outcome = cli("data import --path={a} --workdir={b}", a=tmp_path / "hostile.zip", b=tmp_path / "set")
    assert_refused(outcome, "lead out of the archive", "escaped.png")
    assert contents(tmp_path) == before


def test_inspect_of_a_class_list_shows_its_classes_in_their_order(cli, tmp_path):
    (tmp_path / "list.txt").write_text("7\n3\n")
    outcome = cli("data inspect --source=digits --classes={path}", path=tmp_path / "list.txt")
    assert re.findall(r"^  (\S+) +(\d+)$", outcome.out, re.MULTILINE) == [("7", "100"), ("3", "100")]
    (tmp_path / "list.txt").write_text("7\neleven\n")
    refused = cli("data inspect --source=digits --classes={path}", path=tmp_path / "list.txt")
    assert_refused(refused, "'eleven'", "allowed are the 10 classes")


def test_inspect_counts_the_classes_of_every_kind_of_set(cli, quick_study, tmp_path):
    write_images(tmp_path / "images", per_class=5, classes="012")
    folder = "--source=folder --path={path} --split=train"
    for line, shown in (
        ("--source=digits --split=test", "digits/test: 797 images, 8x8x1, 10 classes"),
        (folder, "images/train: 12 images, 8x8x1, 3 classes"),
        ("--path={made}", "edm: 40 images, 8x8x1, 10 classes"),
    ):
        picture = tmp_path / "sheet.png"
        outcome = cli(f"data inspect {line} --picture={picture}", path=tmp_path / "images", made=quick_study.made)
        assert outcome.code == 0
        assert shown in outcome.out and str(picture) in outcome.out
        counts = [int(n) for n in re.findall(r"^  \S+ +(\d+)$", outcome.out, re.MULTILINE)]
        assert sum(counts) == int(re.search(r": (\d+) images", outcome.out)[1])
        with Image.open(picture) as image:
            assert image.width > image.height / len(counts) > 8
        picture.unlink()


@pytest.fixture(scope="module")
def grid(tmp_path_factory) -> Path:
    """A results.csv in which a known law was planted: at 1,000 real images, 500 more are worth 792 synthetic ones."""
    path = tmp_path_factory.mktemp("grid") / "results.csv"
    write_results(path, planted_equivalence.rows(*planted_equivalence.plant()))
    return path


def write_results(path: Path, rows: list[dict]) -> None:
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def test_equivalence_answers_in_words_and_as_one_object_alike(cli, grid):
    question = "equivalence --results={grid} --n_base=1000 --n_real_plus=500"
    words, told = cli(question, grid=grid), cli(f"{question} --json", grid=grid)
    assert (words.code, told.code, words.err, told.err) == (0, 0, "", "")
    (line,) = told.out.splitlines()
    said = json.loads(line)
    low, high = said["n_syn_interval"]
    assert low < 792 < high and said["refused"] is None
    assert f"{said['n_syn']:,.0f} [{low:,.0f}, {high:,.0f}] synthetic" in words.out
    assert said["exchange_rate_average"] == pytest.approx(said["n_syn"] / 500)
    assert said["c2"] == pytest.approx(np.exp(said["b"])) and said["c1"] == pytest.approx(np.exp(said["a"] * said["k"]))


def test_equivalence_refuses_to_extrapolate_and_says_why(cli, grid):
    told = cli("equivalence --results={grid} --n_base=1000 --n_real_plus=90000 --json", grid=grid)
    said = json.loads(told.out)
    assert told.code == 0 and said["n_syn"] is None and "measured up to 16,000" in said["refused"]
    assert said["b"] > 0 and said["exchange_rate_marginal"] > 0  # what can be answered is
    large = cli("equivalence --results={grid} --n_base=1000 --k=1e8 --json", grid=grid)
    said = json.loads(large.out)
    assert said["c1"] is None and "without bound" in said["c1_refused"] and said["a"] > 0


def test_equivalence_without_a_question_reports_the_fit_of_several_files(cli, grid, tmp_path):
    rows = list(csv.DictReader(grid.open()))
    write_results(tmp_path / "a.csv", rows[:60])
    write_results(tmp_path / "b.csv", rows[60:])
    split = cli("equivalence --results={a},{b}", a=tmp_path / "a.csv", b=tmp_path / "b.csv")
    assert split == cli("equivalence --results={grid}", grid=grid)
    assert split.code == 0 and split.out.startswith("One more real image is worth")


def test_equivalence_of_the_effective_sample_size_gives_its_answer(cli, grid):
    told = cli("equivalence --results={grid} --n_base=1000 --n_real_plus=500 --law=effective --json", grid=grid)
    said = json.loads(told.out)
    assert said["refused"] is None and "no slope at 0" in said["exchange_rate_marginal_refused"]
    assert said["law"] == "effective" and said["n_syn"] == pytest.approx((500 / said["kappa"]) ** (1 / said["eta"]))


@pytest.mark.parametrize(("n_base", "answered"), [(1000, True), (600, True), (8000, False)])
def test_equivalence_of_the_effective_sample_size_answers_alike_without_n_real_plus(cli, grid, n_base, answered):
    question = f"equivalence --results={{grid}} --n_base={n_base} --law=effective"
    words, told = cli(question, grid=grid), cli(f"{question} --json", grid=grid)
    said = json.loads(told.out)
    if answered:
        assert said["refused"] is None and said["exchange_rate_average_up_to"] == n_base
        assert f"{figure(said['exchange_rate_average'])} [" in words.out.splitlines()[0]
    else:
        assert words.out.startswith(f"No answer: {said['refused']}.")
    assert "By the study's law: One more real image" in words.out


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--generator=ddpm", ["'ddpm'", "--generator=edm"]),
        ("--real=base", ["called base", "real_125"]),
        ("--real=real_1000", ["at least two sizes", "[1000]"]),
        ("--n_base=-3", ["n_base: got -3"]),
        ("--n_base=1000 --n_real_plus=nan", ["n_real_plus: got nan"]),
        ("--k=0", ["k: got 0"]),
        ("--k=inf", ["k: got inf"]),
        ("--n_base=many --k=3", ["n_base", "many"]),
        ("--n_real_plus=5", ["--n_real_plus needs --n_base"]),
        ("--law=linear", ["linear", "study", "effective"]),
        ("other.csv", ["Unexpected 'other.csv'"]),
    ],
)
def test_equivalence_refuses_bad_input_in_words_and_as_an_object(cli, grid, options, words):
    outcome = cli(f"equivalence --results={{grid}} {options}", grid=grid)
    assert_refused(outcome, *words)
    assert outcome.out == ""
    told = cli(f"equivalence --results={{grid}} --json {options}", grid=grid)
    assert_refused(told, *words)
    said = json.loads(told.out)
    assert all(word in said["refused"] for word in words) and said["b"] is said["n_syn"] is None
    fitted = json.loads(cli("equivalence --results={grid} --json", grid=grid).out)
    assert set(said) == set(fitted) and set(said["censored"]) == set(fitted["censored"])


def test_equivalence_says_the_question_that_it_refuses_where_a_number_can(cli, grid):
    told = cli("equivalence --results={grid} --json --n_base=-3 --n_real_plus=nan --k=7", grid=grid)
    said = json.loads(told.out)
    assert told.code == 2 and (said["n_base"], said["n_real_plus"], said["k"]) == (-3, None, 7)
    missing = json.loads(cli("equivalence --json").out)
    assert missing["refused"] == "--results is missing: the results.csv of a study."  # and no help


def test_equivalence_of_cells_that_are_all_bounds_gives_them_the_curve_and_the_arms(cli, tmp_path):
    planted = planted_equivalence.plant(real=(125, 250), bases=(250,), gain=lambda n, s: 5000)
    write_results(tmp_path / "bounds.csv", planted_equivalence.rows(*planted))
    told = cli("equivalence --results={path} --json", path=tmp_path / "bounds.csv")
    said = json.loads(told.out)
    assert told.code == 2 and "all 5 cells lie beyond" in said["refused"] and said["b"] is None
    assert said["censored"] == {"cells": 5, "at_least": 5, "at_most": 0}
    assert [(c["n_synthetic"], c["n_eq"], c["censored"]) for c in said["cells"][:2]] == [
        (125, 250, "at least"),
        (250, 250, "at least"),
    ]
    assert (said["learning_curve"]["n_min"], said["learning_curve"]["n_max"]) == (125, 250)
    assert said["real_arms"] == ["real_125", "real_250"] and "edm_250_125" in said["mixed_arms"]
    assert said["generator"] == "edm"


def test_equivalence_beyond_what_was_tried_gives_what_its_interval_says(cli, grid):
    question = "equivalence --results={grid} --n_base=250 --n_real_plus=520"
    said = json.loads(cli(f"{question} --json", grid=grid).out)
    low, high = said["n_syn_interval"]
    assert said["n_syn"] is high is None and said["n_syn_at_least"] == low < 2500
    assert said["exchange_rate_average_interval"] == [low / 520, None]
    words = cli(question, grid=grid)
    assert words.code == 0 and words.out.startswith(f"No answer: {said['refused']}.")
    assert f"at least {low:,.0f}" in said["refused"]


def test_equivalence_rates_and_their_refusal_are_of_the_law_asked_for(cli, grid, tmp_path):
    said = json.loads(cli("equivalence --results={grid} --law=effective --json", grid=grid).out)
    asked = cli("equivalence --results={grid} --law=effective --n_base=1000 --json", grid=grid)
    (at,) = [rate for rate in said["exchange_rates"] if rate["n_base"] == 1000]
    assert at["average"] == json.loads(asked.out)["exchange_rate_average"] and said["refused"] is None
    assert at["marginal"] is None and "no slope at 0" in at["marginal_refused"]
    # One mixed cell: the study's law has a rate, and eta is not told.
    one = planted_equivalence.rows(*planted_equivalence.plant(bases=(1000,), ratios=(2,)))
    write_results(tmp_path / "one.csv", one)
    for law, rate, refused in (("study", "marginal", False), ("effective", "average", True)):
        told = cli(f"equivalence --results={{one}} --law={law} --json", one=tmp_path / "one.csv")
        said = json.loads(told.out)
        assert told.code == 0 and bool(said["refused"]) == refused == (not said["exchange_rates"][0][rate])


@pytest.mark.parametrize("options", ["", "--json", "--json --real=base"])
def test_equivalence_ends_quietly_where_nobody_reads(grid, options):
    """Standard output is a pipe whose other end is closed: what `| head -c 0` leaves."""
    program = "from jaxmoust.cli import main; main()"
    words = [sys.executable, "-c", program, "equivalence", f"--results={grid}", *options.split()]
    read, write = os.pipe()
    os.close(read)
    try:
        done = subprocess.run(words, cwd=ROOT, stdout=write, stderr=subprocess.PIPE)
    finally:
        os.close(write)
    assert (done.returncode, done.stderr) == (1, b"")


def test_equivalence_starts_without_jax(grid):
    program = "import sys; from jaxmoust.cli import call; call(sys.argv[1:]); assert 'jax' not in sys.modules"
    words = [sys.executable, "-c", program, "equivalence", f"--results={grid}", "--real=none"]
    assert subprocess.run(words, cwd=ROOT, capture_output=True).returncode == 0


def test_sample_opens_in_plain_tfds(quick_study):
    import tensorflow_datasets as tfds

    builder = tfds.builder_from_directory(str(quick_study.made))
    examples = builder.as_data_source(split="train")
    assert len(examples) == 40
    assert builder.info.features["label"].names == [str(k) for k in range(10)]
    for i in (0, 25, 39):
        example = examples[i]
        assert example["image"].shape == (8, 8, 1) and example["image"].dtype == np.uint8
        assert (example["label"], example["index"], example["seed"]) == (i % 10, i // 10, 0)
        assert example["generator"].decode() == json.loads((quick_study.made / "result.json").read_text())["generator"]
