"""Files that appear whole or not at all, and JSON that is read or refused. Free of jax: every room may use it."""

import contextlib
import json
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

_TEMPORARY = ".{name}.{unique}.tmp"


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
    sync_folder(path.parent)


def atomic_write(path: str | os.PathLike, data: bytes | str) -> None:
    """Replaces the file whole, see `replacing`. Text is written as UTF-8."""
    with replacing(path) as file:
        file.write(data.encode() if isinstance(data, str) else data)


def sync_folder(folder: str | os.PathLike) -> None:
    """Forces the entries of a folder to the disk, else a power cut may forget a new name."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sweep(folder: str | os.PathLike, name: str = "*") -> None:
    """Removes what killed writers of the files NAME (a pattern) left half written in a folder.

    Call it where no other process writes these files.
    """
    for path in Path(folder).glob(_TEMPORARY.format(name=name, unique="*")):
        path.unlink(missing_ok=True)


def read_json(path: str | os.PathLike) -> Any | None:
    """Reads a JSON file; None when there is none. Raises ValueError, with the place, when it is damaged."""
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read: {error}.") from error
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError(f"{path} is damaged: its JSON is nested too deep. Put back a whole copy.") from error
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{path} is damaged: not JSON at line {error.lineno} column {error.colno} ({error.msg}). "
            "Put back a whole copy, or remove the folder and run again."
        ) from error
