"""The state of a training run: one pytree, whose `step` is the only clock."""

from typing import Any

import flax.struct


class TrainState(flax.struct.PyTreeNode):
    """Everything an update reads and writes; what it needs besides is an argument of the step.

    Fields are typed loosely on purpose: the same class holds arrays, tracers, shape templates for a restore,
    and axis specifications.
    """

    step: Any
    """int32 []: completed updates. The key of step n is `fold_in(key, n)`."""
    params: Any
    """Trained parameters, float32."""
    stats: Any
    """Batch statistics; {} for a network without them."""
    opt_state: Any
    """The optimizer's state."""
    ema: Any
    """{"params": ..., "stats": ...} averaged over updates, or None when no average is kept."""
