"""Pipelines: loaded from a folder, saved to one, and asked what their texts mean."""

import functools
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.typing import Dtype

from jaxmoust.models.stable_diffusion import ldm, lora, weights
from jaxmoust.models.stable_diffusion.autoencoder import latent_scale
from jaxmoust.models.stable_diffusion.clip import TextTower, make_tower
from jaxmoust.models.stable_diffusion.folder import (
    check_kind,
    check_variant,
    find,
    flow_schedule,
    model_fields,
    noise_table,
    one_file,
    read_json,
)
from jaxmoust.models.stable_diffusion.kinds import StableDiffusion, StableDiffusion3, StableDiffusionXL, Text
from jaxmoust.models.stable_diffusion.mmdit import MMDiT
from jaxmoust.models.stable_diffusion.t5 import T5Encoder
from jaxmoust.models.stable_diffusion.tokenizer import CLIP, T5, Tokenizer, open_tokenizer
from jaxmoust.models.stable_diffusion.unet import UNet
from jaxmoust.models.stable_diffusion.vae import VAE


@dataclass(frozen=True, eq=False)
class Loaded:
    """A pipeline with its parameters; equal to itself alone."""

    pipeline: StableDiffusion
    params: dict[str, Any]
    by_class: tuple[Any, ...] = ()  # adapters of each class, in the place of none


def load(
    name: str,
    revision: str = "",
    variant: str = "",
    dtype: Dtype = jnp.float32,
    param_dtype: Any = np.float32,
    remat: bool = False,
    text_length: int = 256,
    like: str = "",
) -> Loaded:
    """Loads a pipeline, without torch and without opening a pickle; its parameters stay on the host, as NumPy arrays.

    Args:
        name: a folder in diffusers' layout, a pipeline that comes with the package, or OWNER/MODEL on the hub.
        revision: of the hub. variant: "fp16" and the like, where the files' names carry one.
        dtype: of the computation. param_dtype: of the parameters.
        remat: for its gradient the network keeps what lies between its blocks alone and computes their inside again:
            a fraction of the memory for about a quarter more operations; the same answers.
        text_length: tokens that T5 reads of a text.
        like: where `name` is a checkpoint in one file, the pipeline whose settings and tokenizer it has.
    Raises: ValueError: no such pipeline, another kind of one, or parts that do not fit; nothing is loaded halfway.
    """
    file = one_file(name, like)
    folder = find(like, revision, settings_alone=True) if file else find(name, revision, variant)
    parts = check_kind(folder)
    if not file:
        check_variant(folder, variant)
    tokenizers = {
        part.replace("tokenizer", "text_encoder"): open_tokenizer(folder / part, T5 if part.endswith("3") else CLIP)
        for part in parts
        if part.startswith("tokenizer")
    }
    weighted = [part for part in parts if not part.startswith(("tokenizer", "scheduler"))]
    configs = {part: read_json(folder / part / "config.json") for part in weighted}
    configs["scheduler"] = read_json(folder / "scheduler" / "scheduler_config.json")
    configs["model_index"] = read_json(folder / "model_index.json")
    pipeline = build(configs, tokenizers, dtype, remat, text_length)
    try:
        shapes = pipeline.parameter_shapes()
    except (TypeError, ValueError, ZeroDivisionError, OverflowError) as error:
        raise ValueError(f"The settings of {folder} allow no network: {error}. Fetch it again.") from error
    params, shapes = {}, _with_position(shapes)
    for part in weighted:
        if file:
            tensors, where = ldm.open_part(file, part, shapes[part]), file
        else:
            tensors, where = weights.open_tensors(folder / part, _stem(part), variant), folder / part
        params[part] = weights.from_torch(tensors, shapes[part], where, param_dtype)
    if "transformer" in params:
        params["position"] = params["transformer"]["pos_embed"].pop("pos_embed")
    return Loaded(pipeline, params)


def _stem(part: str) -> str:
    return "model" if part.startswith("text_encoder") else "diffusion_pytorch_model"


def _with_position(params: dict[str, Any]) -> dict[str, Any]:
    """The tree as the files have it: the table of positions in the transformer."""
    if "position" not in params:
        return params
    net = params["transformer"]
    net = {**net, "pos_embed": {**net["pos_embed"], "pos_embed": params["position"]}}
    return {**{part: tree for part, tree in params.items() if part != "position"}, "transformer": net}


def build(
    configs: dict[str, dict],
    tokenizer: Tokenizer | dict[str, Tokenizer],
    dtype: Dtype = jnp.float32,
    remat: bool = False,
    text_length: int = 256,
) -> StableDiffusion:
    """Builds the modules that the JSON files of a folder describe.

    Args:
        tokenizer: of each text encoder, or of the only one. dtype: of the computation.
        remat, text_length: as in `load`.
    Raises: ValueError: settings that our networks cannot have, or parts that do not fit each other.
    """
    tokenizers = tokenizer if isinstance(tokenizer, dict) else {"text_encoder": tokenizer}
    kind = (
        StableDiffusion3 if "transformer" in configs else StableDiffusionXL if len(tokenizers) > 1 else StableDiffusion
    )
    how: dict[str, Any] = {"dtype": jnp.dtype(dtype)}
    net = {"unet": UNet, "transformer": MMDiT}[kind.NET]
    modules: dict[str, Any] = {kind.NET: net(**model_fields(kind.NET, configs[kind.NET], net), **how, remat=remat)}
    # XL's VAE overflows float16, and says so.
    upcast = how["dtype"] == jnp.float16 and configs["vae"].get("force_upcast", False)
    modules["vae"] = VAE(**model_fields("vae", configs["vae"], VAE), dtype=jnp.float32 if upcast else how["dtype"])
    for part in tokenizers:
        if "d_model" in configs[part]:
            modules[part] = T5Encoder(**model_fields(part, configs[part], T5Encoder), **how)
        else:
            modules[part] = make_tower(TextTower, configs[part], project="pooled" in kind.READ[part], **how)
    pipeline = kind(modules, tokenizers, configs, text_length)
    faults = pipeline.faults()
    for part, read in tokenizers.items():
        if len(read) > modules[part].vocab_size:
            faults.append(f"a tokenizer of {len(read)} tokens, a text encoder that knows {modules[part].vocab_size}")
    if faults:
        raise ValueError(f"The parts of this pipeline do not fit: {'; '.join(faults)}.")
    latent_scale(configs["vae"])
    flow_schedule(configs["scheduler"]) if kind is StableDiffusion3 else noise_table(configs["scheduler"])
    return pipeline


def encode_prompts(loaded: Loaded, prompts: Sequence[str]) -> list[Text]:
    """What the network reads of each prompt, as NumPy arrays without a batch; one prompt at a time on one device.

    Each text encoder is put on the device, reads all prompts, and leaves it, before the next one comes.
    """
    pipeline, answers = loaded.pipeline, [dict[str, Any]() for _ in prompts]
    for part, ids in pipeline.by_part(pipeline.tokenize(prompts)).items():
        params = jax.device_put(loaded.params[part])
        for answer, row in zip(answers, ids, strict=True):
            answer[part] = jax.device_get(_encoder(pipeline, part)(params, row[None]))
        del params
    return [jax.tree.map(lambda x: np.asarray(x)[0], _encoder(pipeline, "")(answer)) for answer in answers]


@functools.lru_cache(maxsize=16)
def _encoder(pipeline: StableDiffusion, part: str) -> Callable[..., Any]:
    """Compiles one text encoder, or, without a part, what joins their answers."""
    return jax.jit(functools.partial(pipeline.encode_part, part) if part else pipeline.join)


def save(loaded: Loaded, folder: Path, dtype: Any = None) -> None:
    """Writes a pipeline as a folder that `load` and torch's diffusers open, adapters added to what they adapt.

    Args:
        folder: is created; must not hold a pipeline yet.
        dtype: of the files; None keeps that of the parameters.
    Raises: ValueError: a folder that is not empty.
    """
    folder = Path(folder)
    if folder.exists() and any(folder.iterdir()):
        raise ValueError(f"{folder} is not empty. Name a new folder for the pipeline.")
    pipeline = loaded.pipeline
    for part, tree in _with_position(loaded.params).items():
        (folder / part).mkdir(parents=True)
        _write_json(folder / part / "config.json", pipeline.configs[part])
        tensors = weights.to_torch(lora.merged(tree))
        weights.save_tensors(tensors, folder / part / f"{_stem(part)}.safetensors", dtype)
    (folder / "scheduler").mkdir()
    _write_json(folder / "scheduler" / "scheduler_config.json", pipeline.configs["scheduler"])
    for part, tokenizer in pipeline.tokenizers.items():
        tokenizer.save(folder / part.replace("text_encoder", "tokenizer"), pipeline.length(part))
    # Last: a folder without it is no pipeline.
    _write_json(folder / "model_index.json", pipeline.configs["model_index"])


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")
