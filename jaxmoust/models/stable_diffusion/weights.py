"""Tensors of torch's diffusers and transformers as trees of our networks, and back, without torch.

Every leaf has one name in the files; `torch_name` says which, and that is all that either direction needs.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import safetensors
import safetensors.numpy

from jaxmoust.core.tree import named_leaves
from jaxmoust.models.stable_diffusion.folder import read_json
from jaxmoust.models.translate import Make, Tensors, as_it_is, kernel, translate
from jaxmoust.runtime.paths import check_plain

# A list's member is named with an underscore (down_blocks_0), but for CLIP's layers, which have a level.
_MEMBER = re.compile(
    r"^(down_blocks|up_blocks|resnets|attentions|transformer_blocks|downsamplers|upsamplers|to_out|net)_(\d+)$"
)
_PARTS = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
_LEAVES = {"kernel": "weight", "scale": "weight", "embedding": "weight"}
# What VAEs of 2022 call those parts.
_OLD_PARTS = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
# Buffers that older files carry, which hold 0, 1, 2 ..., and T5's table of words where a file holds it twice.
_IGNORED = r"(.*\.)?position_ids$|encoder\.embed_tokens\.weight$"


def torch_name(leaf: str) -> str:
    """Names a leaf of a network, such as "mid_block/attentions_0/proj_in/kernel", as torch's files do."""
    *modules, last = leaf.split("/")
    return ".".join([_PARTS.get(m, _MEMBER.sub(r"\1.\2", m)) for m in modules] + [_LEAVES.get(last, last)])


def to_torch(tree: Any) -> Tensors:
    """Lays a tree out as torch holds it: [out, in] and [out, in, height, width]."""
    tensors = {}
    for leaf, value in named_leaves(tree).items():
        array = np.asarray(value)
        if leaf.endswith("/kernel"):
            array = array.transpose(3, 2, 0, 1) if array.ndim == 4 else array.T
        tensors[torch_name(leaf)] = np.ascontiguousarray(array)
    return tensors


def from_torch(tensors: Mapping[str, np.ndarray], shapes: Any, where: Path, dtype: Any = np.float32) -> Any:
    """Makes a tree of torch's tensors.

    Args:
        shapes: the tree that is wanted, as arrays or `jax.ShapeDtypeStruct`s.
        where: what errors call the origin.
        dtype: of the leaves.
    Raises: ValueError: naming every leaf that is missing, left over, of another shape or beyond float16's numbers.
    """

    def rule(leaf: str) -> tuple[list[str], Make]:
        name = torch_name(leaf)
        names = (name, _old_name(name), name.removeprefix("text_model."))  # the last of transformers 5's CLIPTextModel
        found = next((one for one in names if one in tensors), name)
        return [found], kernel if leaf.endswith("/kernel") else as_it_is

    template = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, dtype), shapes)
    with np.errstate(over="ignore"):
        tree = translate(tensors, template, rule, where, _IGNORED)
    checked = named_leaves(tree) if np.dtype(dtype) == np.float16 else {}
    if wide := [name for name, leaf in checked.items() if not np.isfinite(leaf).all()]:
        raise ValueError(
            f"{where} has numbers that float16 lacks, expected up to 65,504: {', '.join(wide[:6])}. "
            "Set pipeline.param_dtype to 'bfloat16' or 'float32'."
        )
    return tree


def _old_name(name: str) -> str:
    for new, old in _OLD_PARTS.items():
        name = name.replace(f".{new}.", f".{old}.")
    return name


class Files(Mapping[str, np.ndarray]):
    """The tensors of some safetensors files, each read when it is asked for."""

    def __init__(self, files: list[Path]) -> None:
        self._of: dict[str, Any] = {}
        for file in files:
            try:
                check_plain(file)
                opened = safetensors.safe_open(file, framework="np")
            except (safetensors.SafetensorError, OSError, ValueError) as error:
                raise ValueError(f"{file} cannot be read as .safetensors: {error}. Fetch it again.") from error
            self._of |= dict.fromkeys(opened.keys(), opened)

    def __getitem__(self, name: str) -> np.ndarray:
        return self._of[name].get_tensor(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._of)

    def __len__(self) -> int:
        return len(self._of)


def open_tensors(folder: Path, stem: str, variant: str = "") -> Mapping[str, np.ndarray]:
    """Opens STEM.safetensors of a folder, or the shards that STEM.safetensors.index.json lists.

    Args:
        variant: "fp16" and the like, where the files' names carry one; a part without it has its plain files read.
    Raises: ValueError: there is none, or one that cannot be read; its kind and what converts it are said.
    """
    for dot in dict.fromkeys((f".{variant}" if variant else "", "")):
        whole = folder / f"{stem}{dot}.safetensors"
        if whole.is_file():
            return Files([whole])
        indices = (folder / f"{stem}.safetensors.index{dot}.json", folder / f"{stem}{dot}.safetensors.index.json")
        index = next((index for index in indices if index.is_file()), None)
        if not index:
            continue
        listed = (read_json(index) or {}).get("weight_map")
        if not isinstance(listed, dict) or not all(isinstance(shard, str) for shard in listed.values()):
            raise ValueError(f"{index} has no weight_map, from names of tensors to names of files. Fetch it again.")
        shards = sorted({*listed.values()})
        if any(Path(shard).name != shard for shard in shards):
            raise ValueError(f"{index} names files outside its folder: {shards}. Fetch it again.")
        return Files([folder / shard for shard in shards])
    present = sorted(p.name for p in folder.glob("*") if p.suffix in (".safetensors", *_TO_SAFE))
    raise ValueError(
        f"{folder} lacks {stem}.safetensors; it holds {', '.join(present) or 'no weights'}. {_way(present)}"
    )


# What else weights come as, and how torch's diffusers is asked to read it.
_VARIANT = re.compile(r"[^.]+\.(\w+)(?:-\d+-of-\d+)?\.safetensors")
_TO_SAFE = {".bin": ("a pickle", "use_safetensors=False"), ".msgpack": ("Flax's", "from_flax=True")}


def _way(present: list[str]) -> str:
    """What to do about a folder that holds these files."""
    if variants := sorted({match[1] for name in present if (match := _VARIANT.fullmatch(name))}):
        return f"Set the variant to {' or '.join(map(repr, variants))}."
    for suffix, (kind, how) in _TO_SAFE.items():
        if any(name.endswith(suffix) for name in present):
            return (
                f"A {suffix} is {kind}, which is not opened. Beside torch and diffusers 0.39, this line writes the "
                'whole pipeline anew:\n  python -c "import sys; from diffusers import DiffusionPipeline as P; '
                f'P.from_pretrained(sys.argv[1], {how}, safety_checker=None).save_pretrained(sys.argv[2])" FOLDER NEW'
            )
    return "Fetch it again."


def save_tensors(tensors: Tensors, file: Path, dtype: Any = None) -> None:
    """Writes tensors as torch's libraries expect them, all of one dtype if one is given."""
    cast = {name: x if dtype is None else x.astype(dtype) for name, x in tensors.items()}
    safetensors.numpy.save_file(cast, file, metadata={"format": "pt"})
