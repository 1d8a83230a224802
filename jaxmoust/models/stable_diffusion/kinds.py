"""The kinds of Stable Diffusion: 1.x and 2.x, XL, 3 and 3.5. Each answers the same questions in its own way.

A kind is what a pipeline is apart from its parameters, and every method is a pure function of those. They are one tree
with a branch for each part that the folder has weights of, {"unet": ..., "vae": ..., "text_encoder": ...}.
"""

import dataclasses
import functools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from jaxmoust.core.diffusion import denoise, noise
from jaxmoust.models.stable_diffusion import schedule
from jaxmoust.models.stable_diffusion.autoencoder import Autoencoder, latent_scale
from jaxmoust.models.stable_diffusion.clip import TextTower
from jaxmoust.models.stable_diffusion.folder import flow_schedule, noise_table
from jaxmoust.models.stable_diffusion.layers import run, shapes_of, stacked
from jaxmoust.models.stable_diffusion.mmdit import crop
from jaxmoust.models.stable_diffusion.tokenizer import Tokenizer
from jaxmoust.models.stable_diffusion.unet import BLOCKS
from jaxmoust.models.stable_diffusion.vae import VAE

Images = Float[Array, "B H W 3"]
Latents = Float[Array, "B h w C"]
Sigmas = Float[Array, " B"]
Text = Any
"""What the network reads of texts, a tree of arrays [B, ...]; of 1.x and 2.x, the states [B, L, D] themselves."""


@dataclass(frozen=True, eq=False)
class StableDiffusion:
    """Stable Diffusion 1.x and 2.x, and what the others have in common with them.

    Two pipelines are equal where their settings and vocabularies are, so that one compiled program serves a pipeline
    and what was fine-tuned of it.

    Args:
        modules: the networks, by part. tokenizers: the checkpoint's own, by the part that reads what they give.
        configs: the JSON files of the folder by part, as they were, to be written again.
        text_length: tokens that T5 reads of a text, if there is one.
    """

    modules: dict[str, Any]
    tokenizers: dict[str, Tokenizer]
    configs: dict[str, dict[str, Any]]
    text_length: int = 256

    NET: ClassVar[str] = "unet"
    READ: ClassVar[dict[str, tuple[str, ...]]] = {"text_encoder": ("states",)}
    """What is read of each text encoder's answer."""

    @functools.cached_property
    def settings(self) -> list[Any]:
        """All that decides what it computes, besides parameters and types, as JSON has it."""
        return [self.configs, self.tokenizer.get_vocab()]

    @functools.cached_property
    def _content(self) -> str:
        how = [self.net.remat, self.net.scan, *(str(module.dtype) for module in self.modules.values())]
        return json.dumps([how, self.settings], sort_keys=True)

    def __eq__(self, other: object) -> bool:
        """Whether both compute the same function of parameters, prompts and images."""
        return isinstance(other, StableDiffusion) and self._content == other._content

    def __hash__(self) -> int:
        """Agrees with `__eq__`."""
        return hash(self._content)

    @property
    def net(self) -> Any:
        """The network that is asked at every step."""
        return self.modules[self.NET]

    @property
    def unet(self) -> Any:
        """The same, of the kinds whose network is a U-Net."""
        return self.modules["unet"]

    @property
    def vae(self) -> VAE:
        """What turns images into latents, and back."""
        return self.modules["vae"]

    @property
    def text_encoder(self) -> TextTower:
        """The first that reads texts."""
        return self.modules["text_encoder"]

    @property
    def tokenizer(self) -> Tokenizer:
        """Of the first text encoder."""
        return self.tokenizers["text_encoder"]

    @property
    def towers(self) -> tuple[str, ...]:
        """CLIP's parts, which may be trained."""
        return tuple(part for part in self.tokenizers if isinstance(self.modules[part], TextTower))

    @property
    def factor(self) -> int:
        """Pixels of an image to a side of one latent."""
        return self.autoencoder.factor

    @property
    def image_px(self) -> int:
        """The size the network was trained for."""
        return self.net.sample_size * self.factor

    @functools.cached_property
    def _schedule(self) -> tuple[np.ndarray, str]:
        return noise_table(self.configs["scheduler"])

    @property
    def table(self) -> np.ndarray:
        """The noise level of each timestep, float64 [T], ascending."""
        return self._schedule[0]

    @property
    def prediction(self) -> str:
        """What the network predicts: "epsilon" or "v_prediction"."""
        return self._schedule[1]

    def faults(self) -> list[str]:
        """What of its parts does not fit together."""
        net, vae = self.net, self.vae
        faults = []
        if unknown := sorted({*net.down_block_types, *net.up_block_types} - {*BLOCKS}):
            faults.append(f"blocks {unknown}, of which are known {', '.join(BLOCKS)}")
        if net.addition_embed_type != self._added or not isinstance(net.layers_per_block, int):
            faults.append(
                f"a U-Net of addition_embed_type {net.addition_embed_type!r} and layers_per_block "
                f"{net.layers_per_block}"
            )
        if (width := sum(self.modules[part].hidden_size for part in self.READ)) != net.cross_attention_dim:
            faults.append(f"text states of {width}, a U-Net that attends to {net.cross_attention_dim}")
        if vae.latent_channels != net.in_channels or net.in_channels != net.out_channels:
            faults.append(
                f"latents of {vae.latent_channels} channels, a U-Net from {net.in_channels} to {net.out_channels}"
            )
        if any(channels % net.norm_num_groups for channels in net.block_out_channels):
            faults.append(f"norms of {net.norm_num_groups} groups, a U-Net of {net.block_out_channels} channels")
        return faults

    _added: ClassVar[str | None] = None

    def parameter_shapes(self) -> dict[str, Any]:
        """The tree of parameters as `jax.ShapeDtypeStruct`s; nothing is computed."""
        return jax.tree.map(lambda leaf: leaf, _parameter_shapes(self))  # a tree of the caller's own

    def inputs(self) -> tuple[Any, ...]:
        """What the network reads, as `jax.ShapeDtypeStruct`s, of the smallest size."""
        side, net = 2 ** (len(self.net.block_out_channels) - 1), self.net
        return (_array(1, side, side, net.in_channels), _array(1), _array(1, 1, net.cross_attention_dim))

    def latent_shape(self, image_px: int) -> tuple[int, int, int]:
        """(h, w, channels) of the latents of square images.

        Raises: ValueError: a size that the VAE, or then the network, cannot divide as often as it does.
        """
        step, most = self._step
        if image_px < step or image_px % step or image_px > most:
            raise ValueError(
                f"Images of {image_px} px do not fit this pipeline: expected multiples of {step}, such as "
                f"{min(max(1, image_px // step) * step, most):.0f}. It was trained at {self.image_px}."
            )
        return image_px // self.factor, image_px // self.factor, self.net.in_channels

    @property
    def _step(self) -> tuple[int, float]:
        """The pixels that sides are multiples of, and the most."""
        return self.factor * 2 ** (len(self.net.block_out_channels) - 1), math.inf

    def sigmas(self, num_steps: int) -> Float[np.ndarray, " {num_steps}+1"]:
        """The descending noise levels of sampling: those of the checkpoint's scheduler, then 0."""
        return schedule.levels(self.configs["scheduler"], self.table, num_steps, self._steps_offset)

    @property
    def _steps_offset(self) -> int:
        """Torch's pipelines of 1.x and 2.x take 1, whatever the file says."""
        return 1

    @staticmethod
    def num_kept(num_steps: int, strength: float) -> int:
        """How many of N steps are left to take from an image with noise: int(N * strength), as torch's pipelines do."""
        return int(num_steps * strength)

    def sample_sigma(self, keys: Key[Array, " B"]) -> Sigmas:
        """Draws the noise levels of training."""
        return noise.uniform_sigma(keys, self.table)

    def weight(self, sigma: Sigmas, min_snr: float = 0.0) -> Sigmas:
        """The weight of the error in x0 that makes it the error of what the network predicts, bounded by min_snr."""
        snr = 1 / jnp.square(sigma)
        bounded = jnp.minimum(snr, min_snr) if min_snr else snr
        if self.prediction == "epsilon":
            return denoise.eps_weight(sigma) * bounded / snr
        return denoise.v_weight(sigma) * (bounded / (snr + 1) if min_snr else 1.0)

    def tokenize(self, prompts: Sequence[str]) -> Any:
        """Turns prompts into token numbers, padded as the checkpoint pads: [N, L], of several encoders by part.

        Raises: ValueError: a prompt that is longer than a text encoder reads; nothing is cut off unsaid.
        """
        ids = {part: read(prompts, self.length(part)) for part, read in self.tokenizers.items()}
        return ids if len(self.READ) > 1 else ids["text_encoder"]

    def length(self, part: str) -> int:
        """Tokens that a text encoder reads."""
        return getattr(self.modules[part], "max_position_embeddings", self.text_length)

    def encode_text(self, params: Any, ids: Any) -> Text:
        """What the network reads of texts, as `tokenize` gives them."""
        return self.join({part: self.encode_part(part, params[part], of) for part, of in self.by_part(ids).items()})

    @staticmethod
    def by_part(ids: Any) -> Mapping[str, Array]:
        """Token numbers by the encoder that reads them."""
        return ids if isinstance(ids, Mapping) else {"text_encoder": ids}

    def encode_part(self, part: str, params: Any, ids: Int[Array, "B L"]) -> dict[str, Array]:
        """What is read of one text encoder's answer."""
        answer = run(self.modules[part], params, ids)
        return {name: answer[name] for name in self.READ[part]}

    def join(self, answers: Mapping[str, Mapping[str, Array]]) -> Text:
        """The answers of all text encoders as the network reads them."""
        return answers["text_encoder"]["states"]

    def posterior(self, params: Any, image: Images) -> tuple[Latents, Latents]:
        """Mean and standard deviation of the latents of images in [-1, 1], scaled as the network was trained on."""
        return self.autoencoder.posterior(params["vae"], image)

    def encode_image(self, params: Any, image: Images, keys: Key[Array, " B"] | None = None) -> Latents:
        """Images in [-1, 1] to latents, scaled to the unit variance that the network was trained on.

        Args:
            keys: one an image, to draw from the VAE's posterior; None takes its mean.
        """
        mean, std = self.posterior(params, image)
        return mean if keys is None else mean + std * noise.normal_like(keys, mean.shape[1:])

    def decode_latent(self, params: Any, latent: Latents) -> Images:
        """Latents to images, float32, about [-1, 1]."""
        return self.autoencoder.decode(params["vae"], latent)

    @property
    def autoencoder(self) -> Autoencoder:
        """The VAE with the scale of latents that the network was trained on."""
        return Autoencoder(self.vae, *latent_scale(self.configs["vae"]))

    def net_params(self, params: Any, image_px: int) -> dict[str, Any]:
        """What `denoiser` reads of the parameters, for images of one size."""
        return {self.NET: params[self.NET]}

    def denoiser(self, params: Any, text: Text) -> denoise.Denoiser:
        """`denoise(x, sigma) -> x0` on latents, conditional on text.

        Args:
            params: at least `net_params`. text: one a latent, as `encode_text` gives them.
        """

        def net(x: Latents, timestep: Float[Array, " B"]) -> Latents:
            return run(self.net, params[self.NET], x, timestep, *self._read(x, text)).astype(jnp.float32)

        wrap = denoise.precondition_eps if self.prediction == "epsilon" else denoise.precondition_v
        return wrap(net, self.table)

    def stacked(self, params: Any) -> tuple["StableDiffusion", Any]:
        """A pipeline that compiles equal blocks once, and `net_params` for it; itself where that gains nothing.

        Stacked leaves are made where they are placed, one after the other: see `layers.Stack`.
        """
        try:
            tree = stacked(params[self.NET])
        except ValueError:  # of adapters that differ
            return self, params
        if len(jax.tree.leaves(tree)) == len(jax.tree.leaves(params[self.NET])):
            return self, params
        scanning = {**self.modules, self.NET: self.net.clone(scan=True)}
        return dataclasses.replace(self, modules=scanning), {**params, self.NET: tree}

    def _read(self, x: Latents, text: Text) -> tuple[Any, ...]:
        """The network's arguments besides latents and time."""
        return (text,)


class StableDiffusionXL(StableDiffusion):
    """Stable Diffusion XL (Podell et al. 2023, 2307.01952): two text encoders, and the image's sizes as a condition.

    Text is {"states": [B, L, D], "pooled": [B, P]}. The empty prompt is zeros, which the base model was trained on, but
    where model_index.json says otherwise.
    """

    READ = {"text_encoder": ("penultimate",), "text_encoder_2": ("penultimate", "pooled")}
    _added = "text_time"

    @functools.cached_property
    def settings(self) -> list[Any]:
        """As of 1.x, of all tokenizers."""
        return [self.configs, {part: read.get_vocab() for part, read in self.tokenizers.items()}, self.text_length]

    @property
    def _steps_offset(self) -> int:
        return self.configs["scheduler"].get("steps_offset", 0)

    def inputs(self) -> tuple[Any, ...]:
        """As of 1.x, and the text as a whole and six sizes."""
        pooled = self.modules["text_encoder_2"].projection_dim
        return *super().inputs(), (_array(1, pooled), _array(1, 6))

    def encode_part(self, part: str, params: Any, ids: Int[Array, "B L"]) -> dict[str, Array]:
        """As of 1.x; zeros for texts that end where they begin."""
        answer = super().encode_part(part, params, ids)
        if not self.configs["model_index"].get("force_zeros_for_empty_prompt", True):
            return answer
        tokenizer = self.tokenizers[part]
        kept = ids[:, 1] != tokenizer.id_of(tokenizer.settings["eos_token"])
        return {name: jnp.where(kept.reshape(-1, *[1] * (x.ndim - 1)), x, 0) for name, x in answer.items()}

    def join(self, answers: Mapping[str, Mapping[str, Array]]) -> Text:
        """Both encoders' states side by side."""
        first, second = answers.values()
        states = jnp.concatenate([first["penultimate"], second["penultimate"]], axis=-1)
        return {"states": states.astype(self.net.dtype), "pooled": second["pooled"]}

    def _read(self, x: Latents, text: Text) -> tuple[Any, ...]:
        """Images are said to be of the size that is sampled, and whole."""
        height, width = (side * self.factor for side in x.shape[1:3])
        sizes = jnp.array([height, width, 0, 0, height, width], jnp.float32)
        return text["states"], (text["pooled"], jnp.broadcast_to(sizes, (len(x), 6)))


class StableDiffusion3(StableDiffusionXL):
    """Stable Diffusion 3 and 3.5 (Esser et al. 2024, 2403.03206): a flow, an MMDiT, two towers of CLIP, and T5.

    Text is as of XL. A folder without T5 has zeros in the place of its states. The parameters have a branch "position"
    [1, G * G, D], a table that transformer/ holds and that is nothing to train.
    """

    NET = "transformer"
    READ = {
        "text_encoder": ("penultimate", "pooled"),
        "text_encoder_2": ("penultimate", "pooled"),
        "text_encoder_3": ("states",),
    }

    def faults(self) -> list[str]:
        """What of its parts does not fit together."""
        net, towers = self.net, [self.modules[part] for part in self.towers]
        faults = []
        if net.qk_norm not in (None, "rms_norm") or net.caption_projection_dim != net.width:
            faults.append(f"a transformer of qk_norm {net.qk_norm!r}, of tokens {net.caption_projection_dim} and")
            faults[-1] += f" {net.width} wide"
        if sum(tower.projection_dim for tower in towers) != net.pooled_projection_dim:
            faults.append(f"texts as a whole of {[tower.projection_dim for tower in towers]} numbers")
            faults[-1] += f", a transformer that reads {net.pooled_projection_dim}"
        widths = [sum(tower.hidden_size for tower in towers)]
        widths += [self.modules[part].d_model for part in self.tokenizers if part not in self.towers]
        if widths[0] > net.joint_attention_dim or {*widths[1:]} - {net.joint_attention_dim}:
            faults.append(f"text states of {widths}, a transformer that attends to {net.joint_attention_dim}")
        if {self.vae.latent_channels, net.out_channels} != {net.in_channels}:
            faults.append(f"latents of {self.vae.latent_channels} channels, a transformer from {net.in_channels} to")
            faults[-1] += f" {net.out_channels}"
        for encoder in (self.modules[part] for part in self.tokenizers if part not in self.towers):
            if encoder.feed_forward_proj != "gated-gelu":
                faults.append(
                    f"a T5 of feed_forward_proj {encoder.feed_forward_proj!r}, of which is known 'gated-gelu'"
                )
        if net.dtype == jnp.float16:
            faults.append("float16, which T5 and the transformer overflow: take bfloat16")
        return faults

    def inputs(self) -> tuple[Any, ...]:
        """One patch."""
        p, net = self.net.patch_size, self.net
        latents, text = _array(1, p, p, net.in_channels), (_array(1, 1, net.joint_attention_dim),)
        return latents, _array(1), *text, _array(1, net.pooled_projection_dim), _array(1, net.width)

    @property
    def _step(self) -> tuple[int, float]:
        step = self.factor * self.net.patch_size
        return step, step * self.net.pos_embed_max_size

    def sigmas(self, num_steps: int) -> Float[np.ndarray, " {num_steps}+1"]:
        """The descending noise levels of sampling, then 0."""
        return noise.flow_sigmas(num_steps, *flow_schedule(self.configs["scheduler"]))

    @staticmethod
    def num_kept(num_steps: int, strength: float) -> int:
        """As of 1.x, but part of a step is taken whole, as torch's pipeline of 3 does."""
        return num_steps - int(num_steps - num_steps * strength)

    def sample_sigma(self, keys: Key[Array, " B"]) -> Sigmas:
        """Draws the noise levels of training: logit-normal times, shifted as the checkpoint is (Eq. 19)."""
        return noise.lognormal_sigma(keys, math.log(flow_schedule(self.configs["scheduler"])[0]), 1.0)

    def weight(self, sigma: Sigmas, min_snr: float = 0.0) -> Sigmas:
        """As of 1.x, of the velocity."""
        return jnp.minimum(1 / jnp.square(sigma), min_snr) if min_snr else denoise.flow_weight(sigma)

    def encode_part(self, part: str, params: Any, ids: Int[Array, "B L"]) -> dict[str, Array]:
        """As of 1.x: the empty prompt is a prompt."""
        return StableDiffusion.encode_part(self, part, params, ids)

    def join(self, answers: Mapping[str, Mapping[str, Array]]) -> Text:
        """CLIP's states side by side, padded to T5's width; T5's come after them."""
        towers, width = [answers[part] for part in self.towers], self.net.joint_attention_dim
        states = jnp.concatenate([tower["penultimate"] for tower in towers], axis=-1)
        states = jnp.pad(states, ((0, 0), (0, 0), (0, width - states.shape[-1])))
        none = {"states": jnp.zeros((len(states), self.text_length, width))}
        states = jnp.concatenate([states, answers.get("text_encoder_3", none)["states"]], axis=1)
        pooled = jnp.concatenate([tower["pooled"] for tower in towers], axis=-1)
        return {"states": states.astype(self.net.dtype), "pooled": pooled}

    def net_params(self, params: Any, image_px: int) -> dict[str, Any]:
        """The transformer, and the positions of that size alone."""
        position = crop(self.net, params["position"], *self.latent_shape(image_px)[:2])
        return {"transformer": params["transformer"], "position": position}

    def denoiser(self, params: Any, text: Text) -> denoise.Denoiser:
        """As of 1.x, by the velocity."""

        def net(x: Latents, timestep: Float[Array, " B"]) -> Latents:
            table = params["position"]
            position = table if table.ndim == 2 else crop(self.net, table, *x.shape[1:3])
            given: tuple[Any, ...] = (x, timestep, text["states"], text["pooled"], position)
            return run(self.net, params["transformer"], *given).astype(jnp.float32)

        return denoise.precondition_flow(net, flow_schedule(self.configs["scheduler"])[1])


def _array(*shape: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, jnp.float32)


@functools.lru_cache(maxsize=4)
def _parameter_shapes(pipeline: StableDiffusion) -> dict[str, Any]:
    """Kept, as tracing a network takes a second or two."""
    image, net = _array(1, pipeline.factor, pipeline.factor, 3), pipeline.net
    shapes = {pipeline.NET: shapes_of(net, *pipeline.inputs()), "vae": shapes_of(pipeline.vae, image)}
    position = {} if pipeline.NET == "unet" else {"position": _array(1, net.pos_embed_max_size**2, net.width)}
    ids = jax.ShapeDtypeStruct((1, 1), jnp.int32)
    return shapes | position | {part: shapes_of(pipeline.modules[part], ids) for part in pipeline.tokenizers}
