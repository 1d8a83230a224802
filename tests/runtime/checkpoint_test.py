import os
import shutil
import socket
import subprocess
import sys
import textwrap
import time
import warnings
from pathlib import Path
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from absl import logging as absl_logging
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxmoust.runtime import checkpoint
from jaxmoust.runtime.checkpoint import BrokenCheckpoint, Checkpoints, restore_tree

ROOT = Path(__file__).parents[2]


@flax.struct.dataclass
class State:
    step: Any
    params: Any
    stats: Any
    opt_state: Any
    ema: Any


def make_state(step: int = 0, width: int = 3) -> State:
    """A state of every kind of node: dataclass, dict, tuple, named tuple, empty dict, None, empty array."""
    rng = np.random.default_rng(step)
    kernel = jnp.asarray(rng.normal(size=(width, 4)), jnp.float32)
    params = {"dense": {"kernel": kernel, "bias": jnp.zeros(4)}, "none_yet": jnp.zeros((0, 4))}
    return State(
        step=jnp.asarray(step, jnp.int32),
        params=params,
        stats={},
        opt_state=optax.adam(1e-3).init(params),
        ema={"params": jax.tree.map(lambda x: x + 1, params), "stats": None},
    )


def assert_same(a: Any, b: Any) -> None:
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert x.dtype == y.dtype
        np.testing.assert_array_equal(x, y)


def save_steps(folder: Path, *steps: int, **kwargs) -> None:
    with Checkpoints(folder, **kwargs) as checkpoints:
        for step in steps:
            checkpoints.save(step, make_state(step), {"position": step})


def test_restore_gives_the_state_bit_for_bit_with_its_extra(tmp_path):
    extra = {"position": 7, "config": "abc", "nested": {"list": [1, 2.5, None]}}
    with Checkpoints(tmp_path / "made" / "on" / "save") as checkpoints:
        checkpoints.save(7, make_state(7), extra)
        state, found = checkpoints.restore(make_state(0))
    assert_same(state, make_state(7))
    assert found == extra


def test_restore_without_a_checkpoint_is_none(tmp_path):
    assert Checkpoints(tmp_path / "absent").restore(make_state()) is None
    assert not (tmp_path / "absent").exists()


def test_restore_places_each_leaf_like_the_template(tmp_path):
    devices = jax.devices()[:4]
    replicated = NamedSharding(Mesh(np.array(devices), ("devices",)), PartitionSpec())
    x = jnp.arange(8.0)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, {"a": jax.device_put(x, replicated), "b": x, "c": x, "d": x, "e": x})
    template = {
        "a": jax.device_put(jnp.zeros(8), replicated),
        "b": jax.device_put(jnp.zeros(8), devices[-1]),
        "c": jnp.zeros(8),
        "d": np.zeros(8, np.float32),
        "e": jax.ShapeDtypeStruct((8,), np.float32, sharding=replicated),
    }
    state, _ = Checkpoints(tmp_path).restore(template)
    assert state["a"].sharding == state["e"].sharding == replicated
    assert state["b"].devices() == {devices[-1]}
    assert not state["c"].committed
    assert isinstance(state["d"], np.ndarray)
    for leaf in state.values():
        np.testing.assert_array_equal(leaf, x)


def test_restore_does_not_depend_on_the_number_of_devices_that_saved(tmp_path):
    replicated = NamedSharding(Mesh(np.array(jax.devices()), ("devices",)), PartitionSpec())
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(5, jax.device_put(make_state(5), replicated))
    state, _ = Checkpoints(tmp_path).restore(make_state())
    assert_same(state, make_state(5))


def test_save_keeps_the_values_of_a_state_that_is_then_donated(tmp_path):
    bump = jax.jit(lambda x: x + 1, donate_argnums=0)
    x = jnp.zeros(1 << 20)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(0, {"x": x})
        for _ in range(3):
            x = bump(x)
        x.block_until_ready()
        state, _ = checkpoints.restore({"x": jax.ShapeDtypeStruct((1 << 20,), np.float32)})
    assert not state["x"].any()


def test_a_restored_state_may_be_donated(tmp_path):
    save_steps(tmp_path, 3)
    bump = jax.jit(lambda state: jax.tree.map(lambda x: x + 1, state), donate_argnums=0)
    state, _ = Checkpoints(tmp_path).restore(make_state())
    assert_same(bump(bump(state)), jax.tree.map(lambda x: x + 2, make_state(3)))


def test_checkpoints_keeps_the_newest_and_the_best(tmp_path):
    scores = [0.1, 0.9, 0.3, 0.9, 0.2, 0.4, 0.5]
    with Checkpoints(tmp_path, best="top1") as checkpoints:
        for step, score in enumerate(scores):
            checkpoints.save(step, make_state(step), metrics={"top1": score, "loss": -score})
        checkpoints.save(7, make_state(7))  # no metric: a stop on request
        checkpoints.wait()
        assert checkpoints.steps == [3, 6, 7]
        assert checkpoints.best_step == 3


def test_best_is_remembered_by_the_next_process(tmp_path):
    for step, loss in enumerate([0.5, 0.1, 0.7, 0.6, 0.3]):
        with Checkpoints(tmp_path, best="loss", mode="min", keep=1) as checkpoints:
            checkpoints.save(step, make_state(step), metrics={"loss": loss})
    assert checkpoints.steps == [1, 4]
    state, _ = checkpoints.restore(make_state(), step=checkpoints.best_step)
    assert_same(state, make_state(1))


def test_save_of_a_step_already_restored_leaves_it_alone(tmp_path):
    save_steps(tmp_path, 2)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.restore(make_state())
        checkpoints.save(2, make_state(99))
        state, _ = checkpoints.restore(make_state())
    assert_same(state, make_state(2))


def files_of(checkpoint: Path) -> list[Path]:
    return sorted(path.relative_to(checkpoint) for path in checkpoint.rglob("*") if path.is_file())


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def flip_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)


@pytest.mark.parametrize("damage", [truncate, Path.unlink, flip_a_bit])
def test_a_damaged_checkpoint_is_skipped_aloud_or_read_whole(tmp_path, damage):
    """Whichever file is hit, what comes back is one of the two states, and a step back is never silent."""
    save_steps(tmp_path / "good", 1, 2)
    outcomes = {}
    files = files_of(tmp_path / "good" / "2")
    for i, name in enumerate(files):
        folder = tmp_path / str(i)
        shutil.copytree(tmp_path / "good", folder)
        damage(folder / "2" / name)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            state, extra = Checkpoints(folder).restore(make_state())
        said = [str(w.message) for w in caught if str(folder / "2") in str(w.message)]
        assert_same(state, make_state(extra["position"]))
        assert extra["position"] == (1 if said else 2), (name, said)
        outcomes[name] = bool(said)
    # The test can fail: of the files with the numbers themselves (TensorStore may leave a copy out of use) one matters.
    kernel = np.asarray(make_state(2).params["dense"]["kernel"]).tobytes()
    assert any(outcomes[f] for f in files if kernel in (tmp_path / "good" / "2" / f).read_bytes())
    assert outcomes[Path("record/metadata")] and outcomes[Path("state/manifest.ocdbt")]


def test_a_damaged_checkpoint_says_its_path_and_why(tmp_path):
    save_steps(tmp_path, 1, 2)
    (tmp_path / "2" / "record" / "metadata").write_text('{"step": 2, "lea')
    with pytest.warns(RuntimeWarning, match=r"2, which is damaged \(JSONDecodeError.*going on from step 1"):
        Checkpoints(tmp_path).restore(make_state())


def test_training_goes_on_over_a_damaged_checkpoint(tmp_path):
    save_steps(tmp_path, 1, 2, 3)
    shutil.rmtree(tmp_path / "3" / "state")
    with Checkpoints(tmp_path) as checkpoints:
        with pytest.warns(RuntimeWarning, match="skipped"):
            _, extra = checkpoints.restore(make_state())
        assert extra["position"] == 2
        checkpoints.save(3, make_state(3), {"position": 3})
        state, _ = checkpoints.restore(make_state())  # warnings are errors: nothing is skipped now
    assert_same(state, make_state(3))


def test_restore_refuses_when_no_checkpoint_is_whole(tmp_path):
    save_steps(tmp_path, 1, 2)
    for step in "12":
        truncate(tmp_path / step / "record" / "metadata")
    with pytest.raises(BrokenCheckpoint, match=r"(?s)no checkpoint in .* is whole.*step 2:.*step 1:.*step 0"):
        Checkpoints(tmp_path).restore(make_state())


def test_restore_of_another_structure_names_the_leaves(tmp_path):
    save_steps(tmp_path, 1)
    other = make_state(width=5).replace(ema=None, stats={"mean": jnp.zeros(2)})
    with pytest.raises(ValueError, match="does not fit") as error:
        Checkpoints(tmp_path).restore(other)
    text = str(error.value)
    assert "params/dense/kernel: float32[3, 4] in the checkpoint, float32[5, 4] expected" in text
    assert "opt_state/0/mu/dense/kernel: float32[3, 4]" in text
    assert "stats/mean: not in the checkpoint" in text
    assert "ema/params/dense/bias: only in the checkpoint" in text


def test_restore_of_a_step_that_is_not_there_names_those_that_are(tmp_path):
    save_steps(tmp_path, 1, 2)
    with pytest.raises(ValueError, match=r"no checkpoint of step 9. There are: \[1, 2\]"):
        Checkpoints(tmp_path).restore(make_state(), step=9)


def test_restore_tree_reads_a_field_without_a_template(tmp_path):
    save_steps(tmp_path, 1, 2)
    tree, extra = restore_tree(tmp_path, "ema")
    assert extra == {"position": 2}
    expected = jax.tree.map(np.asarray, make_state(2).ema["params"])
    assert_same(tree, {"params": expected})
    whole, _ = restore_tree(tmp_path, step=1)
    np.testing.assert_array_equal(
        whole["opt_state"]["0"]["mu"]["dense"]["kernel"], make_state(1).opt_state[0].mu["dense"]["kernel"]
    )
    assert restore_tree(tmp_path, "step")[0] == 2


def test_restore_tree_reads_no_more_than_the_field(tmp_path, monkeypatch):
    save_steps(tmp_path, 1)
    asked = []
    make_handler = checkpoint._pytree_handler

    def spy():
        handler = make_handler()
        restore = handler.restore
        handler.restore = lambda path, args: asked.extend(args.item) or restore(path, args=args)
        return handler

    monkeypatch.setattr(checkpoint, "_pytree_handler", spy)
    restore_tree(tmp_path, "ema")
    assert asked == ["ema.float32"]


def test_restore_tree_without_the_field_names_those_there_are(tmp_path):
    save_steps(tmp_path, 1)
    with pytest.raises(ValueError, match=r"no field 'weights'. There are: ema, opt_state, params, step"):
        restore_tree(tmp_path, "weights")
    with pytest.raises(ValueError, match="Train first"):
        restore_tree(tmp_path / "absent", "ema")


@pytest.mark.parametrize("kwargs", [{"mode": "most"}, {"keep": 0}])
def test_checkpoints_refuses_bad_options(tmp_path, kwargs):
    with pytest.raises(ValueError, match="Allowed"):
        Checkpoints(tmp_path, **kwargs)


@pytest.mark.parametrize("extra", [{"rate": float("nan")}, {"array": np.zeros(2)}])
def test_save_refuses_an_extra_that_json_cannot_hold(tmp_path, extra):
    with Checkpoints(tmp_path) as checkpoints, pytest.raises(ValueError, match="JSON"):
        checkpoints.save(0, {"x": jnp.zeros(1)}, extra)


def test_save_raises_what_went_wrong_with_the_one_before(tmp_path):
    checkpoints = Checkpoints(tmp_path / "folder")
    checkpoints.save(0, make_state(0))
    checkpoints.wait()
    shutil.rmtree(tmp_path / "folder")
    (tmp_path / "folder").write_text("a file is in the way")
    with pytest.raises(OSError, match="folder"):
        checkpoints.save(1, make_state(1))
        checkpoints.wait()


def test_saving_a_small_state_is_cheap(tmp_path):
    """0.3 M parameters in 120 arrays with Adam and EMA: 481 leaves, 4.5 MB."""
    params = {f"block{i}": {"kernel": jnp.full((2500,), float(i))} for i in range(120)}
    state = State(jnp.asarray(0), params, {}, optax.adam(1e-3).init(params), {"params": params})
    seconds = []
    with Checkpoints(tmp_path) as checkpoints:
        for step in range(4):
            start = time.perf_counter()
            checkpoints.save(step, state)
            checkpoints.wait()
            seconds.append(time.perf_counter() - start)
    # 0.05 s on two idle cores. The least of four, and room for a busy machine; array by array it takes 0.8 s.
    assert min(seconds) < 0.3, seconds


def test_orbax_keeps_quiet_about_what_is_in_order(tmp_path, caplog):
    with caplog.at_level("INFO", logger="absl"):
        save_steps(tmp_path, 1)
        Checkpoints(tmp_path).restore(make_state())
        absl_logging.info("ours")
    assert [entry.message for entry in caplog.records if entry.name == "absl"] == ["ours"]


def test_sigkill_at_any_moment_leaves_a_whole_checkpoint(tmp_path):
    """Eight processes in turn restore, check and save on and on until they are killed."""
    script = """
        import os, random, signal, sys, time, warnings
        import numpy as np
        from jaxmoust.runtime.checkpoint import Checkpoints
        folder = sys.argv[1]

        def state(step):
            return {"a": np.full((300, 100), step), "b": {"c": np.full(7, step, np.float32)}}

        def run():
            warnings.simplefilter("error")  # none is damaged, either
            checkpoints = Checkpoints(folder, best="score")
            restored = checkpoints.restore(state(0))
            step = 0
            if restored is not None:
                found, extra = restored
                step = extra["position"]
                assert all((x == step).all() for x in (found["a"], found["b"]["c"])), step
            print(step, flush=True)
            while True:
                step += 1
                checkpoints.save(step, state(step), {"position": step}, {"score": -abs(step - 20)})

        moments = random.Random(0)
        for _ in range(8):
            child = os.fork()  # cheaper than eight imports of JAX; nothing has started a thread yet
            if child == 0:
                try:
                    run()
                finally:
                    os._exit(1)
            time.sleep(moments.uniform(0.1, 0.4))
            os.kill(child, signal.SIGKILL)
            status = os.waitpid(child, 0)[1]
            assert os.WIFSIGNALED(status), "the child failed by itself"
    """
    run = run_script(script, str(tmp_path))
    out, err = run.communicate(timeout=120)
    assert run.returncode == 0, err
    starts = [int(line) for line in out.split()]
    assert starts == sorted(starts) and starts[-1] > starts[0]
    checkpoints = Checkpoints(tmp_path)
    template = {"a": np.zeros((300, 100), np.int64), "b": {"c": np.zeros(7, np.float32)}}
    state, extra = checkpoints.restore(template)
    assert (state["a"] == extra["position"]).all() and extra["position"] >= starts[-1]
    with checkpoints:
        checkpoints.save(10**6, template)
    assert all(path.name.isdecimal() for path in tmp_path.iterdir())  # nothing half-written stays


def test_two_processes_save_and_restore_one_state(tmp_path):
    script = """
        import sys, warnings
        import jax, numpy as np
        from jax.sharding import Mesh, NamedSharding, PartitionSpec
        from jaxmoust.runtime.checkpoint import Checkpoints
        from jaxmoust.runtime.parallel import Machine, initialize
        folder, port, number = sys.argv[1], sys.argv[2], int(sys.argv[3])
        initialize(f"localhost:{port}", 2, number)
        machine = Machine.all()
        assert machine.num_devices == 4 and machine.process_count == 2

        def state(step):
            return machine.replicate({"a": np.full((5, 3), step, np.float32), "step": np.int32(step)})

        split = NamedSharding(Mesh(np.array(machine.devices), ("devices",)), PartitionSpec("devices"))
        spread = jax.make_array_from_process_local_data(split, np.zeros(2))

        with Checkpoints(folder, best="score", primary=machine.primary) as checkpoints:
            assert checkpoints.restore(state(0)) is None
            for step in range(5):
                checkpoints.save(step, state(step), {"position": step}, {"score": -step})
            checkpoints.wait()
        machine.barrier("saved")
        assert checkpoints.steps == [0, 3, 4]
        machine.barrier("listed")
        if machine.primary:
            for path in (checkpoints._folder / "4" / "state").rglob("d/*"):
                path.write_bytes(path.read_bytes()[:-30])
        machine.barrier("damaged")
        with Checkpoints(folder, primary=machine.primary) as checkpoints:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                found, extra = checkpoints.restore(state(0))
            assert "skipped" in str(caught[0].message)
            assert extra["position"] == 3 and found["a"].sharding == state(0)["a"].sharding
            assert (np.asarray(found["a"]) == 3).all()
            checkpoints.save(4, state(4), {"position": 4})
            found, extra = checkpoints.restore(state(0))
            assert extra["position"] == 4 and int(found["step"]) == 4
            try:
                checkpoints.save(5, {"x": spread})
            except ValueError as error:
                assert "x is spread over processes" in str(error)
            else:
                raise AssertionError("a quarter of an array was saved as the whole")
        machine.barrier("end")
    """
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = str(probe.getsockname()[1])
    runs = [run_script(script, str(tmp_path), port, str(i), devices=2) for i in range(2)]
    try:
        errors = [run.communicate(timeout=120)[1] for run in runs]
    finally:
        for run in runs:
            run.kill()
    assert [run.returncode for run in runs] == [0, 0], errors


def run_script(script: str, *args: str, devices: int = 1) -> subprocess.Popen:
    env = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
    }
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script), *args],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
