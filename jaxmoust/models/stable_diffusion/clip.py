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

from jaxmoust.models.classifiers.backbone import Backbone, load_backbone
from jaxmoust.models.stable_diffusion import weights
from jaxmoust.models.stable_diffusion.folder import model_fields, read_json
from jaxmoust.models.stable_diffusion.layers import Part, attention, layer_norm, run, shapes_of
from jaxmoust.models.stable_diffusion.tokenizer import open_tokenizer

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
            x, penultimate = _layers(self, Part(embeddings, name="embeddings")(ids))
            return _norm(self, "final_layer_norm")(x), penultimate

        states, penultimate = Part(model, name="text_model")(ids)
        last = ids if self.eos_token_id == _LEGACY_END else ids == self.eos_token_id
        pooled = _projected(self, states[jnp.arange(len(ids)), jnp.argmax(last, axis=-1)], "text_projection")
        answer = {"states": states, "penultimate": penultimate, "pooled": pooled}
        return {name: x.astype(jnp.float32) for name, x in answer.items()}


def _layers(tower: Tower, x: Array) -> tuple[Array, Array]:
    """The answers of the last layer and of the one before it."""
    dense = partial(nn.Dense, dtype=tower.dtype)
    to_itself = partial(attention, tower.num_attention_heads, _NAMES, tower.dtype, bias=True, causal=True)

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
        text: the tower of texts. image: that of images. folder: where they came from.
    """

    text: TextTower
    image: Backbone
    folder: Path

    @property
    def image_px(self) -> int:
        """Side of the images it reads."""
        return self.image.preprocessing.image_px

    def image_features(self, params: Any, image: Float[Array, "B S S 3"]) -> Float[Array, "B F"]:
        """The projected features of images in [-1, 1] of S = image_px, as they are: not scaled to length 1."""
        return self.image.logits(params["image"], image / 2 + 0.5)

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
        raise ValueError(f"{folder} holds a {config.get('model_type')!r}, expected 'clip', with both towers.")
    width = config.get("projection_dim", 512)
    about = {**config.get("text_config", {}), **(config.get("text_config_dict") or {}), "projection_dim": width}
    text = make_tower(TextTower, about, project=True)
    tensors = weights.open_tensors(folder, "model")
    image = load_backbone(folder)
    if image.module.num_classes != width:
        raise ValueError(f"{folder} lacks a visual_projection to {width} numbers. Fetch it again.")
    shapes = shapes_of(text, jnp.zeros((1, 1), jnp.int32)) | {"logit_scale": jax.ShapeDtypeStruct((), jnp.float32)}
    of_text = {name: tensors[name] for name in tensors if name.startswith(("text_", "logit_scale"))}
    return Clip(text, image, folder), {**weights.from_torch(of_text, shapes, folder), "image": image.variables}


def make_tower(kind: type[Any], config: Mapping[str, Any], **how: Any) -> Any:
    """The tower that a config.json describes. Raises ValueError for an activation that it does not have."""
    tower = kind(**model_fields("clip", config, kind), **how)
    if tower.hidden_act not in ACTIVATIONS:
        raise ValueError(f"CLIP's hidden_act is {tower.hidden_act!r}, expected one of {', '.join(ACTIVATIONS)}.")
    return tower
