"""The only training loop. A task says what is learnt; `fit` says when, how far, and what is kept.

`state.step` counts completed updates and is the only clock: the randomness of step n is keyed by (seed, n), its
batch is a function of (seed, n), so to resume is to run the same command again.
"""

import functools
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxmoust.core import optim
from jaxmoust.core.state import TrainState
from jaxmoust.runtime import parallel, stop
from jaxmoust.runtime.checkpoint import Checkpoints
from jaxmoust.runtime.folder import RunFolder
from jaxmoust.runtime.progress import MetricWriter, check_finite, progress

Batch = dict[str, np.ndarray]


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation found: numbers for the record, and per-image arrays for paired tests.

    Args:
        metrics: name -> number.
        arrays: name -> array over the evaluated images, in the source's order.
    """

    metrics: dict[str, float]
    arrays: dict[str, np.ndarray] = field(default_factory=dict)


class Task(Protocol):
    """What is learnt. Frozen and hashable: two runs of equal tasks share one compiled program."""

    def init(self, key: jax.Array) -> tuple[Any, Any]:
        """Returns fresh (params, stats)."""

    def loss(self, params: Any, stats: Any, frozen: Any, batch: Batch, keys: jax.Array) -> tuple:
        """Returns (loss, (metrics, stats)) of one device's rows; keys [b] hold one key for each example."""

    def evaluate(self, state: TrainState, frozen: Any, data: Any, machine: parallel.Machine) -> Evaluation:
        """Judges the averaged parameters if there are any, else the current ones."""


@dataclass(frozen=True)
class Recipe:
    """How parameters move: optimizer, schedule, averaging; and for how long.

    Args:
        name: "sgd" (Nesterov), "adam" or "adamw".
        learning_rate: the peak, reached after `warmup_steps`, then a cosine to 0 at `num_steps`
            (`decay=False`: constant).
        weight_decay: on kernels alone. clip_norm: of the global gradient, 0 is off.
        ema_half_life_images: the average forgets half in so many images; 0 keeps no average.
        ema_rampup: early on, the half-life is at most this share of the images seen so far.
        batch_size: the global one, over all devices and processes.
        micro_batches: a batch goes through the network in so many equal parts, one after another, whose gradients
            are averaged for one update: less memory, the same step. Only batch norm notices: its statistics are
            those of a part (over all devices), and the running ones move once a part.
    """

    batch_size: int
    num_steps: int
    name: str = "adamw"
    learning_rate: float = 1e-3
    warmup_steps: int = 0
    decay: bool = True
    weight_decay: float = 0.0
    momentum: float = 0.9
    b1: float = 0.9
    b2: float = 0.999
    clip_norm: float = 0.0
    ema_half_life_images: float = 0.0
    ema_rampup: float = 0.05
    micro_batches: int = 1

    def __post_init__(self) -> None:
        """Refuses what could not train, before any work starts."""
        if self.batch_size < 1 or self.num_steps < 1:
            raise ValueError(
                f"train.batch_size {self.batch_size}, train.num_steps {self.num_steps}: "
                "allowed are whole numbers from 1."
            )
        if self.micro_batches < 1 or self.batch_size % self.micro_batches:
            raise ValueError(
                f"optim.micro_batches {self.micro_batches}: allowed are whole numbers from 1 that divide "
                f"train.batch_size {self.batch_size}."
            )
        if not 0 <= self.warmup_steps < self.num_steps:
            raise ValueError(
                f"optim.warmup_steps {self.warmup_steps}: allowed are 0 up to, not including, "
                f"train.num_steps {self.num_steps}."
            )
        if not self.learning_rate > 0:
            raise ValueError(f"optim.learning_rate {self.learning_rate}: allowed are numbers above 0.")
        if not (self.ema_half_life_images >= 0 and self.ema_rampup > 0):
            raise ValueError(
                f"optim.ema_half_life_images {self.ema_half_life_images}, optim.ema_rampup {self.ema_rampup}: "
                "allowed are a half-life of 0 (off) and up, and a share above 0."
            )
        _ = self.tx  # refuses an optimizer that cannot be made

    def rows(self, machine: parallel.Machine) -> int:
        """The rows that go through the network at once on one device.

        Raises: ValueError: a batch, or a part of it, that the devices cannot share.
        """
        machine.per_device(self.batch_size, "train.batch_size")
        part = "train.batch_size" if self.micro_batches == 1 else "train.batch_size / optim.micro_batches ="
        return machine.per_device(self.batch_size // self.micro_batches, part)

    @property
    def schedule(self) -> optax.Schedule:
        """The learning rate as a function of completed steps."""
        if self.decay:
            return optim.warmup_cosine(self.learning_rate, self.num_steps, self.warmup_steps)
        return lambda step: self.learning_rate * jnp.minimum(1.0, (step + 1) / (self.warmup_steps + 1))

    @property
    def tx(self) -> optax.GradientTransformation:
        """The optimizer as one Optax transformation."""
        return optim.make_optimizer(
            self.name,
            self.schedule,
            weight_decay=self.weight_decay,
            momentum=self.momentum,
            b1=self.b1,
            b2=self.b2,
            clip_norm=self.clip_norm,
        )


@dataclass(frozen=True)
class Intervals:
    """How often, in steps, something is done besides training; 0 is only at the end (`log_steps` at least 1)."""

    log_steps: int = 100
    eval_steps: int = 0
    checkpoint_steps: int = 0

    def __post_init__(self) -> None:
        """Refuses intervals that cannot come round."""
        if self.log_steps < 1 or self.eval_steps < 0 or self.checkpoint_steps < 0:
            raise ValueError(f"{self}: allowed are log_steps from 1, the others from 0 (only at the end).")


def init_state(task: Task, recipe: Recipe, seed: int) -> TrainState:
    """Makes the state before step 0, a function of the seed alone."""
    return _init(task, recipe)(np.uint32(seed))


@functools.lru_cache(maxsize=32)
def _init(task: Task, recipe: Recipe) -> Callable:
    def init(seed):
        # Step n folds n into this key; no n reaches 2^32 - 1, so initialisation shares no randomness with a step.
        params, stats = task.init(jax.random.fold_in(jax.random.key(seed), np.uint32(2**32 - 1)))
        ema = {"params": params, "stats": stats} if recipe.ema_half_life_images else None
        return TrainState(jnp.zeros((), jnp.int32), params, stats, recipe.tx.init(params), ema)

    return jax.jit(init)


@functools.lru_cache(maxsize=32)
def make_step(task: Task, recipe: Recipe, machine: parallel.Machine) -> Callable:
    """Compiles `step(state, frozen, seed, batch) -> (state, metrics)`, one update on all devices.

    Every random draw is keyed by (seed, step, place in the global batch), and gradients, statistics and metrics
    go through one mean over the devices; so 1 and D devices agree to rounding.
    """
    tx, schedule = recipe.tx, recipe.schedule

    def step(state: TrainState, frozen: Any, seed: jax.Array, batch: Batch) -> tuple[TrainState, dict]:
        key = jax.random.fold_in(jax.random.key(seed), state.step)
        keys = jax.vmap(lambda slot: jax.random.fold_in(key, slot))(batch["slot"])
        grads, stats, metrics = parallel.mean(_gradients(task, recipe, state, frozen, batch, keys))
        updates, opt_state = tx.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        ema = state.ema
        if ema is not None:
            decay = optim.ema_decay(state.step, recipe.batch_size, recipe.ema_half_life_images, recipe.ema_rampup)
            ema = optim.ema_update(ema, {"params": params, "stats": stats}, decay)
        metrics |= {"grad_norm": optax.tree.norm(grads), "learning_rate": schedule(state.step)}
        return TrainState(state.step + 1, params, stats, opt_state, ema), metrics

    return machine.parallel(step, num_replicated=3, donate=(0,))


def _gradients(task: Task, recipe: Recipe, state: TrainState, frozen: Any, batch: Batch, keys: jax.Array) -> tuple:
    """Returns one device's (gradients, statistics, metrics with the loss), averaged over the micro-batches."""
    grad_fn = jax.value_and_grad(task.loss, has_aux=True)

    def part(stats: Any, rows: tuple[Batch, jax.Array]) -> tuple:
        (loss, (metrics, stats)), grads = grad_fn(state.params, stats, frozen, *rows)
        return grads, stats, {"loss": loss, **metrics}

    if recipe.micro_batches == 1:
        return part(state.stats, (batch, keys))

    def accumulate(carry: tuple, rows: tuple[Batch, jax.Array]) -> tuple:
        total, stats = carry
        grads, stats, metrics = part(stats, rows)
        return (jax.tree.map(jnp.add, total, grads), stats), metrics

    parts = jax.tree.map(lambda x: x.reshape(recipe.micro_batches, -1, *x.shape[1:]), (batch, keys))
    zeros = jax.tree.map(jnp.zeros_like, state.params)
    (total, stats), metrics = jax.lax.scan(accumulate, (zeros, state.stats), parts)
    grads = jax.tree.map(lambda leaf: leaf / recipe.micro_batches, total)
    return grads, stats, jax.tree.map(lambda values: values.mean(0), metrics)


def _interleave(batch: Batch, micro_batches: int, num_devices: int) -> Batch:
    """Orders the rows of a process so that its devices hold together, part by part, the rows of the batch in order.

    Device d takes the d-th of D stretches of what this returns, and part m of that holds rows of part m of the batch:
    so what a part is made of does not depend on D.
    """

    def order(x: np.ndarray) -> np.ndarray:
        parts = x.reshape(micro_batches, num_devices, -1, *x.shape[1:])
        return parts.swapaxes(0, 1).reshape(x.shape)

    return {name: order(x) for name, x in batch.items()} if micro_batches > 1 else batch


def fit(
    task: Task,
    recipe: Recipe,
    stream_from: Callable[[int], Iterator[Batch]],
    *,
    folder: RunFolder,
    machine: parallel.Machine,
    seed: int,
    intervals: Intervals | None = None,
    frozen: Any = None,
    eval_data: Any = None,
    best_metric: str = "",
    title: str = "train",
    start: Callable[[TrainState], TrainState] | None = None,
    watch: Callable[[TrainState], None] | None = None,
) -> tuple[TrainState, Evaluation, float]:
    """Trains a task to `recipe.num_steps` updates, from the newest checkpoint in the folder if there is one.

    Args:
        stream_from: `stream_from(n)` iterates over this process's slices of the batches of steps n, n + 1, ...
        folder: receives checkpoints/, metrics.jsonl and tensorboard/.
        frozen: parameters that are used and not trained; an argument of every step, never checkpointed.
        eval_data: handed to `task.evaluate` at `intervals.eval_steps` and at the end; None: no evaluation.
        best_metric: also keep the checkpoint with the highest value of this metric; every evaluation then saves
            one. It selects on whatever `eval_data` is: name it only where that is a validation set.
        start: puts what was learnt elsewhere into the fresh state of a run that begins; a resumed one does not call it.
        watch: called with the state at every evaluation, in every process, to draw pictures of it.
    Returns: (the final state, its evaluation, seconds of work summed over restarts).
    Raises:
        ValueError: a batch that the devices cannot share, a seed that is no uint32, or a best_metric that is never
            measured.
        NonFiniteError: the loss stopped being a number; the last good checkpoint stays.
        stop.Stopped: asked to stop; a checkpoint was written.
    """
    intervals = intervals or Intervals()
    recipe.rows(machine)
    parallel.check_seed(seed)
    if best_metric and (eval_data is None or not intervals.eval_steps):
        raise ValueError(
            f"best_metric {best_metric!r} needs evaluations while training: "
            "give eval_data and set eval_steps, or leave best_metric empty."
        )
    run = _Run(task, recipe, folder, machine, intervals, frozen, eval_data, best_metric, seed, start, watch)
    try:
        return run.to_end(stream_from, title)
    finally:
        run.close()


class _Run:
    """One call of `fit`: the state on its way, and what is written on the side."""

    def __init__(self, task, recipe, folder, machine, intervals, frozen, eval_data, best_metric, seed, start, watch):
        self.task, self.recipe, self.machine, self.intervals = task, recipe, machine, intervals
        self.frozen = machine.replicate(frozen)
        self.eval_data, self.best_metric, self.watch = eval_data, best_metric, watch
        self.seed = machine.replicate(np.uint32(seed))
        self.checkpoints = Checkpoints(folder.checkpoints, best=best_metric, primary=machine.primary)
        state = init_state(task, recipe, seed)
        restored = self.checkpoints.restore(state)
        state, extra = restored or (start(state) if start else state, {"seconds": 0.0})
        self.step = int(state.step)
        self.saved_step = self.step if restored else -1
        self.state = machine.replicate(state)
        self.seconds_before, self.started = extra["seconds"], time.monotonic()
        self.writer = MetricWriter(folder.path, start_step=self.step) if machine.primary else None
        self.pending: list[tuple[int, dict]] = []

    @property
    def seconds(self) -> float:
        return self.seconds_before + time.monotonic() - self.started

    def to_end(self, stream_from: Callable[[int], Iterator[Batch]], title: str) -> tuple:
        recipe, intervals = self.recipe, self.intervals
        step_fn = make_step(self.task, recipe, self.machine)
        stream = iter(stream_from(self.step)) if self.step < recipe.num_steps else None
        with progress(
            recipe.num_steps * recipe.batch_size,
            unit="images",
            title=title,
            initial=self.step * recipe.batch_size,
            enabled=self.machine.primary,
        ) as bar:
            while self.step < recipe.num_steps:
                batch = _interleave(next(stream), recipe.micro_batches, len(self.machine.local_devices))
                batch = self.machine.split(batch)
                self.state, metrics = step_fn(self.state, self.frozen, self.seed, batch)
                self.step += 1
                self.pending.append((self.step, metrics))
                if len(self.pending) > 1:
                    # The host stays at most one step ahead, which bounds memory and keeps the bar honest.
                    jax.block_until_ready(self.pending[-2][1])
                bar.update(recipe.batch_size)
                self._between_steps(_due(self.step, intervals.log_steps))
        self._flush()
        evaluation = self._evaluate()
        self._save(evaluation.metrics)
        return self.state, evaluation, self.seconds

    def _between_steps(self, log: bool) -> None:
        """Does what is due after a step: log, evaluate, save, stop."""
        if self.step == self.recipe.num_steps:
            return
        if log:
            self._flush()
        metrics = {}
        if _due(self.step, self.intervals.eval_steps):
            self._flush()
            metrics = self._evaluate().metrics
        if _due(self.step, self.intervals.checkpoint_steps) or (self.best_metric and metrics):
            self._save(metrics)
        # Several processes must agree to stop at the same step, and asking costs a message: ask when logging.
        if (log or self.machine.process_count == 1) and self.machine.any(stop.requested()):
            self._save({})
            raise stop.Stopped(f"Stopped on request at step {self.step}; the same command continues from there.")

    def _flush(self) -> None:
        """Fetches the metrics of the steps since the last call, refuses bad ones, writes their average."""
        if not self.pending:
            return
        fetched = [(step, parallel.to_host(metrics)) for step, metrics in self.pending]
        self.pending.clear()
        for step, metrics in fetched:
            check_finite(step, metrics)
        average = {name: float(np.mean([m[name] for _, m in fetched])) for name in fetched[0][1]}
        if self.writer:
            self.writer.write(self.step, average)

    def _evaluate(self) -> Evaluation:
        if self.eval_data is None:
            return Evaluation({})
        evaluation = self.task.evaluate(self.state, self.frozen, self.eval_data, self.machine)
        if self.best_metric and self.best_metric not in evaluation.metrics:
            raise ValueError(
                f"best_metric {self.best_metric!r} is not measured. Allowed: {sorted(evaluation.metrics)}."
            )
        # A step that was restored was written before it was saved.
        if self.writer and self.step != self.saved_step:
            self.writer.write(self.step, {f"eval_{k}": v for k, v in evaluation.metrics.items()})
        if self.watch:
            self.watch(self.state)
        return evaluation

    def _save(self, metrics: dict[str, float]) -> None:
        """Saves the state, once a step, and never one whose metrics have not been seen to be finite."""
        self._flush()
        if self.step == self.saved_step:
            return
        extra = {"seconds": self.seconds, "loader_position": self.step}
        self.checkpoints.save(self.step, self.state, extra, metrics or None)
        self.saved_step = self.step

    def close(self) -> None:
        self.checkpoints.close()
        if self.writer:
            self.writer.close()


def _due(step: int, interval: int) -> bool:
    return interval > 0 and step % interval == 0


def to_unit(image: jax.Array) -> jax.Array:
    """Maps uint8 images [B, H, W, C] to float32 in [-1, 1]."""
    return image.astype(jnp.float32) / 127.5 - 1.0


def gathered(fn: Callable, machine: parallel.Machine) -> Callable:
    """Compiles `fn(variables, batch) -> {name: [b]}` to give the whole batch, with mask and index, everywhere."""

    def run(variables: Any, batch: Batch) -> dict[str, jax.Array]:
        return parallel.gather({**fn(variables, batch), "mask": batch["mask"], "index": batch["index"]})

    return machine.parallel(run, num_replicated=1)


def gather_rows(
    run: Callable, variables: Any, data: Iterable[Batch], machine: parallel.Machine
) -> dict[str, np.ndarray]:
    """Runs a `gathered` function over padded batches; returns each image's values once, in the source's order."""
    batches = [parallel.to_host(run(variables, machine.split(batch))) for batch in data]
    rows = {name: np.concatenate([b[name] for b in batches]) for name in batches[0]}
    kept = rows["mask"] > 0
    order = np.argsort(rows["index"][kept], kind="stable")
    return {name: value[kept][order] for name, value in rows.items() if name not in ("mask", "index")}
