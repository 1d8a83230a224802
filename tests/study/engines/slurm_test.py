"""Stages as jobs that submitit submits, by its executor for one machine, which stands in for SLURM."""

import contextlib
import os
import signal

import pytest
from clusters import begun, check_stop, python_path, store_at
from toy_worker import work

from jaxmoust.study.engines import loop
from jaxmoust.study.engines.loop import compute_all
from jaxmoust.study.store import Stage

pytest.importorskip("submitit", reason="submitit is not installed: pip install 'jaxmoust[slurm]'")


@pytest.fixture
def engine(tmp_path, monkeypatch, request):
    from jaxmoust.study.engines.slurm import Slurm

    monkeypatch.setenv("PYTHONPATH", python_path(request.config.rootpath))
    monkeypatch.setattr(loop, "POLL_SECS", 0.2)
    store = store_at(tmp_path)
    with contextlib.closing(Slurm(store, work, lambda kind: {"cpus_per_task": 1}, 2, "local")) as made:
        made.store = store
        yield made


def test_graph_is_computed_whatever_fails_and_whatever_dies(engine):
    fit, bad = Stage("fit", {"dies": 1}), Stage("fit", {"fails": True})
    after, lost = Stage("train", {}, (fit,)), Stage("train", {"k": 1}, (bad,))
    done = {d.stage.name: d for d in compute_all([fit, bad, after, lost], engine.store, lambda line: None, engine)}
    assert done[fit.name].result and done[after.name].result
    assert [len(begun(engine, stage)) for stage in (fit, bad, after, lost)] == [2, 1, 1, 0]
    assert done[bad.name].error == "bad image 3" and done[lost.name].error.startswith("it needs ")


def test_driver_that_is_stopped_leaves_no_job(engine, monkeypatch):
    """Two run, and one is not submitted."""
    check_stop(engine, monkeypatch, 3)


def test_stage_whose_time_is_nearly_over_stops_and_goes_on_in_another_job(engine, monkeypatch):
    stage, said = Stage("train", {"secs": 3.0}), []
    signalled = []

    def signal_it():
        if not signalled and (now := begun(engine, stage)):
            os.kill(now[0], signal.SIGUSR2)  # as SLURM does, before it ends the job
            signalled.append(now[0])
        return False

    with monkeypatch.context() as patch:
        patch.setattr(loop.stop, "requested", signal_it)
        (done,) = compute_all([stage], engine.store, said.append, engine)
    assert done.result and len(begun(engine, stage)) == 2
    assert f"{stage.name} was stopped where it is" in said[0] and "died" not in " ".join(said)
