"""Images of a held-out split that look the same as one of another split, of sources that are no folder of files.

A folder knows this from the scan of its files (image_folder.py); here each split is decoded once, and what is left of
it is remembered by the split's digest.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
from PIL import Image

from jaxmoust.data.near_duplicates import Look, joined, near_duplicates, with_looked
from jaxmoust.data.source import Source
from jaxmoust.data.sources.scan import NOT_KNOWN, THUMB
from jaxmoust.data.sources.scan_cache import REMEMBERED_FROM, load, save

LEFT_OUT = "; the other one is left out."
TOGETHER = "data.near_duplicates='together' leaves the other one out."


def parted(
    sources: Sequence[Source], splits: Sequence[str], near_duplicates_are: str, look: Look | None = None
) -> tuple[list[Source], tuple[str, ...]]:
    """Compares the images of a test split with those of the others, and those of the others with the training images.

    Args:
        sources: one for each of the splits.
        near_duplicates_are: "report", or "together": then of two copies the one of the test split is kept, or else the
            one that is not of train, and what is left is grouped, so that a set cut later does not divide copies.
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
    ranks = np.array([{"test": 2, "train": 0}.get(split, 1) for split in splits])[parts]
    if near_duplicates_are == "report":
        return kept, between(pairs, ranks, lambda i: f"{splits[parts[i]]} {places[i]}", f". {TOGETHER}")[1]
    left_out, notes = between(pairs, ranks, lambda i: f"{splits[parts[i]]} {places[i]}", LEFT_OUT)
    for part, source in enumerate(sources):
        of_part = places[pairs[(parts[pairs] == part).all(axis=1)]]
        groups = joined(of_part, np.arange(len(source)) if source.groups is None else source.groups)
        keys = np.setdiff1d(np.arange(len(source)), places[left_out[parts[left_out] == part]])
        kept[part] = replace(source, groups=groups)
        kept[part] = kept[part] if keys.size == len(source) else kept[part].subset(keys)
    return kept, notes


def between(
    pairs: np.ndarray, ranks: np.ndarray, called: Callable[[int], str], then: str
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Finds the pairs of images whose two are of different splits.

    Args:
        pairs: int64 [p, 2], of n images. ranks: [n], of each image's split: test 2, train 0, any other 1.
        called: what an image is called. then: the end of each sentence.
    Returns: (int64 [q], of each such pair the one of the lower rank, which is to be left out; what is to be said).
    """
    rank, notes = ranks[pairs], []
    is_between = rank[:, 0] != rank[:, 1]
    for held, split, other in ((2, "test", "another split"), (1, "validation", "train")):
        if len(those := pairs[is_between & (rank.max(axis=1, initial=0) == held)]):
            shown = ", ".join(" and ".join(map(called, pair)) for pair in those[:5])
            notes += [f"Images of {split} that look the same as one of {other}: {len(those):,} ({shown}){then}"]
    return pairs[is_between, rank[is_between].argmin(axis=1)], tuple(notes)


def _thumbs(source: Source) -> np.ndarray:
    """Every image grey and very small: uint8 [n, 8, 9]."""
    what, shape = f"thumbs of {source.name}", (len(source), *THUMB[::-1])
    if (known := load(what, source.digest)) is not None and len(known) == np.prod(shape):
        return np.frombuffer(known, np.uint8).reshape(shape)

    with ThreadPoolExecutor() as threads:
        found = np.stack([*threads.map(lambda i: thumb(source.read(i)), range(len(source)))])
    if len(source) >= REMEMBERED_FROM:
        save(what, source.digest, found.tobytes())
    return found


def thumb(pixels: np.ndarray) -> np.ndarray:
    """An image uint8 [H, W, C] grey and very small: uint8 [8, 9]."""
    image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).convert("L")
    return np.asarray(image.resize(THUMB, Image.Resampling.BOX))
