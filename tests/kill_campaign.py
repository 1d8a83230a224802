"""Kills verbs at random moments and runs the same commands again: each must end with what an unbroken run ends with.

Every command is run once undisturbed, then again and again in folders of their own: killed (SIGKILL) at a moment drawn
over the time that it takes, and run to its end. Files are compared byte for byte but for what tells the time, and
nothing half written may be left. Processes are forked from one that has imported the program, which is most of a start.

Run: python tests/kill_campaign.py --kills=60 [--seed=0]   (6 of them run with the tests)
"""

import argparse
import contextlib
import csv
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
os.environ.setdefault("JAX_PLATFORMS", "cpu")

TRAIN = "--config.data.n_base=40 --config.train.num_steps=40 --config.train.checkpoint_steps=5"
EDM = "configs/generator/digits_edm.py:quick --config.model.channel_multipliers=1, --config.model.base_channels=4"
SAMPLE = "--config.num_images=60 --config.shard_images=10 --config.sample.num_steps=2"
# {done}: the folder of the undisturbed runs, by their names here.
COMMANDS = {
    "fit": f"fit --config={EDM} {TRAIN}",
    "sample": f"sample --config=configs/sample/edm.py --config.generator={{done}}/fit {SAMPLE}",
    "train": f"train --config=configs/classifier/digits_resnet.py:quick {TRAIN}",
    "score": "score --config=configs/score/classifier.py --config.checkpoint={done}/train --config.set={done}/sample",
    "domain": f"domain --config=configs/domain/digits.py:quick --config.set={{done}}/sample {TRAIN}",
    "evaluate": "evaluate --config=configs/evaluate.py --config.checkpoint={done}/train",
    "measure": "measure --config=configs/measure/digits.py:quick --config.data.n_base=40 --config.set={done}/sample "
    "--config.extractor.path={done}/train",
    "data import": "data import --path={done}/images",
    "study": "study --config={done}/experiment.py",
}
EXPERIMENT = """
from jaxmoust.config import read_config

def get_config(arg=""):
    config = read_config("experiments/quickstart.py:quick")
    config.update(seeds=(0,), generators={}, sets={}, domains={}, measures={})
    config["arms"] = [arm for arm in config["arms"] if arm["name"] in ("real", "duplicated")]
    return config
"""
TELLING_TIME = ("seconds", "commit", "device", "digest", "versions")
COMPARED = (".npy", ".array_record", "result.json", "results.csv", "draws.json", "config.json", "contents.json")


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the campaign; raises AssertionError at the first run that does not end as it should."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--verbs", default=",".join(COMMANDS))
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(ROOT):
        campaign(Path(folder), args.verbs.split(","), args.kills, random.Random(args.seed))


def campaign(folder: Path, verbs: Sequence[str], num_kills: int, rng: random.Random) -> dict[str, int]:
    """Kills so many commands, the verbs in turn: how many of each were hit before they had ended."""
    done = folder / "done"
    (done / "images").mkdir(parents=True)
    (done / "experiment.py").write_text(EXPERIMENT)
    _draw_images(done / "images")
    seconds, hit = {}, dict.fromkeys(verbs, 0)
    for verb in verbs:  # in an order in which each finds what it reads
        started = time.monotonic()
        code = _finish(_start(verb, done, done / verb))
        assert code == 0, f"{verb} ends with {code}, undisturbed"
        seconds[verb] = time.monotonic() - started
    for kill in range(num_kills):
        verb = verbs[kill % len(verbs)]
        work = folder / f"work{kill}" / verb
        pid = _start(verb, done, work)
        time.sleep(rng.uniform(0.02, 0.6) * seconds[verb])  # of which a part went into compiling
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        killed = _finish(pid) == -signal.SIGKILL
        hit[verb] += killed
        started = time.monotonic()
        code = _finish(_start(verb, done, work))
        assert code == 0, f"{verb} ends with {code} after kill {kill}"
        seconds[verb] = min(seconds[verb], time.monotonic() - started)  # the first run compiled its programs
        assert _facts(work) == _facts(done / verb), f"{verb} differs after kill {kill}"
        left = [str(path) for path in work.parent.rglob("*") if path.name.endswith(".tmp") or "orbax-" in path.name]
        assert not left, f"{verb} leaves {left} after kill {kill}"
        print(
            f"{kill + 1}/{num_kills} {verb}: {'killed' if killed else 'had ended'}, and went on to the same", flush=True
        )
    return hit


def _start(verb: str, done: Path, work: Path) -> int:
    """Starts a command in a process of its own; returns its number."""
    from jaxmoust.cli import main as program

    pid = os.fork()
    if pid:
        return pid
    log = os.open(work.parent.parent / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    try:
        program([*COMMANDS[verb].format(done=done).split(), f"--workdir={work}"])
    except SystemExit as e:
        os._exit(int(e.code or 0))
    finally:
        os._exit(99)


def _finish(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _facts(work: Path) -> dict[str, object]:
    """What a command left, without what tells the time; of a study, its rows and its stages."""
    folders = [work, *(sorted(work.parent.glob("stages/*")) if (work / "results.csv").exists() else ())]
    files = {f"{f.name}/{file.relative_to(f)}": file for f in folders for file in f.rglob("*") if file.is_file()}
    return {name: _content(file) for name, file in files.items() if any(end in file.name for end in COMPARED)}


def _content(file: Path) -> object:
    if file.suffix == ".json":
        read = json.loads(file.read_text())
        return {k: v for k, v in read.items() if k not in TELLING_TIME}
    if file.suffix == ".csv":
        with open(file, newline="") as rows:
            return [{k: v for k, v in row.items() if k not in TELLING_TIME} for row in csv.DictReader(rows)]
    return file.read_bytes()


def _draw_images(folder: Path) -> None:
    """Two classes of ten small pictures."""
    from PIL import Image

    rng = np.random.default_rng(0)
    for label in ("cat", "dog"):
        (folder / label).mkdir()
        for i in range(10):
            Image.fromarray(rng.integers(0, 256, (8, 8), np.uint8)).save(folder / label / f"{i}.png")


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
