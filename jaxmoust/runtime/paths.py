"""Files that appear whole or not at all, and files of a user that are read or refused. Free of jax: for every room.

What a user names is looked at before it is opened, and its size before memory is taken: a pipe waits for ever, a
device has no end, and an archive may announce more than a machine holds.
"""

import contextlib
import functools
import hashlib
import json
import math
import os
import re
import stat
import time
import uuid
import zipfile
import zlib
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np

MOST_BYTES = 1 << 27  # of a text: a table of a million prompts
MOST_JSON_BYTES = 1 << 26  # as objects it takes up to 25 times as much; labels of ImageNet are 45 MB
MAX_RATIO = 100  # of unpacked to packed; images are packed already and come at about 1
SMALL_BYTES = 1 << 20  # below this no ratio matters
# What an archive that is damaged or of another kind raises, when it is opened or read.
ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, OSError, EOFError, RuntimeError, NotImplementedError, ValueError)

_KINDS = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket"}
# All controls but tab, line feed and carriage return (of progress bars); marks of direction; halves of characters.
_CONTROLS = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_TEMPORARY = ".{name}.{unique}.tmp"
# A file that was written longer ago than this is not about to change unnoticed: clocks of disks tick no coarser.
_SETTLED_NS = 2_000_000_000


def cache_folder() -> Path:
    """The user's cache: what the variable JAXMOUST_CACHE names, or ~/.cache/jaxmoust.

    Raises: RuntimeError: there is no home to keep it in.
    """
    return Path(os.environ.get("JAXMOUST_CACHE") or Path.home() / ".cache" / "jaxmoust").expanduser()


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[IO[bytes]]:
    """Gives a file to write; when the block ends well it takes the place of `path`, else nothing has changed.

    Whoever reads, and whenever the machine stops, finds the old file or the new one: the bytes, then the folder's
    entry, are forced to the disk. Two writers of one path do not meet: each has a file of its own until then.
    """
    path = Path(path)
    temporary = path.with_name(_TEMPORARY.format(name=path.name, unique=uuid.uuid4().hex))
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync(path.parent)


def atomic_write(path: str | os.PathLike, data: bytes | str) -> None:
    """Replaces the file whole, see `replacing`. Text is written as UTF-8."""
    with replacing(path) as file:
        file.write(data.encode() if isinstance(data, str) else data)


def visible(text: str) -> str:
    r"""Writes what steers a terminal, turns the direction of text or is no character as Python does: \x1b, \udcff."""
    return _CONTROLS.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def sync(path: str | os.PathLike) -> None:
    """Forces a file, or the entries of a folder, to the disk, else a power cut may forget a new name."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sweep(folder: str | os.PathLike, name: str = "*", age_secs: float = 0.0) -> None:
    """Removes what killed writers of the files NAME (a pattern) left half written in a folder.

    Args: age_secs: what is younger stays; 0 where no other process writes these files.
    """
    for path in Path(folder).glob(_TEMPORARY.format(name=name, unique="*")):
        with contextlib.suppress(OSError):  # somebody else swept, or may alone
            if not age_secs or time.time() - path.stat().st_mtime > age_secs:
                path.unlink()


def file_digest(path: str | os.PathLike) -> str:
    """The SHA-256 of a file, "" of one that cannot be read; one that has long been as it is, is read once a process."""
    try:
        status = check_plain(path)
        facts = (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
        settled = max(status.st_mtime_ns, status.st_ctime_ns) < time.time_ns() - _SETTLED_NS
        return (_read_digest if settled else _read_digest.__wrapped__)(os.fspath(path), *facts)
    except (OSError, ValueError):
        return ""


@functools.lru_cache(maxsize=1 << 16)
def _read_digest(path: str, *facts: int) -> str:
    with open(path, "rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def refuse_url(what: str, text: str, allowed: Collection[str] = ()) -> None:
    """Refuses the address of something that is on no disk. Raises: ValueError: it is a URL; what can be done.

    Args: allowed: the schemes that are taken here.
    """
    scheme = re.match(r"[A-Za-z][A-Za-z0-9+.-]*(?=://)", text)
    if scheme and scheme[0] not in allowed:
        others = "".join(f", and folders of buckets by {one}://" for one in allowed)
        raise ValueError(
            f"{what} is {text}: {scheme[0]}:// is not read or written, only folders and files of this machine{others}. "
            "Copy what is there to a disk, or write to a disk and copy that; a bucket that is mounted is a folder, "
            "too, but its locks do not reach other machines."
        )


def check_plain(
    path: str | os.PathLike, status: os.stat_result | None = None, most_bytes: float = math.inf
) -> os.stat_result:
    """Gives the state of a plain file; opening anything else may hang, never end, or do something.

    Args: status: what the file system says of it, where that has been asked. most_bytes: the size that is allowed.
    Raises: OSError: nothing there. ValueError: a pipe, a device, a socket or a folder, or a larger file.
    """
    status = status or os.stat(path)
    if not stat.S_ISREG(status.st_mode):
        kind = _KINDS.get(stat.S_IFMT(status.st_mode), "a device")
        raise ValueError(f"Got {os.fspath(path)}, which is {kind}, expected a plain file. Remove or replace it.")
    if status.st_size > most_bytes:
        size = f"{status.st_size:,} bytes"
        raise ValueError(
            f"Got {os.fspath(path)} of {size}, expected at most {most_bytes:,}. Give or put a smaller one."
        )
    return status


def read_bytes(path: str | os.PathLike, most_bytes: int = MOST_BYTES) -> bytes:
    """Reads a plain file whole; errors as `check_plain`."""
    size = check_plain(path, most_bytes=most_bytes).st_size
    with open(path, "rb", buffering=0) as file:
        data = file.read(size + 1)  # one more than there is: at the end of the file in one call
    if len(data) != size:
        raise ValueError(f"Got {os.fspath(path)}, which changes while it is read. Wait for who writes it.")
    return data


def read_text(path: str | os.PathLike, most_bytes: int = MOST_BYTES) -> str:
    """Reads a text in UTF-8; errors as `check_plain`. Raises: ValueError: bytes that are no text, too."""
    text = read_bytes(path, most_bytes).decode()
    if "\0" in text:
        raise ValueError(f"Got {os.fspath(path)} with bytes of zero, expected a text in UTF-8. Write it again.")
    return text


def read_json(path: str | os.PathLike) -> Any | None:
    """Reads a JSON file; None when there is none. Raises ValueError, with the place, when it is damaged."""
    try:
        text = read_text(path, MOST_JSON_BYTES)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read: {error}.") from error
    return parse_json(text, str(path))


def parse_json(text: str | bytes, path: str) -> Any:
    """Reads JSON. Raises ValueError, with the path that it is of and the place, when it is damaged or too long."""
    if len(text) > MOST_JSON_BYTES:
        raise ValueError(f"{path} is of {len(text):,} bytes, expected at most {MOST_JSON_BYTES:,}. Make it smaller.")
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError(f"{path} is damaged: its JSON is nested too deep. Put back a whole copy.") from error
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{path} is damaged: not JSON at line {error.lineno} column {error.colno} ({error.msg}). "
            "Put back a whole copy, or remove the folder and run again."
        ) from error
    except ValueError as error:  # a number of thousands of digits
        raise ValueError(f"{path} is damaged: {error}. Put back a whole copy.") from error


def read_npz(path: str | os.PathLike, names: tuple[str, ...] = ()) -> dict[str, np.ndarray]:
    """Reads arrays of a .npz file, without ever unpickling, each as large as its header and the archive agree on.

    Args: names: those that are wanted, by default all; one that is not there is left out.
    Raises: ValueError: no plain file, no whole archive, or an array that is no plain numbers or unpacks beyond reason.
    """
    arrays = {}
    try:
        size = check_plain(path).st_size
        with zipfile.ZipFile(path) as archive:
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            members = {name: info for name, info in members.items() if not names or name in names}
            if sum(info.file_size for info in members.values()) > max(MAX_RATIO * size, SMALL_BYTES):
                largest = max(members, key=lambda name: members[name].file_size)
                packed = f"arrays packed at most {MAX_RATIO} to 1"
                raise _NoArray(f"Got {largest} in {path}, expected {packed}. Fetch it again.")
            for name, info in members.items():
                try:
                    with archive.open(info) as file:
                        _check_size(file, info.file_size)
                    with archive.open(info) as file:
                        arrays[name] = np.lib.format.read_array(file, allow_pickle=False)
                except (ValueError, MemoryError) as error:
                    what = f"which is not as many plain numbers as its header announces ({error})"
                    raise _NoArray(f"Got {name} in {path}, {what}. Fetch the file again.") from error
    except _NoArray:
        raise
    except ZIP_ERRORS as error:
        raise ValueError(f"Got {path}, which is no whole .npz file: {error}. Fetch it again.") from error
    return arrays


class _NoArray(ValueError):
    """A member of a .npz file that is refused by its name."""


def _check_size(file: IO[bytes], size: int) -> None:
    """Refuses an array that announces more, or less, than its file holds."""
    is_first = np.lib.format.read_magic(file) == (1, 0)
    shape, _, dtype = (np.lib.format.read_array_header_1_0 if is_first else np.lib.format.read_array_header_2_0)(file)
    if not dtype.hasobject and math.prod(shape) * dtype.itemsize != size - file.tell():
        raise ValueError(f"it announces {shape} of {dtype} and holds {size - file.tell():,} bytes")
