"""The task of naming what an image shows: cross-entropy on real and synthetic images, evaluated exactly."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxmoust.core import losses
from jaxmoust.core.augment.augment import Augment
from jaxmoust.core.checks import require
from jaxmoust.core.examples import fold_all
from jaxmoust.core.state import TrainState
from jaxmoust.models.classifiers.pretrained import load_pretrained, put_leaves
from jaxmoust.runtime import parallel
from jaxmoust.runtime.checkpoint import BEST
from jaxmoust.train import loop
from jaxmoust.train.loop import Batch, Evaluation, Images, mean_of, to_unit
from jaxmoust.train.warm_start import load_trained

# Folded into an example's key for the network's own draws; an augmentation folds in small numbers.
_NETWORK = 1000


@dataclass(frozen=True)
class Classify:
    """Trains a classifier and ranks the true class of every test image.

    The options about synthetic images are the peers' for two kinds of image in one batch; at their defaults both
    kinds count alike. An image is synthetic where batch["source"], its place in the pool, is above 0. Where mixup or
    cutmix blend the two, the weight is blended with the label. A network with `separate_stats` is told which images
    are synthetic: those more than half of whose label is.

    Args:
        model: `model(x [B, H, W, C], train, keys [B]) -> logits [B, K]`, with its batch statistics, if any,
            synchronised over the devices (`axis_name`), so that a batch means the same on any number of them; and a
            method `features(x, train) -> [B, F]`, what its head is linear in.
        num_classes: K.
        image_shape: (H, W, C).
        augment: what training images go through on the device.
        smoothing: label smoothing, the mass that goes to the uniform distribution.
        synthetic_smoothing: of a synthetic image's label, which is smoothed by this before it is by `smoothing`.
        lambda_real: what the loss of a real image is multiplied with; the loss is the mean of these products over the
            batch, so 1 and 1 is the plain mean.
        lambda_syn: what the loss of a synthetic image is multiplied with.
        pretrained: path of a public checkpoint, or of the folder of a run (DIR@best takes its best checkpoint), to
            start from, see `warm_start`; "" starts from nothing. Tasks that differ in it alone are equal: they run
            the same programs.
    Raises: ValueError: a smoothing outside [0, 1), a negative weight, or two of 0.
    """

    model: nn.Module
    num_classes: int
    image_shape: tuple[int, int, int]
    augment: Augment = Augment()
    smoothing: float = 0.0
    synthetic_smoothing: float = 0.0
    lambda_real: float = 1.0
    lambda_syn: float = 1.0
    pretrained: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        """Refuses what could not train, before any work starts."""
        for name in ("smoothing", "synthetic_smoothing"):
            mass = getattr(self, name)
            require(0 <= mass < 1, f"method.{name}", mass, "0 up to, not including, 1")
        weights = (self.lambda_real, self.lambda_syn)
        fit = all(weight >= 0 for weight in weights) and any(weights)
        require(fit, "method.lambda_real, method.lambda_syn", weights, "numbers from 0, not both 0")

    @property
    def _separates(self) -> bool:
        """Whether the network keeps statistics of synthetic images apart."""
        return getattr(self.model, "separate_stats", False)

    @property
    def _tells_kinds(self) -> bool:
        """Whether anything depends on which images are synthetic."""
        return self._separates or self.synthetic_smoothing > 0 or self.lambda_real != self.lambda_syn

    def init(self, key: jax.Array) -> tuple[Any, Any]:
        """Returns fresh (params, batch statistics)."""
        variables = self.model.init(key, jnp.zeros((1, *self.image_shape)), train=False)
        return variables["params"], variables.get("batch_stats", {})

    def warm_start(self) -> loop.Start | None:
        """Reads and checks what to start from; returns what puts it into a fresh state, or None where there is none.

        The file is only read here: what was trained from it does not need it. Of a run of ours the averaged
        parameters are taken if it has any.

        Raises: ValueError: a file that is absent, unsafe, or does not fit the network; every leaf is named.
        """
        if not self.pretrained:
            return None
        params, stats = jax.eval_shape(self.init, jax.random.key(0))
        shapes = {"params": params, "stats": stats}
        folder = Path(self.pretrained.removesuffix(BEST))
        if (folder / "checkpoints").is_dir():
            which = "best" if self.pretrained.endswith(BEST) else "newest"
            leaves: Mapping[str, Any] = load_trained(folder, shapes, which)
        else:
            leaves = load_pretrained(self.pretrained, self.model, shapes)

        def start(state: TrainState) -> TrainState:
            return loop.started_with(state, **put_leaves({"params": state.params, "stats": state.stats}, leaves))

        return start

    def loss(self, params: Any, stats: Any, frozen: Any, batch: Batch, keys: jax.Array) -> tuple:
        """Weighted mean cross-entropy of the augmented rows; `accuracy` is against the label that weighs most."""
        image, target, share = self._prepare(batch, keys)
        how: dict[str, Any] = {"train": True, "keys": fold_all(keys, _NETWORK), "mutable": ["batch_stats"]}
        if self._separates and share is not None:
            how |= {"synthetic": share > 0.5, "batch_mean": parallel.mean}
        logits, updates = self.model.apply({"params": params, "batch_stats": stats}, image, **how)
        loss = losses.cross_entropy(logits, target, self.smoothing)
        if share is not None:
            loss = loss * (self.lambda_real * (1 - share) + self.lambda_syn * share)
        elif self.lambda_real != 1:
            loss = loss * self.lambda_real
        accuracy = (logits.argmax(-1) == target.argmax(-1)).mean(dtype=jnp.float32)
        return loss.mean(), ({"accuracy": accuracy}, updates.get("batch_stats", {}))

    def _prepare(self, batch: Batch, keys: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array | None]:
        """Returns augmented images, targets [b, K], and, if it matters, how much of each row is synthetic [b]."""
        image, target = to_unit(batch["image"]), jax.nn.one_hot(batch["label"], self.num_classes)
        if not self._tells_kinds:
            return *self.augment(keys, image, target), None
        synthetic = (batch["source"] > 0).astype(jnp.float32)
        target = losses.smooth(target, self.synthetic_smoothing * synthetic)
        # Blending is linear in the target, so the kind goes through it as one more column.
        image, target = self.augment(keys, image, jnp.concatenate([target, synthetic[:, None]], axis=1))
        return image, target[:, :-1], target[:, -1]

    def logits(self, variables: dict, image: jax.Array) -> jax.Array:
        """The network's logits of images [b, H, W, C] in [-1, 1]: float32 [b, K]; variables {"params", "stats"}."""
        return self._apply(variables, image)

    def features(self, variables: dict, image: jax.Array) -> jax.Array:
        """The pooled features that the head is linear in: float32 [b, F]; arguments as in `logits`."""
        return self._apply(variables, image, method="features")

    def ranks(self, variables: dict, batch: Batch) -> dict[str, jax.Array]:
        """How many classes are scored above the true one, and the cross-entropy, of each row [b]."""
        logits = self.logits(variables, to_unit(batch["image"]))
        label = batch["label"]
        return {"rank": losses.label_rank(logits, label), "loss": losses.cross_entropy(logits, label)}

    def _apply(self, variables: dict, image: jax.Array, method: str | None = None) -> Any:
        collections = {"params": variables["params"], "batch_stats": variables["stats"]}
        return self.model.apply(collections, image, train=False, method=method)

    def evaluate(self, state: TrainState, frozen: Any, data: Images, machine: parallel.Machine) -> Evaluation:
        """Counts every test image once.

        Args:
            data: padded batches with image, label, mask and index, as many on every process.
        Returns: metrics top1, top5 (percent; top5 only for more than five classes) and loss; array `rank` [N]:
            how many classes were scored above the true one, so that Top-k is the share with rank < k.
        """
        rows = loop.rows_of(Classify.ranks, self, loop.variables_of(state), data, machine)
        rank = rows["rank"].astype(np.int32)
        metrics = {"top1": 100.0 * float(np.mean(rank < 1)), "loss": mean_of(rows["loss"])}
        if self.num_classes > 5:
            metrics["top5"] = 100.0 * float(np.mean(rank < 5))
        return Evaluation(metrics, {"rank": rank})
