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
# Hugging Face's processors, by how their names begin, for which one number is the shorter side: Pillow's filter, the
# size, and whether the middle is cut out, where a file is silent. For the others it is both sides, whatever the shape.
_SHORTER = {"CLIP": (3, 224, True), "Bit": (3, 224, True), "ConvNext": (2, 384, False), "ConvNeXt": (2, 384, False)}
_SQUARE = {"DeiT": (3, 256, True), "Siglip": (3, 224, False), "ViT": (2, 224, False)}
# Of torchvision's ConvNeXts, by the blocks of the third stage and the first width: the shorter side before the cut.
_TORCHVISION_CONVNEXT = {(9, 96): 236, (27, 96): 230, (27, 128): 232, (27, 192): 232}


@dataclass(frozen=True)
class Preprocessing:
    """How an image of any size becomes what a network reads.

    Args:
        image_px: side of the square that the network reads, from the middle of the resized image.
        mean, std: of each channel, of pixels in [0, 1].
        resize_px: the shorter side that an image is resized to before; 0: image_px.
        squash: whether both sides become resize_px, whatever the image's shape was.
        interpolation: a filter of Pillow: "nearest", "bilinear", "bicubic" or "lanczos"; all but the first average
            where they shrink.
    """

    image_px: int
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.5, 0.5, 0.5)
    resize_px: int = 0
    squash: bool = False
    interpolation: str = "bicubic"

    def __call__(self, image: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "S S 3"]:
        """Brings an image of any size to S = image_px; `Backbone.features` scales its numbers.

        Sides and margins are rounded as torchvision, and timm with it, rounds them.
        """
        height, width, _ = image.shape
        short, side = min(height, width), self.resize_px or self.image_px
        size = (side, side) if self.squash else (int(side * width / short), int(side * height / short))
        resized = Image.fromarray(image).resize(size, Image.Resampling[self.interpolation.upper()])
        left, top = (round((n - self.image_px) / 2) for n in size)
        return np.asarray(resized.crop((left, top, left + self.image_px, top + self.image_px)))

    def at(self, image_px: int) -> "Preprocessing":
        """The same for a network that reads another size, of the same part of an image; 0: for this one."""
        resize_px = round(self.resize_px * image_px / self.image_px)
        return dataclasses.replace(self, image_px=image_px, resize_px=resize_px) if image_px else self


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
    imagenet = Preprocessing(224, IMAGENET_MEAN, IMAGENET_STD, 256, interpolation="bilinear")
    if isinstance(module, ConvNeXt) and layout.family == "torchvision":
        shorter = _TORCHVISION_CONVNEXT.get((module.stage_sizes[2], module.widths[0]), 232)
        return dataclasses.replace(imagenet, resize_px=shorter)
    if not isinstance(module, ViT):
        return dataclasses.replace(imagenet, interpolation="bicubic") if isinstance(module, ConvNeXt) else imagenet
    at_size = imagenet.at(trained_px)
    if layout.family == "torchvision":
        return at_size
    if module.pre_norm:
        return Preprocessing(trained_px, CLIP_MEAN, CLIP_STD)
    if module.layer_scale and module.patch_px == 14:  # DINOv2, which was trained up to 518 px and is read at 224
        return dataclasses.replace(imagenet.at(min(224, trained_px)), interpolation="bicubic")
    if module.layer_scale or module.pool == "tokens":  # DeiT
        return dataclasses.replace(at_size, interpolation="bicubic")
    interpolation = "bilinear" if layout.family in ("augreg", "Hugging Face") else "bicubic"
    return Preprocessing(
        trained_px, squash=module.pool == "map" or interpolation == "bilinear", interpolation=interpolation
    )


def _of_hugging_face(said: dict[str, Any], usual: Preprocessing) -> Preprocessing:
    """As the processor of that name does it, with Pillow."""
    name = str(said.get("image_processor_type") or said.get("feature_extractor_type") or "")
    kind = next((start for start in (*_SHORTER, *_SQUARE) if name.startswith(start)), "")
    filter_, default, cuts = (_SHORTER | _SQUARE).get(kind, (2, usual.image_px, False))
    asked = said.get("size", default)
    squash = "height" in asked if isinstance(asked, dict) else kind not in _SHORTER
    side, cuts = _side(asked), bool(said.get("do_center_crop", cuts))
    image_px = _side(said.get("crop_size", 224)) if cuts else side
    if kind.startswith("Conv") or said.get("crop_pct"):  # whose middle is cut out without do_center_crop
        image_px, squash = side, side >= _CONVNEXT_SQUASHES
        side = side if squash else int(side / (said.get("crop_pct") or 224 / 256))
    number, scale = said.get("resample", filter_), said.get("rescale_factor", 1 / 255)
    if number not in _FILTERS:
        raise ValueError(f"preprocessor_config.json: resample is {number!r}, expected {_FILTERS}.")
    if not (said.get("do_resize", True) and said.get("do_rescale", True) and abs(scale * 255 - 1) < 1e-3):
        raise ValueError("preprocessor_config.json: expected do_resize, and do_rescale by 1 / 255. Correct the file.")
    if side < image_px:
        raise ValueError(f"preprocessor_config.json: {image_px} px are cut out of {side} px, expected no more.")
    scales = said.get("do_normalize", True)
    return Preprocessing(
        image_px,
        _three(said.get("image_mean", usual.mean)) if scales else (0.0,) * 3,
        _three(said.get("image_std", usual.std)) if scales else (1.0,) * 3,
        side,
        squash,
        _FILTERS[number],
    )


def _of_timm(said: dict[str, Any], usual: Preprocessing) -> Preprocessing:
    mode, filter_ = said.get("crop_mode") or "center", said.get("interpolation") or usual.interpolation
    if mode not in ("center", "squash") or filter_ not in _FILTERS.values():
        raise ValueError(f"config.json: crop_mode is {mode!r}, interpolation {filter_!r}, which are not supported.")
    image_px = int(said.get("input_size", (3, usual.image_px))[-1])
    return Preprocessing(
        image_px,
        _three(said.get("mean", usual.mean)),
        _three(said.get("std", usual.std)),
        int(image_px / float(said.get("crop_pct") or 0.875)),
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
