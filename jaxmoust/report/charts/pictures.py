"""Images side by side on one PNG inside the page, and shades for a table: numbers in, markup out. Loads nothing."""

import base64
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup, escape
from numpy.typing import NDArray
from PIL import Image

THUMB_PX = 48
SHEET_COLUMNS = 8


def image_sheet(images: NDArray[np.uint8], columns: int = SHEET_COLUMNS) -> dict[str, Any]:
    """Lays images side by side on one transparent PNG, as a data URI with its size and scale.

    A sheet is `columns` images wide however few there are, so that sheets shown equally wide show images of one size.
    Images above 48 pixels are reduced; smaller ones are left as they are, for the page enlarges them without
    smoothing, pixel by pixel.

    Args:
        images: uint8 [n, H, W, C], C 1 or 3, n >= 1; rows of `columns`.
    Returns: {"uri", "width", "height", "count", "crisp"} (crisp: to be enlarged pixel by pixel).
    Raises: ValueError: another dtype, shape or number of channels.
    """
    images = np.asarray(images)
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] not in (1, 3) or not len(images):
        raise ValueError(
            f"gallery images: got {images.dtype} {images.shape}, expected uint8 [n >= 1, H, W, 1 or 3]. "
            "Pass pixels 0..255, channels last."
        )
    if max(images.shape[1:3]) > THUMB_PX:
        images = np.stack([_thumbnail(image) for image in images])
    count, height, width, channels = images.shape
    gap, rows = max(1, width // 8), -(-count // columns)
    sheet = np.zeros((rows * (height + gap) - gap, columns * (width + gap) - gap, channels + 1), np.uint8)
    for i, image in enumerate(images):
        y, x = i // columns * (height + gap), i % columns * (width + gap)
        sheet[y : y + height, x : x + width, :channels] = image
        sheet[y : y + height, x : x + width, channels] = 255
    data = io.BytesIO()
    Image.fromarray(sheet).save(data, format="PNG", optimize=True)
    return {
        "uri": data_uri(data.getvalue(), "image/png"),
        "width": sheet.shape[1],
        "height": sheet.shape[0],
        "count": count,
        "crisp": max(height, width) <= 32,
    }


def _thumbnail(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    picture = Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)
    picture.thumbnail((THUMB_PX, THUMB_PX), Image.Resampling.LANCZOS)
    return np.asarray(picture).reshape(picture.height, picture.width, image.shape[2])


def data_uri(content: bytes, media_type: str) -> str:
    """Returns the content as a link that needs no network."""
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"


def pairs_gallery(
    synthetic: NDArray[np.uint8], train: NDArray[np.uint8], ratios: Sequence[float], names: Sequence[tuple[str, str]]
) -> Markup:
    """Shows pairs side by side, synthetic on the left, its nearest training image on the right, and their ratio.

    Args:
        synthetic, train: uint8 [P, H, W, C]. ratios: [P]. names: the classes of the two images of each pair.
    """
    figures = []
    for left, right, ratio, (of_synthetic, of_train) in zip(synthetic, train, ratios, names, strict=True):
        sheet = image_sheet(np.stack([left, right]), columns=2)
        alt = f"a synthetic {of_synthetic} and the nearest training image, a {of_train}; ratio {ratio:.2f}"
        other = "" if of_synthetic == of_train else f" {escape(of_synthetic)} | {escape(of_train)}"
        figures.append(
            f'<figure><img{" class=crisp" if sheet["crisp"] else ""} src="{sheet["uri"]}" width="{sheet["width"]}" '
            f'height="{sheet["height"]}" alt="{escape(alt)}">'
            f'<figcaption class="note"><span class="num">{ratio:.2f}</span>{other}</figcaption></figure>'
        )
    return Markup(f'<div class="pairs">{"".join(figures)}</div>')


def shades(values: Mapping[str, Sequence[float]], deepest: float = 0.62) -> dict[str, list[float]]:
    """Returns for each value an opacity in [0, deepest]: the lower the accuracy, the darker; NaN is 0."""
    every = [v for row in values.values() for v in row if math.isfinite(v)] or [0.0]
    low, high = min(every), max(every)
    depth = deepest / ((high - low) or 1.0)
    return {name: [depth * (high - v) if math.isfinite(v) else 0.0 for v in row] for name, row in values.items()}
