"""Grain transforms of one image: decode, resize, random-resized-crop, and the number of channels.

Each takes an image, or a dict that holds one under "image", and keeps it uint8 [H, W, C]; what runs on whole
batches on the device (flip, crop, cutout, mixup) is in core/augment.py.
"""

import io
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import grain
import numpy as np
from PIL import Image

# Modes that 8 bits a channel hold, and what each is read as; transparency must be opaque (see decode_image).
_READ_AS = {"1": "L", "L": "L", "LA": "L", "P": "RGB", "RGB": "RGB", "RGBA": "RGB", "CMYK": "RGB", "YCbCr": "RGB"}
_FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
    "box": Image.Resampling.BOX,
}
_PIL_ERRORS = (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError, Image.DecompressionBombWarning)


def open_image(data: bytes | str, name: str) -> Image.Image:
    """Opens an image and reads its header only.

    Args:
        data: the encoded bytes, or the path of a file.
        name: what the error calls it.
    Raises: ValueError: not an image, one of more than 8 bits a channel, or one whose header announces more
        than PIL's limit of pixels (a decompression bomb).
    """
    try:
        image = Image.open(io.BytesIO(data) if isinstance(data, bytes) else data)
    except _PIL_ERRORS as error:
        raise ValueError(f"Got an unreadable image, {name}: {error}. Replace or remove it.") from error
    if image.width * image.height > (Image.MAX_IMAGE_PIXELS or math.inf):
        raise ValueError(
            f"Got an image of {image.width} x {image.height} pixels, {name}, allowed are {Image.MAX_IMAGE_PIXELS} "
            f"pixels: shrink or remove it."
        )
    if image.mode not in _READ_AS:
        raise ValueError(
            f"Got an image of mode {image.mode}, {name}, allowed are {', '.join(_READ_AS)}: convert it to 8 bits "
            f"a channel."
        )
    return image


def decode_image(data: bytes | str, name: str = "image") -> np.ndarray:
    """Decodes an image to uint8 [H, W, 1] when it is grey, else to [H, W, 3].

    Raises: ValueError: as `open_image`; a truncated file; or one with pixels that are not opaque, because
        what stands behind them is not in the file.
    """
    with open_image(data, name) as image:
        try:
            may_be_transparent = image.mode in ("LA", "RGBA") or "transparency" in image.info
            if may_be_transparent and image.convert("RGBA").getextrema()[3][0] < 255:
                raise ValueError("it has transparent pixels; put it on a background first")
            pixels = np.asarray(image.convert(_READ_AS[image.mode]))
        except _PIL_ERRORS as error:
            raise ValueError(f"Got an unreadable image, {name}: {error}. Replace or remove it.") from error
    return pixels[..., None] if pixels.ndim == 2 else pixels


def encode_png(image: np.ndarray) -> bytes:
    """Encodes uint8 [H, W, 1 or 3] as PNG, without loss."""
    buffer = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(buffer, "PNG")
    return buffer.getvalue()


def to_channels(image: np.ndarray, channels: int) -> np.ndarray:
    """Converts uint8 [..., 1 or 3] to [..., channels]: grey is repeated; colour becomes luma.

    Source: ITU-R BT.601 luma .299 R + .587 G + .114 B, in 16-bit fixed point as PIL computes it.
    """
    if image.shape[-1] == channels:
        return image
    if channels == 3 and image.shape[-1] == 1:
        return np.repeat(image, 3, axis=-1)
    if channels == 1 and image.shape[-1] == 3:
        luma = image.astype(np.uint32) @ np.array([19595, 38470, 7471], np.uint32)
        return ((luma + (1 << 15)) >> 16).astype(np.uint8)[..., None]
    raise ValueError(f"Got {image.shape[-1]} channels to turn into {channels}, allowed are 1 and 3: choose one.")


def resize(image: np.ndarray, height: int, width: int, filter: str, box: tuple | None = None) -> np.ndarray:
    """Resamples uint8 [H, W, C], or the part of it within box (left, top, right, bottom), to [height, width, C]."""
    grey = image.shape[-1] == 1
    picture = Image.fromarray(image[..., 0] if grey else image)
    pixels = np.asarray(picture.resize((width, height), _FILTERS[filter], box))
    return pixels[..., None] if grey else pixels


def _check(image_px: int, channels: int, filter: str) -> None:
    if image_px < 1:
        raise ValueError(f"Got image_px={image_px}, allowed is 1 and up: give the size in pixels.")
    if channels not in (1, 3):
        raise ValueError(f"Got channels={channels}, allowed are 1 (grey) and 3 (RGB): choose one.")
    if filter not in _FILTERS:
        raise ValueError(f"Got filter={filter!r}, allowed are {', '.join(_FILTERS)}: choose one.")


def _on_image(function: Callable[[Any], np.ndarray], element: Any) -> Any:
    if isinstance(element, dict):
        return {**element, "image": function(element["image"])}
    return function(element)


@dataclass(frozen=True)
class Decode(grain.transforms.Map):
    """Decodes encoded bytes (PNG, JPEG, ...) to uint8 [H, W, 1 or 3]; see `decode_image`."""

    def map(self, element: Any) -> Any:
        """Decodes the element's image."""
        return _on_image(decode_image, element)


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
        if not 0.0 < self.crop_fraction <= 1.0:
            raise ValueError(f"Got crop_fraction={self.crop_fraction}, allowed is 0 < crop_fraction <= 1: correct it.")

    def map(self, element: Any) -> Any:
        """Resizes the element's image to uint8 [image_px, image_px, channels]."""
        return _on_image(self._resize, element)

    def keeps(self, shape: tuple[int, ...] | None) -> bool:
        """Says whether an image of this shape comes back as it was."""
        return shape == (self.image_px, self.image_px, self.channels) and self.crop_fraction == 1.0

    def _resize(self, image: np.ndarray) -> np.ndarray:
        height, width = image.shape[:2]
        if (height, width, self.crop_fraction) != (self.image_px, self.image_px, 1.0):
            side = min(height, width) * self.crop_fraction
            left, top = (width - side) / 2, (height - side) / 2
            box = (left, top, left + side, top + side)
            image = resize(image, self.image_px, self.image_px, self.filter, box)
        return to_channels(image, self.channels)


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
    Source: Szegedy et al. 2015 (1409.4842), section 6; ranges as commonly used for ResNet-50.
    """

    image_px: int
    channels: int
    area: tuple[float, float] = (0.08, 1.0)
    aspect: tuple[float, float] = (3 / 4, 4 / 3)
    filter: str = "bilinear"

    def __post_init__(self) -> None:
        """Raises: ValueError: a size, a channel count, a filter or a range out of range."""
        _check(self.image_px, self.channels, self.filter)
        if not 0.0 < self.area[0] <= self.area[1] <= 1.0:
            raise ValueError(f"Got area={self.area}, allowed is 0 < smallest <= largest <= 1: correct it.")
        if not 0.0 < self.aspect[0] <= self.aspect[1] < math.inf:
            raise ValueError(f"Got aspect={self.aspect}, allowed is 0 < smallest <= largest: correct it.")

    def random_map(self, element: Any, rng: np.random.Generator) -> Any:
        """Cuts and resizes the element's image to uint8 [image_px, image_px, channels]."""
        return _on_image(lambda image: self._crop(image, rng), element)

    def _crop(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        height, width = image.shape[:2]
        for _ in range(10):
            area = height * width * rng.uniform(*self.area)
            aspect = math.exp(rng.uniform(math.log(self.aspect[0]), math.log(self.aspect[1])))
            w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
            if 0 < w <= width and 0 < h <= height:
                left, top = int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1))
                break
        else:
            aspect = min(max(width / height, self.aspect[0]), self.aspect[1])
            w, h = min(width, max(1, round(height * aspect))), min(height, max(1, round(width / aspect)))
            left, top = (width - w) // 2, (height - h) // 2
        box = (left, top, left + w, top + h)
        return to_channels(resize(image, self.image_px, self.image_px, self.filter, box), self.channels)
