"""Decoded images in a file that many processes map into their memory: made once, for sets too large to hold.

A map is a plain .npy file, uint8 [N, H, W, C]. Its name carries a digest of what is in it (the source's digest,
the transform, the shape), so that another data set or another transform is another file, and it appears under
that name whole or not at all. Only one process makes it, which has the lock on a file beside it; the others wait, and
all share its pages.
"""

import errno
import logging
import os
import re
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from jaxmoust.data.source import Source, digest_bytes
from jaxmoust.runtime.lock import alone
from jaxmoust.runtime.paths import replacing, sweep

_LOG = logging.getLogger(__name__)
_AT_ONCE = 256  # images a thread makes before it hands over: handing over costs as much as a small image
_NUM_CHECKED = 32  # images that are made again when a map is opened, evenly spread
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

Make = Callable[[int], np.ndarray]


def map_path(source: Source, transform: object, shape: tuple[int, int, int], folder: Path) -> Path:
    """Names the map of a source's images under a transform.

    Raises: ValueError: a transform whose repr does not say what it does.
    """
    text = repr(transform)
    if re.search(r"\bat 0x[0-9a-f]+", text):
        raise ValueError(f"Got {text} for a map, allowed is a transform that says what it does: a frozen dataclass.")
    digest = digest_bytes(source.digest.encode(), text.encode(), repr((len(source), *shape)).encode())
    return Path(folder).expanduser() / f"decoded-{'x'.join(map(str, shape))}-{digest}.npy"


def open_map(
    source: Source, transform: object, shape: tuple[int, int, int], make: Make, folder: Path, num_threads: int
) -> np.ndarray:
    """Maps a source's images under a transform, and makes the map first where there is none.

    Args:
        source: N images.
        transform: what `make` does to them; together with the source's digest it names the file.
        shape: (H, W, C).
        make: make(i) is image i: uint8 of that shape. Called from several threads.
        folder: where maps lie; made if need be.
        num_threads: threads that make images.
    Returns: uint8 [N, H, W, C], read-only; processes that map the same file share its memory.
    Raises: ValueError: no room on the disk, or a file of that name that holds something else.
    """
    path = map_path(source, transform, shape, folder)
    size = (len(source), *shape)
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with alone(path.with_name(f".{path.name}.lock")):
            if not path.exists():  # else another process has made it by now
                sweep(path.parent, path.name)
                _write(path, size, make, num_threads)
    return _checked(path, size, make)


def fill(images: np.ndarray, make: Make, num_threads: int) -> None:
    """Writes make(i) to images[i] for every i, in several threads; raises what `make` raises."""

    def some(start: int) -> None:
        for i in range(start, min(start + _AT_ONCE, len(images))):
            images[i] = make(i)

    threads = ThreadPoolExecutor(max(1, num_threads))
    try:
        for _ in threads.map(some, range(0, len(images), _AT_ONCE)):
            pass
    finally:
        threads.shutdown(cancel_futures=True)  # after an error the rest is not worth making


def _write(path: Path, size: tuple[int, ...], make: Make, num_threads: int) -> None:
    num_gb = np.prod(size, dtype=np.int64) / 1e9
    with replacing(path) as file:
        try:
            images = np.lib.format.open_memmap(file.name, "w+", np.uint8, size)
            if hasattr(os, "posix_fallocate"):  # a full disk is an error now, not a signal in the middle
                os.posix_fallocate(file.fileno(), 0, os.fstat(file.fileno()).st_size)
        except OSError as error:
            if error.errno not in _NO_ROOM:
                raise
            free = shutil.disk_usage(path.parent).free / 1e9
            raise ValueError(
                f"Got no room for {num_gb:.3g} GB of decoded images in {path.parent} ({error.strerror}; free: "
                f"{free:.3g} GB): make room, name another folder, or set decoded to 'none'."
            ) from error
        _LOG.warning("Decoding %d images into %s, %.3g GB, once.", size[0], path, num_gb)
        fill(images, make, num_threads)
        images.flush()


def _checked(path: Path, size: tuple[int, ...], make: Make) -> np.ndarray:
    """Opens a map and compares a few images, the first and the last among them, with what the source gives."""
    try:
        images = np.load(path, mmap_mode="r")
    except (OSError, ValueError, EOFError) as error:
        raise ValueError(f"Got {path}, which is no map of decoded images: {error}. Delete it.") from error
    if not isinstance(images, np.ndarray) or (images.shape, images.dtype) != (size, np.uint8):
        raise ValueError(f"Got {path}, which is no map of {size} uint8 images: delete it; it is made again.")
    images = images.view(np.ndarray)
    for i in np.unique(np.linspace(0, size[0] - 1, _NUM_CHECKED).astype(np.int64)).tolist():
        if not np.array_equal(images[i], make(i)):
            raise ValueError(
                f"Got {path}, whose image {i} is not what the data set gives now: the file was changed, or images "
                f"are decoded differently here (another version of Pillow). Delete it; it is made again."
            )
    return images
