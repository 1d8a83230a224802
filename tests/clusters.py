"""What the tests of clusters have in common: a store of which nothing is computed in the driver, and a stop."""

import os
import time

import pytest

from jaxmoust.runtime import stop
from jaxmoust.study.engines import loop
from jaxmoust.study.engines.loop import compute_all
from jaxmoust.study.store import Stage, Store


def store_at(path):
    """A store for a driver that only conducts."""
    return Store(path / "stages", lambda stage, folder: pytest.fail("computed in the driver"))


def python_path(root):
    """What makes this package and the tests' workers importable elsewhere."""
    return os.pathsep.join(map(str, (root, root / "tests")))


def begun(engine, stage):
    """The processes in which a stage was begun."""
    path = engine.store.folder(stage) / "begun"
    return [int(line.split()[0]) for line in path.read_text().splitlines()] if path.exists() else []


def check_stop(engine, monkeypatch, num_stages):
    """Of so many stages two run, and others wait; a driver that is stopped then leaves nothing running or waiting."""
    long, asked = [Stage("train", {"seed": seed, "secs": 600.0}) for seed in range(num_stages)], []

    def requested():
        if not asked and sum(bool(begun(engine, stage)) for stage in long) == 2:
            asked.append(time.monotonic())
        return bool(asked)

    with monkeypatch.context() as patch:
        patch.setattr(loop.stop, "requested", requested)
        with pytest.raises(stop.Stopped):
            list(compute_all(long, engine.store, engine=engine))
    assert time.monotonic() - asked[0] < 60 and not list(engine.store.path.glob(".*.lease"))
    engine.close()
    assert not list(engine.store.path.glob(".stop-*"))
