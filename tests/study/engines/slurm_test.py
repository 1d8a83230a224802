"""Stages as jobs that submitit submits, by its executor for one machine, which stands in for SLURM."""

import contextlib
import os
import time

import pytest
from toy_worker import work

from jaxmoust.runtime import stop
from jaxmoust.study.engines import loop
from jaxmoust.study.engines.loop import compute_all
from jaxmoust.study.store import Stage, Store

pytest.importorskip("submitit", reason="submitit is not installed: pip install 'jaxmoust[slurm]'")


@pytest.fixture
def engine(tmp_path, monkeypatch, request):
    from jaxmoust.study.engines.slurm import Slurm

    root = request.config.rootpath
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(map(str, (root, root / "tests"))))
    monkeypatch.setattr(loop, "POLL_SECS", 0.2)
    store = Store(tmp_path / "stages", lambda stage, folder: pytest.fail("computed in the driver"))
    with contextlib.closing(Slurm(store, work, lambda kind: {"cpus_per_task": 1}, 2, "local")) as made:
        made.store = store
        yield made


def begun(engine, stage):
    """How often a stage was begun."""
    path = engine.store.folder(stage) / "begun"
    return len(path.read_text().splitlines()) if path.exists() else 0


def test_graph_is_computed_whatever_fails_and_whatever_dies(engine):
    fit, bad = Stage("fit", {"dies": 1}), Stage("fit", {"fails": True})
    after, lost = Stage("train", {}, (fit,)), Stage("train", {"k": 1}, (bad,))
    done = {d.stage.name: d for d in compute_all([fit, bad, after, lost], engine.store, lambda line: None, engine)}
    assert done[fit.name].result and done[after.name].result
    assert [begun(engine, stage) for stage in (fit, bad, after, lost)] == [2, 1, 1, 0]
    assert done[bad.name].error == "bad image 3" and done[lost.name].error.startswith("it needs ")


def test_driver_that_is_stopped_leaves_no_job(engine, monkeypatch):
    long, asked = [Stage("train", {"seed": seed, "secs": 600.0}) for seed in range(3)], []

    def requested():
        if not asked and all(begun(engine, stage) for stage in long[:2]):
            asked.append(time.monotonic())
        return bool(asked)

    with monkeypatch.context() as patch:
        patch.setattr(loop.stop, "requested", requested)
        with pytest.raises(stop.Stopped):
            list(compute_all(long, engine.store, engine=engine))
    assert time.monotonic() - asked[0] < 60 and not list(engine.store.path.glob(".*.lease"))
    engine.close()
    assert not list(engine.store.path.glob(".stop-*"))
