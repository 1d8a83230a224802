"""Files that harm who believes them, and odd ones that do not: a function a kind, each writes one file and gives it.

SPECIAL are no plain files, or have no end. The others are by what reads them: images, tables and lists, arrays,
archives, JSON. None takes more than a few megabytes of disk.
"""

import gzip
import io
import json
import os
import socket
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

Make = Callable[[Path], Path]
_GIB = 1 << 30


def fifo(path: Path) -> Path:
    """A pipe that nobody writes to: whoever opens it waits for ever."""
    os.mkfifo(path)
    return path


def zeros(path: Path) -> Path:
    """A device without an end."""
    path.symlink_to("/dev/zero")
    return path


def unix_socket(path: Path) -> Path:
    """A socket. Its name is bound from its folder, as a path of a socket may have 107 bytes only."""
    here = os.getcwd()
    os.chdir(path.parent)
    try:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path.name)
    finally:
        os.chdir(here)
    return path


def folder(path: Path) -> Path:
    """A folder in the place of a file."""
    path.mkdir()
    return path


def sparse(path: Path) -> Path:
    """A plain file of 64 GiB that takes no room."""
    path.touch()
    os.truncate(path, 64 * _GIB)
    return path


SPECIAL: tuple[Make, ...] = (fifo, zeros, unix_socket, folder, sparse)


def postscript(path: Path) -> Path:
    """A drawing that PIL would hand to Ghostscript."""
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n%%EOF\n")
    return path


def png_chunk(kind: bytes, data: bytes) -> bytes:
    """One part of a PNG file."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(path: Path, side: int, *chunks: bytes, rows: bytes = b"") -> Path:
    """A grey PNG that announces side x side pixels and holds the given bytes of them."""
    head = png_chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0))
    data = png_chunk(b"IDAT", zlib.compress(rows, 9))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + head + b"".join(chunks) + data + png_chunk(b"IEND", b""))
    return path


def huge_png(path: Path) -> Path:
    """A PNG that announces 3.6 thousand million pixels."""
    return png(path, 60_000)


def wordy_png(path: Path) -> Path:
    """A small PNG with a comment that unpacks to a gibibyte."""
    packer = zlib.compressobj(9)
    text = b"".join(packer.compress(bytes(1 << 24)) for _ in range(64)) + packer.flush()
    return png(path, 2, png_chunk(b"zTXt", b"Comment\0\0" + text), rows=bytes(6))


def truncated_png(path: Path) -> Path:
    """A PNG without its pixels."""
    return png(path, 2_000)


def web_page(path: Path) -> Path:
    """What a server says instead of a file."""
    path.write_bytes(b"<!DOCTYPE html><html>Access denied</html>")
    return path


def empty(path: Path) -> Path:
    """Nothing."""
    path.write_bytes(b"")
    return path


IMAGES: tuple[Make, ...] = (postscript, huge_png, wordy_png, truncated_png, web_page, empty)


def nul_bytes(path: Path) -> Path:
    """Four million bytes that are no text."""
    path.write_bytes(bytes(1 << 22))
    return path


def latin1(path: Path) -> Path:
    """A text that is not UTF-8."""
    path.write_bytes("file,label\n0.png,é\n".encode("latin-1"))
    return path


def many_columns(path: Path) -> Path:
    """A line of four million fields."""
    path.write_bytes(b"," * (1 << 22))
    return path


def many_lines(path: Path) -> Path:
    """Eight million short rows, which take a gigabyte as objects."""
    path.write_bytes(b"file,label\n" + b"a,b\n" * (1 << 23))
    return path


TEXTS: tuple[Make, ...] = (nul_bytes, latin1, empty)
TABLES: tuple[Make, ...] = (*TEXTS, many_columns)


def deep_json(path: Path) -> Path:
    """JSON of a hundred thousand lists, one inside the other."""
    path.write_text("[" * 10**5 + "]" * 10**5)
    return path


def long_number(path: Path) -> Path:
    """JSON with a number of ten thousand digits."""
    path.write_text('{"top1": ' + "1" * 10**4 + "}")
    return path


JSONS: tuple[Make, ...] = (deep_json, long_number, nul_bytes, latin1, empty)


def idx(path: Path, shape: tuple[int, ...], num_bytes: int) -> Path:
    """A packed IDX file that announces a shape and holds so many zeros."""
    with gzip.open(path, "wb", 9) as file:
        file.write(b"\0\0\x08" + bytes([len(shape)]) + struct.pack(f">{len(shape)}i", *shape))
        for start in range(0, num_bytes, 1 << 24):
            file.write(bytes(min(1 << 24, num_bytes - start)))
    return path


def packed_zeros(path: Path) -> Path:
    """Three megabytes that unpack to three gibibytes, as they announce; here a third of it."""
    return idx(path, (1 << 20, 32, 32), _GIB)


def more_than_announced(path: Path) -> Path:
    """An IDX file that announces four images and unpacks to a gibibyte."""
    return idx(path, (4, 8, 8), _GIB)


def negative_shape(path: Path) -> Path:
    """An IDX file whose sizes are negative, two of them."""
    return idx(path, (-4, -8, 2), 64)


IDX: tuple[Make, ...] = (packed_zeros, more_than_announced, negative_shape, web_page, empty)


def npz(path: Path, **changes: np.ndarray | bytes) -> Path:
    """A MedMNIST file of 4, 2 and 2 images with some of its arrays, or their bytes, changed."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for part, num in (("train", 4), ("val", 2), ("test", 2)):
            arrays = {"images": np.full((num, 4, 4), num, np.uint8), "labels": np.arange(num)[:, None]}
            for kind, array in arrays.items():
                data = changes.get(f"{part}_{kind}", array)
                archive.writestr(f"{part}_{kind}.npy", data if isinstance(data, bytes) else npy(data))
    return path


def npy(array: np.ndarray) -> bytes:
    """The bytes of an array's file."""
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def npy_header(shape: tuple[int, ...], descr: str = "|u1") -> bytes:
    """The beginning of an array's file."""
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": descr, "fortran_order": False, "shape": shape})
    return buffer.getvalue()


def largest_label(path: Path) -> Path:
    """Labels up to 2^31 - 1, each of which would be given a name."""
    return npz(path, train_labels=np.array([[0], [1], [2], [2**31 - 1]]))


def label_beyond_32_bits(path: Path) -> Path:
    """A label of 2^32, which 32 bits would take for 0."""
    return npz(path, train_labels=np.array([[0], [1], [2], [2**32]]))


def lying_npz(path: Path) -> Path:
    """An array that announces terabytes and holds a hundred bytes."""
    return npz(path, train_images=npy_header((1 << 20, 1 << 10, 1 << 10)) + bytes(100))


def packed_npz(path: Path) -> Path:
    """An array of 256 MiB of zeros in 256 KiB."""
    return npz(path, train_images=npy_header((1 << 16, 64, 64)) + bytes(1 << 28))


def pickled_npz(path: Path) -> Path:
    """An array of objects, which whoever opens them would run."""
    return npz(path, train_labels=npy_header((4,), "|O") + b"\x80\x04N.")


NPZ: tuple[Make, ...] = (*(largest_label, label_beyond_32_bits, lying_npz, packed_npz, pickled_npz, web_page, empty),)


def swelling_zip(path: Path) -> Path:
    """An archive of a quarter of a megabyte that unpacks to 256 MiB."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("cat/0.png", bytes(1 << 28))
    return path


def leading_out_zip(path: Path) -> Path:
    """An archive with a name that leads out of it."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("../0.png", b"x")
    return path


def damaged_zip(path: Path) -> Path:
    """Half of an archive."""
    leading_out_zip(path)
    path.write_bytes(path.read_bytes()[:40])
    return path


ZIPS: tuple[Make, ...] = (swelling_zip, leading_out_zip, damaged_zip, web_page, empty)


def chunks(root: Path, num: int = 24, labels: bool = True) -> Path:
    """A set as NVlabs' tools leave it: chunk folders of eight images, image i of value i and of class i % 3."""
    rows = []
    for i in range(num):
        name = f"{i // 8:05d}/img{i:08d}.png"
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        png(root / name, 4, rows=(b"\0" + bytes([i] * 4)) * 4)
        rows.append([name, i % 3])
    (root / "dataset.json").write_text(json.dumps({"labels": rows if labels else None}))
    return root


def made(kinds: tuple[Make, ...], root: Path, suffix: str = "") -> list[Path]:
    """One file of each kind in a folder, called by its kind."""
    root.mkdir(parents=True, exist_ok=True)
    return [make(root / f"{make.__name__}{suffix}") for make in kinds]
