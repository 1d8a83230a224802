"""Public DiTs as parameters of models/dit.py: diffusers' DiTTransformer2DModel, and the files of the paper's own code.

A folder of diffusers is that of a pipeline, with transformer/ in it, or of the network alone, config.json beside its
safetensors. The paper's DiT-XL-2-256x256.pt is a pickle, and no pickle is opened here: what reads one says which line
makes a .safetensors of it, in the same names. Both learn the noise's variance, which is left unread.
"""

import functools
import re
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxmoust.models.dit import DiT, positions
from jaxmoust.models.stable_diffusion.weights import Files
from jaxmoust.models.translate import Make, Tensors, as_it_is, kernel, read_arrays, translate
from jaxmoust.models.unet.convert import Imported
from jaxmoust.models.unet.from_diffusers import faults_of, method_of
from jaxmoust.runtime.paths import read_json

_WEIGHTS = "diffusion_pytorch_model.safetensors"
_CLASSES = ("DiTTransformer2DModel", "Transformer2DModel")  # the second before diffusers 0.30
# Fields of config.json that are read, and the others with the values that our network can be, or None and False.
_READ = {"num_attention_heads", "attention_head_dim", "in_channels", "out_channels", "num_layers", "sample_size"}
_READ |= {"patch_size", "num_embeds_ada_norm", "norm_num_groups", "dropout"}
_ALLOWED: dict[str, tuple] = {
    "_class_name": _CLASSES,
    "activation_fn": ("gelu-approximate",),
    "attention_bias": (True,),
    "norm_type": ("ada_norm_zero",),
    "norm_eps": (1e-5, 1e-6),  # of one norm a block; the others have 1e-6, and tokens vary by about 1
}
# Leaves of ours: the file's names without ".weight", or ".bias", of each layout; {} is a block's number.
_EMBEDDERS = ("timestep_embedder.linear_1", "timestep_embedder.linear_2", "class_embedder.embedding_table")
_FIRST = "transformer_blocks.{}.norm1.emb."
_DIFFUSERS = {
    "patch_embed": ("pos_embed.proj",),
    "noise_embed/linear_1": (_FIRST.format(0) + _EMBEDDERS[0],),
    "noise_embed/linear_2": (_FIRST.format(0) + _EMBEDDERS[1],),
    "label_embed": (_FIRST.format(0) + _EMBEDDERS[2],),
    "blocks/modulation": ("transformer_blocks.{}.norm1.linear",),
    "blocks/qkv": tuple(f"transformer_blocks.{{}}.attn1.to_{part}" for part in "qkv"),
    "blocks/proj": ("transformer_blocks.{}.attn1.to_out.0",),
    "blocks/mlp0": ("transformer_blocks.{}.ff.net.0.proj",),
    "blocks/mlp1": ("transformer_blocks.{}.ff.net.2",),
    "modulation": ("proj_out_1",),
    "out": ("proj_out_2",),
}
_PAPER = {
    "patch_embed": ("x_embedder.proj",),
    "noise_embed/linear_1": ("t_embedder.mlp.0",),
    "noise_embed/linear_2": ("t_embedder.mlp.2",),
    "label_embed": ("y_embedder.embedding_table",),
    "blocks/modulation": ("blocks.{}.adaLN_modulation.1",),
    "blocks/qkv": ("blocks.{}.attn.qkv",),
    "blocks/proj": ("blocks.{}.attn.proj",),
    "blocks/mlp0": ("blocks.{}.mlp.fc1",),
    "blocks/mlp1": ("blocks.{}.mlp.fc2",),
    "modulation": ("final_layer.adaLN_modulation.1",),
    "out": ("final_layer.linear",),
}


def is_dit(path: Path) -> bool:
    """Whether a path is a folder of a DiT, or a file with the names of the paper's."""
    if path.is_dir():
        found = read_json(_part(path) / "config.json")
        return isinstance(found, dict) and found.get("_class_name") in _CLASSES
    is_file = path.suffix == ".safetensors" and path.is_file()
    return is_file and any(name.endswith("x_embedder.proj.weight") for name in Files([path]))


def read_dit(path: Path, num_classes: int = 0) -> Imported:
    """Reads a DiT of either layout; its images are what it denoises, latents or pixels.

    diffusers' class embeds time by other frequencies than the paper's code (`wave_shift`), and each layout is read as
    its own code computes it.

    Args: num_classes: those it should have; 0 is however many it has.
    Raises: ValueError: another network, other classes, or tensors that do not fit; nothing is read halfway.
    """
    folder = path.is_dir()
    tensors = _unshared(read_arrays(_part(path) / _WEIGHTS), path) if folder else read_arrays(path)
    names = _DIFFUSERS if folder else _PAPER
    model, sample_size, channels = _described(_part(path) / "config.json") if folder else _measured(tensors, path)
    rows = tensors.get(f"{names['label_embed'][0]}.weight", np.zeros((1, 0))).shape[0]
    if num_classes not in (0, rows - 1):
        raise ValueError(f"{path} knows {rows - 1} classes, expected {num_classes}.")
    shape = (sample_size, sample_size, channels)
    net = DiT(out_channels=channels, num_classes=rows - 1, **model)
    given = jnp.zeros((1, *shape)), jnp.zeros((1,)), jnp.zeros((1,), jnp.int32)
    template = jax.eval_shape(functools.partial(net.init, jax.random.key(0)), *given)["params"]
    for name in ("pos_embed", "pos_embed.pos_embed"):
        side = sample_size // net.patch_size
        if name in tensors and not np.allclose(tensors[name][0], positions(side, side, net.width), atol=1e-4):
            raise ValueError(f"{path}: {name} is not the table of sines and cosines that a DiT has.")

    def rule(leaf: str) -> tuple[list[str], Make]:
        module, _, kind = leaf.rpartition("/")
        ending = "bias" if kind == "bias" else "weight"
        blocks = range(net.depth) if module.startswith("blocks/") else range(1)
        make = as_it_is if kind == "embedding" else _stacked if module.startswith("blocks/") else kernel
        return [f"{name.format(i)}.{ending}" for i in blocks for name in names[module]], make

    params = translate(tensors, template, rule, path, r"pos_embed(\.pos_embed)?$")
    method = {"name": "ddpm", "label_dropout": 0.1, **(method_of(path) if folder else {})}
    return Imported({"model": {"name": "dit", **model}, "method": method, "augment": {}}, params, rows - 1, shape)


def _part(folder: Path) -> Path:
    return folder / "transformer" if (folder / "transformer").is_dir() else folder


def _described(file: Path) -> tuple[dict[str, Any], int, int]:
    """The section `model` that config.json says, the side of what it denoises, and its channels."""
    stored: dict[str, Any] = read_json(file) or {}
    usual = {"activation_fn": "gelu-approximate", "norm_type": "ada_norm_zero", "attention_bias": True, "patch_size": 2}
    heads = {"num_attention_heads": 16, "attention_head_dim": 72, "in_channels": 4, "out_channels": None}
    config = {**usual, **heads, "num_layers": 28, "sample_size": 32, **stored}
    faults = faults_of(config, _ALLOWED)
    known = _ALLOWED.keys() | _READ
    faults += [f"{k} is {v!r}" for k, v in stored.items() if k not in known and v not in (None, False) and k[0] != "_"]
    sizes = ("num_attention_heads", "attention_head_dim", "in_channels", "num_layers", "sample_size", "patch_size")
    faults += [f"{name} is {config[name]!r}" for name in sizes if type(config[name]) is not int or config[name] < 1]
    channels, out = config["in_channels"], config["out_channels"] or config["in_channels"]
    if out not in (channels, 2 * channels if isinstance(channels, int) else channels):
        faults.append(f"out_channels is {out!r}, expected in_channels or twice that")
    if faults:
        raise ValueError(f"{file} describes a network that models/dit.py cannot be: {'; '.join(faults)}.")
    heads, head_dim = config["num_attention_heads"], config["attention_head_dim"]
    model = {
        "width": heads * head_dim,
        "depth": config["num_layers"],
        "num_heads": heads,
        "patch_size": config["patch_size"],
        "learn_variance": out != channels,
        "wave_shift": 1,
    }
    return model, config["sample_size"], channels


def _measured(tensors: Tensors, path: Path) -> tuple[dict[str, Any], int, int]:
    """As `_described`, by the tensors of the paper's layout; heads are 72 wide in XL and 64 in the others."""
    try:
        width, channels, patch, _ = tensors["x_embedder.proj.weight"].shape
        outputs, tokens = tensors["final_layer.linear.weight"].shape[0], tensors["pos_embed"].shape[1]
    except (KeyError, ValueError, IndexError) as error:
        raise ValueError(f"{path} lacks what says a DiT's sizes: {error}. Fetch it again.") from error
    heads = 16 if width == 1152 else width // 64
    if heads * (72 if width == 1152 else 64) != width:
        raise ValueError(f"{path} is {width} wide, expected one of the paper's sizes, or a multiple of 64.")
    model = {
        "width": width,
        "depth": 1
        + max((int(found[1]) for name in tensors if (found := re.match(r"blocks\.(\d+)\.", name))), default=-1),
        "num_heads": heads,
        "patch_size": patch,
        "learn_variance": outputs == 2 * channels * patch**2,
        "wave_shift": 0,
    }
    return model, round(tokens**0.5) * patch, channels


def _unshared(tensors: Tensors, path: Path) -> Tensors:
    """The tensors with one embedder in the place of one a block: they are the same ones. Raises ValueError: not so."""
    kept = dict(tensors)
    for name in tensors:
        found = re.fullmatch(r"transformer_blocks\.(\d+)\.norm1\.emb\.(.*)", name)
        if found and found[1] != "0":
            first = tensors.get(_FIRST.format(0) + found[2])
            if first is None or not np.array_equal(first, kept.pop(name)):
                raise ValueError(f"{path}: {name} is not that of block 0, as in every DiT that was published.")
    return kept


def _stacked(tensors: list[np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
    """Every block's tensor, or tensors side by side, along a first axis."""
    parts = [kernel([tensor], shape[1:]) for tensor in tensors]
    per = len(parts) // shape[0]
    return np.stack([np.concatenate(parts[i * per : (i + 1) * per], axis=-1) for i in range(shape[0])])
