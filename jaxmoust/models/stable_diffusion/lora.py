"""Low-rank adapters as pure functions of a parameter tree (Hu et al. 2021, 2106.09685).

An adapter of a kernel W [in, out] is A [in, r] and B [r, out]; the network runs on W + (alpha / r) A B. Adapters are a
tree of their own, {"unet/.../to_q": {"A": ..., "B": ...}}, so that an optimizer sees nothing else; files have the
layout and the metadata of PEFT, which torch's diffusers reads and writes.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy

from jaxmoust.core.tree import map_named, named_leaves
from jaxmoust.models.stable_diffusion.weights import torch_name
from jaxmoust.runtime.paths import check_plain, parse_json

Adapters = dict[str, dict[str, Any]]

ATTENTION = ("to_q", "to_k", "to_v", "to_out_0")
"""The four matrices of every attention of a U-Net."""


def targets(params: Any, names: Sequence[str] = ATTENTION) -> list[str]:
    """Lists the matrices to adapt: those whose own name is among `names`, such as "unet/.../attn1/to_q".

    Raises: ValueError: a name that no matrix has; matrices of attention are listed.
    """
    kernels = [n.removesuffix("/kernel") for n, x in named_leaves(params).items() if n.endswith("/kernel") and _flat(x)]
    adapted = [name for name in kernels if name.rpartition("/")[2] in names]
    if missing := sorted(set(names) - {name.rpartition("/")[2] for name in adapted}):
        known = sorted({name.rpartition("/")[2] for name in kernels})
        raise ValueError(f"There is no matrix {missing} to adapt: allowed are {known}.")
    return adapted


def _flat(leaf: Any) -> bool:
    return len(leaf.shape) == 2


def init(key: jax.Array, params: Any, rank: int, names: Sequence[str] = ATTENTION) -> Adapters:
    """Makes adapters that change nothing yet: A normal with standard deviation 1 / rank, as PEFT's "gaussian", B zero.

    Raises: ValueError: no such matrix, or a rank that is higher than one of them has.
    """
    leaves = named_leaves(params)
    shapes = {name: leaves[f"{name}/kernel"].shape for name in targets(params, names)}
    smallest = min(min(shape) for shape in shapes.values())
    if not 1 <= rank <= smallest:
        raise ValueError(f"lora.rank {rank}: allowed are 1 to {smallest}, the side of the smallest matrix.")
    keys = dict(zip(shapes, jax.random.split(key, len(shapes)), strict=True))
    return {
        name: {"A": jax.random.normal(keys[name], (rows, rank)) / rank, "B": jnp.zeros((rank, columns))}
        for name, (rows, columns) in shapes.items()
    }


def merge(params: Any, adapters: Mapping[str, Mapping[str, Any]], scale: float | jax.Array) -> Any:
    """Adds scale * A B to every adapted matrix; scale is alpha / rank. Other leaves are the same objects.

    Raises: ValueError: an adapter of a matrix that is not there.
    """
    by_kernel = {f"{name}/kernel": pair for name, pair in adapters.items()}
    if unknown := sorted(by_kernel.keys() - named_leaves(params).keys()):
        raise ValueError(f"There are adapters of {unknown[:4]}, which these parameters lack.")

    def adapt(name: str, leaf: Any) -> Any:
        if name not in by_kernel:
            return leaf
        return leaf + (scale * (by_kernel[name]["A"] @ by_kernel[name]["B"])).astype(leaf.dtype)

    return map_named(adapt, params)


def rank_of(adapters: Mapping[str, Mapping[str, Any]]) -> int:
    """The rank that all adapters share."""
    return next(iter(adapters.values()))["A"].shape[1]


# --- files -----------------------------------------------------------------------------------------------------------


def _torch_name(name: str) -> str:
    """Names "unet/down_blocks_0/.../to_out_0" as torch does: "unet.down_blocks.0. ... .to_out.0"."""
    return torch_name(f"{name}/kernel").removesuffix(".weight")


def save(path: Path, adapters: Mapping[str, Mapping[str, Any]], alpha: float) -> None:
    """Writes adapters as .safetensors that torch's `load_lora_weights` reads, with rank and alpha in its metadata."""
    tensors: dict[str, np.ndarray] = {}
    parts: dict[str, list[str]] = {}
    for name, pair in adapters.items():
        whole = _torch_name(name)
        part, _, module = whole.partition(".")
        parts.setdefault(part, []).append(module)
        for side in ("A", "B"):
            tensors[f"{whole}.lora_{side}.weight"] = np.ascontiguousarray(np.asarray(pair[side], np.float32).T)
    rank = rank_of(adapters)
    settings = {
        f"{part}.{field}": value
        for part, modules in parts.items()
        for field, value in {
            "r": rank,
            "lora_alpha": alpha,
            "target_modules": sorted(modules),
            "rank_pattern": {},
            "alpha_pattern": {},
            "lora_bias": False,
            "use_dora": False,
            "bias": "none",
            "lora_dropout": 0.0,
            "init_lora_weights": "gaussian",
        }.items()
    }
    # safetensors writes the entries of its metadata in a random order: with one alone, equal adapters are equal files.
    metadata = {"lora_adapter_metadata": json.dumps(settings, sort_keys=True)}
    safetensors.numpy.save_file(tensors, path, metadata=metadata)


def load(path: Path, params: Any, alpha: float = 0.0) -> tuple[Adapters, float]:
    """Reads adapters for these parameters.

    Args:
        params: {"unet": ..., "text_encoder": ...}, as arrays or `jax.ShapeDtypeStruct`s.
        alpha: replaces what the file says. A file without metadata has lost its alpha; torch then takes the rank.
    Returns: (adapters, the scale to merge them with).
    Raises: ValueError: no such file, another layout, or tensors that have no place or do not fit, named.
    """
    try:
        check_plain(path)
        tensors = safetensors.numpy.load_file(path)
        with safetensors.safe_open(path, framework="np") as file:
            settings = parse_json((file.metadata() or {}).get("lora_adapter_metadata", "{}"), "its metadata")
        alphas = {settings[field] for p in ("unet", "text_encoder") if (field := f"{p}.lora_alpha") in settings}
        if not all(type(a) in (int, float) and math.isfinite(a) for a in alphas):
            raise ValueError(f"its alphas are {alphas}")
    except (OSError, safetensors.SafetensorError, ValueError, TypeError, KeyError, OverflowError) as error:
        raise ValueError(f"{path} cannot be read as LoRA .safetensors: {error}. Fetch it again.") from error
    leaves = named_leaves(params)
    kernels = [name.removesuffix("/kernel") for name in leaves if name.endswith("/kernel")]
    places = {_torch_name(name): name for name in kernels}
    adapters: Adapters = {}
    faults = []
    for name, tensor in sorted(tensors.items()):
        match = re.fullmatch(r"(.+)\.lora_([AB])\.weight", name)
        if not match or match[1] not in places:
            faults.append(f"no place for {name} {tensor.shape}")
            continue
        place = places[match[1]]
        adapters.setdefault(place, {})[match[2]] = tensor.T.astype(np.float32)
    for place, pair in adapters.items():
        shape = leaves[f"{place}/kernel"].shape
        shapes = {side: x.shape for side, x in pair.items()}
        rank = max((1, *shapes.get("A", ())[1:]))
        if len(shape) != 2 or shapes != {"A": (shape[0], rank), "B": (rank, shape[1])}:
            faults.append(f"{place} {[*shape]} cannot be adapted by {shapes}")
    if len({pair["A"].shape[1:] for pair in adapters.values() if "A" in pair}) > 1:
        faults.append("matrices have adapters of different ranks")
    if faults or not adapters:
        raise ValueError(
            f"{path}: {'; '.join(faults[:6]) or 'there are no adapters in it'}{' ...' if len(faults) > 6 else ''}. "
            "Allowed are adapters in PEFT's layout, as torch's diffusers saves them, of this very pipeline."
        )
    rank = rank_of(adapters)
    if len(alphas) > 1 and not alpha:
        raise ValueError(f"{path} has several alphas, {sorted(alphas)}: give the one to use.")
    return adapters, (alpha or next(iter(alphas), rank)) / rank
