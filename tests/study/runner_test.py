"""Conducting a study: what is computed and what found, results.csv, and what a stopped study leaves."""

import csv
import html
import itertools
import json
import os
import re
import shutil
import signal
from pathlib import Path

import made_up_page
import numpy as np
import pytest
from PIL import Image

from jaxmoust.cli import call
from jaxmoust.config import read_config
from jaxmoust.data.sources import registry as sources
from jaxmoust.jobs import train
from jaxmoust.report.page import Section
from jaxmoust.report.sections import diagnostics
from jaxmoust.report.sections.diagnostic import Diagnostic
from jaxmoust.runtime import stop
from jaxmoust.runtime.lock import lease
from jaxmoust.runtime.parallel import Machine
from jaxmoust.study import runner
from jaxmoust.study.engines.loop import compute_all
from jaxmoust.study.experiment import Arm, DiagnosticRun, Experiment, Run
from jaxmoust.study.store import Stage, Store

# DESIGN: one row a run, exactly these columns, in this order.
COLUMNS = (
    "experiment,arm,seed,generator,fine_tuning,sampler,n_base,n_synthetic,share,steps,top1,top5,n_test,seconds,device,"
    "commit,balanced_accuracy,macro_f1,worst_class,nll,ece,auroc,auprc,weight,run"
)
LINE = "study --config=experiments/quickstart.py:quick --config.seeds=0,1"


def rows_of(folder):
    with open(folder / "results.csv", newline="") as file:
        return list(csv.DictReader(file))


def without_seconds(rows):
    return [{k: v for k, v in row.items() if k != "seconds"} for row in rows]


def times(folder):
    """When each file was last written, but for what says that a folder was opened again."""
    return {p: p.stat().st_mtime_ns for p in folder.rglob("*") if p.name != "environment.json" and p.is_file()}


def test_results_have_the_columns_that_others_rely_on(quick_study):
    text = (quick_study.workdir / "results.csv").read_text()
    assert text.splitlines()[0] == COLUMNS
    assert text.endswith("\n") and "\r" not in text


def test_results_have_a_row_for_every_arm_and_seed_in_the_experiments_order(quick_study, monkeypatch, request):
    monkeypatch.chdir(request.config.rootpath)
    arms = read_config("experiments/quickstart.py:quick")["arms"]
    named = [(row["arm"], row["seed"]) for row in rows_of(quick_study.workdir)]
    assert named == [(arm["name"], seed) for arm in arms for seed in ("0", "1")]


def test_results_say_what_each_run_was(quick_study):
    rows = {row["arm"]: row for row in rows_of(quick_study.workdir) if row["seed"] == "0"}
    said = ("experiment", "generator", "fine_tuning", "sampler", "n_base", "n_synthetic", "share", "steps", "n_test")
    expected = {
        "real": ("quickstart", "none", "none", "random", "100", "0", "0.0", "10", "797"),
        "duplicated": ("quickstart", "none", "none", "random", "100", "0", "0.0", "10", "797"),
        "augmented": ("quickstart", "none", "none", "random", "100", "0", "0.0", "10", "797"),
        "edm_only": ("quickstart", "edm", "none", "share", "100", "40", "1.0", "10", "797"),
        "edm_mixed": ("quickstart", "edm", "none", "share", "100", "40", "0.5", "10", "797"),
        "ddpm_mixed": ("quickstart", "ddpm", "none", "share", "100", "40", "0.5", "10", "797"),
        "sd_only": ("quickstart", "sd", "none", "share", "100", "40", "1.0", "10", "797"),
        "sd_mixed": ("quickstart", "sd", "none", "share", "100", "40", "0.5", "10", "797"),
        "sd_lora_only": ("quickstart", "sd_lora", "lora", "share", "100", "40", "1.0", "10", "797"),
        "sd_lora_mixed": ("quickstart", "sd_lora", "lora", "share", "100", "40", "0.5", "10", "797"),
        "sd_full_only": ("quickstart", "sd_full", "full", "share", "100", "40", "1.0", "10", "797"),
        "sd_full_mixed": ("quickstart", "sd_full", "full", "share", "100", "40", "0.5", "10", "797"),
    }
    assert {arm: tuple(row[k] for k in said) for arm, row in rows.items()} == expected


def test_results_are_those_of_the_stages(quick_study):
    """Top-1 of a row, of the stage's result.json and of its ranks are one number."""
    found = sorted(json.loads((p / "result.json").read_text())["top1"] for p in quick_study.store.glob("train-*"))
    ranks = sorted(100 * float(np.mean(np.load(p / "ranks.npy") < 1)) for p in quick_study.store.glob("train-*"))
    written = sorted(float(row["top1"]) for row in rows_of(quick_study.workdir))
    np.testing.assert_allclose(found, ranks, rtol=1e-12)  # float64, summed in another order
    np.testing.assert_allclose(written, found, atol=5e-7)  # written with six decimals
    assert all(float(row["top5"]) >= float(row["top1"]) for row in rows_of(quick_study.workdir))
    assert all(float(row["seconds"]) > 0 and row["device"] for row in rows_of(quick_study.workdir))


def test_study_again_finds_everything(cli, quick_study):
    before, rows = times(quick_study.store), rows_of(quick_study.workdir)
    outcome = cli(f"{LINE} --workdir={quick_study.workdir}")
    assert outcome.code == 0
    assert "47 stages, 47 found, 0 to compute" in outcome.out
    assert times(quick_study.store) == before
    assert rows_of(quick_study.workdir) == rows


def test_second_study_in_the_store_finds_what_the_first_computed(cli, quick_study, tmp_path):
    """Another study with a subset of the seeds: not a stage is computed, and its rows are the first one's."""
    before = times(quick_study.store)
    line = "study --config=experiments/quickstart.py:quick --config.seeds=0, --config.name=second"
    outcome = cli(f"{line} --workdir={tmp_path}/second --store={quick_study.store}")
    assert outcome.code == 0
    assert "second: 30 stages, 30 found, 0 to compute" in outcome.out
    assert times(quick_study.store) == before
    expected = [{**row, "experiment": "second"} for row in rows_of(quick_study.workdir) if row["seed"] == "0"]
    assert rows_of(tmp_path / "second") == expected


def test_study_dry_says_what_it_would_run_and_writes_nothing(cli, quick_study, tmp_path):
    """A third seed: five sets and twelve classifiers more, each with the time that the first seeds took."""
    before = times(quick_study.store)
    line = f"study --config=experiments/quickstart.py:quick --config.seeds=0,1,2 --store={quick_study.store}"
    outcome = cli(f"{line} --workdir={tmp_path}/study --dry-run")
    assert outcome.code == 0
    assert (
        "quickstart: 64 stages, 47 found (4 domain, 4 fit, 5 measure, 10 sample, 24 train), 17 to compute"
        in outcome.out
    )
    assert len(re.findall(r"seed 2 .* s  as [2-9] stages of the same settings", outcome.out)) == 17
    assert re.search(r"expected: [\d.]+ s in one process for 17 of them\n", outcome.out)
    assert "A claim holds for these generators and this base set." in outcome.out
    of_family = (
        r"\(%d arms?, standard deviation over seeds .*: 3 seeds find differences of [\d.]+ points and more .*; for 1 "
    )
    for name, num_arms in (("Mixtures", 5), ("Synthetic images alone", 4), ("Controls", 2)):
        assert re.search(f"{name} {of_family % num_arms}", outcome.out), name
    assert list(tmp_path.iterdir()) == [] and times(quick_study.store) == before
    refused = cli(f"{line} --workdir={quick_study.workdir} --dry-run")  # the folder of two seeds
    assert refused.code == 2 and "seeds: folder has [0, 1], given [0, 1, 2]" in refused.err


def test_study_writes_the_index_of_its_folder_and_the_index_alone_is_written_on_request(cli, quick_study):
    index = quick_study.workdir.parent / "index.html"
    assert f'href="{quick_study.workdir.name}/report/index.html"' in index.read_text()
    index.unlink()
    outcome = cli(f"study --index={index.parent}")
    assert (outcome.code, outcome.out) == (0, f"{index}\n") and index.exists()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("study --index={tmp}", "holds no study"),
        ("study --index={tmp}/none", "holds no study"),
        (f"{LINE} --index={{tmp}} --workdir={{tmp}}", "stand alone"),
        ("study --compare {tmp} {tmp}", "holds no finished study"),
    ],
)
def test_study_index_of_nothing_is_refused(cli, tmp_path, line, words):
    outcome = cli(line, tmp=tmp_path)
    assert outcome.code == 2 and words in outcome.err and list(tmp_path.iterdir()) == []


def test_study_in_the_folder_of_another_is_refused(cli, quick_study):
    before = (quick_study.workdir / "results.csv").read_bytes()
    outcome = cli(f"{LINE} --config.name=other --workdir={quick_study.workdir}")
    assert outcome.code == 2
    assert 'name: folder has "quickstart", given "other"' in outcome.err
    assert (quick_study.workdir / "results.csv").read_bytes() == before


def part_of_quickstart(path, change):
    """Writes an experiment: the quickstart's first arms, which have real images alone, with a change."""
    path.write_text(f"""import ml_collections
from jaxmoust.config import read_config

def get_config(arg=""):
    config = read_config("experiments/quickstart.py:quick")
    config.update(seeds=(0,), sets={{}}, generators={{}}, domains={{}}, measures={{}})
    {change}
    return ml_collections.ConfigDict(config)
""")
    return path


def test_study_asked_to_stop_keeps_what_is_done_and_goes_on(cli, quick_study, tmp_path):
    """Stopped after the second stage; the same command ends with the rows of a study that was not stopped."""
    experiment = part_of_quickstart(tmp_path / "experiment.py", "config['arms'] = config['arms'][:3]")
    line = f"study --config={experiment} --workdir={tmp_path}/study"

    def num_done():
        return len(list((tmp_path / "stages").glob("*/result.json")))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stop, "requested", lambda: num_done() >= 2)
        outcome = cli(line)
    assert outcome.code == 143
    assert "before stage 3 of 3; the same command continues" in outcome.err
    assert num_done() == 2
    assert [row["arm"] for row in rows_of(tmp_path / "study")] == ["real", "duplicated"]
    outcome = cli(line)
    assert outcome.code == 0
    assert "3 stages, 2 found, 1 to compute" in outcome.out
    expected = [row for row in rows_of(quick_study.workdir) if row["seed"] == "0"][:3]
    assert without_seconds(rows_of(tmp_path / "study")) == without_seconds(expected)


def test_study_interrupted_once_ends_in_order_and_the_next_command_goes_on(cli, tmp_path):
    """Ctrl-C after the first stage."""
    experiment = part_of_quickstart(tmp_path / "experiment.py", "config['arms'] = config['arms'][:2]")
    line = f"study --config={experiment} --workdir={tmp_path}/study"
    write = runner.write_results
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner, "write_results", lambda *args: (write(*args), os.kill(os.getpid(), signal.SIGINT)))
        outcome = cli(line)
    assert outcome.code == 130 and "the same command continues" in outcome.err
    assert [row["arm"] for row in rows_of(tmp_path / "study")] == ["real"]
    assert cli(line).code == 0


@pytest.fixture
def failing(tmp_path):
    """Four arms of real images; the second has a learning rate that no loss survives, and the fourth begins as it."""
    change = """config['arms'] = (*config['arms'][:3], dict(name='later', title='Later', start='duplicated'))
    config['arms'][1]['optim'] = {'learning_rate': 1e30}"""
    return part_of_quickstart(tmp_path / "experiment.py", change)


def test_study_with_a_stage_that_fails_does_the_rest_and_says_what_it_lacks(cli, failing, tmp_path):
    line = f"study --config={failing} --workdir={tmp_path}/study"
    outcome = cli(line)
    assert outcome.code == 1 and "Traceback" not in outcome.err
    assert "2 of 4 stages have no result" in outcome.err and "the same command tries them again" in outcome.err
    assert re.search(r"  train duplicated, seed 0: .*step", outcome.err)
    assert re.search(r"  train later, seed 0: it needs train-\w+, which failed", outcome.err)
    assert [row["arm"] for row in rows_of(tmp_path / "study")] == ["real", "augmented"]
    (record,) = (tmp_path / "stages").glob("*.error.json")
    assert json.loads(record.read_text())["kind"] == "NonFiniteError"
    page = (tmp_path / "study" / "report" / "index.html").read_text()
    assert "train duplicated, seed 0: " in page and "train later, seed 0: it needs " in page

    # Another fault that goes away by itself: the same command finds what is done, and tries the rest again.
    again = cli(line)
    assert again.code == 1 and "4 stages, 2 found, 2 to compute" in again.out and record.exists()


def test_study_tries_a_failed_stage_again_and_takes_its_record_away(cli, tmp_path):
    experiment = part_of_quickstart(tmp_path / "experiment.py", "config['arms'] = config['arms'][:2]")
    line = f"study --config={experiment} --workdir={tmp_path}/study"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train.Train, "run", lambda self, folder: {}["an image that cannot be read"])
        assert cli(line).code == 1
    assert len(list((tmp_path / "stages").glob("*.error.json"))) == 2 and rows_of(tmp_path / "study") == []
    assert cli(line).code == 0
    assert not list((tmp_path / "stages").glob("*.error.json")) and len(rows_of(tmp_path / "study")) == 2


def test_study_that_was_killed_goes_on_with_the_same_command(cli, two_arms, tmp_path):
    """A killed process leaves the files that name it: of the study's folder, of its stage's, and of the lease."""
    shutil.copytree(two_arms[1], tmp_path / "stages")
    stage = min((tmp_path / "stages").glob("train-*"))
    (stage / "result.json").unlink()
    (tmp_path / "study").mkdir()
    for path in (tmp_path / "study" / ".lock", stage / ".lock", stage.with_name(f".{stage.name}.lease")):
        path.write_text("process 1 on elsewhere\n")
    outcome = cli(f"study --config={two_arms[0]} --workdir={tmp_path}/study")
    assert outcome.code == 0 and "1 to compute" in outcome.out


def test_study_in_a_folder_that_another_process_uses_is_refused(cli, two_arms, tmp_path):
    line = f"study --config={two_arms[0]} --workdir={tmp_path}/study --store={two_arms[1]}"
    with lease(tmp_path / "study" / ".lock"):
        outcome = cli(line)
        assert outcome.code == 2 and f"is in use by process {os.getpid()} on" in outcome.err
        assert [path.name for path in (tmp_path / "study").iterdir()] == [".lock"]
    assert cli(line).code == 0


def test_study_until_it_is_decided_goes_look_by_look_and_shows_the_way(cli, two_arms, tmp_path):
    """Two or three seeds of ten steps each; the page has the intervals of each look, and rows of what was looked at."""
    shutil.copytree(two_arms[1], tmp_path / "stages")
    line = f"study --config={two_arms[0]} --workdir={tmp_path}/study --until-decided"
    line += " --config.decide.looks=2,3 --config.decide.margin=50"
    outcome = cli(f"{line} --most_seeds=4")
    assert outcome.code == 0
    said = re.findall(r"look after (\d) seeds, control beside real: (\w+): duplicated", outcome.out)
    seeds = [str(seed) for seed in range(int(said[-1][0]))]
    assert said[-1][1] != "undecided" or said[-1][0] == "4"
    rows = [(row["arm"], row["seed"]) for row in rows_of(tmp_path / "study")]
    assert rows == [(arm, seed) for arm in ("real", "duplicated") for seed in seeds]
    page = (tmp_path / "study" / "report" / "index.html").read_text()
    runs = f"after {len(rows)} runs; every arm at all its seeds would have been 8, so {8 - len(rows)} were saved."
    assert runs in page and "A claim holds for this base set." in page and "no run of seed" not in page
    again = cli(f"{line} --most_seeds=4")
    assert re.findall("look after.*", again.out) == re.findall("look after.*", outcome.out)
    assert "to compute" not in again.out

    other = cli(f"{line} --most_seeds=5")
    assert other.code == 2 and "decide.most_seeds: folder has 4, given 5" in other.err
    line = line.replace("/study ", "/hasty ")
    hasty = cli(f"{line} --config.seeds=7, --budget=0.001s")
    assert hasty.code == 2 and re.search(r"--budget=0.001s is shorter than one run, which takes [\d.]+ s", hasty.err)
    assert not (tmp_path / "hasty").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--budget=2h", "they go with --until-decided"),
        ("--most_seeds=5", "they go with --until-decided"),
        ("--until-decided --budget=soon", "expected hours, minutes or seconds"),
        ("--until-decided --most_seeds=2", "most_seeds 2 is below the first look, after 3 seeds"),
        ("--config.decide.margin=0", "decide.margin 0.0: expected a number above 0"),
        ("--config.decide.looks=5,3", "expected numbers of seeds that rise"),
        ("--config.decide.metric=top3", "decide.metric 'top3': expected one of top1, top5"),
        ("--config.vary=draw,", "leaves 'real', which others are compared with, the same at several seeds"),
    ],
)
def test_study_that_cannot_be_decided_is_refused_before_anything_is_written(cli, tmp_path, words, said):
    outcome = cli(f"{LINE} --workdir={tmp_path}/study {words}")
    assert outcome.code == 2 and said in outcome.err and list(tmp_path.iterdir()) == []


# --- files that are damaged ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def two_arms(tmp_path_factory, request):
    """(experiment, its store): two arms of real images alone, done."""
    folder = tmp_path_factory.mktemp("two_arms")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(request.config.rootpath)
        experiment = part_of_quickstart(folder / "experiment.py", "config['arms'] = config['arms'][:2]")
        assert call(["study", f"--config={experiment}", f"--workdir={folder}/study"]) == 0
    return experiment, folder / "stages"


def test_page_of_a_study_that_runs_is_drawn_so_rarely_that_it_costs_a_twentieth(monkeypatch):
    clock, drawn, said = [0.0], [], []
    monkeypatch.setattr(runner.time, "monotonic", lambda: clock[0])

    def draw(left):
        drawn.append((clock[0], len(left)))
        clock[0] += 10.0  # what it takes
        if len(drawn) == 2:
            raise KeyError("a page")

    seldom = runner.Seldom(draw, said.append)
    for left in range(100, -1, -1):  # a stage a half minute
        clock[0] += 30.0
        seldom(range(left))
    moments = [moment for moment, _ in drawn]
    assert moments[0] == runner.FIRST_PAGE_SECS / runner.PAGE_SHARE
    assert all(b - a >= 10.0 / runner.PAGE_SHARE for a, b in itertools.pairwise(moments)) and len(drawn) > 10
    assert said == ["The page could not be written before the end: KeyError: 'a page'"]
    assert drawn[-1][1] > 0  # the last is the finished one, which somebody else draws


def test_pages_that_are_drawn_meanwhile_ask_nothing_of_other_processes(cli, two_arms, tmp_path, monkeypatch):
    """Processes have clocks of their own: one draws a page where another does not, and both must stay in step."""
    experiment, store = two_arms
    asked, drawn, agree, make_page = [], [], Machine.agree, runner.make_page
    monkeypatch.setattr(Machine, "agree", lambda machine, flag: asked.append(flag) or agree(machine, flag))
    monkeypatch.setattr(runner, "make_page", lambda *given: drawn.append(given[-1]) or make_page(*given))
    counts = {}
    for seconds in (0.0, 1e9):
        monkeypatch.setattr(runner, "FIRST_PAGE_SECS", seconds)
        there = tmp_path / f"{seconds}"
        shutil.copytree(store, there)
        for result in there.glob("train-*/result.json"):  # which their runs write again
            result.unlink()
        asked.clear()
        drawn.clear()
        outcome = cli(f"study --config={experiment} --workdir={there}/study --store={there}")
        assert outcome.code == 0, outcome.err
        counts[len(drawn)] = len(asked)
    meanwhile, at_the_end = counts
    assert meanwhile > at_the_end == 1 and len({*counts.values()}) == 1


@pytest.fixture
def damaged(cli, two_arms, tmp_path):
    """Runs the study of two arms again on a copy of its store in which a file of its first stage was changed."""

    def run(file, change):
        shutil.copytree(two_arms[1], tmp_path / "stages")
        stage = min(tmp_path.glob("stages/train-*"))
        change(stage / file)
        return cli(f"study --config={two_arms[0]} --workdir={tmp_path}/study"), stage

    return run


def cut(path):
    path.write_bytes(path.read_bytes()[:100])


def torn(path):
    path.write_text(path.read_text() + '{"step": 1')


def other_answers(path):
    np.save(path, 1 - np.minimum(np.load(path), 1))


def flipped(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def better(path):
    """Top-1 is 0.04 more."""
    result = json.loads(path.read_text())
    path.write_text(json.dumps({**result, "top1": result["top1"] + 0.04}, indent=2))


DAMAGES = [
    *(("ranks.npy", change) for change in (Path.unlink, cut, other_answers)),
    ("draws.json", lambda path: path.write_text("x")),
    *(("result.json", change) for change in (cut, better, Path.unlink)),
    ("config.json", flipped),
    ("contents.json", cut),
    ("digests.json", cut),
]


@pytest.mark.parametrize(("file", "change"), DAMAGES)
def test_study_makes_a_damaged_file_of_a_stage_again(damaged, two_arms, tmp_path, file, change):
    outcome, stage = damaged(file, change)
    assert outcome.code == 0 and "1 to compute" in outcome.out, outcome
    assert "missing or damaged" not in outcome.out
    assert (stage / file).read_bytes() == (two_arms[1] / stage.name / file).read_bytes() or file in WITH_SECONDS
    assert without_seconds(rows_of(tmp_path / "study")) == without_seconds(rows_of(two_arms[0].parent / "study"))


WITH_SECONDS = ("result.json", "digests.json")


def unsigned(change):
    """A change of a stage of before there were digests."""

    def both(path):
        (path.parent / "digests.json").unlink()
        change(path)

    return both


@pytest.mark.parametrize(("file", "change"), [("ranks.npy", other_answers), ("draws.json", cut)])
def test_page_leaves_out_a_damaged_file_and_says_so(damaged, tmp_path, file, change):
    outcome, stage = damaged(file, unsigned(change))
    assert outcome.code == 0 and "0 to compute" in outcome.out and f"{file} is missing or damaged" in outcome.out
    page = (tmp_path / "study" / "report" / "index.html").read_text()
    assert f"{file} is missing or damaged in {stage.name} of {stage.parent}, so the page shows nothing of it." in page
    assert ("were not kept for seed 0" in page) == (file == "ranks.npy")
    assert len(rows_of(tmp_path / "study")) == 2


@pytest.mark.parametrize("change", [torn, lambda path: path.write_text(path.read_text().split("\n", 1)[1])])
def test_page_shows_the_whole_lines_of_curves_and_says_that_some_are_lost(damaged, tmp_path, change):
    """One that a crash of the machine left half written; and a hole, which a digest alone tells."""
    outcome, stage = damaged("metrics.jsonl", change)
    said = f"Lines of metrics.jsonl are lost or damaged in {stage.name}"
    assert outcome.code == 0 and "0 to compute" in outcome.out and said in outcome.out
    assert said in (tmp_path / "study" / "report" / "index.html").read_text()


@pytest.mark.parametrize("text", ["{}", '{"top1": 9', '{"top1": 90.0}'])
def test_study_refuses_a_result_that_is_none_and_says_what_to_do(damaged, tmp_path, text):
    outcome, stage = damaged("result.json", unsigned(lambda path: path.write_text(text)))
    assert outcome.code == 2 and str(stage) in outcome.err and "remove the folder" in outcome.err
    assert "Traceback" not in outcome.err and not (tmp_path / "study").exists()


def test_study_without_the_record_of_a_machine_has_its_page(damaged):
    assert damaged("environment.json", lambda path: path.write_text("{"))[0].code == 0


def test_study_of_a_finished_store_needs_not_write_it(cli, two_arms, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != two_arms[1])
    assert cli(f"study --config={two_arms[0]} --workdir={tmp_path}/study --store={two_arms[1]}").code == 0


def test_sections_leave_out_a_diagnostic_whose_files_are_lost(tmp_path):
    page, found = made_up_page.make_page(), {"domains": [Diagnostic("edm", "edm", 0, {}, tmp_path / "domain-0123")]}
    reader = runner.Reader(Store(tmp_path, run=None))
    assert runner._sections(page.arms, page.baseline, page.rows, found, reader) == []
    assert reader.words[0].startswith("A file is missing or damaged in domain-0123 of ")


def test_sections_raise_what_no_file_is_to_blame_for(tmp_path, monkeypatch):
    page, found = made_up_page.make_page(), {"domains": [Diagnostic("edm", "edm", 0, {}, tmp_path)]}
    monkeypatch.setattr(diagnostics, "of_sets", lambda found: [Section("Fine")])
    monkeypatch.setattr(diagnostics.ratio, "sections", lambda arms, baseline: {}["a bug"])
    with pytest.raises(KeyError, match="a bug"):
        runner._sections(page.arms, page.baseline, page.rows, found, runner.Reader(Store(tmp_path, run=None)))


def test_page_has_the_configuration_that_it_was_made_of(two_arms):
    page = (two_arms[1].parent / "study" / "report" / "index.html").read_text()
    config = json.loads((two_arms[1].parent / "study" / "config.json").read_text())
    shown = re.search(r"experiment's configuration.*?<pre[^>]*>(.*?)</pre>", page, re.DOTALL)[1]
    assert json.loads(html.unescape(shown)) == config


def test_page_gives_the_provenance_of_every_stage(quick_study):
    page = (quick_study.workdir / "report" / "index.html").read_text()
    assert [p.name for p in quick_study.store.iterdir() if p.name not in page] == []


def test_record_of_a_stage_names_what_it_was_computed_from(tmp_path):
    """From which the page knows what an arm costs."""
    sampled = Stage("sample", {"name": "a"})
    trained = Stage("train", {"data": {"synthetic": (sampled.name,)}}, (sampled,))
    record = runner._provenance(trained, Store(tmp_path, lambda *given: {}), True, {})
    assert (record.kind, record.needs) == ("train", [sampled.name])


def test_pictures_of_images_of_several_sizes_have_the_networks_shape(tmp_path):
    for k, name in enumerate(("cat", "owl")):
        (tmp_path / name).mkdir()
        for i in range(3):
            Image.new("RGB", (20 + i, 30 + k)).save(tmp_path / name / f"{i}.png")
    pictures = runner._pictures(sources.image_folder(str(tmp_path), "all"), (8, 8, 3))
    assert {name: image.shape for name, image in pictures.items()} == {"cat": (3, 8, 8, 3), "owl": (3, 8, 8, 3)}


def test_page_shows_what_the_runs_records_say_was_drawn(quick_study):
    """The quick study's arms: one is half synthetic, one wholly, three are real alone."""
    page = (quick_study.workdir / "report" / "index.html").read_text()
    text = page[page.index('id="what-each-sampler-drew"') : page.index('id="classes"')]
    assert "No record" not in text and ">EDM</td>" in text and ">real</td>" in text
    record = json.loads((quick_study.stage("train", sampler="share") / "draws.json").read_text())
    assert record["step_edges"][-1] == 10 and np.sum(record["counts"]) > 0


def test_arm_of_which_a_run_kept_no_record_has_no_draws(tmp_path):
    record = {"step_edges": [0, 5], "source_names": ["real"], "class_names": ["a"], "counts": [[[7]]]}
    store = Store(tmp_path, run=None)
    arms = [Arm(name, name, "", ()) for name in ("kept", "half", "old")]
    runs = [Run(arm, seed, Stage("train", {"arm": arm.name, "seed": seed})) for arm in arms for seed in (0, 1)]
    for run in runs:
        store.folder(run.stage).mkdir()
        (store.folder(run.stage) / "result.json").write_text('{"top1": 1}')
        if run.arm.name == "kept" or (run.arm.name == "half" and run.seed == 0):
            (store.folder(run.stage) / "draws.json").write_text(json.dumps(record))
    experiment = Experiment("trial", "", "kept", (0, 1), tuple(arms), tuple(runs), {}, {})
    found = runner._read_draws(experiment, runner.Reader(store), {})
    assert list(found) == ["kept"] and found["kept"].counts.tolist() == [[[14]]]


def test_diagnostics_are_computed_and_shown_with_what_they_found(tmp_path):
    """The stages of both tables with jobs that only leave a result: a diagnostic at one seed, and one at all."""
    folder = tmp_path / "stages"
    sets = {seed: Stage("sample", {"name": "edm", "seed": seed}) for seed in (0, 1)}
    runs = [
        DiagnosticRun("domains", "gap", "edm", seed, Stage("domain", {"set": one.name}, (one,)))
        for seed, one in sets.items()
    ]
    runs.append(DiagnosticRun("measures", "near", "edm", 0, Stage("measure", {"set": sets[0].name}, (sets[0],))))

    def job(stage, workdir):
        assert stage.kind == "sample" or (folder / stage.config["set"] / "result.json").is_file()
        workdir.mkdir(parents=True)
        result = {"sample": {"n": 1}, "domain": {"accuracy": 91.5}, "measure": {"fid": 3.25}}[stage.kind]
        (workdir / "result.json").write_text(json.dumps(result))
        return result

    store = Store(folder, job)
    experiment = Experiment("trial", "", "real", (0, 1), (), (), {}, {}, tuple(runs))
    assert [stage.kind for stage in experiment.stages] == ["sample", "domain", "sample", "domain", "measure"]
    said = [experiment.describe(done.stage) for done in compute_all(experiment.stages, store)]
    assert said == [
        *("sample edm, seed 0", "domain gap, seed 0", "sample edm, seed 1", "domain gap, seed 1"),
        "measure near, seed 0",
    ]
    found = runner._diagnostics(experiment, store, {})
    assert [(one.name, one.seed, one.result) for one in found["domains"]] == [
        ("gap", 0, {"accuracy": 91.5}),
        ("gap", 1, {"accuracy": 91.5}),
    ]
    assert found["measures"][0].folder == store.folder(runs[2].stage)
