"""Files of adapters: every public layout in, one form out; and out in PEFT's layout, or kohya's.

Tensors are named by the matrix and by their part in it. Layouts differ in what stands before the matrix, in how its
name is joined, by points or underscores, and in the words for the parts: PEFT's lora_A, lora_B, lora_magnitude_vector
(with adapter_config.json beside it, or settings in its metadata, as diffusers writes since 0.34), lora.down and lora.up
of diffusers' scripts, those in attention processors of 2023, kohya's lora_down, lora_up, alpha and dora_scale.
"""

import json
import math
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from jaxmoust.core.tree import named_leaves
from jaxmoust.models.stable_diffusion.ldm import unet_names
from jaxmoust.models.stable_diffusion.lora import Adapters
from jaxmoust.models.stable_diffusion.weights import torch_name
from jaxmoust.models.translate import FROM_TORCH
from jaxmoust.runtime.paths import check_plain, parse_json, read_json

NAMES = ("lora.safetensors", "pytorch_lora_weights.safetensors", "adapter_model.safetensors")
"""What a folder's file of adapters is called: by this package, by diffusers, by PEFT."""
_PARTS = ("unet", "transformer", "text_encoder", "text_encoder_2", "text_encoder_3")
_KOHYA = {"lora_unet": "unet", "lora_transformer": "transformer", "lora_te": "text_encoder", "lora_te1": "text_encoder"}
_KOHYA |= {"lora_te2": "text_encoder_2", "lora_te3": "text_encoder_3"}
_TENSOR = re.compile(
    r"(?P<matrix>.+?)(?:_lora|\.lora|\.lora_linear_layer)?(?:"
    r"\.lora_(?P<side>[AB])(?:\.\w+)?\.weight|[._](?:lora_)?(?P<way>down|up)\.weight|\.(?P<alpha>alpha)|"
    r"\.(?P<magnitude>lora_magnitude_vector|dora_scale)(?:\.\w+)?)"
)
# Other kinds of adapters, by what their tensors are called.
_OTHER_KINDS = {
    "hada_": "LoHa",
    "lokr_": "LoKr",
    "lora_mid": "LoCon with Tucker's decomposition",
    "oft_": "OFT",
    "lora_embedding_": "LoRA on embeddings",
    ".bias": "LoRA with biases",
    "ia3_": "IA3",
}
# Beginnings that change the kernels themselves, so that the file alone says nothing.
_CHANGES_BASE = ("pissa", "olora", "corda", "loftq")
_REMEDY = (
    "Allowed is LoRA of this very pipeline: PEFT's, diffusers', kohya's, LoCon, DoRA. What torch's diffusers opens, it "
    "merges: pipe.load_lora_weights(FILE); pipe.fuse_lora(); pipe.save_pretrained(NEW); give NEW as pipeline.path."
)


def load(path: Path, params: Any) -> Adapters:
    """Reads adapters for these parameters, each with its scale.

    A file that does not say its alpha has lost it; torch then takes the rank, and so does this where there is one rank.
    PEFT's says it in adapter_config.json, without which it is refused.

    Args:
        path: a file, or a folder with one of `NAMES`.
        params: {"unet": ..., "text_encoder": ...}, as arrays or `jax.ShapeDtypeStruct`s.
    Raises: ValueError: no such file, another kind of adapters, or tensors that have no place or do not fit, named.
    """
    path = next((path / name for name in NAMES if (path / name).is_file()), path / NAMES[0]) if path.is_dir() else path
    if path.suffix in (".bin", ".pt", ".pth", ".ckpt"):
        raise ValueError(
            f"{path} is a pickle, which may run code when opened. Expected .safetensors. Beside torch, this line "
            f"makes one of its tensors:\n  {FROM_TORCH}"
        )
    try:
        check_plain(path)
        tensors = safetensors.numpy.load_file(path)
        with safetensors.safe_open(path, framework="np") as file:
            settings = parse_json((file.metadata() or {}).get("lora_adapter_metadata", "{}"), "its metadata")
        if path.name == NAMES[2]:
            settings = read_json(path.with_name("adapter_config.json")) or settings
        if not isinstance(settings, dict):
            raise ValueError(f"its settings are a {type(settings).__name__}")
    except (OSError, safetensors.SafetensorError, ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{path} cannot be read as LoRA .safetensors: {error}. Fetch it again.") from error
    if path.name == NAMES[2] and not settings:
        raise ValueError(
            f"{path} does not say how strong its adapters are: PEFT writes that into adapter_config.json, and there is "
            "none beside it. Put the one that it came with there."
        )
    kernels = {n.removesuffix("/kernel"): x.shape for n, x in named_leaves(params).items() if n.endswith("/kernel")}
    places = _places(kernels)
    read: dict[str, dict[str, np.ndarray]] = {}
    faults = []
    for name, tensor in sorted(tensors.items()):
        match = _TENSOR.fullmatch(name)
        place = places.get(_squashed(match["matrix"])) if match else None
        kind = next((kind for word, kind in _OTHER_KINDS.items() if word in name), "")
        if not match or not place or kind:
            faults.append(f"no place for {name} {tensor.shape}{kind and f', which is {kind}'}")
            continue
        side = match["side"] or {"down": "A", "up": "B"}.get(match["way"]) or ("alpha" if match["alpha"] else "m")
        read.setdefault(place, {})[side] = np.asarray(tensor, np.float32)
    adapters: Adapters = {}
    for place, parts in read.items():
        shape, alpha = kernels[place], parts.pop("alpha", None)
        pair = {side: _ours(side, tensor, shape) for side, tensor in parts.items()}
        rank = max((1, *pair.get("A", np.empty(())).shape[-1:]))
        wanted = {"A": (*shape[:-1], rank), "B": (rank, shape[-1]), "m": shape[-1:]}
        if not {"A", "B"} <= pair.keys() or any(x.shape != wanted[side] for side, x in pair.items()):
            shapes = {side: x.shape for side, x in parts.items()}
            faults.append(f"{place} {[*shape]} cannot be adapted by {shapes}")
            continue
        magnitude = {"magnitude": pair.pop("m")} if "m" in pair else {}
        adapters[place] = {**pair, **magnitude, "scale": None if alpha is None else float(alpha.reshape(-1)[0]) / rank}
    faults = faults or _scales(adapters, settings)
    if faults or not adapters:
        raise ValueError(
            f"{path}: {'; '.join(faults[:6]) or 'there are no adapters in it'}{' ...' if len(faults) > 6 else ''}. "
            + _REMEDY
        )
    return adapters


def _squashed(name: str) -> str:
    """A matrix's name without what differs between layouts: what stands before it, processors, points."""
    name = name.removeprefix("base_model.model.").removeprefix("diffusion_model.").replace(".processor.", ".")
    name = re.sub("^lora_[a-z]+[123]?(?=_)", lambda m: _KOHYA.get(m[0], m[0]), name)
    return name.replace(".", "_")


def _places(kernels: Mapping[str, Any]) -> dict[str, str]:
    """Every name that a file may have for a matrix, squashed -> ours; without the part's where that is clear."""
    names: dict[str, list[str]] = {}
    units = [_module(place).removeprefix("unet.") for place in kernels if place.startswith("unet/")]
    ldm_names = unet_names(units)  # kohya's of XL
    for place in kernels:
        part, _, module = _module(place).partition(".")
        if part not in _PARTS:
            continue
        aliases = [module, module.removesuffix(".0") if module.endswith("to_out.0") else module]
        if part == "unet":
            aliases.append(ldm_names[module])
        if part.startswith("text"):
            aliases += [re.sub(r"\b([qkv]|out)_proj$", r"to_\1", module)]
            aliases += [alias.removeprefix("text_model.") for alias in aliases]  # as transformers 5 names them
        for alias in {_squashed(name) for one in aliases for name in (one, f"{part}.{one}")}:
            names.setdefault(alias, []).append(place)
    return {name: places[0] for name, places in names.items() if len(places) == 1}


def _module(place: str) -> str:
    """Names "unet/down_blocks_0/.../to_out_0" as torch does: "unet.down_blocks.0. ... .to_out.0"."""
    return torch_name(f"{place}/kernel").removesuffix(".weight")


def _ours(side: str, tensor: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A tensor of torch's, [out, in] or [out, in, height, width], laid out as ours; what cannot be stays as it is."""
    if side == "m":  # of each row: [out], [out, 1] or [1, out, 1, 1]; [1, in], of each column, is another's
        fits = tensor.size == shape[-1] and tensor.shape[:2] != (1, tensor.size)
        return tensor.reshape(-1) if fits or tensor.ndim == 4 else tensor
    if tensor.ndim not in (2, 4) or not tensor.size:
        return tensor
    if side == "B" or len(shape) == 2:
        return tensor.reshape(tensor.shape[:2]).T if tensor.shape[2:] in ((), (1, 1)) else tensor
    return tensor.reshape(*tensor.shape, *[1] * (4 - tensor.ndim)).transpose(2, 3, 1, 0)


def _scales(adapters: Adapters, settings: Mapping[str, Any]) -> list[str]:
    """Fills in the scales that no tensor gives, by the settings of each part; returns what is in the way."""
    faults: list[str] = []
    for part in dict.fromkeys(place.partition("/")[0] for place in adapters):
        own = {place: adapter for place, adapter in adapters.items() if place.partition("/")[0] == part}
        config = {field: settings.get(f"{part}.{field}", settings.get(field)) for field in _SETTINGS}
        if config["peft_type"] not in (None, "LORA") or str(config["init_lora_weights"]).startswith(_CHANGES_BASE):
            faults.append(f"{part} has adapters of the kind {config['peft_type']} {config['init_lora_weights']!r}")
        if any("magnitude" not in adapter for adapter in own.values()) and config["use_dora"]:
            faults.append(f"{part} is said to be DoRA (use_dora), and has no magnitudes")
        silent = {place: adapter for place, adapter in own.items() if adapter["scale"] is None}
        ranks = {adapter["A"].shape[-1] for adapter in silent.values()}
        alpha, patterns = config["lora_alpha"], config["alpha_pattern"] or {}
        if alpha is None and silent and (len(ranks) > 1 or len(silent) < len(own)):
            faults.append(f"{part} has adapters of ranks {sorted(ranks)} that do not say their alpha")
            continue
        if not isinstance(patterns, dict) or not all(re.fullmatch(r"\^?[\w.]+", key) for key in patterns):
            faults.append(f"{part} has the alphas {patterns!r:.80}, expected those of names of matrices.")
            continue
        for place, adapter in silent.items():
            module, rank = _module(place).partition(".")[2], adapter["A"].shape[-1]
            chosen = next((a for key, a in patterns.items() if _named(key, module)), rank if alpha is None else alpha)
            if type(chosen) not in (int, float) or not math.isfinite(chosen):
                faults.append(f"{place} has the alpha {chosen!r:.80}")
                continue
            adapter["scale"] = chosen / (math.sqrt(rank) if config["use_rslora"] else rank)
    return faults


_SETTINGS = ("lora_alpha", "alpha_pattern", "use_rslora", "use_dora", "peft_type", "init_lora_weights")


def _named(key: str, module: str) -> bool:
    """Whether a pattern of PEFT means a matrix: its whole name, or the end of it from a point on."""
    whole = (module, module.removeprefix("text_model."))
    return key.removeprefix("^") in whole or (not key.startswith("^") and module.endswith(f".{key}"))


def save(path: Path, adapters: Mapping[str, Mapping[str, Any]], alpha: float = 0.0, form: str = "peft") -> None:
    """Writes adapters as .safetensors that torch's `load_lora_weights` reads, with rank and alpha in its metadata.

    Args:
        alpha: of all of them; 0 takes each one's rank, a scale of 1.
        form: "peft", or "kohya", which trainers and user interfaces read; the transformer of 3 and 3.5 has OneTrainer's
            names in it, which ComfyUI reads, and torch's diffusers does not.
    """
    tensors: dict[str, np.ndarray] = {}
    parts: dict[str, dict[str, int]] = {}
    second = any(name.startswith("text_encoder_2/") for name in adapters)
    kohya = {part: begin for begin, part in _KOHYA.items()} | {"text_encoder": "lora_te1" if second else "lora_te"}
    for name, pair in adapters.items():
        whole = _module(name)
        part, _, module = whole.partition(".")
        a, b = (np.asarray(pair[side], np.float32) for side in "AB")
        parts.setdefault(part, {})[module] = rank = a.shape[-1]
        a, b = (a.transpose(3, 2, 0, 1), b.T[..., None, None]) if a.ndim == 4 else (a.T, b.T)
        names = (f"{whole}.lora_A.weight", f"{whole}.lora_B.weight")
        if form == "kohya":
            base = f"{kohya[part]}_{module.replace('.', '_')}"
            names = (f"{base}.lora_down.weight", f"{base}.lora_up.weight")
            tensors[f"{base}.alpha"] = np.array(alpha or rank, np.float32)
        tensors |= {key: np.ascontiguousarray(x) for key, x in zip(names, (a, b), strict=True)}
    settings: dict[str, Any] = {}
    for part, ranks in parts.items():
        rank = Counter(ranks.values()).most_common(1)[0][0]
        others = {module: own for module, own in ranks.items() if own != rank}
        fields = {
            "r": rank,
            "lora_alpha": alpha or rank,
            "target_modules": sorted(ranks),
            "rank_pattern": others,
            "alpha_pattern": {} if alpha else others,
            "lora_bias": False,
            "use_dora": False,
            "bias": "none",
            "lora_dropout": 0.0,
            "init_lora_weights": "gaussian",
        }
        settings |= {f"{part}.{field}": value for field, value in fields.items()}
    # safetensors writes the entries of its metadata in a random order: with one alone, equal adapters are equal files.
    metadata = {"lora_adapter_metadata": json.dumps(settings, sort_keys=True)} if form == "peft" else None
    safetensors.numpy.save_file(tensors, path, metadata=metadata)
