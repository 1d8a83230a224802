"""What decoding says of image files: which cannot be read and why, of what shape they are, and what they look like.

Every file is read and decoded once, so that all errors are known before any work starts. The result for a folder is
cached: the next time its files are listed and none is opened, unless one of them has changed.
"""

import contextlib
import hashlib
import io
import json
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from PIL import Image

from jaxmoust.data.checks import listed
from jaxmoust.data.image import LAID, SCALED, TURNED, Reading, Unreadable, convert, open_image, upright_size
from jaxmoust.data.near_duplicates import near_duplicates
from jaxmoust.data.sources.scan_cache import remembered

CHANGES = (TURNED, LAID, SCALED)
MOST_NAMED = 20  # files in one error; `data inspect --check` names all
_LOG = logging.getLogger(__name__)
_SLOW_FROM = 20_000  # images that take a minute or so, which a user should be told of
_NUM_THREADS = 16  # a folder on a network disk waits, not computes
_AT_ONCE = 64
_READING_RULE = 2  # counts up when the same bytes come to be read as other pixels
THUMB = (9, 8)
NOT_KNOWN = "Too many images look alike to compare all of them: whether some are in train and in test is not known."
_ARRAYS = ("shapes", "changes", "thumbs", "hashes")
_LEAST_PX = 64  # a side of what a JPEG is decoded at here, an eighth at least: all of the file is read nevertheless


@dataclass(frozen=True)
class Scan:
    """What n files hold.

    Attributes:
        shapes: int32 [n, 3], (H, W, C) as read: upright, C 1 when it is grey, else 3; zeros of an unreadable one.
        changes: bool [n, 3], whether reading changes it, in the order of CHANGES.
        thumbs: uint8 [n, 8, 9], grey and very small.
        hashes: uint8 [n, 32], the SHA-256 of its bytes.
        reasons: objects [n], texts: why it cannot be read; "" of one that can.
        pairs: int64 [p, 2], those that look the same; see `near_duplicates`. None where they were not looked for.
    """

    shapes: np.ndarray
    changes: np.ndarray
    thumbs: np.ndarray
    hashes: np.ndarray
    reasons: np.ndarray
    pairs: np.ndarray | None = None

    def take(self, keys: np.ndarray) -> "Scan":
        """What the files of these indices, ascending, hold."""
        pairs = self.pairs
        if pairs is not None:
            pairs = np.searchsorted(keys, pairs[np.isin(pairs, keys).all(axis=1)])
        return replace(self, **{name: getattr(self, name)[keys] for name in (*_ARRAYS, "reasons")}, pairs=pairs)

    @property
    def channels(self) -> int:
        """What the files are read with: 1 when all are grey, else 3."""
        return int(self.shapes[:, 2].max())

    @property
    def shape(self) -> tuple[int, int, int] | None:
        """(H, W, C) of every image as read; None when they differ."""
        sizes = np.unique(self.shapes[:, :2], axis=0)
        return (int(sizes[0, 0]), int(sizes[0, 1]), self.channels) if len(sizes) == 1 else None

    def applied(self, reading: Reading) -> bytes:
        """The rules that changed these files, for their digest; b"" where no rule changed one."""
        rules = (TURNED, reading.background, f"scaled {reading.value_range}")
        used = [rule for rule, is_used in zip(rules, np.any(self.changes, axis=0), strict=True) if is_used]
        return repr(used).encode() if used else b""

    def notes(self, reading: Reading) -> list[str]:
        """Sentences for the user about how these files are read."""
        _, laid, scaled = self.changes.sum(axis=0)
        by = {"": "the range of 16 bits", "file": "the range of each file"}.get(
            reading.value_range, reading.value_range
        )
        said = {
            f"Images with transparent pixels, laid on {reading.background} (data.background): {laid:,}.": laid,
            f"Images of more than 8 bits, scaled by {by} (data.value_range): {scaled:,}.": scaled,
        }
        return [text for text, count in said.items() if count]


class Readable(Protocol):
    """What holds encoded images under names: files, members of an archive, rows."""

    @property
    def path(self) -> Any:
        """What errors call all of them."""

    def read(self, name: str) -> bytes:
        """The bytes of one."""

    def display_name(self, name: str) -> str:
        """What errors call one."""


def scan(members: Readable, names: Sequence[str], reading: Reading) -> Scan:
    """Reads and decodes files; what cannot be read is in the result and raises nothing."""
    n = len(names)
    shapes, changes, thumbs = (
        np.zeros((n, 3), np.int32),
        np.zeros((n, len(CHANGES)), bool),
        np.zeros((n, 8, 9), np.uint8),
    )
    found = Scan(shapes, changes, thumbs, np.zeros((n, 32), np.uint8), np.full(n, "", object))

    def look(i: int) -> None:
        try:
            data, called = members.read(names[i]), members.display_name(names[i])
            found.hashes[i] = np.frombuffer(hashlib.sha256(data).digest(), np.uint8)
            with open_image(data, called) as image:
                width, height = upright_size(image, called)
                image.draft(None, (max(image.width // 8, _LEAST_PX), max(image.height // 8, _LEAST_PX)))  # type: ignore[arg-type]
                read, done = convert(image, called, reading)
                thumbs[i] = np.asarray(read.convert("L").resize(THUMB, Image.Resampling.BOX))
                changes[i] = [change in done for change in CHANGES]
                shapes[i] = height, width, len(read.getbands())
        except (ValueError, OSError) as error:
            found.reasons[i] = error.reason if isinstance(error, Unreadable) else str(error)

    def some(start: int) -> None:
        for i in range(start, min(start + _AT_ONCE, n)):
            look(i)

    with ThreadPoolExecutor(_NUM_THREADS) as threads:
        list(threads.map(some, range(0, n, _AT_ONCE)))
    return found


def scan_once(
    members: Readable,
    names: Sequence[str],
    rows: np.ndarray,
    reading: Reading,
    since_ns: int,
    what: str,
    header: bytes = b"",
) -> Scan:
    """Scans files and compares them, or takes the result from the cache, until a file changes.

    Args:
        rows: int64 [n, 3], what the file system says of them; see `stat_row`.
        since_ns: when they were scanned, `time.time_ns()` before the first.
        what: the name of the cache entry.
        header: what else invalidates the entry when it changes.
    """

    def look() -> bytes:
        if len(names) >= _SLOW_FROM:
            _LOG.warning("Decoding %d images in %s, once; this takes minutes.", len(names), members.path)
        found = scan(members, names, reading)
        arrays = {name: getattr(found, name) for name in _ARRAYS}
        with contextlib.suppress(ValueError):  # too many to compare
            arrays["pairs"] = near_duplicates(found.thumbs)
        bad, buffer = [(i, reason) for i, reason in enumerate(found.reasons) if reason], io.BytesIO()
        np.savez(buffer, **arrays, bad=np.frombuffer(json.dumps(bad).encode(), np.uint8))
        return buffer.getvalue()

    what = f"scan {_READING_RULE} of {what}"
    with np.load(io.BytesIO(remembered(what, names, rows, since_ns, look, header))) as arrays:
        reasons = np.full(len(names), "", object)
        for i, reason in json.loads(arrays["bad"].tobytes()):
            reasons[i] = reason
        kept = {name: arrays[name] for name in _ARRAYS}
        return Scan(**kept, reasons=reasons, pairs=arrays.get("pairs", None))


def refuse_bad(names: Sequence[str], reasons: Sequence[str], members: Readable, remedy: str = "") -> None:
    """Refuses files that cannot be read, all of them at once.

    Raises: ValueError: each with its reason, as far as an error has room.
    """
    if len(names) == 1:
        raise Unreadable(members.display_name(names[0]), reasons[0], remedy)
    if names:
        shown = [f"{name!r} ({reason.rstrip('.')})" for name, reason in zip(names, reasons, strict=True)]
        raise ValueError(
            f"Got {len(names):,} unreadable images in {members.path}: {listed(shown, MOST_NAMED)}. Replace or remove "
            f"them{remedy}."
        )
