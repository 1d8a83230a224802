"""The names that Stable Diffusion's own code gives its tensors: those of checkpoints in one file, and kohya's of XL.

Rules go from torch's diffusers' names to them. OpenCLIP's text towers hold three matrices of attention in one tensor.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxmoust.core.tree import named_leaves
from jaxmoust.models.stable_diffusion.folder import converter
from jaxmoust.models.stable_diffusion.weights import Files, torch_name

_RESNET = {"norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1", "norm2": "out_layers.0"}
_RESNET |= {"conv2": "out_layers.3", "conv_shortcut": "skip_connection"}
_UNET = {"conv_in": "input_blocks.0.0", "conv_norm_out": "out.0", "conv_out": "out.2"}
_UNET |= {"time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2"}
_UNET |= {"add_embedding.linear_1": "label_emb.0.0", "add_embedding.linear_2": "label_emb.0.2"}
_UNET |= {"mid_block.resnets.0": "middle_block.0", "mid_block.attentions.0": "middle_block.1"}
_UNET |= {"mid_block.resnets.1": "middle_block.2"}
_VAE = {"to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out", "group_norm": "norm"}
_VAE |= {"conv_norm_out": "norm_out", "conv_shortcut": "nin_shortcut", "mid_block.attentions.0": "mid.attn_1"}
_VAE |= {"mid_block.resnets.0": "mid.block_1", "mid_block.resnets.1": "mid.block_2"}
_OPEN_CLIP = {"text_model.encoder.layers": "transformer.resblocks", "layer_norm1": "ln_1", "layer_norm2": "ln_2"}
_OPEN_CLIP |= {"self_attn.out_proj": "attn.out_proj", "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj"}
_OPEN_CLIP |= {"text_model.final_layer_norm": "ln_final", "text_projection.weight": "text_projection"}
_OPEN_CLIP |= {"text_model.embeddings.token_embedding": "token_embedding"}
_OPEN_CLIP |= {"text_model.embeddings.position_embedding.weight": "positional_embedding"}
# Where a file keeps each part; what stands under "model." is OpenCLIP's.
_PLACES = {
    "unet": ("model.diffusion_model.",),
    "vae": ("first_stage_model.",),
    "text_encoder": (
        "cond_stage_model.transformer.",
        "cond_stage_model.model.",
        "conditioner.embedders.0.transformer.",
    ),
    "text_encoder_2": ("conditioner.embedders.1.model.",),
}


def unet_names(names: Iterable[str]) -> dict[str, str]:
    """Renames tensors or matrices of a U-Net: all of one, as they say how many blocks a level has."""
    names = list(names)
    num = len({found[1] for n in names if (found := re.match(r"down_blocks\.0\.resnets\.(\d+)\.", n))})
    attends = {found[1] for n in names if (found := re.match(r"up_blocks\.(\d+)\.attentions\.", n))}

    def place(match: re.Match) -> str:
        way, level, kind, number = match[1], int(match[2]), match[3], int(match[4])
        if kind in ("resnets", "attentions"):
            first = 1 if way == "down" else 0
            block = first + level * (num + 1) + number
            return f"{'in' if first else 'out'}put_blocks.{block}.{int(kind == 'attentions')}"
        block = (level + 1) * (num + 1)
        if way == "down":
            return f"input_blocks.{block}.0.op"
        return f"output_blocks.{block - 1}.{1 + (match[2] in attends)}.conv"

    blocks = r"(down|up)_blocks\.(\d+)\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)(?:\.conv(?![^.]))?"
    words = {True: _UNET | _RESNET, False: _UNET}  # transformers have norms of those names, too
    return {name: _renamed(re.sub(blocks, place, name), words["resnets" in name]) for name in names}


def vae_names(names: Iterable[str]) -> dict[str, str]:
    """Renames tensors of a VAE, all of one: its decoder counts levels from the image."""
    names = list(names)
    num = len({found[1] for n in names if (found := re.match(r"encoder\.down_blocks\.(\d+)\.", n))})

    def place(match: re.Match) -> str:
        level = int(match[2]) if match[1] == "down" else num - 1 - int(match[2])
        inside = f"block.{match[4]}" if match[3] == "resnets" else match[3].removesuffix("rs")
        return f"{match[1]}.{level}.{inside}"

    blocks = r"(down|up)_blocks\.(\d+)\.(resnets|downsamplers|upsamplers)\.(\d+)"
    return {name: _renamed(re.sub(blocks, place, name), _VAE) for name in names}


def _renamed(name: str, words: Mapping[str, str]) -> str:
    """A name with every whole word replaced."""
    return re.sub(rf"(?<![^.])({'|'.join(map(re.escape, words))})(?![^.])", lambda m: words[m[1]], name)


class _Renamed(Mapping[str, np.ndarray]):
    """Tensors of a file under other names, each read when it is asked for."""

    def __init__(self, files: Mapping[str, np.ndarray], of: dict[str, tuple[str, Callable[[Any], np.ndarray]]]) -> None:
        self._files, self._of = files, of

    def __getitem__(self, name: str) -> np.ndarray:
        theirs, make = self._of[name]
        return make(self._files[theirs])

    def __iter__(self) -> Iterator[str]:
        return iter(self._of)

    def __len__(self) -> int:
        return len(self._of)


def open_part(file: Path, part: str, shapes: Any) -> Mapping[str, np.ndarray]:
    """The tensors of a part, under diffusers' names, of a checkpoint of 1.x, 2.x or XL in one file.

    Args: shapes: of our tree. Raises: ValueError: no such file, or a file without that part.
    """
    files = Files([file])
    begins = next((p for p in _PLACES.get(part, ()) if any(name.startswith(p) for name in files)), None)
    if not begins:
        raise ValueError(
            f"{file} has no {part} of Stable Diffusion 1.x, 2.x or XL. Beside torch, this line makes a folder of what "
            f"diffusers opens:\n  {converter(f'StableDiffusion{_kind(files)}Pipeline')}"
        )
    names = [torch_name(leaf) for leaf in named_leaves(shapes)]
    of = {name: (begins + theirs, make) for name, (theirs, make) in _sources(part, begins, names).items()}
    used = {theirs for theirs, _ in of.values()}
    strict = part in ("unet", "vae")  # what else they hold is of another network
    left_over = {name: (name, _same) for name in files if strict and name.startswith(begins) and name not in used}
    return _Renamed(files, {name: source for name, source in of.items() if source[0] in files} | left_over)


def _kind(names: Iterable[str]) -> str:
    """What torch's class of a file's pipeline has in its name: of 3 and 3.5, of XL, of all others nothing."""
    whole = "\n".join(names)
    return "3" if ".joint_blocks." in whole else "XL" if "conditioner.embedders.1." in whole else ""


def _sources(part: str, begins: str, names: list[str]) -> dict[str, tuple[str, Callable]]:
    if part in ("unet", "vae"):
        renamed = unet_names(names) if part == "unet" else vae_names(names)
        return {name: (theirs, _same) for name, theirs in renamed.items()}
    if not begins.endswith(".model."):  # some of 1.x leave a level out
        return {own: (own, _same) for name in names for own in (name, name.removeprefix("text_model."))}
    return {name: _open_clip(name) for name in names}


def _open_clip(name: str) -> tuple[str, Callable[[Any], np.ndarray]]:
    if match := re.fullmatch(r"(.+)\.self_attn\.([qkv])_proj\.(weight|bias)", name):
        number = "qkv".index(match[2])
        theirs = f"{_renamed(match[1], _OPEN_CLIP)}.attn.in_proj_{match[3]}"
        return theirs, lambda whole: whole.reshape(3, -1, *whole.shape[1:])[number]
    theirs = _renamed(name, _OPEN_CLIP)
    return theirs, (lambda x: x.T) if theirs == "text_projection" else _same


def _same(tensor: Any) -> np.ndarray:
    return tensor
