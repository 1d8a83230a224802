"""What a run of ours learnt: its state, and leaves for the tree of another run of the same network."""

from pathlib import Path
from typing import Any

import numpy as np

from jaxmoust.core.state import TrainState
from jaxmoust.core.tree import named_leaves
from jaxmoust.runtime import checkpoint
from jaxmoust.train.loop import variables_of


def read_state(folder: Path, which: str = "newest") -> TrainState:
    """Reads what a checkpoint of a run predicts with; the optimizer's state is left out.

    Args:
        folder: of the run.
        which: "newest" or "best".
    Raises: ValueError: no checkpoint. BrokenCheckpoint: none is whole.
    """
    tree, _ = checkpoint.restore_tree(folder / "checkpoints", which=which)
    # A checkpoint has no empty branches.
    ema = {"stats": {}, **tree["ema"]} if "ema" in tree else None
    return TrainState(tree["step"], tree["params"], tree.get("stats", {}), None, ema)


def load_trained(folder: Path, shapes: Any, which: str = "newest") -> dict[str, np.ndarray]:
    """Reads a checkpoint of a run as leaves for a model's tree; `put_leaves` puts them there.

    The head is left out where it is for another number of classes: then the model's own stays.

    Args:
        folder: of the run.
        shapes: the model's {"params": ..., "stats": ...}, as arrays or `jax.ShapeDtypeStruct`s.
        which: "newest" or "best".
    Returns: "params/..." and "stats/..." to arrays.
    Raises: ValueError: no checkpoint, or another network; the leaves that do not fit are named.
    """
    trained, wanted = named_leaves(variables_of(read_state(folder, which))), named_leaves(shapes)
    head = {name for name in wanted if name.startswith("params/head/")}
    if any(name in trained and trained[name].shape != wanted[name].shape for name in head):
        trained, wanted = ({n: x for n, x in leaves.items() if n not in head} for leaves in (trained, wanted))
    has, needs = ({name: str(leaf.shape) for name, leaf in leaves.items()} for leaves in (trained, wanted))
    faults = [
        f"{name} is {has.get(name, 'missing')}, wanted {needs.get(name, 'no such leaf')}"
        for name in sorted(has.keys() | needs.keys())
        if has.get(name) != needs.get(name)
    ]
    if faults:
        raise ValueError(
            f"{folder} was trained as another network than this one:\n  "
            + "\n  ".join(faults)
            + "\nStart from a run with the same config.model, or from none."
        )
    return {name: np.asarray(trained[name], wanted[name].dtype) for name in wanted}
