"""Worker processes of one machine: each stage once, on devices of its own, whatever becomes of a worker."""

import contextlib
import os
import time

import pytest
from toy_worker import work

from jaxmoust.runtime import stop
from jaxmoust.runtime.parallel import Devices
from jaxmoust.study.engines import loop
from jaxmoust.study.engines.local import Local
from jaxmoust.study.engines.loop import compute_all
from jaxmoust.study.store import Stage, Store, in_order


@pytest.fixture(autouse=True)
def importable(monkeypatch, request):
    """Workers import this package and what they do, and count their devices themselves."""
    root = request.config.rootpath
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(map(str, (root, root / "tests"))))
    monkeypatch.delenv("XLA_FLAGS")
    monkeypatch.setattr(loop, "POLL_SECS", 0.05)


@pytest.fixture
def engine(tmp_path):
    """Two workers of one core each; those of kind "fit" have both."""
    cores = sorted(os.sched_getaffinity(0))
    devices = Devices("cpu", tuple(str(cores[i % len(cores)]) for i in range(2)))
    store = Store(tmp_path / "stages", lambda stage, folder: pytest.fail("computed in the driver"))
    with contextlib.closing(Local(store, work, devices, lambda kind: 2 if kind == "fit" else 1)) as made:
        made.store = store
        yield made


def begun(engine, stage):
    """(process, devices) of each time that a stage was begun."""
    return [tuple(line.split(" ")) for line in (engine.store.folder(stage) / "begun").read_text().splitlines()]


def test_workers_compute_a_graph_side_by_side_on_devices_of_their_own(engine, monkeypatch):
    monkeypatch.setattr("jaxmoust.runtime.parallel._cpu_devices_are_set", lambda: False)
    fit = Stage("fit", {})
    trains = [Stage("train", {"seed": seed, "secs": 1.0}, (fit,)) for seed in range(4)]
    done = list(compute_all(in_order(trains), engine.store, engine=engine))
    assert [each.stage.kind for each in done] == ["fit"] + 4 * ["train"] and all(each.here for each in done)
    assert [each.result for each in done] == [engine.store.find(each.stage) for each in done]
    by = {stage.name: begun(engine, stage) for stage in (fit, *trains)}
    assert all(len(times) == 1 for times in by.values())
    assert by[fit.name][0][1] == "2" and {times[0][1] for name, times in by.items() if name != fit.name} == {"1"}
    assert len({times[0][0] for times in by.values()}) == 3  # two of one device, after one of two, which is gone


def test_worker_that_dies_loses_its_stage_which_is_begun_again_and_one_that_always_dies_is_a_failure(engine):
    said = []
    once, always, after = Stage("train", {"dies": 1}), Stage("train", {"dies": 9}), Stage("train", {"k": 1})
    needs = Stage("score", {}, (always,))
    done = {d.stage.name: d for d in compute_all([once, always, after, needs], engine.store, said.append, engine)}
    assert done[once.name].result and done[after.name].result
    assert "died 3 times" in done[always.name].error and engine.store.failure(always)[1] == done[always.name].error
    assert done[needs.name].error.startswith("it needs ")
    assert [len(begun(engine, stage)) for stage in (once, always, after)] == [2, 3, 1]
    assert sum(once.name in line and "begun again" in line for line in said) == 1


def test_stage_that_raises_in_a_worker_is_tried_once_and_recorded(engine):
    fails = Stage("train", {"fails": True})
    (done,) = compute_all([fails], engine.store, engine=engine)
    assert done.error == "bad image 3" and done.here and len(begun(engine, fails)) == 1
    assert engine.store.failure(fails)[1] == "bad image 3"


def test_study_that_is_stopped_waits_until_its_workers_have_stopped(engine, monkeypatch):
    long = [Stage("train", {"seed": seed, "secs": 60.0}) for seed in range(3)]
    asked = []

    def requested():
        if not asked and all((engine.store.folder(stage) / "begun").exists() for stage in long[:2]):
            asked.append(time.monotonic())
        return bool(asked)

    monkeypatch.setattr(loop.stop, "requested", requested)
    with pytest.raises(stop.Stopped, match="before stage 1 of 3"):
        list(compute_all(long, engine.store, engine=engine))
    assert time.monotonic() - asked[0] < 20 and not (engine.store.folder(long[2])).exists()
    assert not list(engine.store.path.glob(".*.lease")) and not engine.store.failure(long[0])[1]
    monkeypatch.undo()


def test_generator_that_is_closed_stops_what_runs(engine):
    """As a budget does that is spent."""
    short, long = Stage("train", {"secs": 0.0}), Stage("train", {"secs": 600.0})
    done = compute_all([long, short], engine.store, engine=engine)
    assert next(done).stage is short
    done.close()
    assert engine.store.find(long) is None and not list(engine.store.path.glob(".*.lease"))
