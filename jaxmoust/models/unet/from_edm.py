"""State dicts of EDM's networks, DDPM++ and ADM, read as networks of models/unet/unet.py."""

import functools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxmoust.core.augment.nonleaky import LABEL_DIM
from jaxmoust.models.translate import Make, Tensors, kernel, read_arrays, unwrapped
from jaxmoust.models.unet.convert import (
    Imported,
    features_in,
    features_out,
    make_params,
    place,
    unwoven,
    with_null_transposed,
)
from jaxmoust.models.unet.unet import PUBLISHED

# Of the networks that Karras et al. published for CIFAR-10; a state dict does not hold it.
_AUGMENT_PROBABILITY = 0.12


# Preconditionings by the class of EDM's pickles. One sampled as another gives images that are wrong without a word.
PRECONDITIONS = {"EDMPrecond": "edm", "VPPrecond": "vp", "VEPrecond": "ve", "iDDPMPrecond": "iddpm"}


def read_edm(file: Path, num_classes: int = 0, precondition: str = "", sigma_data: float | None = None) -> Imported:
    """Reads the state dict of an EDM-preconditioned DDPM++ (SongUNet) or ADM (DhariwalUNet).

    Dropout and the probability of augmentation are not in a state dict; they are set to 0, and to Karras et al.'s
    0.12 where the network has labels of augmentation.

    Args: precondition, sigma_data: as `read_unet`.
    Raises: ValueError: as `read_unet`; NCSN++ and EDM2 too.
    """
    arrays = read_arrays(file)
    of_file = arrays.pop("precondition", None), arrays.pop("sigma_data", None)
    tensors = {name.removeprefix("model."): tensor for name, tensor in unwrapped(arrays).items()}
    if edm2 := [name for name in tensors if "emb_fourier" in name or name.endswith("out_gain")]:
        raise ValueError(
            f"{file} is a network of EDM2 (Karras et al. 2024), as {edm2[0]} shows, expected those of EDM (2022)."
        )
    filters = [name for name in tensors if name.endswith("resample_filter")]
    odd = [name for name in filters if tensors[name].size != 4 or np.any(tensors[name] != 0.25)]
    odd += [name for name in tensors if "freqs" in name or "aux_residual" in name or "aux_down" in name]
    if odd:
        raise ValueError(f"{file} is no DDPM++ or ADM: it has {', '.join(sorted(odd))}, as NCSN++ does.")
    tensors = {name: tensor for name, tensor in tensors.items() if name not in filters}
    model, shape, own_classes, augment_dim = _edm_sizes(file, tensors)
    if num_classes not in (0, max(1, own_classes)):
        raise ValueError(f"{file} has {own_classes} classes (0: unconditional), which are not {num_classes}.")
    num_classes = max(1, own_classes)
    if augment_dim not in (0, LABEL_DIM):
        raise ValueError(f"{file} has {augment_dim} augmentation labels, expected {LABEL_DIM} or none.")
    sigma_data = _agreed(file, of_file, precondition, sigma_data)
    rule = functools.partial(_edm_rule, model=model, size=shape[0])
    params = make_params(file, model, shape, num_classes, tensors, rule, augment_dim)
    sections = {
        "model": model,
        "method": {"name": "edm", "sigma_data": sigma_data, "label_dropout": 0.0},
        "augment": {"nonleaky": _AUGMENT_PROBABILITY} if augment_dim else {},
    }
    return Imported(sections, params, num_classes, shape)


def _agreed(file: Path, of_file: tuple[Any, Any], precondition: str, sigma_data: float | None) -> float:
    """The sigma_data of an EDM-preconditioned network, of what the file and the user say.

    Raises: ValueError: neither says it, they differ, or it is of another preconditioning.
    """
    own_kind = PRECONDITIONS.get(str(of_file[0]), str(of_file[0] or ""))
    own_sigma = None if of_file[1] is None else float(of_file[1])
    if precondition and own_kind not in ("", precondition):
        raise ValueError(f"{file} is of a pickle of {own_kind!r}; config.precondition is {precondition!r}.")
    kind, sigma = precondition or own_kind, own_sigma if sigma_data is None else sigma_data
    if not kind or sigma is None:
        raise ValueError(
            f"{file} does not say how its network was preconditioned: give --config.precondition=edm, vp, ve or iddpm "
            "(its pickle's class: EDMPrecond is edm) and --config.sigma_data=0.5 (that of all networks which Karras et "
            "al. published), or make the file by the line in jaxmoust/models/unet/load.py, which keeps both."
        )
    if kind != "edm":
        raise ValueError(
            f"{file} is of the preconditioning {kind!r}, which no method here has: expected 'edm'. Sampled as that, "
            "its images would be wrong."
        )
    if own_sigma not in (None, sigma):
        raise ValueError(f"{file} is of a pickle with sigma_data {own_sigma}; config.sigma_data is {sigma_data}.")
    return sigma


def _edm_sizes(file: Path, tensors: Tensors) -> tuple[dict[str, Any], tuple[int, int, int], int, int]:
    """Reads (the section model, image shape, classes or 0, augmentation labels or 0) off names and shapes."""
    blocks = [re.fullmatch(r"enc\.(\d+)x\d+_block(\d+)\.conv0\.weight", name) for name in tensors]
    places = [(int(match[1]), int(match[2])) for match in blocks if match]
    sizes = sorted({px for px, _ in places}, reverse=True)

    def shape(name: str, rank: int) -> tuple[int, ...]:
        if name not in tensors or tensors[name].ndim != rank:
            raise ValueError(f"{file} is no state dict of EDM's DDPM++ or ADM: it lacks {name} of {rank} dimensions.")
        return tensors[name].shape

    if not sizes:
        raise ValueError(f"{file} is no state dict of EDM's DDPM++ or ADM: it lacks enc.32x32_block0 and the like.")
    base, channels, *_ = shape(f"enc.{sizes[0]}x{sizes[0]}_conv.weight", 4)
    emb_channels, noise_channels = shape("map_layer0.weight", 2)
    if noise_channels != base or emb_channels != 4 * base:
        raise ValueError(
            f"{file}: its first convolution has {base} channels, its embeddings {noise_channels} and {emb_channels}, "
            f"expected {base} and {4 * base}."
        )
    model = {
        "name": "adm_64px" if "out_norm.weight" in tensors else "ddpmpp_cifar10",
        "base_channels": base,
        "channel_multipliers": tuple(shape(f"enc.{px}x{px}_block0.conv0.weight", 4)[0] // base for px in sizes),
        "num_blocks": 1 + max(index for _, index in places),
        "attention_px": tuple(px for px in sizes if f"enc.{px}x{px}_block0.qkv.weight" in tensors),
        "dropout": 0.0,
    }
    num_classes, augment_dim = (
        shape(name, 2)[1] if name in tensors else 0 for name in ("map_label.weight", "map_augment.weight")
    )
    return model, (sizes[0], sizes[0], channels), num_classes, augment_dim


def _edm_rule(name: str, model: Mapping[str, Any], size: int) -> tuple[list[str], Make]:
    """As `_diffusers_rule`."""
    adm = model["name"] == "adm_64px"
    module, *inner, leaf = name.split("/")
    field = "bias" if leaf == "bias" else "weight"
    outer = {
        "conv_in": (f"enc.{size}x{size}_conv", kernel),
        "norm_out": ("out_norm" if adm else f"dec.{size}x{size}_aux_norm", kernel),
        "conv_out": ("out_conv" if adm else f"dec.{size}x{size}_aux_conv", kernel),
        # ADM's embedding has the cosines first, ours the sines; whatever is added to it changes places too.
        "noise_dense0": ("map_layer0", features_in if adm else kernel),
        "augment_dense": ("map_augment", features_out if adm else kernel),
        "noise_dense1": ("map_layer1", kernel),
        "label_dense": ("map_label", kernel),
        "label_embed": ("map_label", with_null_transposed),
    }
    if module in outer:
        source, make = outer[module]
        return [f"{source}.{field}"], make
    side, level, kind, index, _ = place(module)
    px = size >> (len(model["channel_multipliers"]) - 1 if side == "middle" else level)
    if kind == "resample":
        block = f"enc.{px}x{px}_down" if side == "down" else f"dec.{2 * px}x{2 * px}_up"
    else:
        block = f"{'enc' if side == 'down' else 'dec'}.{px}x{px}_{'in' if side == 'middle' else 'block'}{index}"
    part = {"modulation": "affine", "norm": "norm2"}.get(inner[0], inner[0])
    if part == "qkv":
        head_channels = PUBLISHED[model["name"]].keywords.get("head_channels", 0)
        return [f"{block}.qkv.{field}"], functools.partial(unwoven, head_channels=head_channels)
    return [f"{block}.{part}.{field}"], kernel
