"""Whole programs that are killed or asked to stop, and end with the results of one that was left alone."""

import csv
import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]

# The program, but for killing itself, as SIGKILL does it, where MOMENT says.
PROGRAM = """
import os, signal, sys
from jaxmoust.cli import call
from jaxmoust.data.synthetic import store as synthetic
from jaxmoust.runtime.checkpoint import Checkpoints
from jaxmoust.runtime.folder import RunFolder

def kill_before(owner, name, condition):
    original = getattr(owner, name)
    def watched(*args, **kwargs):
        if condition(*args):
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*args, **kwargs)
    setattr(owner, name, watched)

MOMENT
sys.exit(call(sys.argv[1:]))
"""
MOMENTS = {
    "in a fit, two checkpoints behind it": "kill_before(Checkpoints, 'save', lambda self, step, *_: step == 15)",
    "between the shards of a set": "kill_before(synthetic, 'write_shard', lambda path, spec, shard, *_: shard == 1)",
    "between a classifier's checkpoint and its result": (
        "kill_before(RunFolder, 'write_result', lambda self, result: result.get('n_synthetic'))"
    ),
}

# The quick experiment's arms of one generator, with checkpoints inside its fit.
EXPERIMENT = """
from jaxmoust.config import read_config

def get_config(arg=""):
    config = read_config("experiments/quickstart.py:quick")
    config["seeds"] = (0,)
    config["arms"] = [arm for arm in config["arms"] if arm["name"] in ("real", "edm_only", "edm_mixed")]
    config["generators"] = {"edm": config["generators"]["edm"]}
    config["generators"]["edm"]["train"] = {"checkpoint_steps": 5}
    config.update(sets={"edm": config["sets"]["edm"]}, domains={}, measures={})
    return config
"""


def start(*args: object, moment: str = "") -> subprocess.Popen:
    """Starts the program in a process of its own, on the tests' devices and with their compiled programs."""
    command = [sys.executable, "-c", PROGRAM.replace("MOMENT", moment), *map(str, args)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finish(process: subprocess.Popen) -> tuple[int, str]:
    """Waits; returns the exit code and all that was written."""
    out, _ = process.communicate(timeout=300)
    return process.returncode, out


def rows_of(workdir: Path) -> list[dict]:
    """results.csv without the time a run took, its folder's name and the commit, which may move while tests run."""
    with open(workdir / "results.csv", newline="") as file:
        return [{k: v for k, v in row.items() if k not in ("seconds", "commit", "run")} for row in csv.DictReader(file)]


def steps_of(folder: Path, metric: str) -> list[int]:
    """The steps at which metrics.jsonl has a metric."""
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [line["step"] for line in lines if metric in line]


def test_study_killed_three_times_ends_like_one_that_was_not(tmp_path, quick_study):
    (tmp_path / "experiment.py").write_text(EXPERIMENT)
    args = ("study", f"--config={tmp_path}/experiment.py", f"--workdir={tmp_path}/study")
    arms = ("real", "edm_only", "edm_mixed")
    unbroken = [row for row in rows_of(quick_study.workdir) if row["seed"] == "0" and row["arm"] in arms]
    done = []
    for moment in MOMENTS.values():
        code, out = finish(start(*args, moment=moment))
        assert code == -signal.SIGKILL, out
        done.append(rows_of(tmp_path / "study"))
        assert done[-1] == [row for row in unbroken if row in done[-1]]
        assert len(done[-1]) < len(unbroken)
    code, out = finish(start(*args))
    assert code == 0, out
    assert rows_of(tmp_path / "study") == unbroken
    assert [len(rows) for rows in done] == [1, 1, 1] and "5 stages, 3 found, 2 to compute" in out
    (fit,) = (tmp_path / "stages").glob("fit-*")
    assert steps_of(fit, "loss") == [5, 10, 15, 20]
    assert (tmp_path / "study" / "report" / "index.html").is_file()


def test_fit_stops_on_sigterm_with_a_checkpoint_and_goes_on(tmp_path, cli):
    """And what it ends with is, bit for bit, the generator of a fit that nobody stopped."""
    overrides = {
        "data.n_base": 40,
        "model.channel_multipliers": "1,",
        "model.base_channels": 4,
        "model.dropout": 0.0,
        "augment.rotate_deg": 0.0,
        "augment.translate_px": 0.0,
        "augment.scale": 0.0,
        "optim.ema_half_life_images": 0.0,
        "train.num_steps": 100,
        "train.log_steps": 10,
    }
    line = "fit --config=configs/generator/digits_edm.py:quick " + " ".join(
        f"--config.{field}={value}" for field, value in overrides.items()
    )
    assert cli(f"{line} --workdir={tmp_path}/unbroken").code == 0

    work = tmp_path / "work"
    process = start(*line.split(), f"--workdir={work}")
    patience = time.monotonic() + 120
    while not (work / "metrics.jsonl").exists() or not steps_of(work, "loss"):
        assert process.poll() is None and time.monotonic() < patience, finish(process)
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    code, out = finish(process)
    assert code == 143, out
    step = int(re.search(r"Stopped on request at step (\d+); the same command continues", out)[1])
    assert 10 <= step < 100
    assert sorted(p.name for p in (work / "checkpoints").iterdir()) == [str(step), "README.md"]
    assert not (work / "result.json").exists()

    code, out = finish(start(*line.split(), f"--workdir={work}"))
    assert code == 0, out
    broken, unbroken = (json.loads((f / "result.json").read_text()) for f in (work, tmp_path / "unbroken"))
    assert {k: v for k, v in broken.items() if k != "seconds"} == {k: v for k, v in unbroken.items() if k != "seconds"}
    assert set(steps_of(work, "loss")) == {*range(10, 101, 10), step}
    assert len(steps_of(work, "loss")) == len(set(steps_of(work, "loss")))
