"""Copies of folders in buckets: what a run works in while it is published, and what is read. Free of jax.

What says that other files are whole is published after them, and a run's result last: who finds one finds all of it.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from jaxmoust.runtime import paths
from jaxmoust.runtime.bucket import LEASE, Bucket, BucketError, Lease, holder, lease
from jaxmoust.runtime.paths import atomic_write, read_json, refuse_url

PUBLISH_SECS = 30.0
"""Between two looks at what a run has left that is not in the bucket yet: what a machine that dies may lose."""
SCRATCH = "JAXMOUST_SCRATCH"  # the environment variable: where copies lie while runs work in them
CACHE_GB = "JAXMOUST_BUCKET_GB"  # the environment variable: how much of what was read from buckets is kept
# What says that other files are whole, in the order in which it is published, after them.
_LAST = ("dataset_info.json", "provenance.json", "digests.json", "result.json")
_MANIFEST, _USED = ".bucket.json", ".used"
_HALF = (".orbax-checkpoint-tmp", ".discarded")  # in the names of folders that are being written, or removed
_AT_ONCE = 16  # files that are on their way


def cache_folder() -> Path:
    """Where copies of buckets lie: beside the compiled programs, in JAXMOUST_CACHE."""
    return paths.cache_folder() / "buckets"


def scratch_folder() -> Path:
    """Where copies lie while runs work in them: JAXMOUST_SCRATCH, else beside those that are read.

    Raises: ValueError: it is in a bucket itself.
    """
    given = os.environ.get(SCRATCH, "")
    refuse_url(f"--scratch, or {SCRATCH},", given)
    return Path(given).expanduser() if given else cache_folder() / "work"


class Copy:
    """A folder of the disk that is a copy of one in a bucket, and knows in what they differ.

    Args: bucket: what it is a copy of. path: the folder; made by `pull`.
    """

    def __init__(self, bucket: Bucket, path: Path):
        self.bucket, self.path = bucket, path
        # By name: what the bucket has, and the size and the time of the copy that is the same.
        stored = read_json(path / _MANIFEST) if path.is_dir() else None
        self._same: dict[str, list[Any]] = stored if isinstance(stored, dict) else {}

    def pull(self, wanted: re.Pattern[str] = re.compile("")) -> None:
        """Fetches what is other than in the copy; what the copy alone has, and was never published, stays.

        Args: wanted: the names that are looked at, by default all.
        """
        there = {name: facts for name, facts in self.bucket.files().items() if not _is_ours(name)}
        paths = {name: self.path / (name or Path(self.bucket.root).name) for name in there if wanted.search(name)}
        other = [name for name, path in paths.items() if [*there[name], *_facts(path)] != self._same.get(name)]
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            for name, _ in zip(other, pool.map(lambda name: self.bucket.get(name, paths[name]), other), strict=True):
                self._same[name] = [*there[name], *_facts(paths[name])]
        for name in [name for name in self._same if name not in there]:
            if _facts(self.path / name) == self._same.pop(name)[2:]:
                (self.path / name).unlink()
        self._remember()

    def publish(self) -> None:
        """Puts what has changed, then what says that the rest is whole, and removes what is gone."""
        names = {path.relative_to(self.path).as_posix(): path for path in _plain_files(self.path)}
        changed = [name for name, path in names.items() if _facts(path) != self._same.get(name, [])[2:]]
        finished = "result.json" in self._same and "result.json" in changed
        if finished:  # it is made anew: until it is whole again, nobody is to take it for finished
            self.bucket.remove("result.json")
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            for facts in pool.map(lambda name: self._put(name, names[name]), set(changed) - {*_LAST}):
                self._same |= facts
        for name in _LAST:
            self._same |= self._put(name, names[name]) if name in changed else {}
        for name in [name for name in self._same if name not in names]:
            self.bucket.remove(name)
            del self._same[name]
        if changed:
            there = self.bucket.files()
            for name in changed:
                if name in there and name in self._same:
                    self._same[name][:2] = there[name]
        self._remember()

    def _put(self, name: str, path: Path) -> dict[str, list[Any]]:
        if not (facts := _facts(path)):  # gone since: an older checkpoint
            return {}
        try:
            self.bucket.put(name, path)
        except BucketError:
            if path.exists():
                raise
            return {}
        return {name: [facts[0], "", *facts]}

    def _remember(self) -> None:
        if self._same or self.path.is_dir():
            self.path.mkdir(parents=True, exist_ok=True)
            atomic_write(self.path / _MANIFEST, json.dumps(self._same))


def _facts(path: Path) -> list[int]:
    try:
        status = path.stat()
    except OSError:
        return []
    return [status.st_size, status.st_mtime_ns]


def _is_ours(name: str) -> bool:
    """Whether a file is a sign of ours, and none of the run."""
    return any(part.startswith(".") for part in name.split("/"))


def _plain_files(folder: Path) -> Iterator[Path]:
    """The files that are to be published, in order."""
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.name.startswith(".") or any(half in path.name for half in _HALF):
            continue
        with contextlib.suppress(FileNotFoundError):  # an older checkpoint that goes meanwhile
            if path.is_dir():
                yield from _plain_files(path)
            else:
                yield path


@contextlib.contextmanager
def working_copy(url: str, scratch: Path) -> Iterator[Path]:
    """Works on a folder of a bucket while a block lasts: gives a copy, and publishes what changes in it.

    Args: scratch: the folder that receives the copy, in one of its own.
    Raises: BucketError: it cannot be read or written, or another process works there.
    """
    bucket = Bucket(url)
    with lease(Lease(bucket, LEASE), wait=True) as ours:
        if not ours:
            raise BucketError(
                f"{url} is in use by {holder(bucket) or 'another process'}. Wait for it, or give another folder."
            )
        copy = Copy(bucket, scratch / name_of(url))
        with published(copy, ours):
            yield copy.path


@contextlib.contextmanager
def published(copy: Copy, ours: Lease) -> Iterator[None]:
    """Fetches a copy, and publishes what changes in it while a block lasts, and at its end, however it ends.

    Raises: BucketError: it cannot be, or the lease was lost meanwhile, and others work there.
    """
    copy.pull()
    over = threading.Event()

    def go_on() -> None:
        while not over.wait(PUBLISH_SECS) and ours:
            with contextlib.suppress(BucketError):  # said at the end, if it does not pass
                copy.publish()

    thread = threading.Thread(target=go_on, name="publish", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        if not ours:
            raise BucketError(
                f"{copy.bucket.url} was taken over by another process, for this one gave no sign of life. What it did "
                f"lies in {copy.path}."
            )
        try:
            copy.publish()
        except BucketError as e:
            raise BucketError(f"{e} What was done lies in {copy.path}; the same command publishes it.") from e


def fetched(url: str) -> Path:
    """A copy of a folder or a file of a bucket, to read: fetched anew where the bucket has other content.

    What was read longest ago goes when there is more than JAXMOUST_BUCKET_GB (100) of copies.

    Raises: BucketError: it cannot be read, or nothing is there.
    """
    path, cache = cache_folder() / name_of(url), cache_folder()
    path.mkdir(parents=True, exist_ok=True)
    used = (path / _USED).open("w")
    fcntl.flock(used, fcntl.LOCK_SH)  # for as long as this process lives
    _in_use.append(used)
    copy = Copy(Bucket(url), path)
    copy.pull()
    if not copy._same:
        shutil.rmtree(path)
        raise BucketError(f"There is nothing at {url}. Correct the address.")
    _evict(cache, float(os.environ.get(CACHE_GB, 100)) * 1e9)
    return path / Path(copy.bucket.root).name if "" in copy._same else path


_in_use: list[Any] = []  # open files, whose locks keep copies that are read


def _evict(cache: Path, most_bytes: float) -> None:
    """Removes copies that nobody reads, the one used longest ago first, until the rest is small enough."""
    used = {path.parent: path.stat().st_mtime for path in cache.glob(f"*/{_USED}")}
    sizes = {folder: sum(_facts(path)[0] for path in folder.rglob("*") if path.is_file()) for folder in used}
    for folder in sorted(used, key=lambda folder: used[folder]):
        if sum(sizes.values()) <= most_bytes:
            return
        with (folder / _USED).open("r+") as file, contextlib.suppress(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder)
            del sizes[folder]


def name_of(url: str) -> str:
    """A folder's name for an address: its end, for people, and what tells it from others."""
    url = url.rstrip("/")
    return f"{re.sub('[^A-Za-z0-9_.-]', '_', url.rsplit('/', 1)[1])}-{hashlib.sha256(url.encode()).hexdigest()[:12]}"
