"""Weights of other libraries as trees of ours: files in, every leaf of a tree out, or a list of all that does not fit.

Read are .npz and .safetensors. Pickles (.bin, .pt, .pth) run code when opened and are refused. A layout is a rule, from
a leaf of ours to the names of the tensors it is made of and the function that makes it.
"""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from jaxmoust.core.tree import map_named, named_leaves
from jaxmoust.runtime.paths import read_npz

Tensors = dict[str, np.ndarray]
Make = Callable[[list[np.ndarray], tuple[int, ...]], np.ndarray]
"""(tensors as the file has them, the shape of our leaf) -> the leaf; what cannot fit is handed on, to be refused."""
Rule = Callable[[str], tuple[list[str], Make]]

# What training scripts put before every name: DataParallel, Lightning, an average of the parameters, torch.compile.
WRAPPERS = ("module", "model", "ema", "model_ema", "state_dict", "state_dict_ema", "_orig_mod", "backbone", "teacher")
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".tar", ".pkl")
# Makes a .safetensors of what training scripts save: a state dict, one inside another dict, a whole module.
FROM_TORCH = (
    'python -c "import argparse, sys, torch; from safetensors.torch import save_file; '
    "torch.serialization.add_safe_globals([argparse.Namespace]); "
    "d = torch.load(sys.argv[1], map_location='cpu', weights_only=True); "
    "d = d.state_dict() if hasattr(d, 'state_dict') else d; "
    "d = next((d[k] for k in ('state_dict', 'model', 'string_to_param') if k in d), d); "
    'save_file({k: v.clone().contiguous() for k, v in d.items() if torch.is_tensor(v)}, sys.argv[2])" '
    "FILE.pth NEW.safetensors"
)


def read_arrays(path: Path) -> Tensors:
    """Reads every array of a .npz or .safetensors file without running anything that is in it; see `unwrapped`.

    Args: path: of the file, or of a folder with a model.safetensors.
    Raises: ValueError: no such file, another kind of file, or a damaged one.
    """
    folder, path = path, path / "model.safetensors" if path.is_dir() else path
    if folder.is_dir() and not path.is_file():  # one file of torch alone is what it has
        pickles = [file for file in sorted(folder.iterdir()) if file.suffix in PICKLES]
        path = next((file for file in pickles if "model" in file.name), next(iter(pickles), path))
    if path.suffix in PICKLES:
        raise ValueError(
            f"{path}: expected .npz or .safetensors. A file of torch may run code when opened. Beside torch, this "
            f"line makes a safe one of its tensors, model.safetensors in a folder:\n  {FROM_TORCH}\n"
            "Of a whole pickled module, and only where you trust it, with weights_only=False."
        )
    if not path.is_file():
        raise ValueError(f"{path}: no such file. Give the path of a downloaded checkpoint.")
    if path.suffix not in (".npz", ".safetensors"):
        raise ValueError(f"{path}: expected .npz or .safetensors. Give the path of a downloaded checkpoint.")
    try:
        if path.suffix == ".safetensors":
            return unwrapped(safetensors.numpy.load_file(path))
        return unwrapped(read_npz(path))
    except (safetensors.SafetensorError, ValueError, TypeError, KeyError) as e:
        raise ValueError(f"{path} cannot be read as {path.suffix}: {e}. Fetch it again.") from e


def unwrapped(tensors: Tensors) -> Tensors:
    """Takes off what training scripts put before every name, such as `module.`, layer by layer."""
    for _ in WRAPPERS:
        parts = [name.partition(".") for name in tensors]
        if len(firsts := {first for first, _, _ in parts}) != 1 or firsts.isdisjoint(WRAPPERS) or not parts[0][2]:
            break
        tensors = {rest: array for (_, _, rest), array in zip(parts, tensors.values(), strict=True)}
    return tensors


def translate(
    tensors: Mapping[str, np.ndarray], template: Any, rule: Rule, origin: str | Path, ignored: str = "$"
) -> Any:
    """Makes every leaf of the template from the tensors, strictly in both directions.

    Args:
        template: the tree that is wanted; arrays or `jax.ShapeDtypeStruct`s.
        rule: of a leaf's name.
        origin: what errors call the tensors' place.
        ignored: pattern of the beginning of names that may be left over.
    Returns: a tree like the template, in its dtypes.
    Raises: ValueError: naming every tensor that is missing or left over, and every leaf of another shape.
    """
    leaves, used = {}, set()
    faults = []
    for name, leaf in named_leaves(template).items():
        sources, make = rule(name)
        used.update(sources)
        if missing := [source for source in sources if source not in tensors]:
            faults += [f"missing from the file: {source}, for {name}" for source in missing]
            continue
        parts = [tensors[source] for source in sources]
        shapes = ", ".join(f"{source} {part.shape}" for source, part in zip(sources, parts, strict=True))
        try:
            # In its type at once, so that no second copy of all leaves is held. NumPy's, as networks may be larger than
            # a device is beside what runs there, and JAX compiles for each shape.
            leaves[name] = np.asarray(make(parts, tuple(leaf.shape)), leaf.dtype)
        except ValueError as error:
            faults.append(f"cannot make {name} {leaf.shape} of {shapes}: {error}")
            continue
        if leaves[name].shape != tuple(leaf.shape):
            faults.append(f"another shape: {name} is {leaves[name].shape}, wanted {tuple(leaf.shape)}; from {shapes}")
    left_over = sorted(name for name in tensors.keys() - used if not re.match(ignored, name))
    faults += [f"not wanted by the model: {name} {tensors[name].shape}" for name in left_over]
    if faults:
        sizes = all(fault.startswith(("another shape", "cannot make")) for fault in faults)
        remedy = "Build the model with the sizes that the file was trained with."
        remedy = remedy if sizes else "It is of another network or depth, or of another layout, or damaged."
        raise ValueError(f"{origin} does not fit the model:\n  " + "\n  ".join(faults) + f"\n{remedy}")
    return map_named(lambda name, leaf: leaves[name], template)


def as_it_is(tensors: list[np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
    """The only tensor, in the file's layout."""
    return tensors[0]


def kernel(tensors: list[np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
    """Torch's output x input [x height x width] becomes [height x width x] input x output; other ranks stay."""
    (tensor,) = tensors
    if len(shape) == 4 == tensor.ndim:
        return tensor.transpose(2, 3, 1, 0)
    if len(shape) == 2 and tensor.ndim in (2, 4) and tensor.shape[2:] in ((), (1, 1)):  # a 1x1 convolution is dense
        return tensor.reshape(tensor.shape[:2]).T
    return tensor
