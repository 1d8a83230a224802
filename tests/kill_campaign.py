"""Kills verbs in the middle of their work and runs the same commands again: each must end as one that was not killed.

Every command is run once undisturbed, which counts the times that it makes, opens, renames or removes a file of its
folder. Then, again and again in folders of their own, it is killed (SIGKILL) between two of these moments, which are
drawn, so that no kill can come too late: at the first of them, or some time after it, in the middle of computing or
of what is written beside Python. Run to its end, it must have left the same files: byte for byte, or, of checkpoints,
leaf by leaf, and of JSON and CSV but for what tells the time. Nothing half written may lie about.
Processes are forked from one that has imported the program, which is most of a start.

Run: python tests/kill_campaign.py --kills=60 [--seed=0]   (6 of them run with the tests)
Result (2 cores of an x86_64 that some fifteen processes shared, jax 0.10), every verb here in turn, all kills landed:
    --kills=60 --seed=1: 60 of 60 ended with the same bits and left nothing over.
    --kills=60 --seed=0, before that: 15 of 16 did; a run killed between result.json and digests.json was taken as
    finished without digests (result.json is last since). 25 kills of earlier versions: 24, and a leftover of imports.
"""

import argparse
import contextlib
import csv
import hashlib
import json
import os
import random
import shlex
import signal
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(ROOT / ".cache" / "tests"))
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
os.environ.setdefault("TQDM_DISABLE", "1")

TRAIN = "--config.data.n_base=40 --config.train.num_steps=40 --config.train.checkpoint_steps=5"
EDM = "configs/generator/digits_edm.py:quick --config.model.channel_multipliers=1, --config.model.base_channels=4"
SAMPLE = "--config.num_images=60 --config.shard_images=10 --config.sample.num_steps=2"
TINY = "--config.data.n_base=40 --config.prompts.template='a {{}}'"
DRAW = f"{TINY} --config.num_images=20 --config.shard_images=5 --config.sample.image_px=16"
MIXED = "synthetic={done}/sample,share=0.5,name=edm"
# In an order in which each finds what it reads. {done}: the folder of the undisturbed runs, by their names here.
COMMANDS = {
    "fit": f"fit --config={EDM} {TRAIN}",
    "sample": f"sample --config=configs/sample/edm.py --config.generator={{done}}/fit {SAMPLE}",
    "train": f"train --config=configs/classifier/digits_resnet.py:quick {TRAIN}",
    "mixed": f"train --config=configs/classifier/digits_resnet.py:quick,{MIXED} {TRAIN}",
    "evaluate": "evaluate --config=configs/evaluate.py --config.checkpoint={done}/train",
    "score": "score --config=configs/score/classifier.py --config.checkpoint={done}/train --config.set={done}/sample",
    "domain": f"domain --config=configs/domain/digits.py:quick --config.set={{done}}/sample {TRAIN}",
    "measure": "measure --config=configs/measure/digits.py:quick --config.data.n_base=40 --config.set={done}/sample "
    "--config.extractor.path={done}/train",
    "data import": "data import --path={done}/images",
    "import": "import --config=configs/import.py:digit --config.path={done}/public",
    "lora": "fit --config=configs/generator/digits_tiny_sd_lora.py:quick --config.pipeline.path={done}/pipeline "
    f"--config.method.image_px=16 {TRAIN} --config.train.num_steps=8 --config.train.checkpoint_steps=2 {TINY}",
    "text_to_image": f"sample --config=configs/sample/tiny_sd.py:quick --config.pipeline.path={{done}}/lora {DRAW}",
    "merge": "merge --config=configs/merge.py --config.pipeline.path={done}/lora",
    "study": "study --config={done}/experiment.py",
}
EXPERIMENT = """
from jaxmoust.config import read_config

def get_config(arg=""):
    config = read_config("experiments/quickstart.py:quick")
    config["seeds"] = (0,)
    config["arms"] = [arm for arm in config["arms"] if arm["name"] in ("real", "duplicated", "edm_mixed")]
    config["generators"] = {"edm": config["generators"]["edm"]}
    config["generators"]["edm"]["train"] = {"checkpoint_steps": 5}
    config.update(sets={"edm": config["sets"]["edm"]}, domains={}, measures={})
    return config
"""
MOMENTS = ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir")
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
LONGEST_SECS = 0.3  # after a moment: the next one is longer away where a program is compiled, and comes first elsewhere
TELLING_TIME = ("seconds", "commit", "digests.json", "result.json", "environment", "device", "versions", "packages")
# What tells the time throughout, and pages, which show it.
UNLIKE = ("environment.json", "log", ".html", ".xlsx", ".lock")


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the campaign; raises AssertionError, at its end, where a run did not end as it should."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--verbs", default=",".join(COMMANDS), help="those to kill; what they read is made")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(ROOT):
        landed = campaign(Path(folder), args.verbs.split(","), args.kills, random.Random(args.seed))
    print(f"{sum(landed.values())} of {args.kills} kills landed, and all went on to the same: {landed}", flush=True)


def campaign(folder: Path, verbs: Sequence[str], num_kills: int, rng: random.Random) -> dict[str, int]:
    """Kills so many commands, the verbs in turn: how many kills of each landed, which is all of them.

    Raises: AssertionError: naming the commands that did not go on to the same, once all were killed.
    """
    done, landed, faults = folder / "done", dict.fromkeys(verbs, 0), []
    _in_a_process(lambda: _make_inputs(done), folder / "log")
    unbroken = {}
    for verb in COMMANDS:
        if any(verb == needed for needed in (*verbs, *(read for one in verbs for read in _reads(one)))):
            unbroken[verb] = _run(verb, done, folder / verb)
            os.symlink(folder / verb / "work", done / verb)
    for kill in range(num_kills):
        verb = verbs[kill % len(verbs)]
        whole, root = unbroken[verb], folder / f"kill{kill}"
        moment = rng.randrange(1, whole["moments"])
        wait = rng.choice((0.0, rng.uniform(0, LONGEST_SECS)))
        code = _kill(verb, done, root, moment, wait)
        where = f"{verb}, killed {wait:.3f} s after moment {moment} of {whole['moments']} (kill {kill})"
        assert code == -signal.SIGKILL, f"{where}: it ended with {code} before"
        landed[verb] += 1
        found = _run(verb, done, root)["facts"]
        unlike = [name for name in sorted({*found, *whole["facts"]}) if found.get(name) != whole["facts"].get(name)]
        faults += [f"{where}: another {', '.join(unlike)}"] if unlike else []
        print(f"{kill + 1}/{num_kills}", faults[-1] if unlike else f"{where}, went on to the same", flush=True)
    assert not faults, "\n".join(faults)
    return landed


def _reads(verb: str) -> set[str]:
    """The verbs whose results a verb reads, and those that these read."""
    direct = {other for other in COMMANDS if f"{{done}}/{other}" in COMMANDS[verb]}
    return direct.union(*map(_reads, direct))


def _run(verb: str, done: Path, root: Path) -> dict[str, Any]:
    """Runs a command to its end: how many moments it had, and what it left."""
    report = root.parent / "report.json"

    def work() -> int:
        moments = _watch(root, lambda count: None)
        code = _command(verb, done, root)
        report.write_text(json.dumps({"moments": moments[0], "facts": _facts(root)}))
        return code

    code = _in_a_process(work, root.parent / "log")
    assert code == 0, f"{verb} ends with {code} in {root}:\n{(root.parent / 'log').read_text()[-3000:]}"
    return json.loads(report.read_text())


def _kill(verb: str, done: Path, root: Path, moment: int, wait: float) -> int:
    """Runs a command that is killed so long after a moment, at the next one at the latest; returns how it ended."""

    def kill(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def look(count: int) -> None:
        if count == moment and wait:
            threading.Timer(wait, kill).start()
        elif count >= moment:
            kill()

    def work() -> int:
        _watch(root, look)
        return _command(verb, done, root)

    return _in_a_process(work, root.parent / "log")


def _command(verb: str, done: Path, root: Path) -> int:
    from jaxmoust.cli import call

    return call([*shlex.split(COMMANDS[verb].format(done=done)), f"--workdir={root}/work"])


def _watch(root: Path, look: Callable[[int], None]) -> list[int]:
    """Counts, from now on, what this process does to the files below a folder, and calls `look` before each."""
    counted, begins, lock = [0], os.fspath(root), threading.RLock()

    def hook(event: str, args: tuple[Any, ...]) -> None:
        if event not in MOMENTS or not isinstance(args[0], str | os.PathLike):
            return
        if os.fspath(args[0]).startswith(begins) and (event != "open" or args[2] & WRITING):
            with lock:
                counted[0] += 1
                look(counted[0])

    sys.addaudithook(hook)
    return counted


def _in_a_process(work: Callable[[], int | None], log: Path) -> int:
    """Works in a process of its own, whose words go to a file; returns how that ends, as `subprocess` does."""
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    try:
        words = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(words, 1)
        os.dup2(words, 2)
        code = work() or 0
    except BaseException:
        traceback.print_exc()
        code = 99
    sys.stdout.flush()
    os._exit(code)


def _facts(root: Path) -> dict[str, str]:
    """What a command left, file by file, as digests of what does not tell the time."""
    from jaxmoust.core.tree import named_leaves
    from jaxmoust.runtime.checkpoint import restore_tree

    facts = {}
    for file in sorted(path for path in root.rglob("*") if path.is_file()):
        name = file.relative_to(root).as_posix()
        if name.startswith(".index.html."):
            continue  # a study sweeps it once it is an hour old: those beside it may be writing theirs
        if "/checkpoints/" in name:
            folder = root / name[: name.index("/checkpoints/")] / "checkpoints"
            if (name := folder.relative_to(root).as_posix()) not in facts:
                steps, state = sorted(path.name for path in folder.iterdir()), restore_tree(folder)[0]
                leaves = {leaf: _digest(x.tobytes()) for leaf, x in named_leaves(state).items()}
                facts[name] = _digest(json.dumps([steps, sorted(leaves.items())]).encode())
        elif not file.name.endswith(UNLIKE) and "tfevents" not in name:
            facts[name] = _digest(_content(file, root))
    return facts


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _content(file: Path, root: Path) -> bytes:
    if file.name == "digests.json":
        # Those of checkpoints are named by chance, and are compared leaf by leaf.
        return ",".join(sorted(x for x in json.loads(file.read_text()) if "checkpoints/" not in x)).encode()
    if file.suffix in (".json", ".jsonl"):
        lines = [file.read_text()] if file.suffix == ".json" else file.read_text().splitlines()
        return json.dumps([_timeless(json.loads(line)) for line in lines]).replace(str(root), "").encode()
    if file.suffix == ".csv":
        with open(file, newline="") as rows:
            return json.dumps([_timeless(row) for row in csv.DictReader(rows)]).encode()
    return file.read_bytes()


def _timeless(read: Any) -> Any:
    """JSON without what tells the time."""
    if isinstance(read, list):
        return [_timeless(each) for each in read]
    if isinstance(read, dict):
        return {k: _timeless(v) for k, v in read.items() if k not in TELLING_TIME and "_per_sec" not in k}
    return read


def _make_inputs(done: Path) -> None:
    """Two classes of ten small pictures, an experiment, a pipeline and a public network."""
    import numpy as np
    from PIL import Image
    from public_unets import save_diffusers, tensors_of
    from tiny_stable_diffusion import write_pipeline

    rng = np.random.default_rng(0)
    for label in ("cat", "dog"):
        (done / "images" / label).mkdir(parents=True)
        for i in range(10):
            Image.fromarray(rng.integers(0, 256, (8, 8), np.uint8)).save(done / "images" / label / f"{i}.png")
    (done / "experiment.py").write_text(EXPERIMENT)
    save_diffusers(done / "public", tensors_of("ddpm"))
    write_pipeline(done / "pipeline", 1, shallow=True)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    from jaxmoust.jobs.parts.registry import entries

    for entry in entries():
        entry.load()  # once, for all that are forked
    main()
