"""CLIP, both towers (Radford et al. 2021, 2103.00020): of text for Stable Diffusion, of both for scores and features.

A whole CLIP lies in a local folder in Hugging Face's layout; its weights are read from .safetensors, strictly, and
nothing is fetched.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax.typing import Dtype
from jaxtyping import Array, Float, Int

from jaxmoust.models.stable_diffusion import weights
from jaxmoust.models.stable_diffusion.folder import model_fields, read_json
from jaxmoust.models.stable_diffusion.layers import Part, attention, layer_norm, run, shapes_of
from jaxmoust.models.stable_diffusion.tokenizer import open_tokenizer

# Of the pixels that CLIP was trained on, in [0, 1]; what a folder without preprocessor_config.json means.
_MEAN = (0.48145466, 0.4578275, 0.40821073)
_STD = (0.26862954, 0.26130258, 0.27577711)
ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "quick_gelu": lambda x: x * nn.sigmoid(1.702 * x),
    "gelu": partial(nn.gelu, approximate=False),
}
_LEGACY_END = 2  # what the first files call the token that ends a text, which is the highest of theirs
_NAMES = ("q_proj", "k_proj", "v_proj", "out_proj")


class Tower(nn.Module):
    """What both towers have; fields are those of their config.json, and `project` whether the answer is projected."""

    hidden_size: int = 512
    intermediate_size: int = 2048
    projection_dim: int = 512
    num_hidden_layers: int = 12
    num_attention_heads: int = 8
    hidden_act: str = "quick_gelu"
    layer_norm_eps: float = 1e-5
    project: bool = False
    dtype: Dtype = jnp.float32


class TextTower(Tower):
    """Texts to states: CLIP's text encoder, of the kinds L, H and bigG."""

    vocab_size: int = 49_408
    max_position_embeddings: int = 77
    eos_token_id: int = 49_407

    @nn.compact
    def __call__(self, ids: Int[Array, "B L"]) -> dict[str, Array]:
        """States of texts, float32.

        Returns: `states` [B, L, D] of the last layer, normed, `penultimate` [B, L, D] of the one before it, not
            normed, and `pooled` [B, D or P], the former where each text ends, projected if there is a projection.
        """
        embed = partial(nn.Embed, features=self.hidden_size, dtype=self.dtype)

        def embeddings(ids: Array) -> Array:
            position = embed(self.max_position_embeddings, name="position_embedding")(jnp.arange(ids.shape[1]))
            return embed(self.vocab_size, name="token_embedding")(ids) + position

        def model(ids: Array) -> tuple[Array, Array]:
            x, penultimate = _layers(self, Part(embeddings, name="embeddings")(ids), causal=True)
            return _norm(self, "final_layer_norm")(x), penultimate

        states, penultimate = Part(model, name="text_model")(ids)
        last = ids if self.eos_token_id == _LEGACY_END else ids == self.eos_token_id
        pooled = _projected(self, states[jnp.arange(len(ids)), jnp.argmax(last, axis=-1)], "text_projection")
        answer = {"states": states, "penultimate": penultimate, "pooled": pooled}
        return {name: x.astype(jnp.float32) for name, x in answer.items()}


class ImageTower(Tower):
    """Images to the state of a token beside their patches, projected if there is a projection."""

    hidden_size: int = 768
    intermediate_size: int = 3072
    num_attention_heads: int = 12
    image_size: int = 224
    patch_size: int = 32

    @nn.compact
    def __call__(self, image: Float[Array, "B S S 3"]) -> Float[Array, "B F"]:
        """Features of images of S = image_size, as they are: not scaled to length 1."""

        def model(image: Array) -> Array:
            x = _norm(self, "pre_layrnorm")(
                _Patches(self.hidden_size, self.patch_size, self.dtype, name="embeddings")(image)
            )
            return _norm(self, "post_layernorm")(_layers(self, x, causal=False)[0][:, 0])

        pooled = Part(model, name="vision_model")(image)
        return _projected(self, pooled, "visual_projection").astype(jnp.float32)


class _Patches(nn.Module):
    width: int
    side: int
    dtype: Dtype

    @nn.compact
    def __call__(self, image: Array) -> Array:
        cut = partial(nn.Conv, use_bias=False, padding="VALID", dtype=self.dtype, name="patch_embedding")
        own = self.param("class_embedding", nn.initializers.normal(0.02), (self.width,)).astype(self.dtype)
        x = cut(self.width, *[(self.side, self.side)] * 2)(image).reshape(len(image), -1, self.width)
        x = jnp.concatenate([jnp.broadcast_to(own, (len(x), 1, self.width)), x], axis=1)
        position = nn.Embed(x.shape[1], self.width, dtype=self.dtype, name="position_embedding")
        return x + position(jnp.arange(x.shape[1]))


def _layers(tower: Tower, x: Array, causal: bool) -> tuple[Array, Array]:
    """The answers of the last layer and of the one before it."""
    dense = partial(nn.Dense, dtype=tower.dtype)
    to_itself = partial(attention, tower.num_attention_heads, _NAMES, tower.dtype, bias=True, causal=causal)

    def mlp(x: Array) -> Array:
        h = ACTIVATIONS[tower.hidden_act](dense(tower.intermediate_size, name="fc1")(x))
        return dense(x.shape[-1], name="fc2")(h)

    def layer(x: Array) -> Array:
        h = _norm(tower, "layer_norm1")(x)
        x = x + Part(to_itself, name="self_attn")(h, h)
        return x + Part(mlp, name="mlp")(_norm(tower, "layer_norm2")(x))

    def layers(x: Array) -> tuple[Array, Array]:
        before = x
        for i in range(tower.num_hidden_layers):
            before, x = x, Part(layer, name=str(i))(x)
        return x, before

    return Part(lambda x: Part(layers, name="layers")(x), name="encoder")(x)


def _norm(tower: Tower, name: str) -> nn.LayerNorm:
    return layer_norm(epsilon=tower.layer_norm_eps, dtype=tower.dtype, name=name)


def _projected(tower: Tower, x: Array, name: str) -> Array:
    return nn.Dense(tower.projection_dim, use_bias=False, dtype=tower.dtype, name=name)(x) if tower.project else x


@dataclass(frozen=True, eq=False)
class Clip:
    """What a CLIP is, apart from its parameters; every method is a pure function of those.

    Args:
        text, image: the towers. folder: where it came from.
        mean, std: what brings the channels of images, in [0, 1], to its scale.
    """

    text: TextTower
    image: ImageTower
    folder: Path
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def image_px(self) -> int:
        """Side of the images it reads."""
        return self.image.image_size

    def image_features(self, params: Any, image: Float[Array, "B S S 3"]) -> Float[Array, "B F"]:
        """The projected features of images in [-1, 1] of S = image_px, as they are: not scaled to length 1."""
        scaled = (image / 2 + 0.5 - jnp.array(self.mean)) / jnp.array(self.std)
        return run(self.image, params, scaled)

    def text_features(self, params: Any, ids: Int[Array, "N L"]) -> Float[Array, "N F"]:
        """The projected features of texts, as `tokenize` gives them."""
        return run(self.text, params, ids)["pooled"]

    def logits(self, params: Any, images: Float[Array, "B F"], texts: Float[Array, "N F"]) -> Float[Array, "B N"]:
        """The scaled cosine of every image's and every text's features; its softmax over texts is p(text | image)."""
        images, texts = (x / jnp.linalg.norm(x, axis=-1, keepdims=True) for x in (images, texts))
        return jnp.exp(params["logit_scale"]) * images @ texts.T

    def tokenize(self, texts: Sequence[str]) -> Int[np.ndarray, "N L"]:
        """Turns texts into token numbers, padded to the length that the text tower reads.

        Raises: ValueError: a folder without CLIP's tokenizer, or a text that is too long.
        """
        return open_tokenizer(self.folder)(texts, self.text.max_position_embeddings)


def load_clip(path: str | Path) -> tuple[Clip, Any]:
    """Loads a CLIP from a folder with config.json and model.safetensors: (it, its parameters in float32).

    Raises: ValueError: no such folder, another model, or weights that do not fit; every leaf is named.
    """
    folder = Path(path).expanduser()
    if not (folder / "config.json").is_file():
        raise ValueError(f"{folder} has no config.json. Give the folder of a CLIP in Hugging Face's layout.")
    config = read_json(folder / "config.json")
    if config.get("model_type") != "clip":
        raise ValueError(f"{folder} holds a {config.get('model_type')!r}; allowed is 'clip', with both towers.")
    width = {"projection_dim": config.get("projection_dim", 512)}
    text, image = (
        make_tower(kind, {**config.get(part, {}), **(config.get(f"{part}_dict") or {}), **width}, project=True)
        for part, kind in (("text_config", TextTower), ("vision_config", ImageTower))
    )
    preprocessor = folder / "preprocessor_config.json"
    scale = read_json(preprocessor) if preprocessor.is_file() else {}
    mean, std = (tuple(scale.get(*pair)) for pair in (("image_mean", _MEAN), ("image_std", _STD)))
    clip = Clip(text, image, folder, mean, std)
    pixels = jnp.zeros((1, image.image_size, image.image_size, 3))
    shapes = {**shapes_of(text, jnp.zeros((1, 1), jnp.int32)), **shapes_of(image, pixels)}
    shapes["logit_scale"] = jax.ShapeDtypeStruct((), jnp.float32)
    return clip, weights.from_torch(weights.open_tensors(folder, "model"), shapes, folder)


def make_tower(kind: type[Any], config: Mapping[str, Any], **how: Any) -> Any:
    """The tower that a config.json describes. Raises ValueError for an activation that it does not have."""
    tower = kind(**model_fields("clip", config, kind), **how)
    if tower.hidden_act not in ACTIVATIONS:
        raise ValueError(f"CLIP's hidden_act is {tower.hidden_act!r}; allowed are {', '.join(ACTIVATIONS)}.")
    return tower
