"""Stages after stages: failures cost what needs them, and several processes compute each stage once."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from jaxmoust.runtime import parallel, stop
from jaxmoust.runtime.lock import lease
from jaxmoust.study.engines import loop
from jaxmoust.study.engines.loop import InProcess, compute_all, in_parts
from jaxmoust.study.store import Stage, Store

# Computes one generator and six classifiers that stand on it; each takes a while, and writes a line when it begins.
WORKER = """
import json, os, sys, time
from pathlib import Path
from jaxmoust.study import store as stages
from jaxmoust.study.engines import loop

loop.POLL_SECS = 0.02
path, secs = Path(sys.argv[1]), float(sys.argv[2])

def job(stage, workdir):
    with open(path / "begun", "a") as log:
        log.write(f"{workdir.name}\\n")
    time.sleep(secs)
    workdir.mkdir(exist_ok=True)
    (workdir / "new.json").write_text(json.dumps({"by": os.getpid()}))
    (workdir / "new.json").rename(workdir / "result.json")
    return {"by": os.getpid()}

fit = stages.Stage("fit", {})
todo = stages.in_order([stages.Stage("train", {"seed": seed}, (fit,)) for seed in range(6)])
for done in loop.compute_all(todo, stages.Store(path, job), lambda line: print(line, flush=True)):
    print(done.stage.name, done.result["by"], flush=True)
"""


@pytest.fixture(autouse=True)
def quick_polls(monkeypatch):
    monkeypatch.setattr(loop, "POLL_SECS", 0.01)


@pytest.fixture
def work(tmp_path, request):
    """Starts a worker on the store; what is left of it is ended after the test."""
    started = []

    def start(secs: float) -> subprocess.Popen:
        command = [sys.executable, "-c", WORKER, str(tmp_path), str(secs)]
        environment = {**os.environ, "PYTHONPATH": str(request.config.rootpath)}
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


def begun(store: Path) -> list[str]:
    """The stages whose computing was begun, in that order."""
    return (store / "begun").read_text().split() if (store / "begun").exists() else []


def wait_for(condition) -> None:
    end = time.monotonic() + 60  # two interpreters start on a busy machine
    while not condition():
        assert time.monotonic() < end, "nothing happened for a minute"
        time.sleep(0.01)


def finish(stage, workdir):
    workdir.mkdir(parents=True)
    result = {**stage.config, "done": True}
    (workdir / "result.json").write_text(json.dumps(result))
    return result


def test_stages_that_another_computes_come_last_and_are_waited_for(tmp_path):
    fits = [Stage("fit", {"k": k}) for k in (0, 1)]
    todo = [fits[0], Stage("train", {"k": 0}, (fits[0],)), fits[1], Stage("train", {"k": 1}, (fits[1],))]
    store, said, order = Store(tmp_path, finish), [], []
    with lease(tmp_path / f".{fits[0].name}.lease"):
        for done in compute_all(todo, store, said.append):
            order.append((done.stage.kind, done.stage.config["k"], done.here))
            if len(order) == 2:
                break
    assert order == [("fit", 1, True), ("train", 1, True)]

    other = lease(tmp_path / f".{fits[0].name}.lease")
    other.__enter__()

    def say(line):  # now it waits; the other process finishes
        said.append(line)
        finish(fits[0], store.folder(fits[0]))
        other.__exit__(None, None, None)

    rest = [(done.stage.kind, done.stage.config["k"], done.here) for done in compute_all(todo[:2], store, say)]
    assert rest == [("fit", 0, False), ("train", 0, True)]
    assert len(said) == 1 and f"waiting for {fits[0].name}, which process {os.getpid()} on" in said[0]


def test_stage_that_waits_for_another_process_can_be_asked_to_stop(tmp_path, monkeypatch):
    stage = Stage("fit", {})
    with lease(tmp_path / f".{stage.name}.lease"), pytest.raises(stop.Stopped, match="before stage 1 of 1"):
        list(
            compute_all(
                [stage], Store(tmp_path, finish), lambda _: monkeypatch.setattr(stop, "requested", lambda: True)
            )
        )


def test_stages_of_a_process_that_is_not_primary_follow_the_primary_one(tmp_path):
    """Of several processes that make one run, one takes the leases, and all compute."""
    stage, asked = Stage("fit", {}), []

    def agree(flag):
        asked.append(flag)
        return len(asked) == 2  # the primary did not find it, and has the lease

    done = list(compute_all([stage], Store(tmp_path, finish, primary=False, agree=agree)))
    assert [d.here for d in done] == [True]
    assert not list(tmp_path.glob(".*"))


def test_two_processes_compute_every_stage_once(work, tmp_path):
    outputs = [process.communicate(timeout=120)[0] for process in (work(0.05), work(0.05))]
    assert sorted(begun(tmp_path)) == sorted({p.parent.name for p in tmp_path.glob("*/result.json")})
    assert len(begun(tmp_path)) == 7
    done = [sorted(line for line in text.splitlines() if "waiting" not in line) for text in outputs]
    assert done[0] == done[1] and len(done[0]) == 7  # each saw all results, and the same ones
    assert not list(tmp_path.glob(".*.lease"))


def test_killed_process_loses_its_stage_to_the_one_that_waits(work, tmp_path):
    """Every classifier waits for the generator that the first process computes when it is killed."""
    first = work(3600)
    wait_for(lambda: begun(tmp_path))
    second = work(0)
    assert second.stdout.readline().startswith(f"waiting for {begun(tmp_path)[0]}, which process {first.pid} on ")
    first.send_signal(signal.SIGKILL)
    lines = second.communicate(timeout=120)[0].splitlines()
    assert second.returncode == 0 and len(lines) == 7
    assert all(line.endswith(f" {second.pid}") for line in lines)
    assert begun(tmp_path)[0] == begun(tmp_path)[1] and len(begun(tmp_path)) == 8
    assert not list(tmp_path.glob(".*.lease"))


# --- failures --------------------------------------------------------------------------------------------------------


@pytest.fixture
def tree():
    """Two generators, a set and a classifier on each, and one classifier of both sets."""
    fits = [Stage("fit", {"k": k}) for k in (0, 1)]
    sets = [Stage("sample", {"k": k}, (fit,)) for k, fit in enumerate(fits)]
    return [
        *fits,
        *sets,
        *(Stage("train", {"k": k}, (one,)) for k, one in enumerate(sets)),
        Stage("train", {}, (*sets,)),
    ]


@pytest.mark.parametrize("error", [ValueError("bad image 3"), MemoryError(), KeyError("label"), OSError(28, "full")])
def test_stage_that_fails_costs_what_needs_it_and_is_tried_again(tree, tmp_path, error):
    broken = True

    def job(stage, workdir):
        if broken and stage.kind == "fit" and stage.config["k"] == 0:
            raise error
        return finish(stage, workdir)

    store = Store(tmp_path, job)
    done = {each.stage.name: each for each in compute_all(tree, store)}
    assert list(done) != [] and len(done) == len(tree)
    lost = [tree[0], tree[2], tree[4], tree[6]]
    assert [stage for stage in tree if done[stage.name].result is None] == lost
    assert done[tree[0].name].here and done[tree[0].name].error
    assert all(done[stage.name].error.startswith("it needs ") and not done[stage.name].here for stage in lost[1:])
    assert [path.name for path in tmp_path.glob("*.error.json")] == [f"{tree[0].name}.error.json"]
    assert not list(tmp_path.glob(".*.lease"))
    broken = False
    again = list(compute_all(lost, store))
    assert all(each.here and each.result for each in again) and not list(tmp_path.glob("*.error.json"))


def test_set_is_sampled_in_parts_under_one_lease_and_then_finished(tmp_path):
    order, bad = [], ()
    fit = Stage("fit", {})
    of_shards = Stage("sample", {"num_images": 21, "shard_images": 10}, (fit,))
    small = Stage("sample", {"num_images": 5, "shard_images": 10}, (fit,))
    todo = [fit, of_shards, small, Stage("train", {}, (of_shards,))]

    def job(stage, workdir):
        order.append((stage.whole, stage.part))
        if stage.part in bad:
            raise ValueError("bad")
        if stage.part:
            with lease(tmp_path / f".{stage.whole}.lease") as free:
                assert not free and workdir == tmp_path / of_shards.name
            return {"seconds": 1.0}
        return finish(stage, workdir)

    def run():
        store = Store(tmp_path, job)
        engine = InProcess(store)
        engine.parts = {"sample": 8}
        return {done.stage.name: done for done in compute_all(todo, store, engine=engine)}

    bad, parts = ((1, 3),), [(of_shards.name, (i, 3)) for i in range(3)]
    done = run()
    assert done.keys() == {stage.name for stage in todo} and done[of_shards.name].error == "bad"
    assert order == [(fit.name, None), *parts, (small.name, None)] and not list(tmp_path.glob(".*.lease"))
    assert [path.name for path in tmp_path.glob("*.error.json")] == [f"{of_shards.name}.error.json"]
    bad = ()
    order.clear()
    assert all(each.result for each in run().values()) and not list(tmp_path.glob("*.error.json"))
    assert order == [*parts, (of_shards.name, None), (todo[3].name, None)]


def test_adapters_by_class_come_in_as_many_parts_as_are_said_and_other_trainings_in_none():
    by_class = Stage("fit", {"task": "finetune", "method": {"per": "class"}})
    others = [Stage("fit", {"task": "finetune", "method": {"per": "dataset"}}), Stage("fit", {"task": "diffuse"})]
    *some, whole = in_parts([by_class], {"fit": 3, "sample": 2})
    assert [one.part for one in some] == [(0, 3), (1, 3), (2, 3)] and whole.needs == tuple(some)
    assert in_parts(others, {"fit": 3}) == others


def test_stage_that_is_stopped_is_no_failure(tree, tmp_path):
    def job(stage, workdir):
        raise stop.Stopped("asked")

    with pytest.raises(stop.Stopped):
        list(compute_all(tree, Store(tmp_path, job)))
    assert list(tmp_path.iterdir()) == []


def test_stage_that_fails_in_another_process_is_tried_here(tree, tmp_path):
    """Its lease is free, and no result is there."""
    store = Store(tmp_path, finish)
    store.fail(tree[0], ValueError("elsewhere"))
    assert all(done.result for done in compute_all(tree, store))


def test_stage_that_fails_in_another_process_while_this_one_waits_has_failed_here_too(tree, tmp_path, monkeypatch):
    """It is not tried a second time; what was recorded of it before does not count."""
    first, other = tree[0], Store(tmp_path, finish)
    other.fail(first, ValueError("long ago"))
    tried, held = [], other.lease(first)
    assert held.__enter__()

    def job(stage, workdir):
        tried.append(stage.name)
        return finish(stage, workdir)

    def elsewhere(secs):
        other.fail(first, MemoryError("there"))
        held.__exit__(None, None, None)

    monkeypatch.setattr(loop.time, "sleep", elsewhere)
    done = {each.stage.name: each for each in compute_all(tree, Store(tmp_path, job), lambda line: None)}
    assert done[first.name].error == "in another process: there" and not done[first.name].here
    assert first.name not in tried and all(done[name].result for name in tried) and len(done) == len(tree)


def test_study_of_many_unlike_stages_forgets_their_programs_and_one_of_alike_stages_does_not(tmp_path, monkeypatch):
    """Twelve small programs; the limit is that of four of them."""
    width, forgotten = [0], []

    def job(stage, workdir):
        width[0] += stage.config["unlike"]
        jax.jit(lambda x: jnp.sin(x @ x.T).sum())(jnp.ones((2 + width[0], 3)))
        return finish(stage, workdir)

    def forget(before=parallel.forget_programs):
        forgotten.append(before(most_mappings=20))
        return forgotten[-1]

    monkeypatch.setattr(parallel, "forget_programs", forget)
    monkeypatch.setattr(parallel, "_mappings", {})
    for unlike in (1, 0):
        stages = [Stage("train", {"unlike": unlike, "k": k}) for k in range(12)]
        assert all(done.result for done in compute_all(stages, Store(tmp_path / str(unlike), job)))
    assert any(forgotten[:12]) and len(forgotten) == 24
