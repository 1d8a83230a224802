"""Public networks as backbones: images in, features out, with the preprocessing that they were trained with."""

import dataclasses
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float

from jaxmoust.core.tree import digest
from jaxmoust.models import hub
from jaxmoust.models.classifiers.described import module_of
from jaxmoust.models.classifiers.preprocessing import Preprocessing, preprocessing_of
from jaxmoust.models.classifiers.pretrained import load_opened, num_outputs, open_layout, put_leaves, trained_side
from jaxmoust.models.classifiers.vit import ViT
from jaxmoust.models.translate import PICKLES

_WANTED = ["config.json", "preprocessor_config.json", "model.safetensors*", "model-*.safetensors"]


@dataclass(frozen=True, eq=False)
class Backbone:
    """A public network apart from its head; its methods are pure functions of its variables.

    Args:
        module: a `ViT` or `ResNet`; `module.clone(num_classes=K)` has the same backbone and another head.
        variables: {"params": ..., "stats": ...} in NumPy, on the host; the head is the file's, or has no outputs.
        preprocessing: what `features` expects of images.
        num_features: F.
        digest: of variables, module and preprocessing: what is computed with equal ones is equal.
        source: where it came from.
    """

    module: nn.Module
    variables: Any
    preprocessing: Preprocessing
    num_features: int
    digest: str
    source: str

    def features(self, variables: Any, images: Float[Array, "B S S 3"]) -> Float[Array, "B F"]:
        """The features, float32, that the head is linear in, of images in [0, 1] of S = preprocessing.image_px."""
        return self._apply(variables, images, method="features")

    def logits(self, variables: Any, images: Float[Array, "B S S 3"]) -> Float[Array, "B K"]:
        """The head's answers; K is 0 where the file has no head."""
        return self._apply(variables, images)

    def _apply(self, variables: Any, images: Array, **how: Any) -> Any:
        scaled = (images - jnp.array(self.preprocessing.mean)) / jnp.array(self.preprocessing.std)
        if isinstance(self.module, ViT):  # what is left beside whole patches is not seen
            height, width = (n - n % self.module.patch_px for n in scaled.shape[1:3])
            scaled = scaled[:, :height, :width]
        return self.module.apply({"params": variables["params"], "batch_stats": variables["stats"]}, scaled, **how)


def path_of(name: str | Path) -> Path:
    """Where a public network lies: the path that the name is, or what the hub has under it, which is fetched."""
    path = Path(name).expanduser()
    is_file = path.suffix in (".npz", ".safetensors", *PICKLES)  # timm's names on the hub have a dot, too
    return path if path.exists() or is_file else hub.fetch(str(name), _WANTED, "a backbone")


def load_backbone(
    name: str | Path, image_px: int = 0, pool: str = "", num_heads: int = 0, heads_field: str = ""
) -> Backbone:
    """Loads a public network without torch.

    Args:
        name: a .safetensors or .npz file, a folder with a model.safetensors, or a name on the Hugging Face hub.
        image_px: side of the images that it shall read; 0: as its preprocessing says. A ViT's positions are
            interpolated to it.
        pool: of a ViT's tokens, as its field; "": as the family's linear classifiers do, DINOv2's the class token's
            state, for which "token_gap" joins the mean over patches.
        num_heads: attention heads of a ViT; 0: as its file or the config.json beside it says.
        heads_field: the field of a configuration that gives num_heads, for errors; "": there is none.
    Raises: ValueError: nothing there, a pickle, another network, or weights that do not fit; all is named.
    """
    path = path_of(name)
    layout, arrays = open_layout(path, nn.Module)
    module: Any = module_of(layout, arrays, path, num_heads, heads_field)
    side = trained_side(layout, arrays, module, path) if isinstance(module, ViT) else 0
    preprocessing = preprocessing_of(path, layout, module, side)
    if side and image_px not in (0, preprocessing.image_px, side) and image_px % module.patch_px:
        low = image_px - image_px % module.patch_px
        sizes = f"{max(low, module.patch_px)} or {low + module.patch_px}"
        raise ValueError(f"got {image_px} px; {path} has patches of {module.patch_px} px, expected {sizes} px.")
    preprocessing = preprocessing.at(image_px)
    same_pool = pool in ("", module.pool) if isinstance(module, ViT) else True
    outputs = (num_outputs(layout, arrays) or 0) if same_pool else 0
    module = module.clone(num_classes=outputs, **({} if same_pool else {"pool": pool, "num_tokens": module.tokens}))
    seen = preprocessing.image_px - preprocessing.image_px % (module.patch_px if side else 1)
    pixels = jax.ShapeDtypeStruct((1, seen, seen, 3), jnp.float32)
    shapes = jax.eval_shape(module.init, jax.random.key(0), pixels)
    shapes = {"params": shapes["params"], "stats": shapes.get("batch_stats", {})}
    empty = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
    variables = jax.tree.map(np.asarray, put_leaves(empty, load_opened(layout, arrays, path, module, shapes)))
    content = digest(variables, f"{module!r} {preprocessing!r}")
    backbone = Backbone(module, variables, preprocessing, 0, content, str(name))
    num_features = jax.eval_shape(partial(backbone.features, variables), pixels).shape[1]
    return dataclasses.replace(backbone, num_features=num_features)
