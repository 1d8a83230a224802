"""A Stable Diffusion pipeline as a folder in diffusers' layout: found, recognised, its settings read and checked.

Our networks know fewer settings than torch's. One they do not know is allowed at the value that they have built in, and
refused at any other, so that no pipeline loads and draws something else.
"""

import dataclasses
import math
import re
import types
import typing
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from jaxmoust.core.diffusion import noise
from jaxmoust.models import hub
from jaxmoust.models.stable_diffusion import schedule as schedule_of
from jaxmoust.runtime import paths

MOST_LAYERS = 1000  # of one part, in a row: ten times what any has; each is built and traced by itself
_MOST_LEVELS, _MOST_WIDTH, _MOST_TIMESTEPS = 16, 1 << 20, 100_000  # likewise
_WEIGHTED = ("unet", "transformer", "vae", "text_encoder*")  # patterns of parts with weights
_FIRST = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")
_XL = (*_FIRST, "text_encoder_2", "tokenizer_2")
_THIRD = ("transformer", *_XL[1:], "text_encoder_3", "tokenizer_3")
# The parts of a pipeline by its class. A network of inpainting alone reads a mask, too, and is refused by its channels.
KINDS = {
    f"StableDiffusion{kind}{task}Pipeline": parts
    for kind, parts in (("", _FIRST), ("XL", _XL), ("3", _THIRD))
    for task in ("", "Img2Img", "Inpaint")
} | {"FlaxStableDiffusionPipeline": _FIRST}
ASSETS = Path(str(resources.files("jaxmoust"))) / "assets"

# Settings of torch's networks that ours have no field for: what is built in, and those that make no difference. Any
# other is allowed where it is off: None, False, 0, or 1 for a scale.
_BUILT_IN = {
    "act_fn": "silu",
    "attention_type": "default",
    "conv_in_kernel": 3,
    "conv_out_kernel": 3,
    "down_block_types": "DownEncoderBlock2D",
    "downsample_padding": 1,
    "flip_sin_to_cos": True,
    "freq_shift": 0,
    "mid_block_add_attention": True,
    "mid_block_type": "UNetMidBlock2DCrossAttn",
    "resnet_time_scale_shift": "default",
    "time_embedding_type": "positional",
    "up_block_types": "UpDecoderBlock2D",
}
_NO_MATTER = re.compile(
    "addition_embed_type_num_heads|dropout|force_upcast|projection_class_embeddings_input_dim|sample_size|"
    "scaling_factor|shift_factor|upcast_attention|_.*"
)


def embedded() -> dict[str, Path]:
    """The pipelines that come with the package, by name."""
    return {path.parent.name: path.parent for path in sorted(ASSETS.glob("*/model_index.json"))}


def one_file(name: str, like: str) -> Path | None:
    """The checkpoint in one file that `name` is; None where it is a pipeline's folder or name.

    Raises: ValueError: a pickle, a file without a pipeline that is like it, or such a pipeline without a file.
    """
    file = Path(name).expanduser()
    if file.suffix in (".ckpt", ".pt", ".pth"):
        raise ValueError(
            f"{file} is a pickle, which is not opened. Beside torch, this line makes a folder of it (of XL with "
            f"StableDiffusionXLPipeline, of 3 and 3.5 with StableDiffusion3Pipeline):\n  {converter()}"
        )
    if (file.suffix == ".safetensors") != bool(like):
        raise ValueError(
            f"config.pipeline.path {name!r}, like {like!r}: `like` is needed for a .safetensors file of a whole "
            "checkpoint, which holds no settings and no tokenizer, and for nothing else. Give it the folder or the "
            "hub's name of a pipeline of the same kind, such as stable-diffusion-v1-5/stable-diffusion-v1-5."
        )
    return file if like else None


def converter(kind: str = "StableDiffusionPipeline") -> str:
    """The line that has torch's diffusers write the folder of a checkpoint in one file; each kind has its own class."""
    return (
        f'python -c "import sys; from diffusers import {kind} as P; '
        'P.from_single_file(sys.argv[1]).save_pretrained(sys.argv[2])" FILE NEW'
    )


def find(name: str, revision: str = "", variant: str = "", settings_alone: bool = False) -> Path:
    """Finds a pipeline: a folder of that name, else one that comes with the package, else one of the Hugging Face hub.

    What the hub gives is fetched into its cache.

    Args: settings_alone: whether no weights are wanted of the hub.
    Raises: ValueError: none of them; what is missing or out of reach is said.
    """
    if Path(name).is_dir():
        return Path(name)
    if name in embedded():
        return embedded()[name]
    plain = ("*.safetensors", "*.index.json")
    kept = (f"*.{variant}.safetensors", f"*.{variant}-*.safetensors", f"*.index.{variant}.json") if variant else plain
    wanted = ["model_index.json", "*/config.json", "scheduler/*.json", "tokenizer*/*"]
    if settings_alone:
        return hub.fetch(name, wanted, "a pipeline", revision)
    wanted += [f"{part}/{pattern}" for part in _WEIGHTED for pattern in kept]
    own = f", {', '.join(embedded())} of this package" if embedded() else ""
    folder = hub.fetch(name, wanted, f"a pipeline{own}", revision)
    check_variant(folder, variant)
    parts = [path.parent for part in _WEIGHTED for path in folder.glob(f"{part}/config.json")]
    if lacking := [part.name for part in parts if not [*part.glob("*.safetensors")]]:  # they have no such variant
        folder = hub.fetch(name, [f"{part}/{pattern}" for part in lacking for pattern in plain], "a pipeline", revision)
    return folder


def check_variant(folder: Path, variant: str) -> None:
    """Refuses a variant that no part of a pipeline has. Raises: ValueError."""
    names = (f"*/*.{variant}.safetensors", f"*/*.index.{variant}.json", f"*/*.{variant}.safetensors.index.json")
    if variant and not any(True for name in names for _ in folder.glob(name)):
        raise ValueError(f"{folder} has no files of the variant {variant!r}. Set variant to ''.")


def check_kind(folder: Path) -> list[str]:
    """The parts of a pipeline; refuses a folder that is no Stable Diffusion, and says what it is.

    Stable Diffusion 3 may lack T5: model_index.json then says so.

    Raises: ValueError.
    """
    index = folder / "model_index.json"
    if not index.is_file():
        raise ValueError(f"{folder} {_what_else(folder)}. Allowed is the folder of a pipeline, with model_index.json.")
    content = read_json(index)
    kind = content.get("_class_name")
    if not isinstance(kind, str) or kind not in KINDS:
        raise ValueError(f"{folder} is a {kind}, expected one of {', '.join(KINDS)} (Stable Diffusion 1.x to 3.5).")
    without = {part for part, of in content.items() if of in (None, [None, None])}
    parts = [part for part in KINDS[kind] if not ("text_encoder_3" in without and part.endswith("_3"))]
    if missing := [part for part in parts if not (folder / part).is_dir()]:
        remedy = "Fetch it again."
        if without.issuperset(missing):
            remedy = "It was made without, as XL's refiner is, and needs another beside it: take a base model."
        raise ValueError(f"{folder} lacks {', '.join(missing)}. {remedy}")
    return parts


def _what_else(folder: Path) -> str:
    if list(folder.glob("*lora*.safetensors")):
        return "holds LoRA weights, which belong on top of a pipeline"
    config = folder / "config.json"
    if config.is_file():
        return f"is a {read_json(config).get('_class_name', 'single model')}, one part of a pipeline"
    if list(folder.glob("*.safetensors")) or list(folder.glob("*.ckpt")):
        return "holds a checkpoint in one file: give its path, and in pipeline.like a pipeline of its kind"
    return "is no pipeline"


def read_json(path: Path) -> dict[str, Any]:
    """Reads a JSON file of a pipeline. Raises ValueError where there is none, or one that is damaged or endless."""
    content = paths.read_json(path)
    if content is None:
        raise ValueError(f"{path} cannot be read: there is no such file. Fetch the pipeline again.")
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a {type(content).__name__}, expected an object. Fetch the pipeline again.")
    for name, value in content.items():
        layers = value if isinstance(value, list) else [value]
        if "layers" in name and not all(n is None or (isinstance(n, int) and 0 <= n <= MOST_LAYERS) for n in layers):
            raise ValueError(f"{path}: {name} is {value!r:.80}, expected whole numbers up to {MOST_LAYERS:,}.")
    return content


def model_fields(part: str, config: Mapping[str, Any], model: type) -> dict[str, Any]:
    """The settings of a config.json that a network has fields for, lists as tuples.

    Args:
        part: "unet", "transformer", "vae", or a text encoder, whose files carry much that is no setting of the network.
        model: its class.
    Raises: ValueError: a setting that the network cannot have.
    """
    known = {f.name for f in dataclasses.fields(model)} - {"parent", "name", "dtype", "remat", "scan", "project"}
    for name, value in config.items() if part in ("unet", "transformer", "vae") else ():
        plain = _plain(value)
        off = plain in (None, False, 0) or ("scale" in name and plain == 1)
        if name in known or _NO_MATTER.fullmatch(name):
            continue
        if plain != _BUILT_IN[name] if name in _BUILT_IN else not off:
            raise ValueError(f"{part}/config.json: {name} is {value!r}, expected {_BUILT_IN.get(name)!r}.")
    if part == "unet" and _written_before_0_9(config) and config.get("sample_size") in (*range(64),):
        # The first files of 1.x say 32, which nothing was trained at; torch's pipeline takes 64 for it, too.
        config = {**config, "sample_size": 64}
    settings = {name: _tupled(value) for name, value in config.items() if name in known}
    for field in dataclasses.fields(model):
        if field.name in settings and not _fits(settings[field.name], field.type, field.name):
            kind = getattr(field.type, "__name__", field.type)
            raise ValueError(f"{part}/config.json: {field.name} is {config[field.name]!r:.80}, expected {kind}.")
    counts = {name: value for name, value in settings.items() if "layers" in name and not name.startswith("dual")}
    levels = len(settings.get("block_out_channels", (1,)))
    if math.prod(max(n) if isinstance(n, tuple) else n for n in counts.values()) * levels > MOST_LAYERS:
        raise ValueError(
            f"{part}/config.json: {', '.join(f'{name} {value!r:.80}' for name, value in counts.items())} in {levels} "
            f"levels make more than {MOST_LAYERS:,} layers, which is ten times what any network has."
        )
    return settings


def _fits(value: Any, kind: Any, name: str) -> bool:
    """Whether a setting is of its field's type, and of a size that networks have."""
    if isinstance(kind, types.UnionType):
        return any(_fits(value, one, name) for one in typing.get_args(kind))
    if typing.get_origin(kind) is tuple:
        of = typing.get_args(kind)[0]
        few = (name != "dual_attention_layers") <= len(value) <= _MOST_LEVELS if isinstance(value, tuple) else False
        return few and all(_fits(v, of, name) for v in value)
    if kind is int:
        return type(value) is int and (not name.endswith("_id") and "layers" not in name) <= value <= _MOST_WIDTH
    return type(value) in (int, float) and 0 < value < 1e9 if kind is float else isinstance(value, kind)


def _written_before_0_9(config: Mapping[str, Any]) -> bool:
    return re.match(r"0\.[0-8]\.", str(config.get("_diffusers_version"))) is not None


def _plain(value: Any) -> Any:
    """One value for a list that repeats it, as some files write what holds for every level."""
    return value[0] if isinstance(value, list) and value and all(v == value[0] for v in value) else value


def _tupled(value: Any) -> Any:
    return tuple(_tupled(v) for v in value) if isinstance(value, list) else value


def _to_zero_snr(table: np.ndarray, prediction: str) -> np.ndarray:
    """Levels of which the last leaves next to nothing of an image: abar 2^-24, as torch's Euler has it.

    Source: Lin et al. 2023 (2305.08891), Algorithm 1.
    """
    if prediction != "v_prediction":
        raise ValueError("scheduler: rescale_betas_zero_snr is set, which needs prediction_type 'v_prediction'.")
    alpha = 1 / np.sqrt(1 + np.square(table))
    alpha = (alpha - alpha[-1]) * alpha[0] / (alpha[0] - alpha[-1])
    alpha[-1] = 2.0**-12
    return np.sqrt(1 - np.square(alpha)) / alpha


def noise_table(scheduler: Mapping[str, Any]) -> tuple[np.ndarray, str]:
    """The noise level of each timestep, float64 [T], and what the network predicts: "epsilon" or "v_prediction".

    Args:
        scheduler: the scheduler_config.json.
    Raises: ValueError: a noise schedule or a prediction of another kind.
    """
    num, start, end = (
        scheduler.get(k, d) for k, d in (("num_train_timesteps", 1000), ("beta_start", 1e-4), ("beta_end", 0.02))
    )
    schedule, prediction = scheduler.get("beta_schedule", "linear"), scheduler.get("prediction_type", "epsilon")
    if prediction not in ("epsilon", "v_prediction"):
        raise ValueError(f"scheduler: prediction_type is {prediction!r}, expected 'epsilon' or 'v_prediction'.")
    if type(num) is not int or not 1 <= num <= _MOST_TIMESTEPS:
        raise ValueError(f"scheduler: num_train_timesteps is {num!r:.80}, expected 1 to {_MOST_TIMESTEPS:,}.")
    if not all(type(beta) is float and 0 < beta < 1 for beta in (start, end)):
        raise ValueError(f"scheduler: betas from {start!r:.80} to {end!r:.80}, expected numbers between 0 and 1.")
    if (betas := scheduler.get("trained_betas")) is not None:
        if not (isinstance(betas, list) and len(betas) == num and all(type(b) is float and 0 < b < 1 for b in betas)):
            raise ValueError(f"scheduler: trained_betas is {betas!r:.80}, expected {num} numbers between 0 and 1.")
        betas = np.array(betas, np.float64)
    elif schedule == "scaled_linear":
        betas = np.square(np.linspace(start**0.5, end**0.5, num))
    elif schedule == "linear":
        betas = noise.linear_betas(num, start, end)
    elif schedule == "squaredcos_cap_v2":  # Nichol & Dhariwal 2021 (2102.09672), Eq. 17
        kept = np.square(np.cos((np.arange(num + 1) / num + 0.008) / 1.008 * np.pi / 2))
        betas = np.minimum(1 - kept[1:] / kept[:-1], 0.999)
    else:
        allowed = "'linear', 'scaled_linear' or 'squaredcos_cap_v2'"
        raise ValueError(f"scheduler: beta_schedule is {schedule!r}, expected {allowed}.")
    with np.errstate(over="ignore", divide="ignore"):
        table = noise.sigmas_from_betas(betas)
        if scheduler.get("rescale_betas_zero_snr"):
            table = _to_zero_snr(table, prediction)
    if not np.isfinite(table).all():
        raise ValueError(
            f"scheduler: {num} betas up to {betas.max()} leave nothing of an image, expected smaller ones."
        )
    schedule_of.check(scheduler, table)
    return table, prediction


# Settings of a flow's scheduler that change its levels, and that are known here where they are off.
_FLOW = "invert_sigmas stochastic_sampling shift_terminal use_beta_sigmas use_dynamic_shifting use_exponential_sigmas"


def flow_schedule(scheduler: Mapping[str, Any]) -> tuple[float, int]:
    """The shift and the number of timesteps of a flow. Raises ValueError: another scheduler, or unknown settings."""
    kind, shift = scheduler.get("_class_name"), scheduler.get("shift", 1.0)
    num = scheduler.get("num_train_timesteps", 1000)
    if kind != "FlowMatchEulerDiscreteScheduler":
        raise ValueError(f"scheduler: {kind!r:.80} is no flow's, expected FlowMatchEulerDiscreteScheduler.")
    if named := sorted(name for name in (*_FLOW.split(), "use_karras_sigmas") if scheduler.get(name)):
        raise ValueError(f"scheduler: {', '.join(named)} set, which changes the noise levels, expected none of them.")
    if (
        type(num) is not int
        or not 1 <= num <= _MOST_TIMESTEPS
        or type(shift) not in (int, float)
        or not 0 < shift < 1e6
    ):
        raise ValueError(
            f"scheduler: shift {shift!r:.80}, num_train_timesteps {num!r:.80}, expected numbers such as 3.0 and 1000."
        )
    return float(shift), num
