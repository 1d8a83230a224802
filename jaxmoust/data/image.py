"""One image: opened, checked, decoded and encoded; and images that lie encoded somewhere.

Knows no data set, and nothing of resizing (loading/transforms.py).
"""

import contextlib
import io
import math
import threading
from abc import ABC, abstractmethod
from dataclasses import dataclass, field

import numpy as np
from PIL import Image, UnidentifiedImageError

# Modes that 8 bits a channel hold, and what each is read as; transparency must be opaque (see decode_image).
_READ_AS = {"1": "L", "L": "L", "LA": "L", "P": "RGB", "RGB": "RGB", "RGBA": "RGB", "CMYK": "RGB", "YCbCr": "RGB"}
# All that is opened, whatever a file is called: other formats of PIL run programs (EPS: Ghostscript).
FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "GIF", "TIFF", "PPM")
# Images of more pixels are decoded one at a time, whatever the number of threads: each takes up to 7 bytes a pixel.
_LARGE_PX, _ONE_LARGE = 1 << 24, threading.Lock()
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
        image = Image.open(io.BytesIO(data) if isinstance(data, bytes) else data, formats=FORMATS)
    except UnidentifiedImageError as error:
        raise _unreadable(name, f"it is none of {', '.join(FORMATS)}") from error
    except _PIL_ERRORS as error:
        raise _unreadable(name, error) from error
    if image.width * image.height > (Image.MAX_IMAGE_PIXELS or math.inf):
        limit = f"{Image.MAX_IMAGE_PIXELS} pixels"
        raise ValueError(f"Got {image.width} x {image.height} pixels, {name}, allowed are {limit}: shrink it.")
    if image.mode not in _READ_AS:
        allowed = ", ".join(_READ_AS)
        raise ValueError(f"Got an image of mode {image.mode}, {name}, allowed are {allowed}: convert it to 8 bits.")
    return image


def decode_image(data: bytes | str, name: str = "image") -> np.ndarray:
    """Decodes an image to uint8 [H, W, 1] when it is grey, else to [H, W, 3].

    Raises: ValueError: as `open_image`; a truncated file; or one with pixels that are not opaque, because
        what stands behind them is not in the file.
    """
    with open_image(data, name) as image:
        is_large = image.width * image.height > _LARGE_PX
        with _ONE_LARGE if is_large else contextlib.nullcontext():
            return to_array(load(image, name))


def load(image: Image.Image, name: str) -> Image.Image:
    """Decodes an opened image to PIL's mode L when it is grey, else to RGB; errors as `decode_image`."""
    mode = _READ_AS[image.mode]
    try:
        may_be_transparent = image.mode in ("LA", "RGBA") or "transparency" in image.info
        if may_be_transparent and np.asarray(image.convert("RGBA"))[..., 3].min() < 255:
            raise ValueError("it has transparent pixels; put it on a background first")
        image.load()
        return image if image.mode == mode else image.convert(mode)
    except _PIL_ERRORS as error:
        raise _unreadable(name, error) from error


def _unreadable(name: str, error: Exception | str) -> ValueError:
    return ValueError(f"Got an unreadable image, {name}: {error}. Replace or remove it.")


def to_array(image: Image.Image) -> np.ndarray:
    """The pixels of a decoded image: uint8 [H, W, 1 or 3]."""
    pixels = np.asarray(image)
    return pixels[..., None] if pixels.ndim == 2 else pixels


def from_array(image: np.ndarray) -> Image.Image:
    """The image of pixels uint8 [H, W, 1 or 3]."""
    return Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)


def encode_png(image: np.ndarray) -> bytes:
    """Encodes uint8 [H, W, 1 or 3] as PNG, without loss."""
    buffer = io.BytesIO()
    from_array(image).save(buffer, "PNG")
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

    def decode(self) -> np.ndarray:
        """Decodes all of it: uint8 [H, W, channels]; errors as `decode_image`."""
        return to_channels(decode_image(self.data, self.name), self.channels)


class EncodedImages(ABC):
    """Images that lie encoded somewhere, read one at a time from any thread; they pickle, for worker processes."""

    @abstractmethod
    def __len__(self) -> int:
        """The number of images."""

    @abstractmethod
    def encoded(self, i: int) -> Encoded:
        """Image i as its file holds it."""

    def file(self, i: int) -> str:
        """What the file of image i is called, below the folder or in the archive of all; "" where it has no name."""
        return ""

    def __getitem__(self, i: int) -> np.ndarray:
        """Image i: uint8 [H, W, C]."""
        return self.encoded(i).decode()


@dataclass(frozen=True)
class Selection(EncodedImages):
    """Some of the images, by their indices int64 [n]."""

    images: EncodedImages
    keys: np.ndarray

    def __len__(self) -> int:
        """The number of images."""
        return self.keys.size

    def encoded(self, i: int) -> Encoded:
        """Image i as its file holds it."""
        return self.images.encoded(int(self.keys[i]))

    def file(self, i: int) -> str:
        """What the file of image i is called."""
        return self.images.file(int(self.keys[i]))
