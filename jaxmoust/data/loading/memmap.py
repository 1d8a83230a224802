"""Decoded images in a file that many processes map into their memory: made once, for sets too large to hold.

A map is a plain .npy file, uint8 [N, H, W, C], after whose array stand digests of its blocks. Its name carries a digest
of what is in it (the source's digest, the transform, the shape), so that another data set or another transform is
another file, and it appears under that name whole or not at all. Only one process makes it, which has the lock on a
file beside it; the others wait, and all share its pages. A block is compared with its digest when a process first
touches it, and made again where it was damaged.
"""

import errno
import hashlib
import io
import logging
import math
import os
import re
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from jaxmoust.data.source import Source, digest_bytes
from jaxmoust.runtime.lock import alone
from jaxmoust.runtime.paths import replacing, sweep

_LOG = logging.getLogger(__name__)
_AT_ONCE = 256  # images a thread makes before it hands over: handing over costs as much as a small image
_NUM_CHECKED = 32  # images that are made again when a map is opened, evenly spread
_BLOCK_BYTES = 1 << 18  # hashed in a fraction of a millisecond; read at once where one image of it is wanted
_SUM_BYTES = 16
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

# Counts up when the same bytes come to be read as other pixels; 2: upright, see data/image.py.
_READING_RULE = b"2"

Make = Callable[[int], np.ndarray]


@dataclass(frozen=True, eq=False)
class Map:
    """Decoded images in a file; what is read of it is as it was written, or made again.

    Attributes:
        path: the file.
        images: uint8 [N, H, W, C], mapped: not compared with their digests yet.
        sums: uint8 [blocks, 16], digests of blocks of images.
        make: make(i) is image i.
    """

    path: Path
    images: np.ndarray = field(repr=False)
    sums: np.ndarray = field(repr=False)
    make: Make = field(repr=False)
    _is_checked: np.ndarray = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Nothing is compared yet."""
        object.__setattr__(self, "_is_checked", np.zeros(len(self.sums), bool))

    def __len__(self) -> int:
        """The number of images, N."""
        return len(self.images)

    def __getitem__(self, i: int) -> np.ndarray:
        """Image i: uint8 [H, W, C]."""
        return self.take(np.array([i]))[0]

    def take(self, keys: np.ndarray, axis: int = 0) -> np.ndarray:
        """The images of these indices: uint8 [b, H, W, C]. Raises: ValueError: a block that is not as it was made."""
        blocks = keys // _block_images(self.images.shape)
        for block in np.unique(blocks[~self._is_checked[blocks]]).tolist():
            self._check(block)
        return self.images.take(keys, axis)

    def _check(self, block: int) -> None:
        """Compares a block with its digest, and puts images that are made again in the place of damaged ones."""
        num = _block_images(self.images.shape)
        start, stop = block * num, min((block + 1) * num, len(self))
        if _sum(self.images[start:stop]) != self.sums[block].tobytes():
            _LOG.warning("Images %d to %d of %s are damaged; they are made again.", start, stop - 1, self.path)
            data = np.stack([self.make(i) for i in range(start, stop)])
            if _sum(data) != self.sums[block].tobytes():
                raise ValueError(
                    f"Got {self.path}, whose images {start} to {stop - 1} are neither what was written nor what the "
                    f"data set gives now. Delete it; it is made again."
                )
            try:
                with self.path.open("r+b") as file:
                    file.seek(len(_header(self.images.shape)) + start * data[0].nbytes)
                    file.write(data.tobytes())
            except OSError as error:
                raise ValueError(f"Got {self.path}, damaged and not to be mended ({error}). Delete it.") from error
        self._is_checked[block] = True


def map_path(source: Source, transform: object, shape: tuple[int, int, int], folder: Path) -> Path:
    """Names the map of a source's images under a transform.

    Raises: ValueError: a transform whose repr does not say what it does.
    """
    text = repr(transform)
    if re.search(r"\bat 0x[0-9a-f]+", text):
        raise ValueError(
            f"Got {text} for a map, expected a transform that says what it does. Write a frozen dataclass."
        )
    parts = source.digest.encode(), text.encode(), repr((len(source), *shape)).encode(), _READING_RULE
    digest = digest_bytes(*parts)
    return Path(folder).expanduser() / f"decoded-{'x'.join(map(str, shape))}-{digest}.npy"


def open_map(
    source: Source, transform: object, shape: tuple[int, int, int], make: Make, folder: Path, num_threads: int
) -> Map:
    """Maps a source's images under a transform, and makes the map first where there is none.

    Args:
        source: N images.
        transform: what `make` does to them; together with the source's digest it names the file.
        shape: (H, W, C).
        make: make(i) is image i: uint8 of that shape. Called from several threads.
        folder: where maps lie; made if need be.
        num_threads: threads that make images.
    Returns: the map; processes that open the same file share its memory.
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
    return _opened(path, size, make)


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
    header, num_bytes = _header(size), math.prod(size)
    with replacing(path) as file:
        try:
            file.write(header)
            file.truncate(_file_bytes(size))
            if hasattr(os, "posix_fallocate"):  # a full disk is an error now, not a signal in the middle
                os.posix_fallocate(file.fileno(), 0, _file_bytes(size))
        except OSError as error:
            if error.errno not in _NO_ROOM:
                raise
            free = shutil.disk_usage(path.parent).free / 1e9
            raise ValueError(
                f"Got no room for {num_bytes / 1e9:.3g} GB of decoded images in {path.parent} ({error.strerror}; free: "
                f"{free:.3g} GB). Make room, name another folder, or set decoded to 'none'."
            ) from error
        _LOG.warning("Decoding %d images into %s, %.3g GB, once.", size[0], path, num_bytes / 1e9)
        images = np.memmap(file.name, np.uint8, "r+", len(header), size)
        fill(images, make, num_threads)
        images.flush()
        file.seek(len(header) + num_bytes)
        num = _block_images(size)
        with ThreadPoolExecutor(max(1, num_threads)) as threads:
            file.writelines(threads.map(lambda start: _sum(images[start : start + num]), range(0, size[0], num)))


def _opened(path: Path, size: tuple[int, ...], make: Make) -> Map:
    """Opens a map and compares a few images, the first and the last among them, with what the source gives."""
    header, end = _header(size), _file_bytes(size)
    with path.open("rb") as file:
        is_whole = file.read(len(header)) == header and file.seek(0, os.SEEK_END) == end
        file.seek(len(header) + math.prod(size))
        sums = np.frombuffer(file.read(), np.uint8) if is_whole else np.empty(0, np.uint8)
    if not is_whole:
        raise ValueError(f"Got {path}, which is no map of {size} uint8 images. Delete it; it is made again.")
    images = np.memmap(path, np.uint8, "r", len(header), size).view(np.ndarray)
    opened = Map(path, images, sums.reshape(-1, _SUM_BYTES), make)
    for i in np.unique(np.linspace(0, size[0] - 1, _NUM_CHECKED).astype(np.int64)).tolist():
        if not np.array_equal(opened[i], make(i)):
            raise ValueError(
                f"Got {path}, whose image {i} is not what the data set gives now: the file was changed, or images "
                f"are decoded differently here (another version of Pillow). Delete it; it is made again."
            )
    return opened


def _header(size: tuple[int, ...]) -> bytes:
    """The beginning of the file: that of a .npy file."""
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "|u1", "fortran_order": False, "shape": size})
    return buffer.getvalue()


def _block_images(size: tuple[int, ...]) -> int:
    return max(1, _BLOCK_BYTES // math.prod(size[1:]))


def _file_bytes(size: tuple[int, ...]) -> int:
    return len(_header(size)) + math.prod(size) + _SUM_BYTES * -(-size[0] // _block_images(size))


def _sum(images: np.ndarray) -> bytes:
    return hashlib.sha256(images.reshape(-1).data).digest()[:_SUM_BYTES]
