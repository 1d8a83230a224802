"""A classifier as the file of another library: our tree back into the layout of the public checkpoint it began as.

The rules that read a layout (pretrained.py) are followed backwards: each is asked where every number of a tensor goes,
so that there is one table of names and no second one to disagree with it.
"""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from flax import linen as nn

from jaxmoust.core.tree import named_leaves
from jaxmoust.models.classifiers.pretrained import _HEAD, _rule, open_layout
from jaxmoust.models.translate import Tensors, read_arrays

OWN = "jaxmoust"  # the layout of networks that began as no public file: our own names
_KEPT = ".num_batches_tracked"  # what torch wants to find and no network computes with


def own_tensors(variables: Any) -> Tensors:
    """A tree under our own names, "params.blocks.qkv.kernel"."""
    return {name.replace("/", "."): np.ascontiguousarray(leaf) for name, leaf in named_leaves(variables).items()}


def as_public(like: str | Path, model: nn.Module, variables: Any, prefix: str = "") -> tuple[str, Tensors]:
    """A trained tree in the layout of a public file: (the layout's family, the tensors under that file's names).

    Args:
        like: the file that it began as, or another one of that network.
        variables: {"params", "stats"}. Statistics of synthetic images alone (separate_stats) stay behind.
        prefix: what is put before every name but the head's, where the file puts nothing, such as "vit.".
    Raises: ValueError: no such file, another network, or a leaf that the layout has no place for.
    """
    layout, arrays = open_layout(like, type(model))
    rule = partial(_rule, layout, model)
    full = {name if name in arrays else name.partition(".")[2]: name for name in read_arrays(Path(like))}
    heads = {name for leaf in _HEAD for name in rule(leaf)[0]}
    bare = {name for name in full if name not in heads}
    if prefix and all(full[name] == name for name in bare):
        full |= {name: prefix + name for name in bare}
    tensors = {full[name]: arrays[name] for name in arrays if name.endswith(_KEPT)}
    for leaf, value in named_leaves(variables).items():
        if "/synthetic_" in leaf:
            continue
        names, make = rule(leaf)
        value = np.asarray(value)
        shapes = [_shape(name, leaf, arrays, value) for name in names]
        sizes = [int(np.prod(shape)) for shape in shapes]
        starts = np.cumsum([0, *sizes])
        places = [np.arange(a, a + n).reshape(s) for a, n, s in zip(starts, sizes, shapes, strict=False)]
        try:
            goes = np.asarray(make(places, value.shape))
            fits = goes.shape == value.shape and np.array_equal(np.sort(goes, axis=None), np.arange(starts[-1]))
        except ValueError:
            fits = False
        if not fits:
            raise ValueError(
                f"{layout.family}'s layout of {like} has no place for {leaf} {value.shape} (it has "
                f"{dict(zip(names, shapes, strict=True))}): give a file of the same network, with a head or none."
            )
        flat = np.empty(starts[-1], value.dtype)
        flat[goes.reshape(-1)] = value.reshape(-1)
        for name, start, shape in zip(names, starts, shapes, strict=False):
            tensors[full.get(name, name)] = flat[start : start + int(np.prod(shape))].reshape(shape)
    return layout.family, tensors


def _shape(name: str, leaf: str, arrays: Tensors, value: np.ndarray) -> tuple[int, ...]:
    """The shape of a tensor: the file's, but for the head, and for positions of other images, which are ours."""
    if leaf in _HEAD:
        return value.shape[::-1]
    if leaf == "params/pos_embed":
        return value.shape
    return arrays[name].shape if name in arrays else ()
