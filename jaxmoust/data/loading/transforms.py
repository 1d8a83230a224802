"""Grain transforms of one image: decode, resize, random-resized-crop, and the number of channels.

Each takes an image, or a dict that holds one under "image", and keeps it uint8 [H, W, C]; `Resize` and
`RandomResizedCrop` also take an image as its file holds it (`Encoded`), decode no more than they need and make
no array of what they cut away. What runs on whole batches on the device (flip, crop, cutout, mixup) is in
core/augment/augment.py.
"""

import io
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
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
# The scales 1/8, 1/4 and 1/2 at which a JPEG decoder leaves frequencies out; box and nearest pick whole pixels, of
# which an image of another scale has others.
_SHRINKS = (8, 4, 2)
_REDUCED_BY = ("bilinear", "bicubic", "lanczos")


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
        return _pixels(_load(image, name))


def _load(image: Image.Image, name: str) -> Image.Image:
    """Decodes an opened image to PIL's mode L when it is grey, else to RGB; errors as `decode_image`."""
    mode = _READ_AS[image.mode]
    try:
        may_be_transparent = image.mode in ("LA", "RGBA") or "transparency" in image.info
        if may_be_transparent and image.convert("RGBA").getextrema()[3][0] < 255:
            raise ValueError("it has transparent pixels; put it on a background first")
        image.load()
        return image if image.mode == mode else image.convert(mode)
    except _PIL_ERRORS as error:
        raise ValueError(f"Got an unreadable image, {name}: {error}. Replace or remove it.") from error


def _pixels(image: Image.Image) -> np.ndarray:
    pixels = np.asarray(image)
    return pixels[..., None] if pixels.ndim == 2 else pixels


@dataclass(frozen=True)
class Encoded:
    """An image as its file holds it, for a transform that needs less of it than all.

    Attributes:
        data: the bytes of the file.
        channels: 1 or 3; what its pixels are brought to before anything else.
        name: what errors call it.
    """

    data: bytes = field(repr=False)
    channels: int
    name: str

    @classmethod
    def from_file(cls, path: Path, channels: int) -> "Encoded":
        """Reads a file whole, which takes less time than to let PIL read it piece by piece.

        Raises: ValueError: a file that cannot be read.
        """
        try:
            with open(path, "rb", buffering=0) as file:
                return cls(file.read(), channels, str(path))
        except OSError as error:
            raise ValueError(f"Got an unreadable image, {path}: {error}. Replace or remove it.") from error

    def decode(self) -> np.ndarray:
        """Decodes all of it: uint8 [H, W, channels]; errors as `decode_image`."""
        return to_channels(decode_image(self.data, self.name), self.channels)


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
    return _pixels(_open(image).resize((width, height), _FILTERS[filter], box))


def _open(image: np.ndarray | Encoded) -> Image.Image:
    """Hands an image to PIL; of an encoded one only the header is read."""
    if isinstance(image, Encoded):
        return open_image(image.data, image.name)
    return Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)


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
        opened = _load(opened, image.name)
        if image.channels == 1 and opened.mode == "RGB":
            opened = opened.convert("L")
    return to_channels(_pixels(opened.resize((px, px), _FILTERS[filter], box)), channels)


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

    def _resize(self, image: np.ndarray | Encoded) -> np.ndarray:
        opened = _open(image)
        width, height = opened.size
        if (height, width, self.crop_fraction) == (self.image_px, self.image_px, 1.0):
            return to_channels(image.decode() if isinstance(image, Encoded) else image, self.channels)
        side = min(height, width) * self.crop_fraction
        left, top = (width - side) / 2, (height - side) / 2
        return _cut(image, opened, (left, top, left + side, top + side), self.image_px, self.channels, self.filter)


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
        if not 0.0 < self.area[0] <= self.area[1] <= 1.0:
            raise ValueError(f"Got area={self.area}, allowed is 0 < smallest <= largest <= 1: correct it.")
        if not 0.0 < self.aspect[0] <= self.aspect[1] < math.inf:
            raise ValueError(f"Got aspect={self.aspect}, allowed is 0 < smallest <= largest: correct it.")

    def random_map(self, element: Any, rng: np.random.Generator) -> Any:
        """Cuts and resizes the element's image to uint8 [image_px, image_px, channels]."""
        return _on_image(lambda image: self._crop(image, rng), element)

    def _crop(self, image: np.ndarray | Encoded, rng: np.random.Generator) -> np.ndarray:
        opened = _open(image)
        left, top, width, height = self._rectangle(*opened.size, rng)
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
