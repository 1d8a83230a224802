"""The files of a folder or of a zip archive of unknown origin: named, and read into memory one at a time.

Nothing is unpacked to disk and no link is followed. An archive is checked by its directory before any member is
read: names that lead out of it, links, encrypted members and zip bombs are refused.
"""

import os
import re
import stat
import zipfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from jaxmoust.data.checks import listed
from jaxmoust.data.image import AS_IT_IS, Encoded, EncodedImages, Reading
from jaxmoust.runtime.paths import MAX_RATIO, SMALL_BYTES, ZIP_ERRORS, read_bytes

MAX_FILE_BYTES = 1 << 28  # of one file: an image of 8,000 x 8,000 pixels without any compression
MAX_TOTAL_BYTES = 1 << 40
_SYSTEM = {"__macosx", "@eadir", "#recycle", "$recycle.bin", "system volume information", "lost+found"}
_SYSTEM |= {"thumbs.db", "desktop.ini", "ehthumbs.db"}
_PLAIN = (0, stat.S_IFREG, stat.S_IFDIR)


@dataclass(frozen=True)
class Members:
    """The files of one folder or archive.

    Attributes:
        path: the folder or archive.
        names: relative to it, with "/" between the parts, in order; hidden files are left out.
    """

    path: Path
    names: tuple[str, ...]

    def read(self, name: str) -> bytes:
        """Reads one file whole, which takes less time than to let a decoder read it piece by piece.

        Raises: ValueError: it cannot be read, or is not what the archive's directory says.
        """
        try:
            if self._archive is None:
                return read_bytes(os.path.join(self.path, name), MAX_FILE_BYTES)
            info = self._archive.getinfo(name)
            with self._archive.open(info) as file:
                return file.read(info.file_size + 1)  # one more than there is: the check sum is compared at the end
        except ZIP_ERRORS as error:
            raise ValueError(f"Got an unreadable file, {self.display_name(name)}: {error}. Replace it.") from error

    def display_name(self, name: str) -> str:
        """What errors call a file."""
        return str(self.path / name) if self._archive is None else f"{name} in {self.path}"

    @cached_property
    def _archive(self) -> zipfile.ZipFile | None:
        """Its readers may work in many threads: each keeps its own place, and the file is locked for a read."""
        return None if self.path.is_dir() else zipfile.ZipFile(self.path)

    def __getstate__(self) -> dict:
        """Leaves the open archive behind: a worker process opens its own."""
        return {"path": self.path, "names": self.names}


@dataclass(frozen=True)
class FileImages(EncodedImages):
    """Image files of a folder or an archive, decoded when read, all with the same number of channels."""

    members: Members
    channels: int
    reading: Reading = AS_IT_IS

    def __len__(self) -> int:
        """The number of images."""
        return len(self.members.names)

    def encoded(self, i: int) -> Encoded:
        """Image i as its file holds it."""
        name = self.members.names[i]
        return Encoded(self.members.read(name), self.channels, self.members.display_name(name), self.reading)

    def file(self, i: int) -> str:
        """What the file of image i is called."""
        return self.members.names[i]


def open_members(path: str | os.PathLike) -> Members:
    """Lists the files of a folder or a zip archive.

    Raises: ValueError: neither of the two; links or devices in the folder; a file of more than MAX_FILE_BYTES; an
        archive that is damaged, encrypted, or hostile (see `check_archive`).
    """
    root = Path(path).expanduser()
    if root.is_dir():
        names = _walk(root)
    elif root.is_file():
        try:
            with zipfile.ZipFile(root) as archive:
                infos = archive.infolist()
        except ZIP_ERRORS as error:
            raise ValueError(f"Got {root}, which is no whole zip archive: {error}. Fetch or pack it again.") from error
        check_archive(infos, root)
        names = [info.filename for info in infos if not info.is_dir()]
    else:
        raise ValueError(f"Got the path {root}, expected an existing folder or zip archive. Correct the path.")
    return Members(root, tuple(sorted(name for name in names if not is_system(name))))


def table_of(members: Members, table: str) -> tuple[bytes, str]:
    """Reads a table that is on the disk or among the files: (its bytes, the folder of the files that it lies in).

    Raises: ValueError: it cannot be read.
    """
    try:
        if table in members.names:
            return members.read(table), os.path.dirname(table)
        path, root = Path(table).expanduser(), members.path.resolve()
        inside = path.resolve().parent
        return read_bytes(path), os.path.relpath(inside, root) if root in inside.parents else ""
    except (OSError, ValueError) as error:
        raise ValueError(
            f"Got the table {table}, which cannot be read ({error}), expected a table such as a CSV file, on the "
            f"disk or in {members.path}. Correct the path."
        ) from error


def check_archive(infos: Sequence[zipfile.ZipInfo], path: Path) -> None:
    """Refuses an archive by its directory alone, with the names of what is wrong.

    Raises: ValueError: names that lead out of it (absolute, "..", a drive, a backslash), links and devices, two
        members of one name, encrypted members, members that share their bytes, or sizes beyond the limits above.
    """

    def refuse(kind: str, is_wrong: Callable[[zipfile.ZipInfo], bool], remedy: str) -> None:
        _refuse(kind, path, [info.orig_filename for info in infos if is_wrong(info)], remedy)

    repack, remove = "pack it again from plain files", "remove them, or unpack it yourself and give the folder"
    count = Counter(info.filename for info in infos)
    refuse("names that lead out of the archive or are not plain", lambda i: not is_inside(i.orig_filename), repack)
    refuse("links or devices", lambda i: stat.S_IFMT(i.external_attr >> 16) not in _PLAIN, repack)
    refuse("encrypted members", lambda i: bool(i.flag_bits & 1), "unpack it, and give the folder")
    refuse("members of the same name", lambda i: count[i.filename] > 1, repack)
    refuse(f"members of more than {MAX_FILE_BYTES:,} bytes", lambda i: i.file_size > MAX_FILE_BYTES, remove)
    refuse("members that unpack to over a hundred times their size", is_zip_bomb, remove)
    packed, unpacked = sum(info.compress_size for info in infos), sum(info.file_size for info in infos)
    size = path.stat().st_size
    if packed > size or unpacked > MAX_TOTAL_BYTES or unpacked > max(MAX_RATIO * size, SMALL_BYTES):
        raise ValueError(
            f"Got {path} of {size:,} bytes, whose directory lists {packed:,} packed and {unpacked:,} unpacked, "
            f"expected members that do not overlap, at most {MAX_TOTAL_BYTES:,} bytes and {MAX_RATIO} "
            "times its size. It is damaged or made to exhaust a machine."
        )


def is_zip_bomb(info: zipfile.ZipInfo) -> bool:
    """Says whether a member is a decompression bomb by its sizes."""
    return info.file_size > SMALL_BYTES and info.file_size > MAX_RATIO * info.compress_size


def is_inside(name: str) -> bool:
    """Says whether a name is a plain relative one, which cannot lead out of the folder it is relative to."""
    parts = name.removesuffix("/").split("/")
    return not {"", ".", ".."} & set(parts) and not re.search(r"\\|\0|^[A-Za-z]:", name)


def _refuse(kind: str, path: Path, names: Sequence[str], remedy: str) -> None:
    if names:
        shown = listed(map(repr, sorted(names)))
        raise ValueError(f"Got {kind} in {path} ({shown}), expected none: {remedy}.")


def _walk(root: Path) -> list[str]:
    """Lists the plain files below a folder, by relative names."""

    def fail(error: OSError) -> None:
        raise error

    names, other, large = [], [], []
    for folder, subfolders, files in os.walk(root, onerror=fail):
        for name in subfolders + files:
            path = os.path.join(folder, name)
            relative, status = Path(path).relative_to(root).as_posix(), os.lstat(path)
            if is_system(relative) or stat.S_ISDIR(status.st_mode):
                continue
            names.append(relative)
            if not stat.S_ISREG(status.st_mode):
                other.append(relative)
            elif status.st_size > MAX_FILE_BYTES:
                large.append(relative)
    _refuse("links or devices", root, other, "copy what they lead to, or remove them")
    _refuse(f"files of more than {MAX_FILE_BYTES:,} bytes", root, large, "remove them")
    return names


def is_system(name: str) -> bool:
    """Says whether a file or folder, or one that it lies in, is what systems and viewers leave beside images."""
    return any(part.startswith(".") or part.lower() in _SYSTEM for part in name.split("/"))
