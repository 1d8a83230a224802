"""The preprocessing of images for a public network: as its publisher says, or its family's papers."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from flax import linen as nn
from jaxtyping import UInt8
from PIL import Image

from jaxmoust.models.classifiers.convnext import ConvNeXt
from jaxmoust.models.classifiers.described import beside, read_config
from jaxmoust.models.classifiers.layouts import Layout
from jaxmoust.models.classifiers.resnet import IMAGENET_MEAN, IMAGENET_STD
from jaxmoust.models.classifiers.vit import ViT

# Of the pixels that CLIP was trained on, in [0, 1].
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
_FILTERS = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}  # Pillow's numbers
_CONVNEXT_SQUASHES = 384  # from this size on, Hugging Face's ConvNeXtImageProcessor cuts nothing off


@dataclass(frozen=True)
class Preprocessing:
    """How an image of any size becomes what a network reads.

    Args:
        image_px: side of the square that the network reads.
        mean, std: of each channel, of pixels in [0, 1].
        crop: the share of the shorter side that the square in the middle keeps.
        squash: whether both sides become image_px whatever the image's shape was; nothing is cut off then.
        interpolation: a filter of Pillow: "nearest", "bilinear", "bicubic" or "lanczos".
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
        short, side = min(height, width), round(self.image_px / self.crop)
        size = (side, side) if self.squash else (int(side * width / short), int(side * height / short))
        resized = Image.fromarray(image).resize(size, Image.Resampling[self.interpolation.upper()])
        left, top = (round((n - self.image_px) / 2) for n in size)
        return np.asarray(resized.crop((left, top, left + self.image_px, top + self.image_px)))


def preprocessing_of(path: str | Path, layout: Layout, module: nn.Module, trained_px: int) -> Preprocessing:
    """The preprocessing that Hugging Face's or timm's files beside the weights say, else the family's published one.

    Args: trained_px: side of the images that a ViT's positions are for, 0 where there are none.
    Raises: ValueError: a preprocessing that is not known, by name.
    """
    usual = _published(layout, module, trained_px)
    if said := beside(path, "preprocessor_config.json"):
        return _of_hugging_face(said, usual)
    config = read_config(path)
    said = config.get("pretrained_cfg") or config.get("default_cfg") or (config if "input_size" in config else {})
    return _of_timm(said, usual) if said else usual


def _published(layout: Layout, module: nn.Module, trained_px: int) -> Preprocessing:
    imagenet = Preprocessing(224, IMAGENET_MEAN, IMAGENET_STD, 0.875, interpolation="bilinear")
    if not isinstance(module, ViT):
        return dataclasses.replace(imagenet, interpolation="bicubic") if isinstance(module, ConvNeXt) else imagenet
    at_size = dataclasses.replace(imagenet, image_px=trained_px)
    if layout.family == "torchvision":
        return at_size
    if module.pre_norm:
        return Preprocessing(trained_px, CLIP_MEAN, CLIP_STD)
    if module.layer_scale and module.patch_px == 14:  # DINOv2, which was trained up to 518 px and is read at 224
        return dataclasses.replace(imagenet, interpolation="bicubic", image_px=min(224, trained_px))
    if module.layer_scale or module.pool == "tokens":  # DeiT
        return dataclasses.replace(at_size, interpolation="bicubic")
    interpolation = "bilinear" if layout.family in ("augreg", "Hugging Face") else "bicubic"
    return Preprocessing(
        trained_px, squash=module.pool == "map" or interpolation == "bilinear", interpolation=interpolation
    )


def _of_hugging_face(said: dict[str, Any], usual: Preprocessing) -> Preprocessing:
    size, crop = (_side(said.get(name)) for name in ("size", "crop_size"))
    cuts = bool(said.get("do_center_crop")) and crop > 0
    square = not isinstance(said.get("size"), dict) or "height" in said["size"]
    share = said.get("crop_pct")  # ConvNeXt's and ResNet's, which are cut without do_center_crop
    image_px = crop if cuts else size or usual.image_px
    kept = crop / size if cuts and size else 1.0
    kept = float(share) if share and image_px < _CONVNEXT_SQUASHES else kept
    number = said.get("resample", 2)
    if number not in _FILTERS:
        raise ValueError(f"preprocessor_config.json: resample is {number!r}, expected {_FILTERS}.")
    scales = said.get("do_normalize", True)
    return Preprocessing(
        image_px,
        _three(said.get("image_mean", usual.mean)) if scales else (0.0,) * 3,
        _three(said.get("image_std", usual.std)) if scales else (1.0,) * 3,
        kept,
        squash=kept == 1.0 and not cuts and (square or bool(share)),
        interpolation=_FILTERS[number],
    )


def _of_timm(said: dict[str, Any], usual: Preprocessing) -> Preprocessing:
    mode, filter_ = said.get("crop_mode") or "center", said.get("interpolation") or usual.interpolation
    if mode not in ("center", "squash") or filter_ not in _FILTERS.values():
        raise ValueError(f"config.json: crop_mode is {mode!r}, interpolation {filter_!r}, which are not supported.")
    return Preprocessing(
        int(said.get("input_size", (3, usual.image_px))[-1]),
        _three(said.get("mean", usual.mean)),
        _three(said.get("std", usual.std)),
        float(said.get("crop_pct") or 1.0),
        mode == "squash",
        filter_,
    )


def _side(size: Any) -> int:
    """Of a number, {"shortest_edge": n} or {"height": n, "width": n}; 0 of none."""
    sides = {*size.values()} if isinstance(size, dict) else {size}
    if len(sides) != 1:
        raise ValueError(f"preprocessor_config.json: a size is {size!r}, expected squares.")
    return int(sides.pop() or 0)


def _three(numbers: Any) -> tuple[float, ...]:
    numbers = tuple(float(number) for number in numbers)
    if len(numbers) != 3:
        raise ValueError(f"got {numbers} for the channels, expected three numbers.")
    return numbers
