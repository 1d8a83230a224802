"""What was learnt about a large data set once, kept in the user's cache so that it opens fast the next time.

An entry is a short cut and never the truth: one that is lost, damaged, or of files that have changed since is not
given back, and whoever asked learns it anew. Nothing is written beside the data, which may be read-only; a cache
that cannot be written costs time and no more.
"""

import contextlib
import logging
import os
import time
from collections.abc import Iterable
from pathlib import Path
from uuid import uuid4

from jaxmoust.data.source import digest_bytes

_LOG = logging.getLogger(__name__)
# A file that changes within one tick of its file system's clock after it was looked at looks unchanged.
_TICK_NS = 2_000_000_000


def recall(what: str, facts: str) -> bytes | None:
    """Gives back what was remembered of these facts; None when there is nothing, or nothing whole.

    Args:
        what: names the entry, such as a folder's path and what is known of it.
        facts: content address of all that the entry was derived from.
    """
    file = _entry(what)
    if file is None:
        return None
    try:
        address, content = file.read_bytes().split(b"\n", 1)
    except (OSError, ValueError):
        return None
    return content if address.decode(errors="replace") == _address(what, facts, content) else None


def remember(what: str, facts: str, content: bytes) -> None:
    """Keeps content for `recall`, in the place of what was remembered under this name; whole or not at all."""
    file = _entry(what)
    if file is None:
        return
    temporary = file.with_name(f".{file.name}.{uuid4().hex}.tmp")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(_address(what, facts, content).encode() + b"\n" + content)
        os.replace(temporary, file)
    except OSError as error:
        _LOG.warning("%s cannot be kept (%s), so it is learnt again next time: set JAXMOUST_CACHE.", what, error)
        with contextlib.suppress(OSError):
            temporary.unlink()


def file_facts(names: Iterable[str], stats: Iterable[os.stat_result]) -> str:
    """Makes an address of files by their names, sizes and times: of whether they changed, not of their content."""
    rows = (f"{name}\0{s.st_size}\0{s.st_mtime_ns}\0{s.st_ctime_ns}" for name, s in zip(names, stats, strict=True))
    return digest_bytes("\n".join(rows).encode(errors="surrogateescape"))


def settled(stats: Iterable[os.stat_result], since_ns: int | None = None) -> bool:
    """Says whether every file has been left alone long enough for `file_facts` to notice the next change.

    Args:
        since_ns: when the files were looked at, `time.time_ns()` before the first; by default now.
    """
    limit = (time.time_ns() if since_ns is None else since_ns) - _TICK_NS
    return all(s.st_ctime_ns < limit for s in stats)


def _entry(what: str) -> Path | None:
    """The file of an entry; None where there is no cache."""
    try:
        folder = Path(os.environ.get("JAXMOUST_CACHE") or Path.home() / ".cache" / "jaxmoust")
    except RuntimeError:  # no home
        return None
    return folder / "data" / digest_bytes(what.encode(errors="surrogateescape"))


def _address(what: str, facts: str, content: bytes) -> str:
    return digest_bytes(what.encode(errors="surrogateescape"), facts.encode(), content)
