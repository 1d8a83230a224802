"""Where the images of a batch come from: memory, a map of decoded images, or their files, read when asked for.

The three give the same pixels, but for photographs that `RandomResizedCrop` reads at a reduced scale. It knows
nothing of order (samplers), of batches (loader) or of devices.
"""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import grain
import numpy as np

from jaxmoust.data.checks import check_choice
from jaxmoust.data.loading.memmap import Map, fill, open_map
from jaxmoust.data.loading.transforms import Prepared, RandomResizedCrop, Resize
from jaxmoust.data.samplers.base import draw_rng
from jaxmoust.data.source import Source

Transform: TypeAlias = grain.transforms.Map | grain.transforms.RandomMap
Shape = tuple[int, int, int]

DECODED = ("auto", "memory", "map", "none")
MEMORY_BYTES = 1 << 30  # "auto" holds no more than this in memory
_MIN_THREADS = 8  # some of them wait for a disk
_MAX_PIECE = 8  # images a thread reads before it hands over: small ones are as quick to read as to hand over
_TAKE_ENCODED = (Prepared, Resize, RandomResizedCrop)


@dataclass(frozen=True)
class _AsItIs(grain.transforms.Map):
    """Keeps an image: what is kept of it where a random transform follows."""

    def map(self, element: np.ndarray) -> np.ndarray:
        return element


@dataclass(frozen=True, eq=False)
class Images:
    """The images of some sources, brought to one shape; see `open_images`.

    Attributes:
        sources: S sources.
        transform: what brings an image to `shape`.
        shape: (H, W, C) of the result.
        arrays: per source its images, uint8 [N, ...]: in `shape`, or as they are where `transform` is random;
            None where they are read when asked for.
        num_threads: threads that read a batch; 0: the one that asks.
        mapped: whether arrays are maps, which wait for a disk when they are new.
    """

    sources: tuple[Source, ...]
    transform: Transform
    shape: Shape
    arrays: tuple[np.ndarray | Map | None, ...]
    num_threads: int = 0
    mapped: bool = False
    _threads: ThreadPoolExecutor | None = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Keeps the threads from one batch to the next."""
        threads = ThreadPoolExecutor(self.num_threads, "read-images") if self.num_threads else None
        object.__setattr__(self, "_threads", threads)

    @property
    def is_random(self) -> bool:
        """Whether the transform draws, so that it runs anew on each draw."""
        return isinstance(self.transform, grain.transforms.RandomMap)

    @property
    def only_gathers(self) -> bool:
        """Whether a batch is nothing but a copy of rows."""
        return not self.is_random and all(array is not None for array in self.arrays)

    def gather(self, source: np.ndarray, place: np.ndarray, seed: int, position: np.ndarray) -> np.ndarray:
        """Reads image place[j] of source source[j] for each j: uint8 [b, H, W, C].

        A random transform of image j is keyed by (seed, position[j]).
        """
        ready = {s: array for s, array in enumerate(self.arrays) if array is not None and not self.is_random}
        if len(ready) == len(self.sources) == 1:
            return ready[0].take(place, 0)
        images = np.empty((place.size, *self.shape), np.uint8)
        for s, array in ready.items():
            which = np.flatnonzero(source == s)
            images[which] = array.take(place[which], 0)

        def read(which: np.ndarray) -> None:
            for j in which.tolist():
                images[j] = self.read(int(source[j]), int(place[j]), seed, int(position[j]))

        which = np.flatnonzero(~np.isin(source, list(ready)))
        size = min(max(which.size // max(self.num_threads, 1), 1), _MAX_PIECE)
        pieces = [which[i : i + size] for i in range(0, which.size, size)]
        for _ in map(read, pieces) if self._threads is None else self._threads.map(read, pieces):
            pass
        return images

    def read(self, source: int, place: int, seed: int = 0, position: int = 0) -> np.ndarray:
        """Reads one image and brings it to `shape`; arguments as `gather`.

        Raises: ValueError: an unreadable image, or a transform that makes another shape.
        """
        array = self.arrays[source]
        image: Any = None  # an array or `Encoded`
        if array is None and isinstance(self.transform, _TAKE_ENCODED):
            image = self.sources[source].encoded(place)
        if image is None:
            image = self.sources[source].read(place) if array is None else array[place]
        if isinstance(self.transform, grain.transforms.RandomMap):
            image = self.transform.random_map(image, draw_rng(seed, position))
        else:
            image = self.transform.map(image)
        if image.shape != self.shape:  # numpy would broadcast a grey image over three channels in silence
            raise ValueError(
                f"Got an image of shape {image.shape} from {self.transform}, expected {self.shape}. Give the "
                f"transform the same image_px and channels as the stream."
            )
        return image


def open_images(
    sources: Sequence[Source],
    transform: Transform,
    shape: Shape,
    decoded: str = "auto",
    map_dir: str | Path = "",
    num_threads: int | None = None,
) -> Images:
    """Decides where images come from, and decodes what is to be held.

    What is held is what the transform gives; or, under a random one, images as they are, which needs a source
    whose images have one shape. Arrays in memory that are as they should be are used where they are.

    Args:
        sources: S sources.
        transform: what brings an image to `shape`.
        shape: (H, W, C).
        decoded: "memory"; "map": in a file, see `image_map`; "none": read and transformed each time; "auto":
            memory if that takes no more than MEMORY_BYTES, else a map if map_dir is given, else none.
        map_dir: the folder of maps, which may grow as large as the decoded images.
        num_threads: threads that read; by default one a core, and at least 8; 0: the one that asks.
    Raises: ValueError: an unknown way, "map" without a folder or a folder without a map, images of several
        shapes to hold, an unreadable image, no room on the disk, a map that is not what it should be.
    """
    check_choice("decoded", decoded, DECODED)
    if (decoded == "map" and not map_dir) or (map_dir and decoded not in ("auto", "map")):
        raise ValueError(
            f"Got decoded={decoded!r} with map_dir={str(map_dir)!r}, expected a folder with 'map' or 'auto' and "
            f"none with the others. Name the folder that may hold the decoded images, or choose another way."
        )
    threads = max(_MIN_THREADS, os.cpu_count() or 1) if num_threads is None else num_threads
    is_random = isinstance(transform, grain.transforms.RandomMap)
    kept = _AsItIs() if is_random else transform
    arrays: list[np.ndarray | Map | None] = [_as_it_is(source, kept) for source in sources]
    missing = {s: sources[s].shape if is_random else shape for s, array in enumerate(arrays) if array is None}
    shapes = {s: size for s, size in missing.items() if size is not None}
    if decoded == "auto":
        num_bytes = sum(len(sources[s]) * int(np.prod(size)) for s, size in shapes.items())
        one_shape = len(shapes) == len(missing)
        decoded = "memory" if one_shape and num_bytes <= MEMORY_BYTES else "map" if one_shape and map_dir else "none"
    if decoded == "none":
        shapes = {}
    elif unlike := [sources[s].name for s in missing if s not in shapes]:
        raise ValueError(
            f"Got decoded={decoded!r} for {unlike}, whose images differ in size and are cut at random: nothing decoded "
            f"fits them all. Use 'none', or a transform that is not random."
        )
    for s, size in shapes.items():
        make = partial(Images((sources[s],), kept, size, (None,)).read, 0)
        if decoded == "map":
            arrays[s] = open_map(sources[s], kept, size, make, Path(map_dir), threads)
        else:
            images = np.empty((len(sources[s]), *size), np.uint8)
            fill(images, make, threads)
            arrays[s] = images
    reads = is_random or any(array is None for array in arrays)
    mapped = decoded == "map" and bool(shapes)
    return Images(tuple(sources), transform, shape, tuple(arrays), threads if reads else 0, mapped)


def _as_it_is(source: Source, transform: Transform) -> np.ndarray | None:
    """The array of a source whose images are in memory and that the transform would leave as they are."""
    keeps = isinstance(transform, _AsItIs) or (isinstance(transform, Resize) and transform.keeps(source.shape))
    return source.records if keeps and isinstance(source.records, np.ndarray) else None
