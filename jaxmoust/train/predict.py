"""A trained classifier's logits, or features, of every image of a source, on all devices."""

from collections.abc import Callable

import jax
import numpy as np

from jaxmoust.core.state import TrainState
from jaxmoust.runtime import parallel
from jaxmoust.train.classify import Classify
from jaxmoust.train.loop import Batch, Images, rows_of, to_unit, variables_of


def logits(task: Classify, state: TrainState, data: Images, machine: parallel.Machine) -> np.ndarray:
    """Predicts with the averaged parameters if there are any, else the current ones.

    Args:
        data: padded batches with image, mask and index, as many on every process.
    Returns: float32 [N, K], in the source's order.
    """
    return _rows(_logits, task, state, data, machine)


def features(task: Classify, state: TrainState, data: Images, machine: parallel.Machine) -> np.ndarray:
    """Returns what the classifier's head is linear in: float32 [N, F]; arguments as in `logits`."""
    return _rows(_features, task, state, data, machine)


class NonFiniteRows(RuntimeError):
    """A network's outputs for some images are NaN or infinite, so that nothing can be computed from them."""


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


def _rows(method: Callable, task: Classify, state: TrainState, data: Images, machine: parallel.Machine):
    variables = machine.replicate(variables_of(state))
    return check_finite(rows_of(method, task, variables, data, machine)["rows"], "The classifier")


def _logits(task: Classify, variables: dict, batch: Batch) -> dict[str, jax.Array]:
    return {"rows": task.logits(variables, to_unit(batch["image"]))}


def _features(task: Classify, variables: dict, batch: Batch) -> dict[str, jax.Array]:
    return {"rows": task.features(variables, to_unit(batch["image"]))}
