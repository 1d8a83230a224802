"""A public network with a head for classes of one's own: how a backbone becomes a classifier."""

import functools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.typing import Dtype
from jaxtyping import Array, Float, Key

from jaxmoust.core.tree import named_leaves
from jaxmoust.models.classifiers.backbone import Backbone, load_backbone
from jaxmoust.models.classifiers.preprocessing import Preprocessing


class Headed(nn.Module):
    """A backbone, whose images are preprocessed as its publisher did, and a linear head.

    It is evaluated on images that its `preprocessing` has prepared. Images of another side, as those it is trained on
    may be, are resampled to its own; grey ones become three equal channels.

    Args:
        weights: of the backbone: a folder, a file, or a name on the hub.
        network: the backbone's own.
        preprocessing: of the backbone.
        num_classes: width of the logits.
        image_px: side that the network reads; 0: as it was trained. A ViT's positions are interpolated to it.
        pool: of a ViT's tokens, see `load_backbone`; "": as the family's linear classifiers do.
        num_heads: attention heads of a ViT whose file and config.json do not say it; 0: as they say.
        dtype: of the network's computation.
        axis_name: the mapped axis over which batch statistics are averaged.
    """

    weights: str
    network: nn.Module
    preprocessing: Preprocessing
    num_classes: int
    image_px: int = 0
    pool: str = ""
    num_heads: int = 0
    dtype: Dtype = jnp.float32
    axis_name: str | None = None

    def setup(self) -> None:
        """Builds the layers; a head that starts at 0 says nothing."""
        self.backbone = self.network.clone(dtype=self.dtype, axis_name=self.axis_name, parent=None)
        self.head = nn.Dense(self.num_classes, kernel_init=nn.initializers.zeros)

    def features(
        self, x: Float[Array, "B H W C"], train: bool = False, keys: Key[Array, " B"] | None = None
    ) -> Float[Array, "B F"]:
        """Returns the backbone's features, float32, of images in [-1, 1]."""
        x = jnp.broadcast_to(x / 2 + 0.5, (*x.shape[:3], 3))
        if x.shape[1:3] != (self.image_px, self.image_px):
            x = jnp.clip(jax.image.resize(x, (len(x), self.image_px, self.image_px, 3), "cubic"), 0, 1)
        scaled = (x - jnp.array(self.preprocessing.mean)) / jnp.array(self.preprocessing.std)
        return self.backbone.features(scaled, train, keys)

    def __call__(
        self, x: Float[Array, "B H W C"], train: bool = False, keys: Key[Array, " B"] | None = None
    ) -> Float[Array, "B num_classes"]:
        """Returns logits, float32; see `features`."""
        return self.head(self.features(x, train, keys))


def loaded(weights: str, image_px: int = 0, pool: str = "", num_heads: int = 0) -> Backbone:
    """Loads a backbone, once for as long as its files are the same."""
    here = Path(weights).expanduser()
    files = sorted(here.iterdir()) if here.is_dir() else [here] if here.exists() else []
    facts = tuple((str(file), file.stat().st_mtime_ns, file.stat().st_size) for file in files)
    return _loaded(weights, image_px, pool, num_heads, facts)


@functools.lru_cache(maxsize=4)
def _loaded(weights: str, image_px: int, pool: str, num_heads: int, facts: tuple) -> Backbone:
    return load_backbone(weights, image_px, pool, num_heads, "config.model.num_heads")


def with_head(
    weights: str, num_classes: int, image_px: int = 0, pool: str = "", num_heads: int = 0, **given: Any
) -> Headed:
    """Puts a head for so many classes on a backbone. Raises: as `load_backbone`."""
    backbone = loaded(weights, image_px, pool, num_heads)
    seen = backbone.preprocessing
    return Headed(weights, backbone.module, seen, num_classes, seen.image_px, pool, num_heads, **given)


def leaves_of(model: Headed, shapes: Any) -> dict[str, Any]:
    """The leaves of a model's backbone under the names that it has them by, without the backbone's own head."""
    backbone = loaded(model.weights, model.image_px, model.pool, model.num_heads)
    leaves = {name.replace("/", "/backbone/", 1): leaf for name, leaf in named_leaves(backbone.variables).items()}
    return {name: leaves[name] for name in named_leaves(shapes) if "/backbone/" in name}
