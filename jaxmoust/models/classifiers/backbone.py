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
from jaxtyping import Array, Float, UInt8
from PIL import Image

from jaxmoust.core.tree import digest
from jaxmoust.models import hub
from jaxmoust.models.classifiers.pretrained import load_variables, open_layout
from jaxmoust.models.classifiers.pretrained_vit import load_vit
from jaxmoust.models.classifiers.resnet import IMAGENET_MEAN, IMAGENET_STD, ResNet
from jaxmoust.models.translate import read_arrays

WANTED = ["config.json", "preprocessor_config.json", "model.safetensors*", "model-*.safetensors", "*.npz"]


@dataclass(frozen=True)
class Preprocessing:
    """What becomes of an image before a backbone reads it, as its publisher had it.

    Args:
        image_px: side of the square that the network reads.
        mean, std: of each channel, of pixels in [0, 1].
        crop: the share of the shorter side that the square in the middle keeps.
        squash: whether both sides become image_px whatever the image's shape was; nothing is cut off then.
        interpolation: a filter of Pillow, such as "bicubic".
    """

    image_px: int
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.5, 0.5, 0.5)
    crop: float = 1.0
    squash: bool = False
    interpolation: str = "bicubic"

    def __call__(self, image: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "S S 3"]:
        """Brings an image of any size to S = image_px; `Backbone.features` scales its numbers."""
        height, width, _ = image.shape
        side = int(self.image_px / self.crop)
        short = min(height, width)
        size = (side, side) if self.squash else (int(side * width / short), int(side * height / short))
        resized = Image.fromarray(image).resize(size, Image.Resampling[self.interpolation.upper()])
        left, top = (round((n - self.image_px) / 2) for n in size)
        return np.asarray(resized.crop((left, top, left + self.image_px, top + self.image_px)))


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
        return self.module.apply({"params": variables["params"], "batch_stats": variables["stats"]}, scaled, **how)


def load_backbone(name: str | Path, num_heads: int = 0) -> Backbone:
    """Loads a public backbone without torch.

    Args:
        name: a .safetensors or .npz file, a folder with a model.safetensors, or a name on the Hugging Face hub.
        num_heads: attention heads of a ViT; 0: as its file or the config.json beside it says.
    Raises: ValueError: nothing there, a pickle, another network, or weights that do not fit; all is named.
    """
    path = Path(name).expanduser()
    if not path.exists() and not path.suffix:
        path = hub.fetch(str(name), WANTED, "a backbone")
    names = {name.removeprefix("resnet.") for name in read_arrays(path)}
    is_resnet = bool(names & {"conv1.weight", "embedder.embedder.convolution.weight"})
    module, variables, preprocessing = _load_resnet(path) if is_resnet else _load_vit(path, num_heads)
    variables = jax.tree.map(np.asarray, variables)
    pixels = jax.ShapeDtypeStruct((1, preprocessing.image_px, preprocessing.image_px, 3), jnp.float32)
    content = digest(variables, f"{module!r} {preprocessing!r}")
    backbone = Backbone(module, variables, preprocessing, 0, content, str(name))
    num_features = jax.eval_shape(partial(backbone.features, variables), pixels).shape[1]
    return dataclasses.replace(backbone, num_features=num_features)


def _load_vit(path: Path, num_heads: int) -> tuple[nn.Module, Any, Preprocessing]:
    module, variables, side = load_vit(path, num_heads)
    return module, {**variables, "stats": {}}, Preprocessing(side)


def _load_resnet(path: Path) -> tuple[nn.Module, Any, Preprocessing]:
    layout, arrays = open_layout(path, ResNet)

    def name_of(leaf: str) -> str:
        return layout.names(f"params/{leaf}")[0]

    def count(pattern: str) -> int:
        return next(i for i in range(len(arrays) + 1) if name_of(pattern.format(i)) not in arrays)

    sizes = tuple(
        count(f"stage{stage}_block{{}}/conv0/kernel") for stage in range(count("stage{}_block0/conv0/kernel"))
    )
    head = arrays.get(name_of("head/bias"))
    module = ResNet(
        stage_sizes=sizes,
        block="bottleneck" if name_of("stage0_block0/conv2/kernel") in arrays else "basic",
        num_classes=0 if head is None else len(head),
        width=len(arrays[name_of("stem_conv/kernel")]),
    )
    preprocessing = Preprocessing(224, IMAGENET_MEAN, IMAGENET_STD, 0.875, interpolation="bilinear")
    return module, load_variables(path, module, preprocessing.image_px), preprocessing
