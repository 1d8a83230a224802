"""CLIP, both towers, of a local folder in Hugging Face's layout: features of images and of texts, in Flax.

Radford et al. 2021 (2103.00020). The weights are read from .safetensors, strictly; nothing is fetched.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float, Int

from jaxmoust.models.stable_diffusion import weights
from jaxmoust.models.stable_diffusion.folder import read_json
from jaxmoust.models.stable_diffusion.hub_models import CLIPConfig, FlaxCLIPModule, open_tokenizer, run

# Of the pixels that CLIP was trained on, in [0, 1]; what a folder without preprocessor_config.json means.
_MEAN = (0.48145466, 0.4578275, 0.40821073)
_STD = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True, eq=False)
class Clip:
    """What a CLIP is, apart from its parameters; every method is a pure function of those.

    Args:
        module: both towers. folder: where it came from.
        image_px: side of the images it reads. mean, std: what brings their channels, in [0, 1], to its scale.
    """

    module: nn.Module
    folder: Path
    image_px: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def image_features(self, params: Any, image: Float[Array, "B S S 3"]) -> Float[Array, "B F"]:
        """The projected features of images in [-1, 1] of S = image_px, as they are: not scaled to length 1."""
        scaled = (image / 2 + 0.5 - jnp.array(self.mean)) / jnp.array(self.std)

        def of_image(module: nn.Module, x: Array) -> Array:
            return module.visual_projection(module.vision_model(pixel_values=x).pooler_output)

        return run(self.module, params, scaled, method=of_image).astype(jnp.float32)

    def text_features(self, params: Any, ids: Int[Array, "N L"]) -> Float[Array, "N F"]:
        """The projected features of texts, as `tokenize` gives them."""
        mask, position = jnp.ones_like(ids), jnp.broadcast_to(jnp.arange(ids.shape[1]), ids.shape)

        def of_text(module: nn.Module, x: Array) -> Array:
            states = module.text_model(input_ids=x, attention_mask=mask, position_ids=position)
            return module.text_projection(states.pooler_output)

        return run(self.module, params, ids, method=of_text).astype(jnp.float32)

    def logits(self, params: Any, images: Float[Array, "B F"], texts: Float[Array, "N F"]) -> Float[Array, "B N"]:
        """The scaled cosine of every image's and every text's features; its softmax over texts is p(text | image)."""
        images, texts = (x / jnp.linalg.norm(x, axis=-1, keepdims=True) for x in (images, texts))
        return jnp.exp(params["logit_scale"]) * images @ texts.T

    def tokenize(self, texts: Sequence[str]) -> Int[np.ndarray, "N L"]:
        """Turns texts into token numbers, padded to the length that the text tower reads.

        Raises: ValueError: a folder without CLIP's tokenizer, or a text that is too long.
        """
        tokenizer, length = open_tokenizer(self.folder), self.module.config.text_config.max_position_embeddings
        rows = tokenizer(list(texts)).input_ids
        for text, row in zip(texts, rows, strict=True):
            if len(row) > length:
                raise ValueError(f"The text {text!r} is {len(row)} tokens long; allowed are {length} with both ends.")
        # What follows the end token is not attended to by it, and its state is all that is read.
        return np.array([row + [row[-1]] * (length - len(row)) for row in rows], np.int32)


def load_clip(path: str | Path) -> tuple[Clip, Any]:
    """Loads a CLIP from a folder with config.json and model.safetensors: (it, its parameters in float32).

    Raises: ValueError: no such folder, another model, or weights that do not fit; every leaf is named.
    """
    folder = Path(path).expanduser()
    if not (folder / "config.json").is_file():
        raise ValueError(f"{folder} has no config.json. Give the folder of a CLIP in Hugging Face's layout.")
    settings = read_json(folder / "config.json")
    if settings.get("model_type") != "clip":
        raise ValueError(f"{folder} holds a {settings.get('model_type')!r}; allowed is 'clip', with both towers.")
    config = CLIPConfig(**settings)
    side = config.vision_config.image_size
    preprocessor = folder / "preprocessor_config.json"
    scale = read_json(preprocessor) if preprocessor.is_file() else {}
    mean, std = (tuple(scale.get(*pair)) for pair in (("image_mean", _MEAN), ("image_std", _STD)))
    clip = Clip(FlaxCLIPModule(config), folder, side, mean, std)
    ids = jnp.zeros((1, config.text_config.max_position_embeddings), jnp.int32)
    pixels = jnp.zeros((1, side, side, 3))
    shapes = jax.eval_shape(clip.module.init, jax.random.key(0), ids, pixels, jnp.ones_like(ids), ids)["params"]
    return clip, weights.from_torch(weights.open_tensors(folder, "model"), shapes, folder)
