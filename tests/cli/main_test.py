"""The command line as a user meets it: what it refuses, in what words, with what exit code, and what it leaves."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import EDM, RESNET, assert_refused, contents

from jaxmoust.cli.main import _guarded
from jaxmoust.jobs.parts.registry import entries
from jaxmoust.runtime import stop

VERBS = list(dict.fromkeys(entry.verb for entry in entries()))


# --- usage -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line, words",
    [
        (
            "bogus --workdir={work}",
            ["'bogus'", "equivalence, evaluate, export, features, fit", "--help"],
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


@pytest.mark.parametrize("way", ["script", "module"])
def test_program_starts(way):
    """The one test of the installed program; everything else calls the same function in this process."""
    script = Path(sys.executable).with_name("jaxmoust")
    command = [script] if way == "script" and script.exists() else [sys.executable, "-m", "jaxmoust"]
    done = subprocess.run([*command, "--help"], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert "jaxmoust VERB --config=PATH" in done.stdout


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


def test_workdir_under_a_file_is_refused(cli, tmp_path):
    """What a folder without write permission does too; but tests may run as root, whom no mode stops."""
    (tmp_path / "file").write_text("x")
    outcome = cli(f"train {RESNET} --workdir={{work}}", work=tmp_path / "file" / "work")
    assert_refused(outcome, str(tmp_path / "file" / "work"), "can be made and written")
    assert contents(tmp_path) == {"file": b"x"}


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


# --- data that cannot be used ----------------------------------------------------------------------------------------


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
