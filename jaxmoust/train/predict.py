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
    return gather_rows(run, machine.replicate(variables), data, machine)["rows"]


@functools.lru_cache(maxsize=32)
def _logits(task: Classify, machine: parallel.Machine) -> Callable:
    return gathered(lambda variables, batch: {"rows": task.logits(variables, to_unit(batch["image"]))}, machine)


@functools.lru_cache(maxsize=32)
def _features(task: Classify, machine: parallel.Machine) -> Callable:
    return gathered(lambda variables, batch: {"rows": task.features(variables, to_unit(batch["image"]))}, machine)
