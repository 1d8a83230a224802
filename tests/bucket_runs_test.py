"""Runs and studies whose folders lie in a bucket: on machines that share nothing else, killed, and started again."""

import json
import os
import re
import signal
from pathlib import Path

import pytest
from buckets import KINDS, serving
from command_line import EDM, RESNET, assert_refused, write_images
from resume_test import EXPERIMENT, finish, rows_of, start, steps_of

from jaxmoust.runtime.bucket import Bucket
from jaxmoust.runtime.bucket_copy import SCRATCH

SHORT = "--config.train.num_steps=4 --config.eval.steps=4 --config.train.log_steps=2"
SAMPLE = "--config=configs/sample/edm.py:quick"
# Files are published often, and the process is killed once its last checkpoint has been.
KILL = """
import time
from jaxmoust.runtime import bucket_copy
bucket_copy.PUBLISH_SECS = 0.5
kill_before(Checkpoints, 'save', lambda self, step, *_: step == 15 and (time.sleep(4) or True))
"""


def results(folder: Path) -> dict:
    return {k: v for k, v in json.loads((folder / "result.json").read_text()).items() if k != "seconds"}


def test_runs_in_a_bucket_are_those_of_a_disk(cli, bucket_url, tmp_path, monkeypatch):
    def in_turn(root: str, scratch: Path) -> list:
        monkeypatch.setenv(SCRATCH, str(scratch))
        lines = [
            f"fit {EDM} --workdir={root}/edm",
            f"sample {SAMPLE} --config.generator={root}/edm --workdir={root}/set --config.num_images=20",
            f"train {RESNET} --config.data.synthetic={root}/set, --config.sampler.name=random --workdir={root}/run",
        ]
        return [cli(line) for line in lines]

    for one in (*in_turn(str(tmp_path / "disk"), tmp_path / "unused"), *in_turn(bucket_url, tmp_path / "first")):
        assert one.code == 0, one
    there = {path.name for path in (tmp_path / "disk/run").iterdir() if path.is_file() and path.name[0] != "."}
    files = {name for name in Bucket(f"{bucket_url}/run").files()}
    assert {name for name in files if "/" not in name} == there
    assert any(name.startswith("checkpoints/") for name in files)
    for name in ("edm", "set", "run"):
        assert json.loads(Bucket(f"{bucket_url}/{name}").read("config.json")) == _with(
            json.loads((tmp_path / "disk" / name / "config.json").read_text()), str(tmp_path / "disk"), bucket_url
        )
    again = in_turn(bucket_url, tmp_path / "second")  # another machine: it finds all
    assert all("found: it was finished on" in one.out for one in again), again
    (run,) = (tmp_path / "second").glob("run-*")
    assert results(run) == results(tmp_path / "disk/run")
    assert cli(f"data inspect --source=folder --path={bucket_url}/nothing").code == 2


def _with(value, old, new):
    return json.loads(json.dumps(value).replace(old, new))


def test_folder_of_images_in_a_bucket_is_the_same_data_as_on_a_disk(cli, bucket_url, tmp_path):
    images = write_images(tmp_path / "images/train", classes="01").parent
    write_images(images / "test", classes="01")
    for path in images.rglob("*.png"):
        Bucket(f"{bucket_url}/images").put(path.relative_to(images).as_posix(), path)
    line = f"train {RESNET} --config.data.source=folder --config.data.n_base=0"
    where, other = f"--workdir={tmp_path}/run", f"--workdir={tmp_path}/other"
    first = cli(f"{line} --config.data.path={bucket_url}/images {where}")
    assert first.code == 0, first
    assert json.loads((tmp_path / "run/config.json").read_text())["data"]["path"] == f"{bucket_url}/images"
    assert "found" in cli(f"{line} --config.data.path={images} {where}").out
    assert cli(f"data inspect --source=folder --path={bucket_url}/images").code == 0
    assert_refused(cli(f"{line} --config.data.path={bucket_url}/nothing {other}"), f"nothing at {bucket_url}/nothing")
    assert not (tmp_path / "other").exists()


def test_disk_that_is_full_is_said_and_the_bucket_stays(cli, bucket_url, tmp_path, monkeypatch):
    monkeypatch.setenv(SCRATCH, str(tmp_path / "a"))
    assert cli(f"fit {EDM} --workdir={bucket_url}/edm").code == 0

    def full(self, name, path):
        raise OSError(28, "No space left on device", str(path))

    before = Bucket(f"{bucket_url}/edm").files()
    monkeypatch.setattr(Bucket, "get", full)
    monkeypatch.setenv(SCRATCH, str(tmp_path / "b"))
    done = cli(f"fit {EDM} --workdir={bucket_url}/edm")
    assert done.code in (1, 2) and "No space left" in done.err and "Traceback" not in done.err
    assert Bucket(f"{bucket_url}/edm").files() == before


def test_places_that_are_not_taken_are_refused(cli, bucket_url, tmp_path):
    for line in (
        f"study --index={bucket_url}/runs",
        f"predict --checkpoint={bucket_url}/a --path={tmp_path} --output={bucket_url}/b.csv",
        "fit --config=configs/generator/digits_edm.py:quick --workdir=ftp://somewhere/x",
        f"fit --config={bucket_url}/edm.py:quick --workdir={tmp_path}/x",
    ):
        assert_refused(cli(line), "://", "is not read or written")


@pytest.mark.parametrize("kind", KINDS[1:])  # several processes: not in the memory of one
def test_study_of_two_machines_one_of_which_dies_is_that_of_one(kind, tmp_path, quick_study, monkeypatch):
    (tmp_path / "experiment.py").write_text(EXPERIMENT)
    arms = ("real", "edm_only", "edm_mixed")
    unbroken = [row for row in rows_of(quick_study.workdir) if row["seed"] == "0" and row["arm"] in arms]
    with serving(kind, monkeypatch) as url:

        def args(machine: str) -> list[str]:
            places = [f"--workdir={url}/{machine}", f"--store={url}/stages", f"--scratch={tmp_path}/{machine}"]
            places += ["--workers=2"] if machine == "second" else []  # computed in processes of their own
            return ["study", f"--config={tmp_path}/experiment.py", *places]

        code, out = finish(start(*args("dead"), moment=KILL))
        assert code == -signal.SIGKILL, out
        (fit,) = {name.split("/")[0] for name in Bucket(f"{url}/stages").files() if name.startswith("fit-")}
        assert any(name.startswith("checkpoints/10/") for name in Bucket(f"{url}/stages/{fit}").files())

        quick = "from jaxmoust.runtime import bucket\nbucket.DEAD_SECS, bucket.BEAT_SECS = 6.0, 1.0"
        both = [start(*args(machine), moment=quick) for machine in ("first", "second")]
        ends = [finish(process) for process in both]
        assert [code for code, _ in ends] == [0, 0], ends
        for machine in ("first", "second"):
            (work,) = tmp_path.glob(f"{machine}/{machine}-*")
            assert rows_of(work) == unbroken
            assert "report/index.html" in Bucket(f"{url}/{machine}").files()
        lines = [line for _, out in ends for line in out.splitlines() if re.match(r"\[\d+/\d+\] ", line)]
        computed = [line.split("] ")[1].split(":")[0] for line in lines if ": found" not in line]
        assert computed and len(set(computed)) == len(computed), lines  # each by one of them
        copies = {path.parent for path in tmp_path.glob(f"*/stages-*/{fit}/metrics.jsonl")}
        steps = [steps_of(copy, "loss") for copy in copies if (copy / "result.json").exists()]
        assert steps and all(of_one == [5, 10, 15, 20] for of_one in steps)
    assert not [name for name in os.listdir(".") if name.endswith(":")]  # no folder "s3:" was made
