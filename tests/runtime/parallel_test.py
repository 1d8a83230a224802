"""Laws of runtime/parallel.py: a program on D devices, or on several processes, is the same program.

Run as a script, this file is one process of `test_two_processes_train_as_one`.
"""

import os
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmoust.core.optim import Recipe
from jaxmoust.runtime import parallel, stop
from jaxmoust.runtime.checkpoint import restore_tree
from jaxmoust.runtime.folder import RunFolder
from jaxmoust.runtime.parallel import Machine
from jaxmoust.train.loop import Evaluation, Intervals, Training, fit

ROOT = Path(__file__).parents[2]
# Two processes sum four devices' numbers in another order: a few roundings of 6e-8, on numbers of order 1, a step.
ROUNDING = 2e-6
BATCH = {"x": np.arange(24, dtype=np.float32).reshape(8, 3), "index": np.arange(8, dtype=np.int32)}


def scaled(weight, batch):
    rows = weight * batch["x"]
    return {"mean": parallel.mean(rows.mean()), "all": parallel.gather({"x": rows, "index": batch["index"]})}


@pytest.fixture(scope="module", params=[1, 2, 4])
def reduced(request):
    """What `scaled` returns on so many devices."""
    machine = Machine.local(request.param)
    run = machine.parallel(scaled, num_replicated=1)
    return machine, run(machine.replicate(np.float32(0.5)), machine.split(BATCH))


def test_mean_is_that_of_the_whole_batch(reduced):
    # Sums of 24 multiples of 1/2 below 2^8 are exact in float32, in any order.
    assert reduced[1]["mean"] == np.float32(0.5 * BATCH["x"].mean())


def test_gather_joins_the_rows_in_device_order(reduced):
    np.testing.assert_array_equal(reduced[1]["all"]["index"], np.arange(8))
    np.testing.assert_array_equal(reduced[1]["all"]["x"], 0.5 * BATCH["x"])


def test_parallel_returns_one_logical_copy(reduced):
    machine, result = reduced
    for leaf in jax.tree.leaves(result):
        assert leaf.is_fully_replicated and set(leaf.sharding.device_set) == set(machine.devices)


def test_to_host_fetches_numpy_arrays(reduced):
    host = parallel.to_host(reduced[1])
    assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(host))
    np.testing.assert_array_equal(host["all"]["x"], 0.5 * BATCH["x"])


@pytest.mark.parametrize("num_devices", [1, 4])
@pytest.mark.parametrize("make", [np.asarray, jnp.asarray, lambda x: Machine.local().replicate(x)])
def test_replicate_copies_so_that_the_result_may_be_donated(num_devices, make):
    machine = Machine.local(num_devices)
    original = make(np.ones(1 << 14, np.float32))
    add = machine.parallel(lambda x, batch: x + parallel.mean(batch["x"].sum()), 1, donate=(0,))
    placed = machine.replicate(original)
    for _ in range(3):
        placed = add(placed, machine.split(BATCH))
    assert placed[0] > 1
    np.testing.assert_array_equal(original, np.ones(1 << 14, np.float32))


def test_replicate_keeps_the_tree_and_the_types():
    tree = {"a": np.int32(3), "b": (jnp.zeros((2, 0)), None), "c": np.float32([1, 2])}
    placed = Machine.local().replicate(tree)
    assert jax.tree.structure(placed) == jax.tree.structure(tree)
    for one, other in zip(jax.tree.leaves(placed), jax.tree.leaves(tree), strict=True):
        assert one.dtype == other.dtype and one.is_fully_replicated
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(("batch_size", "remedy"), [(10, 8), (3, 4), (0, 4), (-4, 4)])
def test_per_device_refuses_what_does_not_come_out_even(batch_size, remedy):
    with pytest.raises(
        ValueError, match=rf"size {batch_size} .* 4 devices\. Allowed: multiples of 4, such as {remedy}"
    ):
        Machine.local(4).per_device(batch_size, "size")


@pytest.mark.parametrize("num_devices", [1, 2, 4])
def test_per_device_is_an_even_share(num_devices):
    assert Machine.local(num_devices).per_device(8) == 8 // num_devices


def test_split_gives_each_device_its_rows_in_order():
    rows = Machine.local(4).split(BATCH)
    assert {name: value.shape for name, value in rows.items()} == {"x": (4, 2, 3), "index": (4, 2)}
    np.testing.assert_array_equal(rows["index"], [[0, 1], [2, 3], [4, 5], [6, 7]])
    np.testing.assert_array_equal(rows["x"].reshape(8, 3), BATCH["x"])


def test_map_keeps_each_row_where_it_was():
    machine = Machine.local(4)
    run = machine.map(lambda weight, batch: weight * batch["x"], num_replicated=1)
    rows = run(machine.replicate(np.float32(2)), machine.split(BATCH))
    assert rows.shape == (4, 2, 3)
    np.testing.assert_array_equal(np.reshape(rows, (8, 3)), 2 * BATCH["x"])


def test_machine_of_equal_devices_is_one_key():
    assert Machine.local(2) == Machine.local(2) and hash(Machine.local(2)) == hash(Machine.local(2))
    assert Machine.local() == Machine.all() == Machine.local(4) != Machine.local(2)


def test_machine_refuses_more_devices_than_there_are():
    with pytest.raises(ValueError, match="num_devices 5: this process has 4"):
        Machine.local(5)


def test_machine_says_how_many_devices_of_which_kind():
    assert Machine.local(2).description.startswith("2 x ") and "(cpu, " in Machine.local(2).description


def test_machine_of_one_process_is_its_own_primary_and_waits_for_nobody():
    machine = Machine.all()
    assert (machine.process_index, machine.process_count, machine.primary) == (0, 1, True)
    assert machine.any(True) and not machine.any(False)
    machine.barrier("alone")


@pytest.mark.parametrize(("num_processes", "process_id"), [(0, -1), (2, 2), (2, -1)])
def test_initialize_refuses_an_impossible_process(num_processes, process_id):
    with pytest.raises(ValueError, match=rf"process_id {process_id} of num_processes {num_processes}: give both"):
        parallel.initialize("localhost:1", num_processes, process_id)


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_check_seed_refuses_what_is_no_uint32(seed):
    with pytest.raises(ValueError, match=f"seed {seed}: expected"):
        parallel.check_seed(seed)


@pytest.fixture
def settings(monkeypatch):
    """Collects what is set in JAX's configuration instead of setting it."""
    updates = {}
    monkeypatch.setattr(jax.config, "update", updates.__setitem__)
    return updates


@pytest.mark.parametrize(("cores", "devices"), [(1, 1), (2, 2), (3, 2), (7, 4), (64, 8)])
def test_use_all_cores_makes_a_power_of_two_of_devices(settings, monkeypatch, cores, devices):
    monkeypatch.delenv("XLA_FLAGS")
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: range(cores), raising=False)
    parallel.use_all_cores()
    assert settings == {"jax_num_cpu_devices": devices}


def test_use_all_cores_leaves_what_was_set(settings):
    parallel.use_all_cores()  # conftest.py asked for four in XLA_FLAGS
    assert settings == {}


def test_compilation_cache_already_given_stays(settings, tmp_path):
    parallel.enable_compilation_cache(tmp_path / "mine")
    assert settings == {} and not (tmp_path / "mine").exists()


def test_compilation_cache_goes_to_a_folder_that_can_be_made(settings, tmp_path, monkeypatch):
    monkeypatch.setattr(type(jax.config), "jax_compilation_cache_dir", None)
    (tmp_path / "file").touch()
    parallel.enable_compilation_cache(tmp_path / "file" / "impossible")
    assert settings == {}
    parallel.enable_compilation_cache(tmp_path / "a" / "b")
    assert settings["jax_compilation_cache_dir"] == str(tmp_path / "a" / "b") and (tmp_path / "a" / "b").is_dir()


@dataclass(frozen=True)
class LeastSquares:
    """Fits three numbers, with a little keyed noise on each row."""

    def init(self, key):
        return {"kernel": jax.random.normal(key, (3, 1))}, {}

    def loss(self, params, stats, frozen, batch, keys):
        noise = jax.vmap(lambda key: jax.random.normal(key, (3,)))(keys)
        error = (batch["x"] + 0.1 * noise) @ params["kernel"] - batch["y"]
        return jnp.mean(error**2), ({}, stats)

    def evaluate(self, state, frozen, data, machine):
        return Evaluation({})


def train(path: Path, machine: Machine, num_steps: int, on_batch=lambda step: None):
    """Trains `LeastSquares` on a batch of 8; several processes take their parts of it."""
    part = 8 // machine.process_count
    slots = np.arange(8, dtype=np.int32)[machine.process_index * part :][:part]

    def stream_from(start):
        step = start
        while True:
            on_batch(step)
            x = np.random.default_rng(step).normal(size=(8, 3)).astype(np.float32)
            yield {"x": x[slots], "y": x[slots].sum(1, keepdims=True), "slot": slots}
            step += 1

    recipe = Recipe(8, num_steps, name="sgd", learning_rate=0.1, ema_half_life_images=16.0, decay=False)
    training = Training(LeastSquares(), recipe, Intervals(log_steps=100))
    return fit(training, stream_from, RunFolder.open(path, {}, {}, primary=machine.primary), machine, 5)[0]


def leaves(state):
    return [np.asarray(leaf) for leaf in jax.tree.leaves(state)]


def work(folder: Path, port: str, number: int) -> None:
    """Process `number` of two: trains 3 steps; then asks to stop, in process 1 alone and before step 5 of 200."""
    stop.install()  # first, as the command line does
    parallel.initialize(f"localhost:{port}", 2, number)
    machine = Machine.all()
    np.savez(folder / f"process{number}", *leaves(train(folder / "three", machine, 3)))

    def on_batch(step):
        if step == 5 and number == 1:
            os.kill(os.getpid(), signal.SIGTERM)

    try:
        train(folder / "stopped", machine, 200, on_batch)
    except stop.Stopped as stopped:
        (folder / f"stopped{number}").write_text(str(stopped))
    machine.barrier("end")


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory):
    """The folder that two processes with two devices each have worked in."""
    folder = tmp_path_factory.mktemp("two_processes")
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = str(probe.getsockname()[1])
    flags = {"PYTHONPATH": str(ROOT), "XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    runs = [
        subprocess.Popen(
            [sys.executable, __file__, folder, port, str(number)],
            env={**os.environ, **flags},
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(2)
    ]
    try:
        errors = [run.communicate(timeout=120)[1] for run in runs]
    finally:
        for run in runs:
            run.kill()
    assert [run.returncode for run in runs] == [0, 0], errors
    return folder


def test_two_processes_train_as_one(two_processes, tmp_path):
    one, two = (list(np.load(two_processes / f"process{i}.npz").values()) for i in range(2))
    alone = leaves(train(tmp_path, Machine.all(), 3))
    assert len(one) == len(two) == len(alone) > 3
    for a, b, c in zip(one, two, alone, strict=True):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_allclose(a, c, rtol=0, atol=ROUNDING)


def test_a_stop_asked_of_one_process_stops_all_at_the_same_step(two_processes):
    """Asked before step 5, they agree soon, whatever is logged when, and leave that step's checkpoint."""
    step = restore_tree(two_processes / "stopped" / "checkpoints", "step")[0]
    assert 5 <= step < 200
    for number in range(2):
        assert f"at step {step};" in (two_processes / f"stopped{number}").read_text()


def test_one_process_continues_what_two_began(two_processes, tmp_path):
    continued = leaves(train(two_processes / "stopped", Machine.all(), 200))
    for a, b in zip(continued, leaves(train(tmp_path, Machine.all(), 200)), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=ROUNDING)


if __name__ == "__main__":
    work(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))


def test_what_no_device_holds_is_refused_by_arithmetic():
    machine = Machine.all()
    assert machine.memory_bytes == os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")  # of CPUs
    machine.check_memory("A batch", machine.memory_bytes)
    with pytest.raises(
        ValueError, match=r"A batch takes [\d,.]+ GiB, and this machine cannot hold more than [\d.]+ GiB"
    ):
        machine.check_memory("A batch", machine.memory_bytes * 1.5)
