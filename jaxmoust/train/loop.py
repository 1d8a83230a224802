"""The only training loop. A task says what is trained; `fit` says for how long, and what is kept.

`state.step` counts completed updates and is the only clock: the randomness of step n is keyed by (seed, n), its
batch is a function of (seed, n), so to resume is to run the same command again.
"""

import contextlib
import functools
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxmoust.core import optim
from jaxmoust.core.checks import require
from jaxmoust.core.optim import Recipe
from jaxmoust.core.state import TrainState
from jaxmoust.runtime import parallel, stop
from jaxmoust.runtime.checkpoint import Checkpoints
from jaxmoust.runtime.folder import RunFolder
from jaxmoust.runtime.progress import MetricWriter, check_finite, progress

Batch = dict[str, jax.Array]
"""One device's rows, inside a compiled function: image uint8 [b, H, W, C], label, source, index, slot, mask [b]."""
HostBatch = dict[str, np.ndarray]
"""This process's rows of a batch, as a loader gives them."""
Images = Iterable[HostBatch]
"""All images of an evaluation in padded batches with label, mask and index, as many on every process."""
Sets = Mapping[str, Images]
Start = Callable[[TrainState], TrainState]
"""Puts pre-trained weights into a fresh state."""


@dataclass(frozen=True)
class Evaluation:
    """The result of an evaluation: numbers for the record, and per-image arrays for paired tests.

    Args:
        metrics: name -> number.
        arrays: name -> array over the evaluated images, in the source's order.
    """

    metrics: dict[str, float]
    arrays: dict[str, np.ndarray] = field(default_factory=dict)


class Task(Protocol):
    """What is trained. Frozen and hashable: two runs of equal tasks share one compiled program."""

    def __hash__(self) -> int:
        """Tasks key the caches of compiled programs."""

    def init(self, key: jax.Array) -> tuple[Any, Any]:
        """Returns fresh (params, stats)."""

    def loss(self, params: Any, stats: Any, frozen: Any, batch: Batch, keys: jax.Array) -> tuple:
        """Returns (loss, (metrics, stats)) of one device's rows; keys [b] hold one key for each example."""

    def evaluate(self, state: TrainState, frozen: Any, data: Any, machine: parallel.Machine) -> Evaluation:
        """Measures the averaged parameters if there are any, else the current ones."""


@dataclass(frozen=True)
class Intervals:
    """How often something is done besides training.

    Args:
        log_steps: steps between two lines of metrics.
        eval_steps: steps between two evaluations; 0: only at the end.
        checkpoint_steps: steps between two checkpoints; 0: only at the end.
    Raises: ValueError: intervals that cannot come round.
    """

    log_steps: int = 100
    eval_steps: int = 0
    checkpoint_steps: int = 0

    def __post_init__(self) -> None:
        """Refuses intervals that cannot come round."""
        require(self.log_steps >= 1, "train.log_steps", self.log_steps, "whole numbers from 1")
        for name in ("eval_steps", "checkpoint_steps"):
            steps = getattr(self, name)
            require(steps >= 0, f"train.{name}", steps, "whole numbers from 0 (only at the end)")


@dataclass(frozen=True)
class Training:
    """A training run that can start.

    Args:
        task: what is learnt.
        recipe: how parameters move, and for how long.
        intervals: when something is done besides.
        best_metric: also keep the checkpoint where this metric is best (a loss when lowest, others when highest);
            every evaluation then saves one. It selects on whatever the evaluation data are: name it only where those
            are a validation set. "": the newest checkpoints only.
    """

    task: Any
    recipe: Recipe
    intervals: Intervals = Intervals()
    best_metric: str = ""


def init_state(task: Task, recipe: Recipe, seed: int) -> TrainState:
    """Makes the state before step 0, a function of the seed alone."""
    return _init(task, recipe)(np.uint32(seed))


@functools.lru_cache(maxsize=32)
def _init(task: Task, recipe: Recipe) -> Callable:
    def init(seed: jax.Array) -> TrainState:
        # Step n folds n into this key; no n reaches 2^32 - 1, so initialisation shares no randomness with a step.
        params, stats = task.init(jax.random.fold_in(jax.random.key(seed), np.uint32(2**32 - 1)))
        ema = {"params": params, "stats": stats} if recipe.ema_half_life_images else None
        if ema and recipe.ema_others:
            ema["others"] = {optim.average_name(length): params for length in recipe.ema_others}
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
        grads, stats, of_task = parallel.mean(_gradients(task, recipe, state, frozen, batch, keys))
        metrics = {**of_task, "grad_norm": optax.tree.norm(grads), "learning_rate": schedule(state.step)}
        updates, opt_state = tx.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        ema = state.ema
        if ema is not None:

            def averaged(old: Any, new: Any, half_life: float) -> Any:
                decay = optim.ema_decay(state.step, recipe.batch_size, half_life, recipe.ema_rampup)
                return optim.ema_update(old, new, decay)

            others = {
                name: averaged(ema["others"][name], params, length)
                for name, length in ((optim.average_name(length), length) for length in recipe.ema_others)
            }
            own = {name: ema[name] for name in ("params", "stats")}
            ema = averaged(own, {"params": params, "stats": stats}, recipe.ema_half_life_images)
            ema = ema | ({"others": others} if others else {})
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
    metrics: dict[str, jax.Array]
    (total, stats), metrics = jax.lax.scan(accumulate, (zeros, state.stats), parts)
    grads = jax.tree.map(lambda leaf: leaf / recipe.micro_batches, total)
    return grads, stats, jax.tree.map(lambda values: values.mean(0), metrics)


def _interleave(batch: HostBatch, micro_batches: int, num_devices: int) -> HostBatch:
    """Orders the rows of a process so that its devices hold together, part by part, the rows of the batch in order.

    Device d takes the d-th of D stretches of what this returns, and part m of that holds rows of part m of the batch:
    so what a part is made of does not depend on D.
    """

    def order(x: np.ndarray) -> np.ndarray:
        parts = x.reshape(micro_batches, num_devices, -1, *x.shape[1:])
        return parts.swapaxes(0, 1).reshape(x.shape)

    return {name: order(x) for name, x in batch.items()} if micro_batches > 1 else batch


def fit(
    training: Training,
    stream_from: Callable[[int], Iterator[HostBatch]],
    folder: RunFolder,
    machine: parallel.Machine,
    seed: int,
    *,
    frozen: Any = None,
    eval_data: Any = None,
    select_data: Any = None,
    start: Start | None = None,
    watch: Callable[[TrainState], None] | None = None,
    title: str = "train",
) -> tuple[TrainState, Evaluation, float]:
    """Trains to `recipe.num_steps` updates, from the newest checkpoint in the folder if there is one.

    Args:
        stream_from: `stream_from(n)` iterates over this process's slices of the batches of steps n, n + 1, ...
        folder: receives checkpoints/, metrics.jsonl and tensorboard/.
        frozen: parameters that are used and not trained; an argument of every step, never checkpointed.
        eval_data: handed to `task.evaluate` at `intervals.eval_steps` and at the end; None: no evaluation.
        select_data: handed to it at `intervals.eval_steps`, and at the end for the choice of the best checkpoint, in
            the place of eval_data, of which then nothing is seen before the end.
        start: changes the fresh state of a run that begins; a resumed one does not call it.
        watch: called with the state at every evaluation, in every process, to draw pictures of it.
        title: what the progress is called.
    Returns: (the final state, its evaluation, seconds of work summed over restarts).
    Raises:
        ValueError: a batch that the devices cannot share, a seed that is no uint32, or a best_metric that is never
            measured.
        NonFiniteError: the loss stopped being a number; the last good checkpoint stays.
        stop.Stopped: asked to stop; a checkpoint was written.
    """
    training.recipe.rows(machine.per_device)
    parallel.check_seed(seed)
    if training.best_metric and (eval_data is None or not training.intervals.eval_steps):
        raise ValueError(
            f"best_metric {training.best_metric!r} needs evaluations while training: "
            "give eval_data and set eval_steps, or leave best_metric empty."
        )
    given = (training, folder, machine, seed, frozen, eval_data, select_data, start, watch)
    with stop.deferred(), contextlib.closing(_Run(*given)) as run:
        return run.to_end(stream_from, title)


@dataclass
class _Run:
    """One call of `fit`: the state on its way, and what is written on the side."""

    training: Training
    folder: RunFolder
    machine: parallel.Machine
    seed: Any
    frozen: Any
    eval_data: Any
    select_data: Any
    start: Start | None
    watch: Callable[[TrainState], None] | None

    def __post_init__(self) -> None:
        """Restores the newest checkpoint, or begins; and places everything on the devices."""
        self.task, self.recipe, self.started = self.training.task, self.training.recipe, time.monotonic()
        self.checkpoints = Checkpoints(self.folder.checkpoints, self.training.best_metric, self.machine.primary)
        init = functools.partial(init_state, self.task, self.recipe, self.seed)
        restored = self.checkpoints.restore(jax.eval_shape(init))
        if restored is None:
            state, extra = self.start(init()) if self.start else init(), {"seconds": 0.0}
        else:
            state, extra = restored
        self.step, self.seconds_before = int(state.step), extra["seconds"]
        self.saved_step = self.step if restored else -1
        everything = (state, self.frozen, np.uint32(self.seed))
        self.state, self.frozen, self.seed = map(self.machine.replicate, everything)
        self.writer = MetricWriter(self.folder.path, self.step) if self.machine.primary else None
        self.pending: list[tuple[int, dict]] = []
        self.pace = parallel.Pace(self.machine)
        if others := self.machine.differing(self.step):
            raise ValueError(
                f"Process {others[0]} goes on from another step of {self.folder.path} than process 0: give all of them "
                "one --workdir, on a disk that they share."
            )

    @property
    def seconds(self) -> float:
        return self.seconds_before + time.monotonic() - self.started

    def to_end(self, stream_from: Callable[[int], Iterator[HostBatch]], title: str) -> tuple:
        recipe, machine = self.recipe, self.machine
        step_fn = make_step(self.task, recipe, machine)
        stream = iter(stream_from(self.step) if self.step < recipe.num_steps else ())
        total, initial = (steps * recipe.batch_size for steps in (recipe.num_steps, self.step))
        with progress(total, title=title, initial=initial, enabled=machine.primary) as bar:
            while self.step < recipe.num_steps:
                batch = _interleave(next(stream), recipe.micro_batches, len(machine.local_devices))
                self.state, metrics = step_fn(self.state, self.frozen, self.seed, machine.split(batch))
                self.step += 1
                self.pending.append((self.step, metrics))
                if len(self.pending) > 1:
                    # The host stays at most one step ahead, which bounds memory and keeps the bar honest.
                    jax.block_until_ready(self.pending[-2][1])
                bar.update(recipe.batch_size)
                self._between_steps()
        self._flush()
        evaluation = self._evaluate()
        self._save(evaluation.metrics)
        if self.select_data is not None:
            evaluation = self.task.evaluate(self.state, self.frozen, self.eval_data, self.machine)
        return self.state, evaluation, self.seconds

    def _between_steps(self) -> None:
        """Does what is due after a step: log, evaluate, save, stop."""
        if self.step == self.recipe.num_steps:
            return
        every = self.training.intervals
        steps = every.log_steps, every.eval_steps, every.checkpoint_steps
        log, evaluate, save = (n > 0 and self.step % n == 0 for n in steps)
        if log or evaluate:
            self._flush()
        metrics = self._evaluate().metrics if evaluate else {}
        if save or (self.training.best_metric and metrics):
            self._save(metrics)
        if self.pace.stop():
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
        data = self.eval_data if self.select_data is None else self.select_data
        try:
            evaluation = self.task.evaluate(self.state, self.frozen, data, self.machine)
        except stop.Stopped:
            self._save({})
            raise
        if (best := self.training.best_metric) and best not in evaluation.metrics:
            raise ValueError(f"best_metric {best!r} is not measured. Allowed: {sorted(evaluation.metrics)}.")
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
        if self.writer:
            self.writer.sync()
        self.checkpoints.save(self.step, self.state, {"seconds": self.seconds}, metrics)
        self.saved_step = self.step

    def close(self) -> None:
        with contextlib.closing(self.writer) if self.writer else contextlib.nullcontext():
            self.checkpoints.close()


def seconds_a_step(training: Training, machine: parallel.Machine, shape: tuple[int, ...], frozen: Any = None) -> float:
    """Times one step on black images of a shape (H, W, C), after one that compiles it.

    Args: frozen: as `fit` has it.
    """
    task, recipe = training.task, training.recipe
    num = recipe.batch_size // machine.process_count
    batch = dict.fromkeys(("label", "source", "index"), np.zeros(num, np.int32))
    row = row_of(task, shape)
    batch |= {"slot": np.arange(num, dtype=np.int32), "image": np.zeros((num, *row.shape), row.dtype)}
    batch = machine.split(_interleave(batch, recipe.micro_batches, len(machine.local_devices)))
    step = make_step(task, recipe, machine)
    state, frozen, seed = map(machine.replicate, (init_state(task, recipe, 0), frozen, np.uint32(0)))
    seconds = 0.0
    for _ in range(2):
        started = time.monotonic()
        state, metrics = step(state, frozen, seed, batch)
        jax.block_until_ready((state, metrics))
        seconds = time.monotonic() - started
    return seconds


def row_of(task: Task, shape: tuple[int, ...]) -> jax.ShapeDtypeStruct:
    """An image (H, W, C) as a batch of a task has it: uint8, unless the task says otherwise."""
    return getattr(task, "row", jax.ShapeDtypeStruct(shape, np.uint8))


def variables_of(state: TrainState) -> dict[str, Any]:
    """What a state predicts with: {"params", "stats"}, averaged if it keeps an average."""
    return {name: (state.ema or {}).get(name, getattr(state, name)) for name in ("params", "stats")}


def started_with(state: TrainState, params: Any, stats: Any = None) -> TrainState:
    """A fresh state with other parameters (and statistics), in its average too."""
    variables = {"params": params, "stats": state.stats if stats is None else stats}
    others = {"others": dict.fromkeys(state.ema["others"], params)} if "others" in (state.ema or {}) else {}
    return state.replace(**variables, ema=None if state.ema is None else {**variables, **others})


def normalize(image: jax.Array) -> jax.Array:
    """Maps uint8 images [B, H, W, C] to float32 in [-1, 1]."""
    return image.astype(jnp.float32) / 127.5 - 1.0


def gathered(fn: Callable, machine: parallel.Machine) -> Callable:
    """Compiles `fn(variables, batch) -> {name: [b]}` to give the whole batch, with mask and index, everywhere."""

    def run(variables: Any, batch: Batch) -> dict[str, jax.Array]:
        return parallel.gather({**fn(variables, batch), "mask": batch["mask"], "index": batch["index"]})

    return machine.parallel(run, num_replicated=1)


def gather_rows(run: Callable, variables: Any, data: Images, machine: parallel.Machine) -> dict[str, np.ndarray]:
    """Runs a `gathered` function over padded batches; returns each image's values once, in the source's order."""
    batches, pace = [], parallel.Pace(machine)
    for batch in data:
        batches.append(parallel.to_host(run(variables, machine.split(batch))))
        if pace.stop():
            raise stop.Stopped("Stopped on request while images were evaluated; the same command continues.")
    rows = {name: np.concatenate([b[name] for b in batches]) for name in batches[0]}
    kept = rows["mask"] > 0
    order = np.argsort(rows["index"][kept], kind="stable")
    return {name: value[kept][order] for name, value in rows.items() if name not in ("mask", "index")}


def rows_of(method: Callable, task: Any, variables: Any, data: Images, machine: parallel.Machine) -> dict:
    """Runs `method(task, variables, batch) -> {name: [b]}` over padded batches, see `gather_rows`.

    Compiled once for equal tasks.
    """
    return gather_rows(_compiled(method, task, machine), variables, data, machine)


@functools.lru_cache(maxsize=64)
def _compiled(method: Callable, task: Any, machine: parallel.Machine) -> Callable:
    return gathered(functools.partial(method, task), machine)


def mean_losses(method: Callable, task: Task, variables: Any, data: Sets, machine: parallel.Machine) -> dict:
    """The mean over the images of each named set of the rows "loss", see `rows_of`: {"loss_NAME": ...}."""
    rows = {name: rows_of(method, task, variables, images, machine) for name, images in data.items()}
    return {f"loss_{name}": mean_of(of_set["loss"]) for name, of_set in rows.items()}


def mean_of(rows: np.ndarray) -> float:
    """The mean over images, summed in float64."""
    return float(np.mean(rows, dtype=np.float64))
