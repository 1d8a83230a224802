"""The pipeline: three networks, a tokenizer and a noise schedule, loaded from a folder and saved to one."""

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
from jaxtyping import Array, Float, Int, Key

from jaxmoust.core.diffusion import denoise, noise
from jaxmoust.models.stable_diffusion import ldm, lora, schedule, weights
from jaxmoust.models.stable_diffusion.clip import TextTower, make_tower
from jaxmoust.models.stable_diffusion.folder import (
    check_kind,
    check_variant,
    find,
    model_fields,
    noise_table,
    one_file,
    read_json,
)
from jaxmoust.models.stable_diffusion.layers import run, shapes_of
from jaxmoust.models.stable_diffusion.tokenizer import Tokenizer, open_tokenizer
from jaxmoust.models.stable_diffusion.unet import BLOCKS, UNet
from jaxmoust.models.stable_diffusion.vae import VAE

Images = Float[Array, "B H W 3"]
Latents = Float[Array, "B h w 4"]
States = Float[Array, "B L D"]

_FILES = {"unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model", "text_encoder": "model"}


@dataclass(frozen=True, eq=False)
class StableDiffusion:
    """What a pipeline is, apart from its parameters; every method is a pure function of those.

    Parameters are one tree, {"unet": ..., "vae": ..., "text_encoder": ...}. Two pipelines are equal where their
    settings and vocabularies are, so that one compiled program serves a pipeline and what was fine-tuned of it.

    Args:
        unet, vae, text_encoder: the modules. tokenizer: the checkpoint's own.
        table: the noise level of each timestep, float64 [T], ascending.
        prediction: what the U-Net predicts: "epsilon" or "v_prediction".
        configs: the JSON files of the folder by part, as they were, to be written again.
    """

    unet: UNet
    vae: VAE
    text_encoder: TextTower
    tokenizer: Tokenizer
    table: np.ndarray
    prediction: str
    configs: dict[str, dict[str, Any]]

    @functools.cached_property
    def _content(self) -> str:
        how = [self.unet.remat, *(str(part.dtype) for part in (self.unet, self.vae, self.text_encoder))]
        return json.dumps([how, self.configs, self.tokenizer.get_vocab()], sort_keys=True)

    def __eq__(self, other: object) -> bool:
        """Whether both compute the same function of parameters, prompts and images."""
        return isinstance(other, StableDiffusion) and self._content == other._content

    def __hash__(self) -> int:
        """Agrees with `__eq__`."""
        return hash(self._content)

    @property
    def factor(self) -> int:
        """Pixels of an image to a side of one latent."""
        return 2 ** (len(self.vae.block_out_channels) - 1)

    @property
    def image_px(self) -> int:
        """The size the U-Net was trained for."""
        return self.unet.sample_size * self.factor

    def parameter_shapes(self) -> dict[str, Any]:
        """The tree of parameters as `jax.ShapeDtypeStruct`s; nothing is computed."""
        return jax.tree.map(lambda leaf: leaf, _parameter_shapes(self))  # a tree of the caller's own

    def latent_shape(self, image_px: int) -> tuple[int, int, int]:
        """(h, w, channels) of the latents of square images.

        Raises: ValueError: a size that the VAE, or then the U-Net, cannot halve as often as it does.
        """
        step = self.factor * 2 ** (len(self.unet.block_out_channels) - 1)
        if image_px < step or image_px % step:
            raise ValueError(
                f"Images of {image_px} px do not fit this pipeline: allowed are multiples of {step}, such as "
                f"{max(1, image_px // step) * step}; it was trained at {self.image_px}."
            )
        return image_px // self.factor, image_px // self.factor, self.unet.in_channels

    def sigmas(self, num_steps: int) -> Float[np.ndarray, " {num_steps}+1"]:
        """The descending noise levels that sampling walks: those of the checkpoint's scheduler, then 0."""
        return schedule.levels(self.configs["scheduler"], self.table, num_steps)

    def tokenize(self, prompts: Sequence[str]) -> Int[np.ndarray, "N L"]:
        """Turns prompts into token numbers, padded as the checkpoint pads.

        Raises: ValueError: a prompt that is longer than the text encoder reads; nothing is cut off unsaid.
        """
        return self.tokenizer(prompts, self.text_encoder.max_position_embeddings)

    def encode_text(self, params: Any, ids: Int[Array, "B L"]) -> States:
        """The text encoder's last states, which the U-Net attends to."""
        return run(self.text_encoder, params["text_encoder"], ids)["states"]

    def posterior(self, params: Any, image: Images) -> tuple[Latents, Latents]:
        """Mean and standard deviation of the latents of images in [-1, 1], scaled as the U-Net was trained on them."""
        scaling, shift = self._latent_scale
        mean, std = run(self.vae, params["vae"], image, method=VAE.encode)
        return (mean - shift) * scaling, std * scaling

    def encode_image(self, params: Any, image: Images, keys: Key[Array, " B"] | None = None) -> Latents:
        """Images in [-1, 1] to latents, scaled to the unit variance that the U-Net was trained on.

        Args:
            keys: one an image, to draw from the VAE's posterior; None takes its mean.
        """
        mean, std = self.posterior(params, image)
        return mean if keys is None else mean + std * noise.normal_like(keys, mean.shape[1:])

    def decode_latent(self, params: Any, latent: Latents) -> Images:
        """Latents to images, float32, about [-1, 1]."""
        scaling, shift = self._latent_scale
        return run(self.vae, params["vae"], latent / scaling + shift, method=VAE.decode)

    @property
    def _latent_scale(self) -> tuple[float, float]:
        """What latents are multiplied with for the U-Net, and what is taken off before."""
        config = self.configs["vae"]
        return config.get("scaling_factor", 0.18215), config.get("shift_factor") or 0.0

    def denoiser(self, unet_params: Any, states: States) -> denoise.Denoiser:
        """`denoise(x, sigma) -> x0` on latents, conditional on text.

        Args:
            unet_params: of the U-Net alone. states: one a latent, as `encode_text` gives them.
        """
        wrap = denoise.precondition_eps if self.prediction == "epsilon" else denoise.precondition_v

        def net(x: Latents, timestep: Float[Array, " B"]) -> Latents:
            return run(self.unet, unet_params, x, timestep, states).astype(jnp.float32)

        return wrap(net, self.table)


@dataclass(frozen=True, eq=False)
class Loaded:
    """A pipeline with its parameters; equal to itself alone."""

    pipeline: StableDiffusion
    params: dict[str, Any]


def load(
    name: str,
    revision: str = "",
    variant: str = "",
    dtype: Dtype = jnp.float32,
    param_dtype: Any = np.float32,
    remat: bool = False,
    like: str = "",
) -> Loaded:
    """Loads a pipeline of Stable Diffusion 1.x or 2.x, without torch and without opening a pickle.

    Args:
        name: a folder in diffusers' layout, a pipeline that comes with the package, or OWNER/MODEL on the hub.
        revision: of the hub. variant: "fp16" and the like, where the files' names carry one.
        dtype: of the computation. param_dtype: of the parameters.
        remat: for its gradient the U-Net keeps what lies between its blocks alone and computes their inside again:
            a fraction of the memory for about a quarter more operations; the same answers.
        like: where `name` is a checkpoint in one file, the pipeline whose settings and tokenizer it has.
    Raises: ValueError: no such pipeline, another kind of one, or parts that do not fit; nothing is loaded halfway.
    """
    file = one_file(name, like)
    folder = find(like, revision, settings_alone=True) if file else find(name, revision, variant)
    check_kind(folder)
    if not file:
        check_variant(folder, variant)
    configs = {part: read_json(folder / part / "config.json") for part in _FILES}
    configs["scheduler"] = read_json(folder / "scheduler" / "scheduler_config.json")
    configs["model_index"] = read_json(folder / "model_index.json")
    tokenizer = open_tokenizer(folder / "tokenizer")
    pipeline = build(configs, tokenizer, dtype, remat)
    try:
        shapes = pipeline.parameter_shapes()
    except (TypeError, ValueError, ZeroDivisionError, OverflowError) as error:
        raise ValueError(f"The settings of {folder} allow no network: {error}. Fetch it again.") from error
    params = {}
    for part, stem in _FILES.items():
        if file:
            tensors, where = ldm.open_part(file, part, shapes[part]), file
        else:
            tensors, where = weights.open_tensors(folder / part, stem, variant), folder / part
        params[part] = weights.from_torch(tensors, shapes[part], where, param_dtype)
    return Loaded(pipeline, params)


def build(
    configs: dict[str, dict], tokenizer: Tokenizer, dtype: Dtype = jnp.float32, remat: bool = False
) -> StableDiffusion:
    """Builds the modules that the JSON files of a folder describe.

    Args:
        dtype: of the computation. remat: as in `load`.
    Raises: ValueError: settings that our networks cannot have, or parts that do not fit each other.
    """
    unet = UNet(**model_fields("unet", configs["unet"], UNet), dtype=jnp.dtype(dtype), remat=remat)
    vae = VAE(**model_fields("vae", configs["vae"], VAE), dtype=jnp.dtype(dtype))
    text = make_tower(TextTower, configs["text_encoder"], dtype=jnp.dtype(dtype))
    faults = []
    if unknown := sorted({*unet.down_block_types, *unet.up_block_types} - {*BLOCKS}):
        faults.append(f"blocks {unknown}, of which are known {', '.join(BLOCKS)}")
    if unet.addition_embed_type or not isinstance(unet.layers_per_block, int):
        faults.append(
            f"a U-Net of addition_embed_type {unet.addition_embed_type!r} and layers_per_block {unet.layers_per_block}"
        )
    if text.hidden_size != unet.cross_attention_dim:
        faults.append(f"text states of {text.hidden_size}, a U-Net that attends to {unet.cross_attention_dim}")
    if vae.latent_channels != unet.in_channels or unet.in_channels != unet.out_channels:
        faults.append(
            f"latents of {vae.latent_channels} channels, a U-Net from {unet.in_channels} to {unet.out_channels}"
        )
    if any(channels % unet.norm_num_groups for channels in unet.block_out_channels):
        faults.append(f"norms of {unet.norm_num_groups} groups, a U-Net of {unet.block_out_channels} channels")
    if len(tokenizer) > text.vocab_size:
        faults.append(f"a tokenizer of {len(tokenizer)} tokens, a text encoder that knows {text.vocab_size}")
    if faults:
        raise ValueError(f"The parts of this pipeline do not fit: {'; '.join(faults)}.")
    for name in ("scaling_factor", "shift_factor"):
        if type(value := configs["vae"].get(name) or 1.0) not in (int, float) or not 0 < abs(value) < 1e9:
            raise ValueError(f"vae/config.json: {name} is {value!r:.80}; allowed is a number.")
    table, prediction = noise_table(configs["scheduler"])
    return StableDiffusion(unet, vae, text, tokenizer, table, prediction, configs)


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
    for part, stem in _FILES.items():
        (folder / part).mkdir(parents=True)
        _write_json(folder / part / "config.json", pipeline.configs[part])
        tensors = weights.to_torch(lora.merged(loaded.params[part]))
        weights.save_tensors(tensors, folder / part / f"{stem}.safetensors", dtype)
    (folder / "scheduler").mkdir()
    _write_json(folder / "scheduler" / "scheduler_config.json", pipeline.configs["scheduler"])
    pipeline.tokenizer.save(folder / "tokenizer", pipeline.text_encoder.max_position_embeddings)
    # Last: a folder without it is no pipeline.
    _write_json(folder / "model_index.json", pipeline.configs["model_index"])


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")


@functools.lru_cache(maxsize=4)
def _parameter_shapes(pipeline: StableDiffusion) -> dict[str, Any]:
    """Kept, as tracing a U-Net takes a second or two."""
    unet, side, array = pipeline.unet, pipeline.factor, lambda shape: jax.ShapeDtypeStruct(shape, jnp.float32)
    latents = (1, *[2 ** (len(unet.block_out_channels) - 1)] * 2, unet.in_channels)
    x, t, states, image = map(array, (latents, (1,), (1, 1, unet.cross_attention_dim), (1, side, side, 3)))
    return {
        "unet": shapes_of(unet, x, t, states),
        "vae": shapes_of(pipeline.vae, image),
        "text_encoder": shapes_of(pipeline.text_encoder, jax.ShapeDtypeStruct((1, 1), jnp.int32)),
    }


@functools.lru_cache(maxsize=4)
def text_encoder(pipeline: StableDiffusion) -> Callable[[Any, Any], States]:
    """Compiles, once for each pipeline, (parameters of its text encoder, ids [B, L]) -> states."""
    return jax.jit(lambda params, ids: pipeline.encode_text({"text_encoder": params}, ids))
