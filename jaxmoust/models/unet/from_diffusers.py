"""UNet2DModel of diffusers, as a folder of config.json and safetensors, read as a network of models/unet/unet.py."""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxmoust.models.translate import Make, kernel, read_arrays
from jaxmoust.models.unet.convert import Imported, features_in, make_params, place, stacked, with_null
from jaxmoust.runtime.paths import read_json

_WEIGHTS = "diffusion_pytorch_model"
# Fields of config.json with the values that our network can be, the first of which diffusers takes where there is none.
_ALLOWED: dict[str, tuple] = {
    "_class_name": ("UNet2DModel",),
    "act_fn": ("silu", "swish"),
    "attn_norm_num_groups": (None,),
    "center_input_sample": (False,),
    "class_embed_type": (None,),
    "downsample_padding": (1, 0),
    "downsample_type": ("conv",),
    "freq_shift": (0, 1),
    "mid_block_scale_factor": (1,),
    "mid_block_type": ("UNetMidBlock2D",),
    "resnet_time_scale_shift": ("default",),
    "time_embedding_type": ("positional",),
    "upsample_type": ("conv",),
}
# The others, and what diffusers takes where there is none.
_DEFAULTS: dict[str, Any] = {
    "sample_size": None,
    "in_channels": 3,
    "out_channels": 3,
    "flip_sin_to_cos": True,
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"),
    "up_block_types": ("AttnUpBlock2D", "AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
    "block_out_channels": (224, 448, 672, 896),
    "layers_per_block": 2,
    "dropout": 0.0,
    "attention_head_dim": 8,
    "norm_num_groups": 32,
    "norm_eps": 1e-5,
    "add_attention": True,
    "num_class_embeds": None,
    "num_train_timesteps": None,
    "time_embedding_dim": None,
}
_PREDICTIONS = {"epsilon": "eps", "v_prediction": "v"}
# Of a schedule: what DDPM's linear one can be.
_SCHEDULES: dict[str, tuple] = {
    "beta_schedule": ("linear",),
    "trained_betas": (None,),
    "prediction_type": tuple(_PREDICTIONS),
    "rescale_betas_zero_snr": (False, None),
}
_INNER = {"norm0": "norm1", "conv0": "conv1", "modulation": "time_emb_proj", "norm1": "norm2", "conv1": "conv2"}
_INNER |= {"skip": "conv_shortcut", "norm": "group_norm", "proj": "to_out.0"}
_OUTER = {"conv_in": "conv_in", "norm_out": "conv_norm_out", "conv_out": "conv_out", "label_embed": "class_embedding"}
_OUTER |= {"noise_dense0": "time_embedding.linear_1", "noise_dense1": "time_embedding.linear_2"}
# What attention layers were called before diffusers 0.17, as in the files of its public checkpoints.
_FORMERLY = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


def read_diffusers(folder: Path, num_classes: int = 0) -> Imported:
    """Reads a folder of a UNet2DModel, or of a pipeline around one, with the schedule it was trained on if it says.

    Raises: ValueError: as `read_unet`, or a schedule other than DDPM's linear one.
    """
    unet_folder = folder / "unet" if (folder / "unet").is_dir() else folder
    files, config_file = sorted(unet_folder.glob(f"{_WEIGHTS}*.safetensors")), unet_folder / "config.json"
    if not files or not config_file.is_file():
        raise ValueError(
            f"{unet_folder} lacks config.json or {_WEIGHTS}.safetensors; it holds "
            f"{', '.join(sorted(path.name for path in unet_folder.iterdir())[:8]) or 'nothing'}. Beside torch, "
            "`UNet2DModel.from_pretrained(DIR).save_pretrained(OUT)` writes such a folder, of a .bin (a pickle, which "
            "is not opened here) too."
        )
    file = next((path for path in files if path.name == f"{_WEIGHTS}.safetensors"), files[0])  # or a variant, as fp16
    config = _diffusers_config(config_file)
    base, widths = config["block_out_channels"][0], config["block_out_channels"]
    levels = len(widths)
    size = config["sample_size"]
    attention = [kind.startswith("Attn") for kind in config["down_block_types"]]
    num_embeds = config["num_class_embeds"] or 0
    num_classes = num_classes or max(1, num_embeds)
    knows_null = num_embeds == num_classes + 1
    if not knows_null and num_classes != max(1, num_embeds):
        raise ValueError(f"{folder} has {num_embeds} class embeddings (0: none), which are not {num_classes} classes.")
    model = {
        "name": "ddpm_cifar10",
        "base_channels": base,
        "channel_multipliers": tuple(width // base for width in widths),
        "num_blocks": config["layers_per_block"],
        "attention_px": tuple(size >> level for level in range(levels) if attention[level]),
        "middle_attention": config["add_attention"],
        "head_channels": config["attention_head_dim"] or 0,
        "dropout": config["dropout"],
        "embedding": "positional" if config["freq_shift"] == 1 else "positional_open",
        "resample": "conv" if config["downsample_padding"] == 0 else "conv_centred",
        "norm_groups": config["norm_num_groups"],
        "norm_epsilon": config["norm_eps"],
    }
    method = {**method_of(folder), "label_dropout": 0.1 if knows_null else 0.0}
    rule = functools.partial(_diffusers_rule, levels=levels, cosine_first=config["flip_sin_to_cos"])
    tensors = {_renamed(name): tensor for name, tensor in read_arrays(file).items()}
    shape = (size, size, config["out_channels"])
    sections = {"model": model, "method": method, "augment": {}}
    return Imported(sections, make_params(file, model, shape, num_classes, tensors, rule), num_classes, shape)


def _diffusers_config(file: Path) -> dict[str, Any]:
    """Reads config.json with diffusers' defaults, and refuses what our network cannot be."""
    stored: dict[str, Any] = read_json(file) or {}
    config = {name: allowed[0] for name, allowed in _ALLOWED.items()} | _DEFAULTS | stored
    size = config["sample_size"]
    if isinstance(size, list) and len(set(size)) == 1:
        config["sample_size"] = size = size[0]
    down, up, widths = (config[k] for k in ("down_block_types", "up_block_types", "block_out_channels"))
    mirrored = [kind.replace("Down", "Up") for kind in reversed(down)]
    allowed = {"in_channels": (config["out_channels"],), "time_embedding_dim": (None, 4 * widths[0])}
    faults = faults_of(config, _ALLOWED | allowed)
    known = _ALLOWED.keys() | _DEFAULTS.keys()
    faults += [f"{name} is unknown" for name in stored if name not in known and not name.startswith("_")]
    if not isinstance(size, int):
        faults.append(f"sample_size is {size!r}, expected one side in pixels.")
    if any(width % widths[0] for width in widths):
        faults.append(f"block_out_channels are {widths}, expected multiples of the first.")
    if len(down) != len(widths) or set(down) - {"DownBlock2D", "AttnDownBlock2D"} or list(up) != mirrored:
        faults.append(
            f"down_block_types are {down}, up_block_types {up}, expected [Attn]DownBlock2D and, mirrored, "
            "[Attn]UpBlock2D, one of each a level."
        )
    if faults:
        raise ValueError(f"{file} describes a network that models/unet/unet.py cannot be: {'; '.join(faults)}.")
    return config


def method_of(folder: Path) -> dict[str, Any]:
    """The section `method` of the schedule beside a network; DDPM's where there is none."""
    files = [folder / "scheduler_config.json", folder / "scheduler" / "scheduler_config.json"]
    schedule: dict[str, Any] = next(filter(None, map(read_json, files)), {})
    if faults := faults_of(schedule, _SCHEDULES):
        raise ValueError(f"{folder} has a noise schedule that method ddpm cannot be: {'; '.join(faults)}.")
    if "_class_name" in schedule and not {"beta_start", "beta_schedule", "trained_betas"} & schedule.keys():
        raise ValueError(
            f"{folder} has the noise schedule of {schedule['_class_name']!r:.80}, which has no betas; expected "
            "one that has, as DDPM's."
        )
    return {
        "name": "ddpm",
        "num_timesteps": schedule.get("num_train_timesteps", 1000),
        "beta_start": schedule.get("beta_start", 1e-4),
        "beta_end": schedule.get("beta_end", 0.02),
        "prediction": _PREDICTIONS[schedule.get("prediction_type", "epsilon")],
    }


def faults_of(fields: Mapping[str, Any], allowed: Mapping[str, tuple]) -> list[str]:
    return [
        f"{name} is {fields[name]!r}, expected {' or '.join(map(repr, values))}"
        for name, values in allowed.items()
        if name in fields and fields[name] not in values
    ]


def _renamed(name: str) -> str:
    """The present name of an attention layer's tensor."""
    parts = name.split(".")
    if "attentions" in parts and parts[-2] in _FORMERLY:
        parts[-2] = _FORMERLY[parts[-2]]
    return ".".join(parts)


def _diffusers_rule(name: str, levels: int, cosine_first: bool) -> tuple[list[str], Make]:
    """Says which tensors a leaf of ours is made of, and how: (names, tensors, wanted shape) -> array."""
    module, *inner, leaf = name.split("/")
    field = "bias" if leaf == "bias" else "weight"
    if module in _OUTER:
        source = _OUTER[module]
        make = {"label_embed": with_null, "noise_dense0": features_in if cosine_first else kernel}
        return [f"{source}.{field}"], make.get(module, kernel)
    side, level, kind, index, attention = place(module)
    block = {"down": f"down_blocks.{level}", "up": f"up_blocks.{levels - 1 - level}", "middle": "mid_block"}[side]
    if kind == "resample":
        block = f"down_blocks.{level - 1}.downsamplers" if side == "down" else f"{block}.upsamplers"
        return [f"{block}.0.conv.{field}"], kernel
    block = f"{block}.{'attentions' if attention else 'resnets'}.{index}"
    if inner == ["qkv"]:
        return [f"{block}.to_{which}.{field}" for which in "qkv"], stacked
    return [f"{block}.{_INNER[inner[0]]}.{field}"], kernel
