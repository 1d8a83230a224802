"""Images of a test split that look the same as one of another split, of sources that are no folder of files.

A folder knows this from the scan of its files (image_folder.py); here each split is decoded once, and what is left of
it is remembered by the split's digest.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from PIL import Image

from jaxmoust.data.near_duplicates import Look, near_duplicates, with_looked
from jaxmoust.data.source import Source
from jaxmoust.data.sources.scan import NOT_KNOWN, THUMB
from jaxmoust.data.sources.scan_cache import REMEMBERED_FROM, load, save

TOGETHER = "data.near_duplicates='together' leaves the other one out."


def parted(
    sources: Sequence[Source], splits: Sequence[str], near_duplicates_are: str, look: Look | None = None
) -> tuple[list[Source], tuple[str, ...]]:
    """Compares the test images with those of the other splits.

    Args:
        sources: one for each of the splits.
        near_duplicates_are: "report", or "together": then the ones that are not of the test split are left out.
        look: finds more of them.
    Returns: (the sources, what is to be said).
    """
    kept = list(sources)
    if "test" not in splits or len(kept) < 2:
        return kept, ()
    places = np.concatenate([np.arange(len(source)) for source in kept])
    parts = np.repeat(np.arange(len(kept)), [len(source) for source in kept])
    try:
        pairs = near_duplicates(np.concatenate([_thumbs(source) for source in kept]))
    except ValueError:
        return kept, (NOT_KNOWN,)
    pairs = with_looked(pairs, look, kept)
    test = splits.index("test")
    pairs = pairs[((parts == test)[pairs]).sum(axis=1) == 1]
    if not pairs.size:
        return kept, ()
    shown = ", ".join(" and ".join(f"{splits[parts[i]]} {places[i]}" for i in pair) for pair in pairs[:5])
    said = f"Images of test that look the same as one of another split: {len(pairs):,} ({shown})"
    if near_duplicates_are == "report":
        return kept, (f"{said}. {TOGETHER}",)
    others = np.unique(pairs[parts[pairs] != test])
    for part in np.unique(parts[others]):
        kept[part] = kept[part].subset(np.setdiff1d(np.arange(len(kept[part])), places[others[parts[others] == part]]))
    return kept, (f"{said}; the other one is left out.",)


def _thumbs(source: Source) -> np.ndarray:
    """Every image grey and very small: uint8 [n, 8, 9]."""
    what, shape = f"thumbs of {source.name}", (len(source), *THUMB[::-1])
    if (known := load(what, source.digest)) is not None and len(known) == np.prod(shape):
        return np.frombuffer(known, np.uint8).reshape(shape)

    def thumb(i: int) -> np.ndarray:
        pixels = source.read(i)
        image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).convert("L")
        return np.asarray(image.resize(THUMB, Image.Resampling.BOX))

    with ThreadPoolExecutor() as threads:
        found = np.stack([*threads.map(thumb, range(len(source)))])
    if len(source) >= REMEMBERED_FROM:
        save(what, source.digest, found.tobytes())
    return found
