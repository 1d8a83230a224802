"""What was measured of a large data set once, kept in the user's cache so that it opens fast the next time.

An entry saves time and is never relied on: one that is lost, damaged, or of files that have changed since is not
returned, and the caller computes it again. Nothing is written beside the data, which may be read-only; a cache
that cannot be written costs time and no more.
"""

import logging
import os
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

from jaxmoust.data.source import digest_bytes
from jaxmoust.runtime.paths import atomic_write, cache_folder, sweep

_LOG = logging.getLogger(__name__)
REMEMBERED_FROM = 256  # files; of fewer what there is to learn takes a second or two
# A file that changes within one tick of its file system's clock after it was looked at looks unchanged.
_TICK_NS = 2_000_000_000


def remembered(
    what: str, names: Sequence[str], rows: np.ndarray, since_ns: int, learn: Callable[[], bytes], header: bytes = b""
) -> bytes:
    """Returns what `learn` gives for files: computed once, and again when one of them has changed.

    Args:
        what: names the entry.
        names: of the files.
        rows: int64 [n, 3], see `stat_row`.
        since_ns: when they were looked at, `time.time_ns()` before the first.
        header: what else it was derived from.
    """
    if len(names) < REMEMBERED_FROM:
        return learn()
    facts = digest_bytes(file_facts(names, rows).encode(), header)
    if (known := load(what, facts)) is not None:
        return known
    content = learn()
    if is_stable(rows, since_ns):
        save(what, facts, content)
    return content


def load(what: str, facts: str) -> bytes | None:
    """Gives back what was remembered of these facts; None when there is nothing, or nothing whole.

    Args:
        what: names the entry, such as a folder's path and what is known of it.
        facts: content address of all that the entry was derived from.
    """
    try:
        address, content = _entry(what).read_bytes().split(b"\n", 1)
    except (OSError, ValueError, RuntimeError):  # no entry, not a whole one, or no home
        return None
    return content if address == _address(what, facts, content) else None


def save(what: str, facts: str, content: bytes) -> None:
    """Keeps content for `load`, in the place of what was remembered under this name; whole or not at all."""
    try:
        file = _entry(what)
        file.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(file, _address(what, facts, content) + b"\n" + content)
        sweep(file.parent, age_secs=3600.0)  # of processes that were killed; others may be writing now
    except (OSError, RuntimeError) as error:
        _LOG.warning("%s cannot be kept (%s), so it is learnt again next time: set JAXMOUST_CACHE.", what, error)


def stat_row(stat: os.stat_result) -> tuple[int, int, int]:
    """What of a file's state is compared: its size, and when its content and when anything of it changed (ns)."""
    return stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns


def file_facts(names: Iterable[str], rows: np.ndarray) -> str:
    """Makes an address of files, of n names and int64 [n, 3] rows: of whether they changed, not of their content."""
    return digest_bytes("\0".join(names).encode(errors="surrogateescape"), rows.astype("<i8").tobytes())


def is_stable(rows: np.ndarray, since_ns: int | None = None) -> bool:
    """Says whether every file has been left alone long enough for `file_facts` to notice the next change.

    Args:
        rows: int64 [n, 3], see `stat_row`.
        since_ns: when the files were looked at, `time.time_ns()` before the first; by default now.
    """
    return bool(rows[:, 2].max() < (time.time_ns() if since_ns is None else since_ns) - _TICK_NS)


def _entry(what: str) -> Path:
    """The file of an entry. Raises: RuntimeError: there is no home to keep it in."""
    return cache_folder() / "data" / digest_bytes(what.encode(errors="surrogateescape"))


def _address(what: str, facts: str, content: bytes) -> bytes:
    return digest_bytes(what.encode(errors="surrogateescape"), facts.encode(), content).encode()
