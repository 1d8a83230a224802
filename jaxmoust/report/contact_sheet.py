"""Contact sheets: what a set of images looks like, a row for each class; and pairs of images side by side."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from jaxmoust.data.loading.transforms import RandomResizedCrop, Resize
from jaxmoust.data.source import Source

_LARGEST_PX = 256


def contact_sheet(source: Source, per_class: int = 12, image_px: int = 0, max_classes: int = 20) -> Image.Image:
    """Draws the first images of each class, in order and not picked.

    Args:
        per_class: images in a row. max_classes: rows; further classes are left out.
        image_px: side that images are brought to; 0: their own up to 256, or 64 where they differ in size.
    Returns: an 8-bit picture, each pixel of a small image enlarged until the image is about 48 pixels wide.
    """
    channels = source.shape[-1] if source.shape else 3
    height, width, _ = source.shape or (0, 1, 0)
    side = image_px or (min(height, _LARGEST_PX) if height == width else 64)
    # The central square of a file, of which no more is decoded than will be seen.
    resize, shrink = Resize(side, channels), RandomResizedCrop(side, channels, (1.0, 1.0), (1.0, 1.0), "bicubic")
    enlarged, rng = max(1, round(48 / side)), np.random.default_rng(0)
    gap = max(1, side // 8)
    rows = []
    for k in range(min(max_classes, len(source.class_names))):
        row = np.zeros((side, per_class * (side + gap) - gap, channels), np.uint8)
        for j, key in enumerate(np.flatnonzero(source.labels == k)[:per_class]):
            encoded = source.encoded(int(key))
            image = resize.map(source.read(int(key))) if encoded is None else shrink.random_map(encoded, rng)
            row[:, j * (side + gap) : j * (side + gap) + side] = image
        rows += [row, np.zeros((gap, *row.shape[1:]), np.uint8)]
    sheet = np.concatenate(rows[:-1])
    image = Image.fromarray(sheet[..., 0] if channels == 1 else sheet)
    return image.resize((image.width * enlarged, image.height * enlarged), Image.Resampling.NEAREST)


def pair_sheet(
    blocks: Sequence[tuple[str, np.ndarray, np.ndarray, Sequence[str]]], columns: int = 6, cell_px: int = 64
) -> Image.Image:
    """Draws pairs of images side by side, each with a caption below it, in blocks with a title each.

    Args:
        blocks: (title, lefts uint8 [P, H, W, C], rights alike, P captions), one block below the other.
        columns: pairs in a row. cell_px: about the width of one image; small ones are enlarged pixel by pixel.
    """
    font, line, gap = ImageFont.load_default(13), 18, 10
    scale = max(1, round(cell_px / blocks[0][1].shape[2]))
    height, width = (scale * side for side in blocks[0][1].shape[1:3])
    pair = 2 * width + scale
    heights = [line + -(-len(captions) // columns) * (height + line + gap) for *_, captions in blocks]
    sheet = Image.new("RGB", (columns * (pair + gap) + gap, sum(heights) + gap), "white")
    draw, top = ImageDraw.Draw(sheet), gap
    for (title, lefts, rights, captions), block_height in zip(blocks, heights, strict=True):
        draw.text((gap, top), title, "black", font)
        for i, (left, right, caption) in enumerate(zip(lefts, rights, captions, strict=True)):
            x, y = gap + i % columns * (pair + gap), top + line + i // columns * (height + line + gap)
            for pixels, start in ((left, x), (right, x + width + scale)):
                image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).convert("RGB")
                sheet.paste(image.resize((width, height), Image.Resampling.NEAREST), (start, y))
            draw.text((x, y + height + 2), caption, "black", font)
        top += block_height
    return sheet
