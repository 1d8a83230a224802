"""Laws of train/loop.py: one clock, one loop; interrupted or not, on one device or four, the same numbers."""

import dataclasses
import json
import math
from dataclasses import dataclass

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmoust.core import losses
from jaxmoust.core.augment import augment
from jaxmoust.core.optim import Recipe
from jaxmoust.runtime import parallel, stop
from jaxmoust.runtime.checkpoint import Checkpoints, restore_tree
from jaxmoust.runtime.folder import RunFolder
from jaxmoust.runtime.parallel import Machine
from jaxmoust.runtime.progress import NonFiniteError
from jaxmoust.train import loop
from jaxmoust.train.loop import Evaluation, Intervals, Training, fit

FROZEN = {"scale": np.full(17, 2.0, np.float32)}
RECIPE = Recipe(batch_size=8, num_steps=10, name="sgd", learning_rate=0.1, warmup_steps=2, ema_half_life_images=32.0)
TRACED = []  # grows when `Tiny.loss` is traced, and only then


class Net(nn.Module):
    """A hidden layer with batch norm over all devices; `keep` [B, 8] is its dropout."""

    @nn.compact
    def __call__(self, x, keep, train):
        h = nn.Dense(8)(x.reshape(len(x), -1))
        h = nn.BatchNorm(use_running_average=not train, momentum=0.9, axis_name=parallel.AXIS)(h)
        return nn.Dense(3)(nn.relu(h) * keep)


@dataclass(frozen=True)
class Tiny:
    """Classifies 2x2 images with everything that depends on keys and devices; a label below 0 makes the loss NaN.

    It evaluates to `data(step)`, whatever that returns.
    """

    def init(self, key):
        variables = Net().init(key, jnp.zeros((1, 2, 2, 1)), 1.0, train=False)
        return variables["params"], variables["batch_stats"]

    def loss(self, params, stats, frozen, batch, keys):
        TRACED.append(1)
        k_flip, k_drop, k_draw = jax.vmap(lambda key: jax.random.split(key, 3), out_axes=1)(keys)
        image = augment.flip(k_flip, loop.normalize(batch["image"]))
        keep = jax.vmap(lambda key: jax.random.bernoulli(key, 0.5, (8,)))(k_drop) * 2.0
        variables = {"params": params, "batch_stats": stats}
        logits, new = Net().apply(variables, image, keep, train=True, mutable=["batch_stats"])
        loss = losses.cross_entropy(logits * frozen["scale"].mean(), batch["label"]).mean()
        loss = jnp.where((batch["label"] < 0).any(), jnp.nan, loss)
        return loss, ({"draw": jax.vmap(jax.random.uniform)(k_draw).mean()}, new["batch_stats"])

    def evaluate(self, state, frozen, data, machine):
        return Evaluation(data(int(state.step)))


class Crash(Exception):
    """The process dies."""


def run(path, num_devices=4, *, task=Tiny(), recipe=RECIPE, on_batch=lambda step: {}, intervals=None, **options):
    """Trains in a folder; `on_batch(step)` may raise, ask to stop, or return other values of the batch of a step."""

    def stream_from(start):
        step = start
        while True:
            rng = np.random.default_rng([7, step])
            batch = {"image": rng.integers(0, 256, (8, 2, 2, 1), np.uint8), "label": rng.integers(0, 3, 8, np.int32)}
            yield {**batch, "slot": np.arange(8, dtype=np.int32), **(on_batch(step) or {})}
            step += 1

    intervals = intervals or Intervals(log_steps=1, checkpoint_steps=5)
    training = Training(task, recipe, intervals, options.pop("best_metric", ""))
    folder, machine, seed = RunFolder.open(path, {}, {}), Machine.local(num_devices), options.pop("seed", 3)
    return fit(training, stream_from, folder, machine, seed, **{"frozen": FROZEN, **options})


def crash_at(step):
    def on_batch(now):
        if now == step:
            raise Crash

    return on_batch


@pytest.fixture
def stop_at(monkeypatch):
    """Gives `on_batch` hooks that ask the run to stop while it makes the batch of a step."""
    asked = []
    monkeypatch.setattr(stop, "requested", lambda: bool(asked))

    def make(step):
        asked.clear()
        return lambda now: asked.append(1) if now == step else None

    return make


def lines(path, name="loss"):
    """The lines of metrics.jsonl that hold a metric."""
    read = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    return [line for line in read if name in line]


def assert_same(state, other):
    assert jax.tree.structure(state) == jax.tree.structure(other)
    for a, b in zip(jax.tree.leaves(state), jax.tree.leaves(other), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


@dataclass(frozen=True)
class Whole:
    """A run of ten steps that nothing interrupted: its folder and its final state, on the host."""

    path: object
    state: object


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    path = tmp_path_factory.mktemp("whole")
    return Whole(path, parallel.to_host(run(path)[0]))


def test_run_that_died_continues_to_the_same_bits(whole, tmp_path):
    """It dies in step 8, two steps after the checkpoint; steps 6 and 7 are done, and written, again."""
    with pytest.raises(Crash):
        run(tmp_path, on_batch=crash_at(7))
    assert [line["step"] for line in lines(tmp_path)][-1] == 7
    state, _, _ = run(tmp_path)
    assert int(state.step) == 10 and state.stats and state.ema
    assert_same(state, whole.state)
    assert lines(tmp_path) == lines(whole.path)
    assert [line["step"] for line in lines(tmp_path)] == list(range(1, 11))


def test_run_starts_its_stream_at_the_step_it_continues_from(tmp_path):
    seen = []
    with pytest.raises(Crash):
        run(tmp_path, on_batch=crash_at(7))
    run(tmp_path, on_batch=seen.append)
    assert seen == [5, 6, 7, 8, 9]


def test_run_asked_to_stop_saves_and_continues_to_the_same_bits(whole, tmp_path, stop_at):
    rarely = Intervals(log_steps=100)
    with pytest.raises(stop.Stopped, match="at step 4; the same command continues"):
        run(tmp_path, on_batch=stop_at(3), intervals=rarely)
    assert Checkpoints(tmp_path / "checkpoints").steps == [4]
    state, _, _ = run(tmp_path, on_batch=stop_at(-1), intervals=rarely)
    assert_same(state, whole.state)


def test_run_asked_to_stop_in_its_last_step_ends(tmp_path, stop_at):
    state, _, _ = run(tmp_path, on_batch=stop_at(9))
    assert int(state.step) == 10


def test_draws_of_a_step_do_not_depend_on_how_often_the_run_was_resumed(whole, tmp_path, stop_at):
    for step in (1, 2, 6):
        with pytest.raises(stop.Stopped):
            run(tmp_path, on_batch=stop_at(step))
    run(tmp_path, on_batch=stop_at(-1))
    draws = [line["draw"] for line in lines(tmp_path)]
    assert draws == [line["draw"] for line in lines(whole.path)]
    assert len(set(draws)) == 10


def test_one_device_trains_as_four(whole, tmp_path):
    """Batch norm, dropout, augmentation and the draws among the metrics are those of the global batch."""
    state, _, _ = run(tmp_path, num_devices=1)
    for a, b in zip(jax.tree.leaves(state), jax.tree.leaves(whole.state), strict=True):
        # Sums in another order: roundings of 6e-8 on numbers of order 1, carried along for ten steps.
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5)
    for one, four in zip(lines(tmp_path), lines(whole.path), strict=True):
        assert one == pytest.approx(four, abs=1e-5)


def test_seeds_train_differently_and_equal_seeds_alike(whole, tmp_path):
    other = run(tmp_path, seed=4)[0]
    assert not np.allclose(other.params["Dense_0"]["kernel"], whole.state.params["Dense_0"]["kernel"])
    machine = Machine.local()
    assert_same(*(machine.replicate(loop.init_state(Tiny(), RECIPE, 3)) for _ in range(2)))


def test_loss_that_is_not_finite_stops_the_run_and_says_its_step(tmp_path):
    broken = {"label": np.full(8, -1, np.int32)}
    often = Intervals(log_steps=100, checkpoint_steps=2)
    with pytest.raises(NonFiniteError, match=r"^step 6: loss is nan"):
        run(tmp_path, on_batch=lambda step: broken if step == 5 else {}, intervals=often)
    state, _ = Checkpoints(tmp_path / "checkpoints").restore(loop.init_state(Tiny(), RECIPE, 0))
    assert int(state.step) == 4
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state))
    assert "NaN" not in (tmp_path / "metrics.jsonl").read_text()


@pytest.fixture
def saved(monkeypatch):
    """The steps at which checkpoints are saved."""
    steps, save = [], Checkpoints.save
    monkeypatch.setattr(Checkpoints, "save", lambda self, step, *args: steps.append(step) or save(self, step, *args))
    return steps


def test_intervals_do_not_depend_on_each_other(whole, tmp_path, saved):
    evaluated = []
    run(
        tmp_path,
        intervals=Intervals(log_steps=7, eval_steps=4, checkpoint_steps=3),
        eval_data=lambda step: evaluated.append(step) or {"score": float(step)},
    )
    assert saved == [3, 6, 9, 10]
    assert evaluated == [4, 8, 10] == [line["step"] for line in lines(tmp_path, "eval_score")]
    logged = [line["step"] for line in lines(tmp_path)]
    assert {7, 10} <= set(logged)
    # Each step is in exactly one of the averages that the lines hold.
    total = np.dot(np.diff([0, *logged]), [line["draw"] for line in lines(tmp_path)])
    assert total == pytest.approx(sum(line["draw"] for line in lines(whole.path)))


def test_interval_of_zero_is_only_at_the_end(tmp_path, saved):
    evaluated = []
    run(tmp_path, intervals=Intervals(log_steps=100), eval_data=lambda step: evaluated.append(step) or {"score": 0.0})
    assert saved == evaluated == [10]
    assert [line["step"] for line in lines(tmp_path)] == [10]


def test_finished_run_called_again_only_evaluates(tmp_path, saved):
    first = run(tmp_path, eval_data=lambda step: {"score": 0.25})
    before = (tmp_path / "metrics.jsonl").read_text()
    saved.clear()
    again = run(tmp_path, on_batch=crash_at(10), eval_data=lambda step: {"score": 0.25})
    assert_same(again[0], first[0])
    assert again[1] == first[1] and again[1].metrics == {"score": 0.25}
    assert saved == [] and (tmp_path / "metrics.jsonl").read_text() == before


def test_equal_tasks_share_one_compiled_program(whole, tmp_path):
    compiled = []

    def listener(event, duration, **_):
        if event.endswith("backend_compile_duration"):
            compiled.append(event)

    other = Recipe(**vars(RECIPE))
    assert loop.make_step(Tiny(), other, Machine.local(4)) is loop.make_step(Tiny(), RECIPE, Machine.local())
    TRACED.clear()
    jax.monitoring.register_event_duration_secs_listener(listener)
    try:
        run(tmp_path, recipe=other, seed=11)
        assert TRACED == [] and compiled == []
        jax.jit(lambda x: x * 3)(1.0)
        assert compiled, "the listener hears of compilations"
    finally:
        jax.monitoring.unregister_event_duration_listener(listener)


def test_frozen_parameters_are_used_and_not_saved(whole, tmp_path):
    tree, _ = restore_tree(whole.path / "checkpoints")
    assert set(tree) == {"step", "params", "stats", "opt_state", "ema"}
    assert not [leaf for leaf in jax.tree.leaves(tree) if np.shape(leaf) == FROZEN["scale"].shape]
    run(tmp_path, frozen={"scale": 5 * FROZEN["scale"]})
    assert lines(tmp_path)[0]["loss"] != lines(whole.path)[0]["loss"]


def test_best_metric_keeps_the_best_checkpoint(tmp_path):
    """The best evaluation, at step 4, falls on no checkpoint interval; at the end it is still there."""
    run(
        tmp_path,
        intervals=Intervals(log_steps=100, eval_steps=2, checkpoint_steps=3),
        eval_data=lambda step: {"score": -abs(step - 4.0)},
        best_metric="score",
    )
    checkpoints = Checkpoints(tmp_path / "checkpoints", best="score")
    assert checkpoints.best_step == 4 and checkpoints.steps[-1] == 10
    assert restore_tree(tmp_path / "checkpoints", "step", "best")[0] == 4


def test_best_checkpoint_is_selected_on_other_data_than_are_tested_at_the_end(tmp_path):
    tested = []
    _, evaluation, _ = run(
        tmp_path,
        intervals=Intervals(log_steps=100, eval_steps=2),
        eval_data=lambda step: tested.append(step) or {"score": float(step)},
        select_data=lambda step: {"score": -abs(step - 4.0)},
        best_metric="score",
    )
    assert tested == [10] and evaluation.metrics == {"score": 10.0}
    assert Checkpoints(tmp_path / "checkpoints", best="score").best_step == 4


def test_run_whose_checkpoints_are_all_broken_starts_anew_and_ends_alike(tmp_path):
    often = Intervals(log_steps=100, checkpoint_steps=2)
    whole, *_ = run(tmp_path, intervals=often)
    for path in (tmp_path / "checkpoints").glob("*/record/metadata"):
        path.write_text("{")
    with pytest.warns(RuntimeWarning, match="Starting anew, at step 0"):
        again, *_ = run(tmp_path, intervals=often)
    jax.tree.map(np.testing.assert_array_equal, whole, again)
    assert Checkpoints(tmp_path / "checkpoints").steps == [8, 10]


def test_best_metric_that_is_not_measured_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"'top1' is not measured. Allowed: \['score'\]"):
        run(
            tmp_path,
            intervals=Intervals(eval_steps=1),
            eval_data=lambda step: {"score": 0.0},
            best_metric="top1",
        )


@pytest.mark.parametrize(
    ("intervals", "eval_data"),
    [(Intervals(checkpoint_steps=1), {}), (Intervals(eval_steps=1, checkpoint_steps=1), None)],
)
def test_best_metric_without_evaluations_is_refused_before_any_work(tmp_path, intervals, eval_data):
    with pytest.raises(ValueError, match="'score' needs evaluations while training"):
        run(tmp_path, intervals=intervals, eval_data=eval_data, best_metric="score")
    assert not (tmp_path / "metrics.jsonl").exists()


@pytest.mark.parametrize(
    ("num_devices", "options", "message"),
    [(3, {}, "batch_size 8 cannot be split over 3"), (1, {"seed": -1}, "seed -1")],
)
def test_fit_refuses_what_cannot_run_before_any_work(tmp_path, num_devices, options, message):
    with pytest.raises(ValueError, match=message):
        run(tmp_path, num_devices, **options)
    assert not (tmp_path / "metrics.jsonl").exists()


@dataclass(frozen=True)
class Jump:
    """One number; a step adds the mean label of its batch to it."""

    def init(self, key):
        return {"w": jnp.zeros(())}, {}

    def loss(self, params, stats, frozen, batch, keys):
        return -params["w"] * batch["label"].mean(), ({}, stats)


def test_average_forgets_half_in_its_half_life(tmp_path):
    """The number jumps to 1 in step 2; after the images of four steps, the half-life, the average is half way."""
    recipe = Recipe(
        batch_size=8,
        num_steps=5,
        name="sgd",
        learning_rate=1.0,
        decay=False,
        momentum=0.0,
        ema_half_life_images=4 * 8.0,
        ema_rampup=4.0,  # no more than 4 steps' images from step 2 on: the ramp is over
    )
    jump = {0: np.zeros(8, np.int32), 1: np.ones(8, np.int32)}
    label = lambda step: {"label": jump.get(step, jump[0])}  # noqa: E731
    state, _, _ = run(tmp_path / "one", task=Jump(), recipe=recipe, on_batch=label)
    assert state.params["w"] == 1
    assert state.ema["params"]["w"] == pytest.approx(0.5, abs=1e-6)  # four products in float32
    # Beside another length it is kept the same, under its name, and comes back from the checkpoint.
    other = dataclasses.replace(recipe, ema_half_life_images=16.0, ema_others=(32.0, 1e6))
    run(tmp_path / "several", task=Jump(), recipe=other, on_batch=label)
    kept, _ = restore_tree(tmp_path / "several" / "checkpoints", "ema")
    assert kept["others"]["32"]["w"] == state.ema["params"]["w"]
    assert kept["params"]["w"] > 0.6 and kept["others"].keys() == {"32", "1000000"}


def test_half_life_of_zero_keeps_no_average(tmp_path):
    recipe = Recipe(batch_size=8, num_steps=1, name="sgd", learning_rate=1.0)
    state, _, _ = run(tmp_path, task=Jump(), recipe=recipe)
    assert state.ema is None
    assert "ema" not in restore_tree(tmp_path / "checkpoints")[0]


def test_constant_rate_warms_up_as_the_cosine_does():
    constant, cosine = (
        Recipe(batch_size=1, num_steps=100, learning_rate=0.5, warmup_steps=4, decay=decay).schedule
        for decay in (False, True)
    )
    for step in range(5):
        assert float(constant(step)) == pytest.approx(float(cosine(step)))
    assert constant(4) == constant(99) == 0.5


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("batch_size", 0),
        ("num_steps", 0),
        ("warmup_steps", -1),
        ("warmup_steps", 10),
        ("learning_rate", 0.0),
        ("learning_rate", math.nan),
        ("ema_half_life_images", -1.0),
        ("ema_rampup", 0.0),
        ("ema_others", (5.0,)),  # beside none
        ("weight_decay", -0.1),
        ("clip_norm", -1.0),
        ("name", "lion"),
    ],
)
def test_recipe_refuses_what_cannot_train(field, value):
    with pytest.raises(ValueError, match=field if field != "name" else "lion"):
        Recipe(**{"batch_size": 8, "num_steps": 10, field: value})


@pytest.mark.parametrize("steps", [{"log_steps": 0}, {"eval_steps": -1}, {"checkpoint_steps": -1}])
def test_intervals_refuse_what_cannot_come_round(steps):
    with pytest.raises(ValueError, match=r"train\.(log|eval|checkpoint)_steps (0|-1): expected whole numbers from"):
        Intervals(**steps)


def test_to_unit_spans_minus_one_to_one():
    np.testing.assert_array_equal(loop.normalize(np.uint8([[0, 255]])), [[-1, 1]])
