"""The task of naming what an image shows: cross-entropy on real and synthetic images alike, judged exactly."""

import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxmoust.core import losses
from jaxmoust.core.augment import Augment
from jaxmoust.core.state import TrainState
from jaxmoust.runtime import parallel
from jaxmoust.train.loop import Batch, Evaluation, gather_rows, gathered, to_unit


@dataclass(frozen=True)
class Classify:
    """Trains a classifier and ranks the true class of every test image.

    Args:
        model: `model(x [B, H, W, C], train) -> logits [B, K]`, with its batch statistics, if any, synchronised
            over the devices (`axis_name`), so that a batch means the same on any number of them.
        num_classes: K. image_shape: (H, W, C).
        augment: what training images go through on the device.
        smoothing: label smoothing, the mass that goes to the uniform distribution.
    """

    model: nn.Module
    num_classes: int
    image_shape: tuple[int, int, int]
    augment: Augment = Augment()
    smoothing: float = 0.0

    def init(self, key: jax.Array) -> tuple[Any, Any]:
        """Returns fresh (params, batch statistics)."""
        variables = self.model.init(key, jnp.zeros((1, *self.image_shape)), train=False)
        return variables["params"], variables.get("batch_stats", {})

    def loss(self, params: Any, stats: Any, frozen: Any, batch: Batch, keys: jax.Array) -> tuple:
        """Mean cross-entropy of the augmented rows; `accuracy` is against the label that weighs most."""
        target = jax.nn.one_hot(batch["label"], self.num_classes)
        image, target = self.augment(keys, to_unit(batch["image"]), target)
        logits, updates = self.model.apply(
            {"params": params, "batch_stats": stats}, image, train=True, mutable=["batch_stats"]
        )
        loss = losses.cross_entropy(logits, target, self.smoothing).mean()
        accuracy = (logits.argmax(-1) == target.argmax(-1)).mean(dtype=jnp.float32)
        return loss, ({"accuracy": accuracy}, updates.get("batch_stats", {}))

    def evaluate(self, state: TrainState, frozen: Any, data: Iterable[Batch], machine: parallel.Machine) -> Evaluation:
        """Counts every test image once.

        Args:
            data: padded batches with image, label, mask and index, as many on every process.
        Returns: metrics top1, top5 (percent; top5 only for more than five classes) and loss; array `rank` [N]:
            how many classes were scored above the true one, so that Top-k is the share with rank < k.
        """
        variables = state.ema or {"params": state.params, "stats": state.stats}
        rows = gather_rows(_predict(self, machine), variables, data, machine)
        rank = rows["rank"].astype(np.int32)
        metrics = {
            "top1": 100.0 * float(np.mean(rank < 1)),
            "loss": float(np.mean(rows["loss"], dtype=np.float64)),
        }
        if self.num_classes > 5:
            metrics["top5"] = 100.0 * float(np.mean(rank < 5))
        return Evaluation(metrics, {"rank": rank})


@functools.lru_cache(maxsize=32)
def _predict(task: Classify, machine: parallel.Machine) -> Callable:
    def predict(variables: dict, batch: Batch) -> dict[str, jax.Array]:
        collections = {"params": variables["params"], "batch_stats": variables["stats"]}
        logits = task.model.apply(collections, to_unit(batch["image"]), train=False)
        return {
            "rank": losses.label_rank(logits, batch["label"]),
            "loss": losses.cross_entropy(logits, batch["label"]),
        }

    return gathered(predict, machine)
