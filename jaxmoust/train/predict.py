"""A trained classifier's logits, or features, of every image of a source, on all devices."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxmoust.core.state import TrainState
from jaxmoust.models.stable_diffusion import memory
from jaxmoust.runtime import parallel
from jaxmoust.train.classify import Classify
from jaxmoust.train.loop import Batch, Images, normalize, rows_of, variables_of


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


def views(task: Classify, base: Any, data: Images, machine: parallel.Machine, num_views: int) -> np.ndarray:
    """Returns features of images as they are, and of num_views - 1 augmented views of each: float32 [V, N, F].

    A view is a function of (augmentation, its number, the image's place in the source), whatever else is computed.

    Args: base: all of the network, {"params", "stats"}; see `Classify.base`.
    """
    network = machine.replicate(base)

    found = [rows_of(_features, task, network, data, machine)]
    for view in range(1, num_views):
        variables = {"network": network, "view": machine.replicate(np.uint32(view))}
        found.append(rows_of(_augmented, task, variables, data, machine))
    return np.stack([check_finite(rows["rows"], "The network") for rows in found])


def need(task: Classify, shape: tuple[int, int, int], rows: int) -> memory.Need:
    """The memory of one device that computes features of so many images (H, W, C) at once."""
    return memory.of_sampling(
        partial(_features, task), task.shapes, {"image": jax.ShapeDtypeStruct((rows, *shape), np.uint8)}
    )


class NonFiniteRows(RuntimeError):
    """A network's outputs for some images are NaN or infinite, so that nothing can be computed from them."""


def check_finite(rows: np.ndarray, of: str) -> np.ndarray:
    """Returns the rows, one an image, of a network that errors call `of`.

    Raises: NonFiniteRows: some are NaN or infinite.
    """
    wrong = np.flatnonzero(~np.isfinite(rows).all(axis=1))
    if wrong.size:
        raise NonFiniteRows(
            f"{of} says NaN or infinity of image {wrong[0]} ({wrong.size:,} such of {len(rows):,}), expected finite "
            "numbers. Look at its weights: a run that has diverged, a damaged file, or too few bits for them."
        )
    return rows


def _rows(method: Callable, task: Classify, state: TrainState, data: Images, machine: parallel.Machine):
    variables = machine.replicate(variables_of(state))
    return check_finite(rows_of(method, task, variables, data, machine)["rows"], "The classifier")


def _logits(task: Classify, variables: dict, batch: Batch) -> dict[str, jax.Array]:
    return {"rows": task.logits(variables, normalize(batch["image"]))}


def _features(task: Classify, variables: dict, batch: Batch) -> dict[str, jax.Array]:
    return {"rows": task.features(variables, normalize(batch["image"]))}


def _augmented(task: Classify, variables: dict, batch: Batch) -> dict[str, jax.Array]:
    key = jax.random.fold_in(jax.random.key(0), variables["view"])
    keys = jax.vmap(lambda index: jax.random.fold_in(key, index))(batch["index"].astype(jnp.uint32))
    image, _ = task.augment(keys, normalize(batch["image"]), jnp.zeros((len(keys), 1)))
    return {"rows": task.features(variables["network"], image)}
