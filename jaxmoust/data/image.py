"""One image: opened, checked, decoded and encoded; and images that lie encoded somewhere.

Knows no data set, and nothing of resizing (loading/transforms.py).
"""

import contextlib
import functools
import io
import math
import threading
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from importlib.util import find_spec

import numpy as np
from PIL import ExifTags, Image, ImageColor, UnidentifiedImageError, features

# Modes that 8 bits a channel hold, and what each is read as.
_READ_AS = {"1": "L", "L": "L", "LA": "L", "P": "RGB", "RGB": "RGB", "RGBA": "RGB", "CMYK": "RGB", "YCbCr": "RGB"}
# Modes of more bits and one channel. PIL reads what has more channels at 8 bits itself.
_DEEP = ("I;16", "I;16L", "I;16B", "I", "F")
# Images of more pixels are decoded one at a time, whatever the number of threads: each takes up to 7 bytes a pixel.
_LARGE_PX, _ONE_LARGE = 1 << 24, threading.Lock()
_PIL_ERRORS = (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError, Image.DecompressionBombWarning)
_T = Image.Transpose
# The values of EXIF's orientation: how the camera was held, and what makes its image upright.
_TURNS = dict(zip(range(2, 9), (_T(0), _T(3), _T(1), _T(5), _T(4), _T(6), _T(2)), strict=True))
_ASIDE = (_T.ROTATE_90, _T.ROTATE_270, _T.TRANSPOSE, _T.TRANSVERSE)
# What reading an image may change of what its file holds.
TURNED, LAID, SCALED = "turned upright", "laid on a background", "scaled to 8 bits"


@dataclass(frozen=True)
class Reading:
    """How pixels become 8 opaque bits a channel; see `image_folder.Rules`.

    Args:
        background: the colour that transparent pixels are laid on.
        value_range: "LOW,HIGH", "file" or "": which values of 16-bit and float images become 0 and 255.
    Raises: ValueError: no colour, or no range.
    """

    background: str = "white"
    value_range: str = ""

    def __post_init__(self) -> None:
        """Refuses what is no colour and no range."""
        try:
            ImageColor.getrgb(self.background)
        except ValueError as error:
            raise ValueError(
                f"data.background {self.background!r}: expected a colour such as 'white' or '#808080'."
            ) from error
        if self.value_range not in ("", "file") and self.ends is None:
            raise ValueError(
                f"data.value_range {self.value_range!r}: expected two numbers, the lower first, such as '0,4095'; "
                "'file', the lowest and the highest of each file; or '', the range of the type."
            )

    @property
    def ends(self) -> tuple[float, float] | None:
        """The two numbers of a range; None where it names none."""
        try:
            low, high = map(float, self.value_range.split(","))
        except ValueError:
            return None
        return (low, high) if math.isfinite(high - low) and low < high else None


AS_IT_IS = Reading()


@functools.cache
def formats() -> dict[str, tuple[str, ...]]:
    """The formats that are opened, whatever a file is called, and the suffixes of each.

    HEIF needs the extra `heic`. Other formats of PIL are left out, as some run programs (EPS: Ghostscript).
    """
    known: dict[str, tuple[str, ...]] = {"PNG": (".png",), "JPEG": (".jpg", ".jpeg", ".jfif", ".jpe"), "BMP": (".bmp",)}
    known |= {"WEBP": (".webp",), "GIF": (".gif",), "TIFF": (".tif", ".tiff"), "PPM": (".ppm", ".pgm")}
    if features.check("avif"):
        known["AVIF"] = (".avif",)
    if find_spec("pillow_heif"):
        from pillow_heif import register_heif_opener

        register_heif_opener(thumbnails=False)
        known["HEIF"] = (".heic", ".heif")
    return known


def open_image(data: bytes | str, name: str) -> Image.Image:
    """Opens an image and reads its header only.

    Args:
        data: the encoded bytes, or the path of a file.
        name: what the error calls it.
    Raises: ValueError: not an image, or one whose header announces more than PIL's limit of pixels (a
        decompression bomb).
    """
    allowed = tuple(formats())
    try:
        image = Image.open(io.BytesIO(data) if isinstance(data, bytes) else data, formats=allowed)
    except UnidentifiedImageError as error:
        raise Unreadable(name, f"it is none of {', '.join(allowed)}") from error
    except _PIL_ERRORS as error:
        raise Unreadable(name, error) from error
    if image.width * image.height > (Image.MAX_IMAGE_PIXELS or math.inf):
        limit = f"{Image.MAX_IMAGE_PIXELS} pixels"
        raise ValueError(f"Got {image.width} x {image.height} pixels, {name}, expected at most {limit}. Shrink it.")
    if image.mode not in (*_READ_AS, *_DEEP):
        known = ", ".join((*_READ_AS, *_DEEP))
        raise ValueError(f"Got an image of mode {image.mode}, {name}, expected {known}. Convert it to 8 bits.")
    return image


def decode_image(data: bytes | str, name: str = "image", reading: Reading = AS_IT_IS) -> np.ndarray:
    """Decodes an image, upright, to uint8 [H, W, 1] when it is grey, else to [H, W, 3]; of several the first.

    Raises: ValueError: as `open_image`; a truncated file; or floats, of which nothing says what becomes 0 and 255.
    """
    with open_image(data, name) as image:
        return to_array(load(image, name, reading))


def load(image: Image.Image, name: str, reading: Reading = AS_IT_IS) -> Image.Image:
    """Decodes an opened image to PIL's mode L when it is grey, else to RGB; errors as `decode_image`."""
    return convert(image, name, reading)[0]


def convert(image: Image.Image, name: str, reading: Reading = AS_IT_IS) -> tuple[Image.Image, tuple[str, ...]]:
    """Decodes as `load`, and says what was changed: some of TURNED, LAID, SCALED."""
    is_large = image.width * image.height > _LARGE_PX
    try:
        with _ONE_LARGE if is_large else contextlib.nullcontext():
            turn, changes = _turn(image), []
            image.load()
            if image.mode in _DEEP:
                image, changes = Image.fromarray(_to_8_bits(image, reading)), [SCALED]
            elif image.mode in ("LA", "RGBA") or "transparency" in image.info:
                opaque = image.convert("RGBA")
                if opaque.getchannel("A").getextrema()[0] < 255:  # type: ignore[operator]
                    ground = Image.new("RGBA", image.size, (*ImageColor.getrgb(reading.background)[:3], 255))
                    is_grey = image.mode == "LA" and len({*ground.getpixel((0, 0))[:3]}) == 1  # type: ignore[index]
                    image = Image.alpha_composite(ground, opaque).convert("L" if is_grey else "RGB")
                    changes = [LAID]
            if image.mode != _READ_AS[image.mode]:
                image = image.convert(_READ_AS[image.mode])
            return (image.transpose(turn), (*changes, TURNED)) if turn is not None else (image, tuple(changes))
    except _PIL_ERRORS as error:
        raise Unreadable(name, error) from error


def upright_size(image: Image.Image, name: str) -> tuple[int, int]:
    """The (width, height) of an opened image once it is upright; errors as `decode_image`."""
    try:
        turn = _turn(image)
    except _PIL_ERRORS as error:
        raise Unreadable(name, error) from error
    return (image.height, image.width) if turn in _ASIDE else image.size


def _turn(image: Image.Image) -> Image.Transpose | None:
    """What makes an image upright, by its EXIF (or XMP); of JPEG the header tells, of others perhaps their end."""
    if image.format not in ("JPEG", "MPO"):
        image.load()
    elif not {"exif", "xmp"} & image.info.keys():
        return None
    try:
        return _TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # whatever damaged EXIF makes PIL do: it says nothing of the pixels
        return None


def _to_8_bits(image: Image.Image, reading: Reading) -> np.ndarray:
    """Scales the values of one channel to 0..255, uint8 [H, W]: by a range that is given, or by that of 16 bits."""
    values = np.asarray(image).astype(np.float64 if image.mode == "I" else np.float32)
    if not np.isfinite(values).all():
        raise ValueError("it has values that are no finite numbers")
    low, high = float(values.min()), float(values.max())
    if reading.value_range:
        low, high = reading.ends or (low, high)
    elif image.mode not in ("I", "F") or (image.mode == "I" and image.format in ("PNG", "PPM")):
        low, high = 0.0, 65535.0
    else:
        raise ValueError(
            f"its values, of {'floats' if image.mode == 'F' else '32 bits'}, lie from {low:g} to {high:g}, and nothing "
            "says which become black and white: set data.value_range, such as '0,1', or 'file' for its own"
        )
    scaled = np.subtract(values, low) * (255.0 / ((high - low) or 1.0))
    return np.rint(np.clip(scaled, 0, 255)).astype(np.uint8)


class Unreadable(ValueError):
    """An image, or a file, that cannot be read.

    Args:
        name: what the error calls it.
        error: why; kept as `reason`.
        remedy: what may be done besides, after "Replace or remove it".
    """

    def __init__(self, name: str, error: Exception | str, remedy: str = ""):
        self.reason = str(error)
        super().__init__(f"Got an unreadable image, {name}: {self.reason.rstrip('.')}. Replace or remove it{remedy}.")


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
    raise ValueError(f"Got {image.shape[-1]} channels to turn into {channels}, expected 1 or 3. Choose one.")


@dataclass(frozen=True)
class Encoded:
    """An image as its file holds it, for a transform that needs less of it than all.

    Attributes:
        data: the bytes of the file.
        channels: 1 or 3; what its pixels are brought to before anything else.
        name: what errors call it.
        reading: how its pixels become 8 opaque bits.
    """

    data: bytes = field(repr=False)
    channels: int
    name: str
    reading: Reading = AS_IT_IS

    def decode(self) -> np.ndarray:
        """Decodes all of it: uint8 [H, W, channels]; errors as `decode_image`."""
        return to_channels(decode_image(self.data, self.name, self.reading), self.channels)


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
