"""What a trained classifier says of every image of a source: its logits, or its features, on all devices."""

import functools
from collections.abc import Callable, Iterable

import numpy as np

from jaxmoust.core.state import TrainState
from jaxmoust.runtime import parallel
from jaxmoust.train.classify import Classify
from jaxmoust.train.loop import Batch, gather_rows, gathered, to_unit


def logits(task: Classify, state: TrainState, data: Iterable[Batch], machine: parallel.Machine) -> np.ndarray:
    """Predicts with the averaged parameters if there are any, else the current ones.

    Args:
        data: padded batches with image, mask and index, as many on every process.
    Returns: float32 [N, K], in the source's order.
    """
    return _rows(_logits(task, machine), state, data, machine)


def features(task: Classify, state: TrainState, data: Iterable[Batch], machine: parallel.Machine) -> np.ndarray:
    """Returns what the classifier's head is linear in: float32 [N, F]; arguments as in `logits`."""
    return _rows(_features(task, machine), state, data, machine)


def _rows(run: Callable, state: TrainState, data: Iterable[Batch], machine: parallel.Machine) -> np.ndarray:
    variables = state.ema or {"params": state.params, "stats": state.stats}
    return check_finite(gather_rows(run, machine.replicate(variables), data, machine)["rows"], "The classifier")


class NonFiniteRows(RuntimeError):
    """A network says NaN or infinity of some images, so that nothing can be computed from what it says."""


def check_finite(rows: np.ndarray, of: str) -> np.ndarray:
    """Returns the rows, one an image, of a network that errors call `of`.

    Raises: NonFiniteRows: some are NaN or infinite.
    """
    wrong = np.flatnonzero(~np.isfinite(rows).all(axis=1))
    if wrong.size:
        raise NonFiniteRows(
            f"{of} says NaN or infinity of image {wrong[0]} ({wrong.size:,} such of {len(rows):,}); allowed are finite "
            "numbers. Look at its weights: a run that has diverged, a damaged file, or too few bits for them."
        )
    return rows


@functools.lru_cache(maxsize=32)
def _logits(task: Classify, machine: parallel.Machine) -> Callable:
    return gathered(lambda variables, batch: {"rows": task.logits(variables, to_unit(batch["image"]))}, machine)


@functools.lru_cache(maxsize=32)
def _features(task: Classify, machine: parallel.Machine) -> Callable:
    return gathered(lambda variables, batch: {"rows": task.features(variables, to_unit(batch["image"]))}, machine)
