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


class Headed(nn.Module):
    """A backbone, which sees images as its publisher prepared them, and a linear head.

    Images of another side than the backbone's are resampled to that; grey ones become three equal channels.

    Args:
        weights: of the backbone: a folder, a file, or a name on the hub.
        network: the backbone's own.
        mean, std: of each channel, of pixels in [0, 1].
        image_px: side that the network reads.
        num_classes: width of the logits.
        dtype: of the network's computation.
        axis_name: the mapped axis over which batch statistics are averaged.
    """

    weights: str
    network: nn.Module
    mean: tuple[float, ...]
    std: tuple[float, ...]
    image_px: int
    num_classes: int
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
        return self.backbone.features((x - jnp.array(self.mean)) / jnp.array(self.std), train, keys)

    def __call__(
        self, x: Float[Array, "B H W C"], train: bool = False, keys: Key[Array, " B"] | None = None
    ) -> Float[Array, "B num_classes"]:
        """Returns logits, float32; see `features`."""
        return self.head(self.features(x, train, keys))


def loaded(weights: str) -> Backbone:
    """Loads a backbone, once for as long as its files are the same."""
    here = Path(weights).expanduser()
    files = sorted(here.iterdir()) if here.is_dir() else [here] if here.exists() else []
    return _loaded(weights, tuple((str(file), file.stat().st_mtime_ns, file.stat().st_size) for file in files))


@functools.lru_cache(maxsize=1)
def _loaded(weights: str, facts: tuple) -> Backbone:
    return load_backbone(weights)


def with_head(backbone: Backbone, weights: str, num_classes: int, **given: Any) -> Headed:
    """Puts a head for so many classes on a backbone."""
    seen = backbone.preprocessing
    return Headed(weights, backbone.module, seen.mean, seen.std, seen.image_px, num_classes, **given)


def leaves_of(backbone: Backbone, shapes: Any) -> dict[str, Any]:
    """A backbone's leaves under the names that `Headed` has them by, without its own head, fit for its shapes."""
    leaves = {name.replace("/", "/backbone/", 1): leaf for name, leaf in named_leaves(backbone.variables).items()}
    return {name: leaves[name] for name in named_leaves(shapes) if "/backbone/" in name}
