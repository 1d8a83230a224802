"""Contact sheets: what a set of images looks like, a row for each class."""

import numpy as np
from PIL import Image

from jaxmoust.data.source import Source
from jaxmoust.data.transforms import Resize


def contact_sheet(source: Source, per_class: int = 12, image_px: int = 0, max_classes: int = 20) -> Image.Image:
    """Draws the first images of each class, in order and not picked.

    Args:
        per_class: images in a row. max_classes: rows; further classes are left out.
        image_px: side that images are brought to; 0: their own, or 64 where they differ in size.
    Returns: an 8-bit picture, each pixel of a small image enlarged until the image is about 48 pixels wide.
    """
    channels = source.shape[-1] if source.shape else 3
    side = image_px or (source.shape[0] if source.shape and source.shape[0] == source.shape[1] else 64)
    resize, enlarged = Resize(side, channels), max(1, round(48 / side))
    gap = max(1, side // 8)
    rows = []
    for k in range(min(max_classes, len(source.class_names))):
        row = np.zeros((side, per_class * (side + gap) - gap, channels), np.uint8)
        for j, key in enumerate(np.flatnonzero(source.labels == k)[:per_class]):
            row[:, j * (side + gap) : j * (side + gap) + side] = resize.map(source.read(int(key)))
        rows += [row, np.zeros((gap, *row.shape[1:]), np.uint8)]
    sheet = np.concatenate(rows[:-1])
    image = Image.fromarray(sheet[..., 0] if channels == 1 else sheet)
    return image.resize((image.width * enlarged, image.height * enlarged), Image.Resampling.NEAREST)
