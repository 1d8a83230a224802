"""What a run of ours learnt, as leaves for the tree of another one of the same network."""

from pathlib import Path
from typing import Any

import numpy as np

from jaxmoust.core.tree import named_leaves
from jaxmoust.runtime import checkpoint


def trained_variables(tree: dict[str, Any]) -> dict[str, Any]:
    """What a state of a checkpoint predicts with: {"params", "stats"}, averaged if it keeps an average."""
    # A checkpoint has no empty branches.
    return {"stats": {}, **tree.get("ema", {"params": tree["params"], "stats": tree.get("stats", {})})}


def load_trained(folder: Path, shapes: Any) -> dict[str, np.ndarray]:
    """Reads the newest checkpoint of a run as leaves for a model's tree; `put_leaves` puts them there.

    The head is left out where it is for another number of classes: then the model's own stays.

    Args:
        folder: of the run. shapes: the model's {"params": ..., "stats": ...}, as arrays or `jax.ShapeDtypeStruct`s.
    Returns: "params/..." and "stats/..." to arrays.
    Raises: ValueError: no checkpoint, or another network; the leaves that do not fit are named.
    """
    tree, _ = checkpoint.restore_tree(folder / "checkpoints")
    found, wanted = named_leaves(trained_variables(tree)), named_leaves(shapes)
    head = {name for name in wanted if name.startswith("params/head/")}
    if any(name in found and found[name].shape != wanted[name].shape for name in head):
        found, wanted = ({n: x for n, x in leaves.items() if n not in head} for leaves in (found, wanted))
    faults = [f"missing: {name}" for name in sorted(wanted.keys() - found.keys())]
    faults += [f"not wanted: {name} {found[name].shape}" for name in sorted(found.keys() - wanted.keys())]
    faults += [
        f"{name} is {found[name].shape}, wanted {wanted[name].shape}"
        for name in sorted(found.keys() & wanted.keys())
        if found[name].shape != wanted[name].shape
    ]
    if faults:
        raise ValueError(
            f"{folder} was trained as another network than this one:\n  "
            + "\n  ".join(faults)
            + "\nStart from a run with the same config.model, or from none."
        )
    return {name: np.asarray(found[name], wanted[name].dtype) for name in wanted}
