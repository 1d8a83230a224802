"""The task of classification: cross-entropy on real and synthetic images, evaluated exactly."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxmoust.core import losses
from jaxmoust.core.augment.augment import Augment
from jaxmoust.core.checks import require
from jaxmoust.core.examples import fold_all
from jaxmoust.core.state import TrainState
from jaxmoust.core.tree import zeros_of
from jaxmoust.models.classifiers import adapters
from jaxmoust.models.classifiers.headed import Headed, leaves_of
from jaxmoust.models.classifiers.pretrained import load_pretrained, put_leaves
from jaxmoust.runtime import parallel
from jaxmoust.runtime.checkpoint import BEST
from jaxmoust.train import loop
from jaxmoust.train.loop import Batch, Evaluation, Images, mean_of, normalize
from jaxmoust.train.warm_start import load_trained

# Folded into an example's key for the network's own draws; an augmentation folds in small numbers.
_NETWORK = 1000


@dataclass(frozen=True)
class Classify:
    """Trains a classifier and ranks the true class of every test image.

    The options about synthetic images are the peers' for two kinds of image in one batch; at their defaults both
    kinds count alike. An image is synthetic where batch["source"], its place in the pool, is above 0. Where mixup or
    cutmix blend the two, the weight is blended with the label. A network with `separate_stats` also gets which images
    are synthetic: those more than half of whose label is.

    Labels are soft where the batch says so: 1 - second_weight of the label, second_weight of the class second.

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
        logit_adjustment: tau. Training adds tau times the logarithm of each class's share of the loss to the logits,
            which prediction does without, so that rare classes are no longer named too seldom; 0 is off, 1 fits the
            mean of the classes' accuracies. See `class_shares`. What smoothing takes of a label goes to these shares
            and not to all classes alike, as what mixup and cutmix blend in does by itself: only so is that fit kept.
        learn: "full" trains all of the network; "lora" adapters on the matrices of one that is pre-trained, and a head;
            "probe" a head alone, a linear probe (see the section probe), to which optimizer, rate and order of draws
            mean nothing.
        rank: of adapters.
        alpha: what adapters are multiplied with is alpha / rank.
        keep: "probabilities" has an evaluation return those of every image and class, too; "ranks" what is less.
        pretrained: path of a public checkpoint, or of the folder of a run (DIR@best takes its best checkpoint), to
            start from, see `warm_start`; "" starts from scratch. Tasks that differ in it alone are equal: they run
            the same programs.
    Raises: ValueError: a smoothing outside [0, 1), a negative weight, or two of 0; a tau below 0; a rank below 1.
    Source: of the adjustment Menon et al. 2021 (2007.07314), Eq. 10.
    """

    model: nn.Module
    num_classes: int
    image_shape: tuple[int, int, int]
    augment: Augment = Augment()
    smoothing: float = 0.0
    synthetic_smoothing: float = 0.0
    lambda_real: float = 1.0
    lambda_syn: float = 1.0
    logit_adjustment: float = 0.0
    learn: Literal["full", "lora", "probe"] = "full"
    rank: int = 8
    alpha: float = 16.0
    keep: str = field(default="ranks", compare=False)
    pretrained: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        """Refuses what could not train, before any work starts."""
        for name in ("smoothing", "synthetic_smoothing"):
            mass = getattr(self, name)
            require(0 <= mass < 1, f"method.{name}", mass, "0 up to, not including, 1")
        weights = (self.lambda_real, self.lambda_syn)
        fit = all(weight >= 0 for weight in weights) and any(weights)
        require(fit, "method.lambda_real, method.lambda_syn", weights, "numbers from 0, not both 0")
        require(self.logit_adjustment >= 0, "method.logit_adjustment", self.logit_adjustment, "0 (off) and up")
        require(self.rank >= 1, "method.rank", self.rank, "whole numbers from 1")
        pretrained = bool(self.pretrained) or isinstance(self.model, Headed)
        if self.learn != "full" and not pretrained:
            raise ValueError(
                f"method.learn {self.learn!r} of a network that knows nothing yet: give model.name=backbone and "
                "model.weights=PATH, or weights of this network, method.pretrained=PATH."
            )
        if self.learn != "full" and self._separates:
            raise ValueError(f"method.learn {self.learn!r} with model.separate_stats: expected it with 'full' alone.")

    @property
    def _separates(self) -> bool:
        """Whether the network keeps statistics of synthetic images apart."""
        return getattr(self.model, "separate_stats", False)

    @property
    def _tells_kinds(self) -> bool:
        """Whether anything depends on which images are synthetic."""
        return self._separates or self.synthetic_smoothing > 0 or self.lambda_real != self.lambda_syn

    def init(self, key: jax.Array) -> tuple[Any, Any]:
        """Returns fresh (params, batch statistics) of what is trained."""
        params, stats = self._init_all(key)
        if self.learn == "full":
            return params, stats
        if self.learn == "probe":
            return {"head": params["head"]}, {}
        return {"head": params["head"], "lora": adapters.init(jax.random.fold_in(key, 1), params, self.rank)}, {}

    def _init_all(self, key: jax.Array) -> tuple[Any, Any]:
        variables = self.model.init(key, jnp.zeros((1, *self.image_shape)), train=False)
        return variables["params"], variables.get("batch_stats", {})

    def warm_start(self) -> loop.Start | None:
        """Reads and checks what to start from; returns what puts it into a fresh state, or None where there is none.

        The file is only read here: what was trained from it does not need it. Of a run of ours the averaged
        parameters are taken if it has any.

        Raises: ValueError: a file that is absent, unsafe, or does not fit the network; every leaf is named.
        """
        leaves = self._pretrained(self.shapes) if self.learn == "full" else {}
        if not leaves:
            return None

        def start(state: TrainState) -> TrainState:
            return loop.started_with(state, **put_leaves({"params": state.params, "stats": state.stats}, leaves))

        return start

    def base(self) -> dict[str, Any] | None:
        """What adapters and probes stand on and do not train, {"params", "stats"} in NumPy; None where all is trained.

        Raises: as `warm_start`.
        """
        if self.learn == "full":
            return None
        shapes = self.shapes
        return put_leaves(zeros_of(shapes), self._pretrained(shapes))

    def frozen(self, shares: np.ndarray | None, base: Any = None) -> Any:
        """What `loss` takes as frozen. Args: shares: see `class_shares`. base: see there; None: its shapes."""
        return {"shares": shares, "base": base or self.shapes} if self.learn == "lora" else shares

    @property
    def shapes(self) -> dict[str, Any]:
        """All of the network, {"params", "stats"}, as shapes."""
        params, stats = jax.eval_shape(self._init_all, jax.random.key(0))
        return {"params": params, "stats": stats}

    @property
    def num_features(self) -> int:
        """F, the number of features that the head is linear in."""
        return self.shapes["params"]["head"]["kernel"].shape[0]

    def _pretrained(self, shapes: Any) -> Mapping[str, Any]:
        """The leaves of the network that are pre-trained, by name."""
        folder = Path(self.pretrained.removesuffix(BEST))
        if not self.pretrained:
            return leaves_of(self.model, shapes) if isinstance(self.model, Headed) else {}
        if (folder / "checkpoints").is_dir():
            return load_trained(folder, shapes, "best" if self.pretrained.endswith(BEST) else "newest")
        return load_pretrained(self.pretrained, self.model, shapes)

    def whole(self, variables: Mapping[str, Any], base: Mapping[str, Any] | None) -> dict[str, Any]:
        """All that predicts, {"params", "stats"}: what was trained, put into what was not (None: it is all)."""
        if base is None:
            return dict(variables)
        trained = variables["params"]
        params = {**base["params"], "head": trained["head"]}
        return {
            "params": adapters.merge(params, trained.get("lora", {}), self.alpha / self.rank),
            "stats": base["stats"],
        }

    def class_shares(self, drawn: np.ndarray, class_names: Sequence[str]) -> np.ndarray | None:
        """What the loss needs of the draws: each class's share of it, float32 [K]; None without an adjustment.

        Args: drawn: the expected draws of a training by source and class [S, K], whose first source is real. Where
            the classes' shares change over training, those of all of it count.
        Raises: ValueError: a class that is never drawn, or whose images weigh nothing: its logarithm is infinite.
        """
        if not self.logit_adjustment:
            return None
        mass = self.lambda_real * drawn[0] + self.lambda_syn * drawn[1:].sum(axis=0)
        if never := [name for name, x in zip(class_names, mass, strict=True) if not x > 0]:
            raise ValueError(
                f"method.logit_adjustment {self.logit_adjustment:g} needs images of every class, and "
                f"{never} are never drawn. Draw from them, leave them out by data.classes, or set it to 0."
            )
        return (mass / mass.sum()).astype(np.float32)

    def loss(self, params: Any, stats: Any, frozen: Any, batch: Batch, keys: jax.Array) -> tuple:
        """Weighted mean cross-entropy of the augmented rows; `accuracy` is against the label that weighs most.

        Args: frozen: what `class_shares` says; of adapters, ("shares": that, "base": what `base` says).
        """
        if self.learn == "lora":
            whole = self.whole({"params": params}, frozen["base"])
            params, stats, frozen = whole["params"], whole["stats"], frozen["shares"]
        image, target, share = self._prepare(batch, keys, frozen)
        how: dict[str, Any] = {"train": True, "keys": fold_all(keys, _NETWORK), "mutable": ["batch_stats"]}
        if self._separates and share is not None:
            how |= {"synthetic": share > 0.5, "batch_mean": parallel.mean}
        logits, updates = self.model.apply({"params": params, "batch_stats": stats}, image, **how)
        if self.logit_adjustment:
            adjusted = logits.astype(jnp.float32) + self.logit_adjustment * jnp.log(frozen)
            loss = losses.cross_entropy(adjusted, losses.smooth(target, self.smoothing, frozen))
        else:
            loss = losses.cross_entropy(logits, target, self.smoothing)
        if share is not None:
            loss = loss * (self.lambda_real * (1 - share) + self.lambda_syn * share)
        elif self.lambda_real != 1:
            loss = loss * self.lambda_real
        accuracy = (logits.argmax(-1) == target.argmax(-1)).mean(dtype=jnp.float32)
        moved = updates.get("batch_stats", {}) if self.learn == "full" else {}
        return loss.mean(), ({"accuracy": accuracy}, moved)

    def _prepare(
        self, batch: Batch, keys: jax.Array, class_shares: jax.Array | None = None
    ) -> tuple[jax.Array, jax.Array, jax.Array | None]:
        """Returns augmented images, targets [b, K], and, if it matters, how much of each row is synthetic [b]."""
        image, target = normalize(batch["image"]), jax.nn.one_hot(batch["label"], self.num_classes)
        if "second" in batch:  # soft labels of two classes
            weight = batch["second_weight"][:, None]
            target = (1 - weight) * target + weight * jax.nn.one_hot(batch["second"], self.num_classes)
        if not self._tells_kinds:
            return *self.augment(keys, image, target), None
        synthetic = (batch["source"] > 0).astype(jnp.float32)
        target = losses.smooth(target, (self.synthetic_smoothing * synthetic)[:, None], class_shares)
        # Blending is linear in the target, so the kind goes through it as one more column.
        image, target = self.augment(keys, image, jnp.concatenate([target, synthetic[:, None]], axis=1))
        return image, target[:, :-1], target[:, -1]

    def logits(self, variables: dict, image: jax.Array) -> jax.Array:
        """The network's logits of images [b, H, W, C] in [-1, 1]: float32 [b, K]; variables {"params", "stats"}."""
        return self._apply(variables, image)

    def features(self, variables: dict, image: jax.Array) -> jax.Array:
        """The pooled features that the head is linear in: float32 [b, F]; arguments as in `logits`."""
        return self._apply(variables, image, method="features")

    def answers(self, variables: dict, batch: Batch) -> dict[str, jax.Array]:
        """What is said of each row [b]: the true class's rank and cross-entropy, and the class named with how sure."""
        return self._answers(batch["label"], self.logits(variables, normalize(batch["image"])))

    def probabilities(self, variables: dict, batch: Batch) -> dict[str, jax.Array]:
        """What `answers` says of each row, and the probability of every class [b, K]."""
        logits = self.logits(variables, normalize(batch["image"]))
        return {**self._answers(batch["label"], logits), "probabilities": jax.nn.softmax(logits.astype(jnp.float32))}

    def answers_of(self, label: np.ndarray, logits: np.ndarray) -> dict[str, np.ndarray]:
        """The same of logits [N, K] that are there already, with probabilities if they are to be kept."""
        rows = self._answers(jnp.asarray(label), jnp.asarray(logits))
        if self.keep == "probabilities":
            rows["probabilities"] = jax.nn.softmax(jnp.asarray(logits))
        return {name: np.asarray(row) for name, row in rows.items()}

    @staticmethod
    def _answers(label: jax.Array, logits: jax.Array) -> dict[str, jax.Array]:
        return {
            "rank": losses.label_rank(logits, label),
            "loss": losses.cross_entropy(logits, label),
            "predicted": logits.argmax(-1),
            "confidence": jax.nn.softmax(logits.astype(jnp.float32)).max(-1),
        }

    def _apply(self, variables: dict, image: jax.Array, method: str | None = None) -> Any:
        collections = {"params": variables["params"], "batch_stats": variables["stats"]}
        return self.model.apply(collections, image, train=False, method=method)

    def evaluate(self, state: TrainState, frozen: Any, data: Images, machine: parallel.Machine) -> Evaluation:
        """Counts every test image once.

        Args:
            data: padded batches with image, label, mask and index, as many on every process.
        Returns: metrics top1, top5 (percent; top5 only for more than five classes) and loss; arrays `rank` [N],
            how many classes were scored above the true one, so that Top-k is the share with rank < k; `loss`,
            `predicted` and `confidence` [N]; and, if they are to be kept, `probabilities` float32 [N, K].
        """
        method = Classify.probabilities if self.keep == "probabilities" else Classify.answers
        variables = self.whole(loop.variables_of(state), frozen["base"] if isinstance(frozen, dict) else None)
        return self.evaluation(loop.rows_of(method, self, variables, data, machine))

    def evaluation(self, rows: dict[str, np.ndarray]) -> Evaluation:
        """What `evaluate` returns, of `answers` or `probabilities` of all images."""
        rows["rank"] = rank = rows["rank"].astype(np.int32)
        metrics = {"top1": 100.0 * float(np.mean(rank < 1)), "loss": mean_of(rows["loss"])}
        if self.num_classes > 5:
            metrics["top5"] = 100.0 * float(np.mean(rank < 5))
        return Evaluation(metrics, rows)
