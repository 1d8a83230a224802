"""Stages on a cluster of Ray of two nodes on this machine: each once, whatever becomes of a node or of the driver."""

import contextlib

import pytest
from clusters import begun, check_stop, python_path, store_at
from toy_worker import work

from jaxmoust.study.engines import loop
from jaxmoust.study.engines.loop import compute_all
from jaxmoust.study.store import Stage, in_order

ray = pytest.importorskip("ray", reason="ray is not installed: pip install 'jaxmoust[ray]'")


@pytest.fixture(scope="module")
def cluster(pytestconfig):
    """A head without cores, and two nodes of one each; its workers import this package and what they do."""
    from ray.cluster_utils import Cluster

    root = pytestconfig.rootpath
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", python_path(root))
        patch.delenv("XLA_FLAGS", raising=False)
        memory = {"object_store_memory": 100 * 2**20}
        head = {"num_cpus": 0, "include_dashboard": False, **memory}
        started = Cluster(initialize_head=True, head_node_args=head)
        for _ in range(2):
            started.add_node(num_cpus=1, **memory)
        yield started
        started.shutdown()


@pytest.fixture
def engine(cluster, tmp_path, monkeypatch):
    from jaxmoust.study.engines.ray import Ray

    monkeypatch.setattr(loop, "POLL_SECS", 0.2)
    store = store_at(tmp_path)
    with contextlib.closing(Ray(store, work, lambda kind: {"num_cpus": 1}, 8, cluster.address)) as made:
        made.store = store
        yield made


def test_graph_is_computed_once_and_failures_cost_what_needs_them(engine):
    fit, bad = Stage("fit", {}), Stage("fit", {"fails": True})
    stages = [Stage("train", {"seed": seed, "secs": 0.5}, (fit,)) for seed in range(4)]
    done = {d.stage.name: d for d in compute_all([*in_order(stages), bad, Stage("score", {}, (bad,))], engine.store,
                                                 engine=engine)}  # fmt: skip
    assert all(done[stage.name].result == engine.store.find(stage) for stage in (fit, *stages))
    assert all(len(begun(engine, stage)) == 1 for stage in (fit, *stages, bad))
    assert done[bad.name].error == "bad image 3" == engine.store.failure(bad)[1]
    assert [d.error for d in done.values() if d.stage.kind == "score"] == [f"it needs {bad.name}, which failed"]


def test_stage_whose_process_dies_is_begun_again_elsewhere(engine):
    dies, said = Stage("train", {"dies": 3}), []
    (done,) = compute_all([dies], engine.store, said.append, engine)
    assert done.result and len(begun(engine, dies)) == 4 and len(said) >= 3


def test_driver_that_is_stopped_leaves_nothing_running_or_waiting(engine, monkeypatch):
    """Two run, and two wait for a core."""
    check_stop(engine, monkeypatch, 4)


def test_node_that_is_gone_loses_its_stage_to_the_other(cluster, engine):
    """It ends as a crash would, with the process that computes there."""
    long = [Stage("train", {"seed": seed, "secs": 10.0}) for seed in range(2)]
    killed = []

    def kill(engine=engine):
        if not killed and all(begun(engine, stage) for stage in long):
            killed.append(next(iter(cluster.worker_nodes)))
            cluster.remove_node(killed[0], allow_graceful=False)
        return False

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop.stop, "requested", kill)
        done = list(compute_all(long, engine.store, engine=engine))
    assert killed and all(each.result for each in done)
    assert sorted(len(begun(engine, stage)) for stage in long) == [1, 2]
