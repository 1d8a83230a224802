"""A classifier as the file of another library: our tree in the layout of the public checkpoint it started from.

The rules that read a layout (pretrained.py) are followed backwards: each is asked where every number of a tensor goes,
so that there is one table of names and no second one to disagree with it.
"""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from flax import linen as nn

from jaxmoust.core.tree import named_leaves
from jaxmoust.models.classifiers.headed import Headed
from jaxmoust.models.classifiers.pretrained import HEAD, num_placed, open_layout, rule_of
from jaxmoust.models.classifiers.vit import ViT
from jaxmoust.models.translate import Tensors, read_arrays

OWN = "jaxmoust"  # the layout of networks that began as no public file: our own names
_KEPT = ("num_batches_tracked", "mask_token")  # what other libraries want to find and no classifier computes with


def own_tensors(variables: Any) -> Tensors:
    """A tree under our own names, "params.blocks.qkv.kernel"."""
    return {name.replace("/", "."): np.ascontiguousarray(leaf) for name, leaf in named_leaves(variables).items()}


def network_of(model: nn.Module, variables: Any) -> tuple[nn.Module, Any]:
    """A backbone with a head as the public network with that head: (it, its variables); others as they are."""
    if not isinstance(model, Headed):
        return model, variables
    params, stats = variables["params"], variables["stats"].get("backbone", {})
    tree = {"params": {**params["backbone"], "head": params["head"]}, "stats": stats}
    return model.network.clone(num_classes=model.num_classes), tree


def as_public(like: str | Path, model: nn.Module, variables: Any, prefix: str = "") -> tuple[str, Tensors]:
    """A trained tree in the layout of a public file: (the layout's family, the tensors under that file's names).

    Args:
        like: the file that it began as, or another one of that network; or its folder.
        variables: {"params", "stats"}. Statistics of synthetic images alone (separate_stats) stay behind.
        prefix: what is put before every name but the head's, where the file puts nothing, such as "vit.".
    Raises: ValueError: no such file, another network, or a leaf that the layout has no place for.
    """
    layout, arrays = open_layout(like, type(model))
    rule = partial(rule_of, layout, arrays, model)
    full = {name if name in arrays else name.partition(".")[2]: name for name in read_arrays(Path(like))}
    heads = {name for leaf in HEAD for name in rule(leaf)[0]}
    bare = {name for name in full if name not in heads}
    if prefix and all(full[name] == name for name in bare):
        full |= {name: prefix + name for name in bare}
    tensors = {full[name]: arrays[name] for name in arrays if name.endswith(_KEPT)}
    leaves = {name: np.asarray(leaf) for name, leaf in named_leaves(variables).items() if "/synthetic_" not in name}
    free = _unplaced(rule, arrays, model, leaves)
    for leaf, value in leaves.items():
        names, make = rule(leaf)
        shapes = [_shape(name, leaf, arrays, value, len(free)) for name in names]
        starts = np.cumsum([0, *(int(np.prod(shape)) for shape in shapes)])
        places = [np.arange(a, b).reshape(shape) for a, b, shape in zip(starts, starts[1:], shapes, strict=False)]
        try:
            goes = np.asarray(make(places, value.shape))
            if leaf == "params/pos_embed":
                goes, value = (np.delete(array, free, axis=1) for array in (goes, value))
            fits = goes.shape == value.shape and np.array_equal(np.sort(goes, axis=None), np.arange(starts[-1]))
        except (ValueError, IndexError):
            fits = False
        if not fits:
            raise ValueError(
                f"{layout.family}'s layout of {like} has no place for {leaf} {value.shape} (it has "
                f"{dict(zip(names, shapes, strict=True))}): give a file of the same network, of one head or none."
            )
        flat = np.empty(starts[-1], value.dtype)
        flat[goes.astype(np.int64).reshape(-1)] = value.reshape(-1)
        for name, a, b, shape in zip(names, starts, starts[1:], shapes, strict=False):
            tensors[full.get(name, name)] = flat[a:b].reshape(shape)
    return layout.family, tensors


def _unplaced(rule: Any, arrays: Tensors, model: nn.Module, leaves: Tensors) -> list[int]:
    """Takes into tokens what was learnt of their places, where the file has none of these; returns which these are."""
    if not isinstance(model, ViT) or "params/cls" not in leaves:
        return []
    learnt = arrays[rule("params/pos_embed")[0][0]]
    free = list(range(num_placed(learnt.size // learnt.shape[-1], model), model.tokens))
    tokens, places = leaves["params/cls"].copy(), leaves["params/pos_embed"]
    tokens[:, free] += places[:, free]
    leaves["params/cls"] = tokens
    return free


def _shape(name: str, leaf: str, arrays: Tensors, value: np.ndarray, num_free: int) -> tuple[int, ...]:
    """The shape of a tensor: the file's, but for the head's classes, and for the positions of other images."""
    if leaf in HEAD:
        return value.shape[::-1]
    shape = arrays[name].shape if name in arrays else ()
    if leaf == "params/pos_embed":
        return (*shape[:-2], value.shape[1] - num_free, shape[-1])
    return shape
