"""Grain transforms of one image: resize, random-resized-crop, and the number of channels.

Each takes an image, or a dict that holds one under "image", and keeps it uint8 [H, W, C]; `Resize` and
`RandomResizedCrop` also take an image as its file holds it (`Encoded`), decode no more than they need and make
no array of what they cut away. What runs on whole batches on the device (flip, crop, cutout, mixup) is in
core/augment/augment.py.
"""

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import grain
import numpy as np
from PIL import Image

from jaxmoust.data.checks import check_choice, check_number, check_whole
from jaxmoust.data.image import Encoded, from_array, load, open_image, to_array, to_channels, upright_size

_FILTERS = {name: Image.Resampling[name.upper()] for name in ("nearest", "bilinear", "bicubic", "lanczos", "box")}
# The scales 1/8, 1/4 and 1/2 at which a JPEG decoder leaves frequencies out; box and nearest pick whole pixels, of
# which an image of another scale has others.
_SHRINKS = (8, 4, 2)
_REDUCED_BY = ("bilinear", "bicubic", "lanczos")


def _open(image: np.ndarray | Encoded) -> tuple[Image.Image, tuple[int, int]]:
    """Hands an image to PIL, with its (width, height) when upright; of an encoded JPEG only the header is read."""
    if not isinstance(image, Encoded):
        return from_array(image), (image.shape[1], image.shape[0])
    opened = open_image(image.data, image.name)
    return opened, upright_size(opened, image.name)


def _cut(
    image: np.ndarray | Encoded, opened: Image.Image, box: tuple, px: int, channels: int, filter: str, shrink: int = 1
) -> np.ndarray:
    """Resamples the part of an image within box (left, top, right, bottom) to uint8 [px, px, channels].

    Args:
        opened: the image as `_open` gives it.
        shrink: 1, 2, 4 or 8; a JPEG is decoded at the scale 1 / shrink, other images at theirs.
    """
    if isinstance(image, Encoded):
        width, height = opened.size
        if shrink > 1:
            opened.draft("RGB", (width // shrink, height // shrink))
        if opened.size != (width, height):  # pixel x of the smaller image covers shrink * x to shrink * (x + 1)
            box = tuple(edge / shrink for edge in box)
        opened = load(opened, image.name, image.reading)
        if image.channels == 1 and opened.mode == "RGB":
            opened = opened.convert("L")
    return to_channels(to_array(opened.resize((px, px), _FILTERS[filter], box)), channels)


def _check(image_px: int, channels: int, filter: str) -> None:
    check_whole("image_px", image_px)
    check_choice("channels", channels, (1, 3))
    check_choice("filter", filter, _FILTERS)


def _on_image(function: Callable[[Any], np.ndarray], element: Any) -> Any:
    if isinstance(element, dict):
        return {**element, "image": function(element["image"])}
    return function(element)


@dataclass(frozen=True)
class Resize(grain.transforms.Map):
    """Resizes so that the shorter side fits, and cuts the central square: the usual evaluation transform.

    Attributes:
        image_px: side of the result.
        channels: 1 or 3.
        filter: nearest, bilinear, bicubic, lanczos or box; all of them average over the source pixels when
            they shrink.
        crop_fraction: side of the square that is kept over the shorter side; 0.875 is 224 out of 256.
    """

    image_px: int
    channels: int
    filter: str = "bicubic"
    crop_fraction: float = 1.0

    def __post_init__(self) -> None:
        """Raises: ValueError: a size, a channel count, a filter or a fraction out of range."""
        _check(self.image_px, self.channels, self.filter)
        check_number("crop_fraction", self.crop_fraction, "0 < crop_fraction <= 1", lambda part: 0.0 < part <= 1.0)

    def map(self, element: Any) -> Any:
        """Resizes the element's image to uint8 [image_px, image_px, channels]."""
        return _on_image(self._resize, element)

    def keeps(self, shape: tuple[int, ...] | None) -> bool:
        """Says whether an image of this shape comes back as it was."""
        return shape == (self.image_px, self.image_px, self.channels) and self.crop_fraction == 1.0

    def _resize(self, image: np.ndarray | Encoded) -> np.ndarray:
        opened, (width, height) = _open(image)
        if (height, width, self.crop_fraction) == (self.image_px, self.image_px, 1.0):
            return to_channels(image.decode() if isinstance(image, Encoded) else image, self.channels)
        side = min(height, width) * self.crop_fraction
        left, top = (width - side) / 2, (height - side) / 2
        return _cut(image, opened, (left, top, left + side, top + side), self.image_px, self.channels, self.filter)


@dataclass(frozen=True)
class Prepared(grain.transforms.Map):
    """Brings an image, in colour, to what a network's own preparation makes of it.

    Attributes:
        prepare: uint8 [H, W, 3] of any size -> uint8 [S, S, 3]; its repr says all that it does.
        first: what an image goes through before; None: nothing.
    """

    prepare: Callable[[np.ndarray], np.ndarray]
    first: Resize | None = None

    def map(self, element: Any) -> Any:
        """Prepares the element's image."""
        return _on_image(self._prepare, element)

    def _prepare(self, image: np.ndarray | Encoded) -> np.ndarray:
        if self.first:
            image = self.first.map(image)
        return self.prepare(to_channels(image.decode() if isinstance(image, Encoded) else image, 3))


@dataclass(frozen=True)
class RandomResizedCrop(grain.transforms.RandomMap):
    """Cuts a random rectangle and resizes it: the training transform of ImageNet.

    The rectangle's area is uniform in `area` of the image's, the logarithm of its aspect ratio uniform in
    that of `aspect`, its place uniform; after ten rectangles that do not fit, the largest central one of an
    allowed aspect ratio.

    Attributes:
        image_px: side of the result.
        channels: 1 or 3.
        area: smallest and largest fraction of the area.
        aspect: smallest and largest width over height.
        filter: as in `Resize`.
        reduce: decode a JPEG (given as `Encoded`) at 1/2, 1/4 or 1/8 of its size where the rectangle still has
            at least image_px pixels a side, for a filter that averages smoothly (bilinear, bicubic, lanczos).
            The decoder then leaves out frequencies that the filter would remove, not quite in the same way:
            on photographs pixels differ by 1 to 2 levels of 255 in the mean, by 4 in the worst image.
    Source: Szegedy et al. 2015 (1409.4842), section 6; ranges as commonly used for ResNet-50.
    """

    image_px: int
    channels: int
    area: tuple[float, float] = (0.08, 1.0)
    aspect: tuple[float, float] = (3 / 4, 4 / 3)
    filter: str = "bilinear"
    reduce: bool = True

    def __post_init__(self) -> None:
        """Raises: ValueError: a size, a channel count, a filter or a range out of range."""
        _check(self.image_px, self.channels, self.filter)
        for name, most in (("area", 1.0), ("aspect", sys.float_info.max)):
            low, high = getattr(self, name)
            if not 0.0 < low <= high <= most:
                limit = " <= 1" if most == 1.0 else ""
                raise ValueError(f"Got {name}={(low, high)}, expected 0 < smallest <= largest{limit}.")

    def random_map(self, element: Any, rng: np.random.Generator) -> Any:
        """Cuts and resizes the element's image to uint8 [image_px, image_px, channels]."""
        return _on_image(lambda image: self._crop(image, rng), element)

    def _crop(self, image: np.ndarray | Encoded, rng: np.random.Generator) -> np.ndarray:
        opened, size = _open(image)
        left, top, width, height = self._rectangle(*size, rng)
        room = min(width, height) // self.image_px if self.reduce and self.filter in _REDUCED_BY else 1
        shrink = next((s for s in _SHRINKS if s <= room), 1)
        box = (left, top, left + width, top + height)
        return _cut(image, opened, box, self.image_px, self.channels, self.filter, shrink)

    def _rectangle(self, width: int, height: int, rng: np.random.Generator) -> tuple[int, int, int, int]:
        """Draws (left, top, width, height) of a rectangle inside an image of width x height."""
        for _ in range(10):
            area = height * width * rng.uniform(*self.area)
            aspect = math.exp(rng.uniform(math.log(self.aspect[0]), math.log(self.aspect[1])))
            w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
            if 0 < w <= width and 0 < h <= height:
                return int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1)), w, h
        aspect = min(max(width / height, self.aspect[0]), self.aspect[1])
        w, h = min(width, max(1, round(height * aspect))), min(height, max(1, round(width / aspect)))
        return (width - w) // 2, (height - h) // 2, w, h
