"""Classification losses and counts, per example, so that padding can be masked and sums taken exactly."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Int32

from jaxmoust.core.checks import check_rate


def cross_entropy(
    logits: Float[Array, "B K"], target: Float[Array, "B K"] | Int[Array, " B"], smoothing: float = 0.0
) -> Float[Array, " B"]:
    """Computes -sum_k target_k * log softmax(logits)_k, in float32.

    Args:
        target: class probabilities, or class labels in [0, K).
        smoothing: share s of the target given to the uniform distribution: (1 - s) * target + s / K.
    Raises: ValueError: smoothing outside [0, 1).
    """
    check_rate("smoothing", smoothing)
    num_classes = logits.shape[-1]
    if jnp.issubdtype(target.dtype, jnp.integer):
        target = jax.nn.one_hot(target, num_classes)
    target = (1 - smoothing) * target.astype(jnp.float32) + smoothing / num_classes
    return -jnp.sum(target * jax.nn.log_softmax(logits.astype(jnp.float32)), axis=-1)


def smooth(
    target: Float[Array, "B K"], amount: Float[Array, "B 1"] | float, towards: Float[Array, " K"] | None = None
) -> Float[Array, "B K"]:
    """Gives a share of each target to a distribution q of the classes: (1 - s) * target + s * q.

    Args:
        amount: s, in [0, 1), of each row or of all. towards: q; None: the uniform distribution.
    """
    mass = amount / target.shape[-1] if towards is None else amount * towards
    return (1 - amount) * target + mass


def label_rank(logits: Float[Array, "B K"], label: Int[Array, " B"]) -> Int32[Array, " B"]:
    """Counts the classes not scored below the true one; an example is Top-k correct when its rank < k.

    Ties count against the model, and so does a NaN, so that constant or broken logits never count as right.
    """
    true = jnp.take_along_axis(logits, label[:, None], axis=-1)
    return jnp.sum(~(logits < true), axis=-1, dtype=jnp.int32) - 1  # the true class is not below itself
