import itertools
import json
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
import orbax.checkpoint as ocp
import pytest
from absl import logging as absl_logging
from jax.sharding import Mesh, NamedSharding, PartitionSpec

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
        with Checkpoints(tmp_path, best="loss_heldout") as checkpoints:
            checkpoints.save(step, make_state(step), metrics={"loss_heldout": loss})
    assert checkpoints.steps == [1, 3, 4] and checkpoints.best_step == 1


def test_save_takes_the_place_of_a_checkpoint_of_the_same_step(tmp_path):
    save_steps(tmp_path, 2)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(2, make_state(99))
        state, _ = checkpoints.restore(make_state())
    assert_same(state, make_state(99))


def files_of(checkpoint: Path) -> list[Path]:
    return sorted(path.relative_to(checkpoint) for path in checkpoint.rglob("*") if path.is_file())


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def flip_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)


@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)  # of reads that another one's end cut short
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


def test_a_run_without_a_whole_checkpoint_starts_anew_aloud_and_replaces_the_broken_ones(tmp_path):
    save_steps(tmp_path, 1, 2)
    for step in "12":
        truncate(tmp_path / step / "record" / "metadata")
    with Checkpoints(tmp_path) as checkpoints:
        with pytest.warns(RuntimeWarning, match=r"(?s)Starting anew.* is whole.*step 2: JSON.*step 1: JSON"):
            assert checkpoints.restore(make_state()) is None
        assert checkpoints.steps == [1, 2]  # until there is something better
        checkpoints.save(1, make_state(1), {"position": 1})
        checkpoints.wait()
        assert checkpoints.steps == [1]
        assert_same(checkpoints.restore(make_state())[0], make_state(1))


def test_a_reader_refuses_when_no_checkpoint_is_whole_and_says_what_mends_it(tmp_path):
    save_steps(tmp_path, 1, 2)
    for step in "12":
        truncate(tmp_path / step / "record" / "metadata")
    with pytest.raises(BrokenCheckpoint, match=r"(?s)is whole.*step 2: .*step 1: .*same `fit` or `train` command"):
        restore_tree(tmp_path)


def test_restore_of_another_structure_names_the_leaves(tmp_path):
    save_steps(tmp_path, 1)
    other = make_state(width=5).replace(ema=None, stats={"mean": jnp.zeros(2)})
    with pytest.raises(ValueError, match="does not fit") as error:
        Checkpoints(tmp_path).restore(other)
    text = str(error.value)
    assert "params/dense/kernel: float32[3, 4] in the checkpoint, float32[5, 4] expected" in text
    assert "opt_state/0/mu/dense/kernel: float32[3, 4]" in text
    assert "stats/mean: nothing in the checkpoint, float32[2] expected" in text
    assert "ema/params/dense/bias: float32[4] in the checkpoint, nothing expected" in text


def test_restore_tree_reads_a_field_without_a_template(tmp_path):
    save_steps(tmp_path, 1, 2)
    tree, extra = restore_tree(tmp_path, "ema")
    assert extra == {"position": 2}
    expected = jax.tree.map(np.asarray, make_state(2).ema["params"])
    assert_same(tree, {"params": expected})
    whole, _ = restore_tree(tmp_path)
    np.testing.assert_array_equal(
        whole["opt_state"]["0"]["mu"]["dense"]["kernel"], make_state(2).opt_state[0].mu["dense"]["kernel"]
    )
    assert restore_tree(tmp_path, "step")[0] == 2


def test_restore_tree_reads_no_more_than_the_field(tmp_path, monkeypatch):
    save_steps(tmp_path, 1)
    asked, restore = [], ocp.PyTreeCheckpointHandler.restore

    def spy(self, path, args):
        asked.extend(args.item)
        return restore(self, path, args=args)

    monkeypatch.setattr(ocp.PyTreeCheckpointHandler, "restore", spy)
    restore_tree(tmp_path, "ema")
    assert asked == ["ema"]


@pytest.mark.parametrize(("metric", "best"), [("top1", 2), ("loss_train", 1)])
def test_restore_tree_finds_the_best_without_a_configuration(tmp_path, metric, best):
    with Checkpoints(tmp_path, best=metric) as checkpoints:
        for step, value in enumerate([0.5, 0.1, 0.7, 0.6, 0.3]):
            checkpoints.save(step, make_state(step), {"position": step}, {metric: value, "other": -value})
        checkpoints.save(5, make_state(5), {"position": 5})  # no metric: a stop on request
    assert restore_tree(tmp_path, "step", "best")[1] == {"position": best}
    assert restore_tree(tmp_path, "step")[1] == {"position": 5}
    truncate(tmp_path / str(best) / "state" / "_METADATA")
    with pytest.raises(BrokenCheckpoint, match=f"(?s)step {best}: .*Ask for the newest"):
        restore_tree(tmp_path, "step", "best")


def test_restore_tree_of_a_run_without_a_best_checkpoint_says_what_records_it(tmp_path):
    save_steps(tmp_path, 1)
    with pytest.raises(ValueError, match=r"no best checkpoint.*train\.best_metric"):
        restore_tree(tmp_path, which="best")
    with pytest.raises(ValueError, match='Allowed: "newest" and "best"'):
        restore_tree(tmp_path, which="oldest")


def test_the_readme_opens_a_checkpoint_by_orbax_alone(tmp_path):
    save_steps(tmp_path, 1, 2)
    lines = [line.strip() for line in (tmp_path / "README.md").read_text().splitlines() if line.startswith("    ")]
    script = "\n".join([*lines, "import sys; print(state['ema']['params']['dense']['kernel'].tolist())"])
    run = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert json.loads(run.stdout) == make_state(2).ema["params"]["dense"]["kernel"].tolist()
    assert restore_tree(tmp_path, "step")[0] == 2  # reading left everything as it was


def test_restore_tree_without_the_field_names_those_there_are(tmp_path):
    save_steps(tmp_path, 1)
    with pytest.raises(ValueError, match=r"no field 'weights'. There are: ema, opt_state, params, step"):
        restore_tree(tmp_path, "weights")
    with pytest.raises(ValueError, match="Train first"):
        restore_tree(tmp_path / "absent", "ema")


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


@pytest.mark.parametrize("hours", [2.0, -2.0])
def test_clock_that_is_set_while_a_checkpoint_is_written_ends_nothing(tmp_path, monkeypatch, hours):
    """Each look at it is hours later, or earlier, than the one before."""
    looks, now = itertools.count(), time.time
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(0, make_state(0))
        monkeypatch.setattr(time, "time", lambda: now() + next(looks) * hours * 3600)
        for step in (1, 2, 3):
            checkpoints.save(step, make_state(step))
        checkpoints.wait()
        monkeypatch.undo()
        assert checkpoints.steps == [2, 3]
    assert next(looks) > 10


def test_checkpoint_is_on_the_disk_before_it_has_its_name_and_its_name_before_older_ones_go(tmp_path, monkeypatch):
    events, fsync, rmtree = [], os.fsync, shutil.rmtree

    def note(descriptor):
        events.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        fsync(descriptor)

    save_steps(tmp_path, 1, 2)
    monkeypatch.setattr(os, "fsync", note)
    monkeypatch.setattr(shutil, "rmtree", lambda path, *args, **kw: (events.append(f"rm {path}"), rmtree(path)))
    save_steps(tmp_path, 3)
    named = next(i for i, event in enumerate(events) if event.startswith(f"{tmp_path}/3"))
    written = {event for event in events if event.startswith(f"{tmp_path}/3.orbax-checkpoint-tmp")}
    files = {str(path.relative_to(tmp_path / "3")) for path in (tmp_path / "3").rglob("*") if path.is_file()}
    assert {file for file in files if not file.endswith(("commit_success.txt", "_CHECKPOINT_METADATA"))} <= {
        event.partition("-tmp/")[2] for event in written
    }
    assert named < events.index(str(tmp_path), named) < events.index(f"rm {tmp_path / '1'}")


def test_saving_a_small_state_is_cheap(tmp_path):
    """0.3 M parameters in 120 arrays with Adam and EMA: 481 leaves, 4.5 MB."""
    params = {f"block{i}": {"kernel": jnp.full((2500,), float(i))} for i in range(120)}
    state = State(jnp.asarray(0), params, {}, optax.adam(1e-3).init(params), {"params": params})
    seconds = []
    with Checkpoints(tmp_path) as checkpoints:
        for step in range(4):
            start = time.thread_time()
            checkpoints.save(step, state)
            seconds.append(time.thread_time() - start)
            checkpoints.wait()
    # What it takes from the training's own thread: 0.05 s, the rest is done beside it. The least of four.
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

        moments, first_is_there = random.Random(0), False
        for _ in range(8):
            child = os.fork()  # cheaper than eight imports of JAX; nothing has started a thread yet
            if child == 0:
                try:
                    run()
                finally:
                    os._exit(1)
            while not first_is_there and not any(name.isdecimal() for name in os.listdir(folder)):
                time.sleep(0.01)
            first_is_there = True  # a busy machine may take its time over that one
            time.sleep(moments.uniform(0.0, 0.4))
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
    assert all(path.name.isdecimal() for path in tmp_path.iterdir() if path.is_dir())  # nothing half-written stays


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
            assert extra["position"] == 3 and (found["a"] == 3).all()
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
