"""What a trained classifier says of every image of a source: its logits, on all devices."""

import functools
from collections.abc import Callable, Iterable

import jax
import numpy as np

from jaxmoust.core.state import TrainState
from jaxmoust.runtime import parallel
from jaxmoust.train.classify import Classify
from jaxmoust.train.loop import Batch, gather_rows, gathered


def logits(task: Classify, state: TrainState, data: Iterable[Batch], machine: parallel.Machine) -> np.ndarray:
    """Predicts with the averaged parameters if there are any, else the current ones.

    Args:
        data: padded batches with image, mask and index, as many on every process.
    Returns: float32 [N, K], in the source's order.
    """
    variables = state.ema or {"params": state.params, "stats": state.stats}
    return gather_rows(_logits(task, machine), machine.replicate(variables), data, machine)["logits"]


@functools.lru_cache(maxsize=32)
def _logits(task: Classify, machine: parallel.Machine) -> Callable:
    def predict(variables: dict, batch: Batch) -> dict[str, jax.Array]:
        return {"logits": task.logits(variables, batch)}

    return gathered(predict, machine)
