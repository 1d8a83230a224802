"""Buckets: files that are taken whole, one by one, and leases that others see. Free of jax.

A bucket renames no folder, appends to no file and keeps no lock. So a run works in a copy (bucket_copy.py), and only
one process at a time works on a folder: it puts an object there that others find, and says now and then that it lives.
The packages that speak to buckets come with the extras `gcs` and `s3`; all is read and written by fsspec.
"""

import contextlib
import errno
import itertools
import os
import re
import secrets
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

# Schemes -> the extra of this package that brings what speaks them.
SCHEMES = {"gs": "gcs", "s3": "s3"}
BEAT_SECS, DEAD_SECS = 20.0, 90.0  # between two signs of life, and without one until others may take over
LEASE = ".lease"  # of a folder
_TOKEN = secrets.token_hex(4)  # of this process


class BucketError(ValueError):
    """A bucket that cannot be read or written; the message says which and what can be done."""


def scheme_of(text: str) -> str:
    """The scheme of an address that is taken, "gs"; "" of a path, and of the address of something else."""
    found = re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", text)
    return found[1] if found and found[1] in SCHEMES else ""


class Bucket:
    """A folder in a bucket, or a file.

    Args: url: such as gs://bucket/runs/mine.
    Raises: BucketError: the package that speaks to it is missing.
    """

    def __init__(self, url: str):
        self.url, scheme = url.rstrip("/"), scheme_of(url)
        try:
            import fsspec

            self._fs, self.root = fsspec.url_to_fs(self.url, use_listings_cache=False)
        except ImportError as e:
            extra = f"pip install 'jaxmoust[{SCHEMES[scheme]}]'"
            raise BucketError(f"{url} needs a package that speaks {scheme}://: {e}. Type {extra}.") from e
        self.root = self.root.rstrip("/")

    def __truediv__(self, name: str) -> "Bucket":
        return Bucket(f"{self.url}/{name}")

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """Turns what a bucket answers, and what becomes of the way there, into one clear error."""
        try:
            yield
        except (BucketError, FileExistsError):
            raise
        except Exception as e:  # each package has errors of its own
            if getattr(e, "errno", 0) in (errno.ENOSPC, errno.EDQUOT):  # of this machine's disk
                raise
            raise BucketError(
                f"{self.url} cannot be read or written: {type(e).__name__}: {e}. See that the bucket is there and that "
                "this machine may use it (`gcloud auth application-default login`; AWS_ACCESS_KEY_ID, or a profile)."
            ) from e

    def files(self) -> dict[str, tuple[int, str]]:
        """Every file by its name in the folder ("": the address is a file's), its size and what tells its content."""
        with self._told():
            self._fs.invalidate_cache()
            try:
                found = self._fs.find(self.root, detail=True)
            except FileNotFoundError:
                if self._fs.exists(self.root.split("/")[0]):
                    return {}
                raise
        plain = {path: info for path, info in found.items() if not path.endswith("/") and info["type"] == "file"}
        return {path[len(self.root) :].lstrip("/"): (info["size"] or 0, _content(info)) for path, info in plain.items()}

    def named(self, start: str) -> list[str]:
        """The files of the folder whose names begin so, without those in folders."""
        with self._told():
            self._fs.invalidate_cache()
            return [path.rpartition("/")[2] for path in self._fs.glob(f"{self.root}/{start}*")]

    def read(self, name: str) -> bytes | None:
        """A file's content; None where there is none."""
        with self._told():
            try:
                return self._fs.cat_file(f"{self.root}/{name}")
            except FileNotFoundError:
                return None

    def write(self, name: str, data: bytes, new: bool = False) -> None:
        """Puts a file. Args: new: only if none is there. Raises: FileExistsError: one is."""
        with self._told():
            try:
                self._fs.pipe_file(f"{self.root}/{name}", data, mode="create" if new else "overwrite")
            except OSError as e:
                if new and (isinstance(e, FileExistsError) or self._fs.exists(f"{self.root}/{name}")):
                    raise FileExistsError(name) from e
                raise

    def remove(self, name: str) -> None:
        """Removes a file, if it is there."""
        with self._told(), contextlib.suppress(FileNotFoundError):
            self._fs.rm_file(f"{self.root}/{name}")

    def get(self, name: str, path: Path) -> None:
        """Copies a file to the disk, whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        half = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
        try:
            with self._told():
                self._fs.get_file(f"{self.root}/{name}" if name else self.root, os.fspath(half))
            half.replace(path)
        finally:
            half.unlink(missing_ok=True)

    def put(self, name: str, path: Path) -> None:
        """Copies a file of the disk into the folder."""
        with self._told():
            self._fs.put_file(os.fspath(path), f"{self.root}/{name}")


def _content(info: Mapping[str, Any]) -> str:
    """What of a listing changes when a file's content does."""
    for name in ("ETag", "etag", "md5Hash", "created", "LastModified"):
        if info.get(name):
            return str(info[name])
    return ""


class Lease:
    """The right that a name in a bucket stands for, if this process has it; see `lease`."""

    def __init__(self, bucket: Bucket, name: str):
        self.bucket, self.name, self.number = bucket, name, 0
        self.is_lost = False
        self._seen: dict[int, tuple[bytes, float]] = {}  # last signs of life of others, and when each was first seen
        self.others_live = False

    def __bool__(self) -> bool:
        return self.number > 0 and not self.is_lost

    def take(self) -> bool:
        """Tries to have it. Returns: whether this process has it; not where another one has, or may."""
        before = self._numbers()
        if not all(self._is_dead(number) for number in before):
            return False
        number = (before[-1] if before else 0) + 1
        try:
            self.bucket.write(f"{self.name}.{number}", self._sign(0), new=True)
        except FileExistsError:
            return False
        if set(self._numbers()) - {*before, number}:
            self.bucket.remove(f"{self.name}.{number}")  # two came at once: nobody has it
            return False
        for old in before:
            self.bucket.remove(f"{self.name}.{old}")
        self.number, self.is_lost = number, False
        return True

    def beat(self, over: threading.Event) -> None:
        """Gives signs of life until it is over, or another process has taken over."""
        for count in itertools.count(1):
            if over.wait(BEAT_SECS):
                return
            with contextlib.suppress(BucketError):  # the way there may come back before others take over
                self.is_lost = self._numbers()[-1:] != [self.number]
                if self.is_lost:
                    return
                self.bucket.write(f"{self.name}.{self.number}", self._sign(count))

    def give_back(self) -> None:
        """Lets others have it."""
        with contextlib.suppress(BucketError):
            self.bucket.remove(f"{self.name}.{self.number}")
        self.number = 0

    def _sign(self, count: int) -> bytes:
        return f"process {os.getpid()} on {socket.gethostname()}, {_TOKEN}, beat {count}".encode()

    def _numbers(self) -> list[int]:
        """The numbers of the objects that are there, ascending."""
        return sorted(
            int(end) for name in self.bucket.named(f"{self.name}.") if (end := name.split(".")[-1]).isdecimal()
        )

    def _is_dead(self, number: int) -> bool:
        """Whether a holder has given no sign of life for so long that others may take over."""
        sign = self.bucket.read(f"{self.name}.{number}")
        if sign is None:
            return True
        if number not in self._seen or self._seen[number][0] != sign:
            self.others_live = number in self._seen
            self._seen[number] = sign, time.monotonic()
        return time.monotonic() - self._seen[number][1] > DEAD_SECS


@contextlib.contextmanager
def lease(lease: Lease, wait: bool = False) -> Iterator[Lease]:
    """Has a right while a block lasts, if nobody else has it: `bool` of what it gives says so.

    A lease is the object NAME.N: made only where it is not there, with a sign of life written again and again. Of one
    whose sign stays the same the next number takes over; who finds another number than its own has lost it.

    Args: wait: whether to wait until it is known that a holder lives, or does not.
    """
    taken, deadline = lease.take(), time.monotonic() + DEAD_SECS + BEAT_SECS
    while wait and not taken and not lease.others_live and time.monotonic() < deadline:
        time.sleep(min(1.0, BEAT_SECS))
        taken = lease.take()
    if not taken:
        yield lease
        return
    over = threading.Event()
    thread = threading.Thread(target=lease.beat, args=[over], name="lease", daemon=True)
    thread.start()
    try:
        yield lease
    finally:
        over.set()
        thread.join()
        lease.give_back()


def holder(bucket: Bucket, name: str = LEASE) -> str:
    """Who has a lease, "process 12 on host"; "" when that cannot be told."""
    contents = [bucket.read(found) for found in bucket.named(f"{name}.")]
    return next((content.decode(errors="replace").split(",")[0] for content in contents if content), "")
