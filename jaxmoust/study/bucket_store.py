"""A store in a bucket: stages are computed in copies on the local disk and published, each result last."""

import contextlib
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from jaxmoust.runtime.bucket import Bucket, Lease, holder, lease, scheme_of
from jaxmoust.runtime.bucket_copy import Copy, name_of, published, scratch_folder
from jaxmoust.runtime.folder import CURVES, DIGESTS, damaged
from jaxmoust.runtime.paths import read_json
from jaxmoust.study.store import Stage, Store

LOOK_SECS = 5.0  # between two looks at what other machines have finished
_FINISHED = ".finished"  # one empty file for each finished stage: a single listing says all
_SMALL = re.compile(r"^(?!.*array_record)[^/]*$")  # what is read of a stage that nothing is computed from


class BucketStore(Store):
    """A store whose folder lies in a bucket, for several machines that share no disk.

    Of a finished stage the small files are fetched when it is found, and the rest when something is computed from it.

    Args:
        url: the folder. run: as `Store` has it.
    Raises: BucketError: the package that speaks to the bucket is missing.
    """

    def __init__(self, url: str, run: Callable[[Stage, Path], dict]):
        super().__init__(scratch_folder() / name_of(url), run)
        self.address, self.bucket = url, Bucket(url)
        self._finished: set[str] | None = None
        self._looked = 0.0
        self._fetched: set[str] = set()  # whole stages
        self._leases: dict[str, Lease] = {}  # which remember the signs of life of others

    def folder(self, stage: Stage | str) -> Path:
        """The copy of a stage's folder; of a finished one all is fetched."""
        name = stage if isinstance(stage, str) else stage.whole
        if name not in self._fetched and name in self._known():
            Copy(self.bucket / name, self.path / name).pull()
            self._fetched.add(name)
        return self.path / name

    def small(self, stage: Stage) -> Path:
        """The copy of a finished stage's folder, with what is read of it when nothing is computed from it."""
        folder = self.path / stage.whole
        if not (folder / "result.json").exists() and stage.whole in self._known():
            Copy(self.bucket / stage.whole, folder).pull(_SMALL)
        return folder

    def find(self, stage: Stage) -> dict | None:
        """The stage's result if the bucket has it."""
        if stage.name not in self._results and stage.whole not in self._known(LOOK_SECS):
            return None
        self.small(stage)
        return super().find(stage)

    def is_damaged(self, stage: Stage) -> bool:
        """Whether a file of a finished stage is gone from the bucket, or a small one is other than it was left.

        The rest is fetched by who computes something from it; what a bucket gives is what was put there.
        """
        if damaged(small := self.small(stage), deep=False):
            return True
        left = {*(read_json(small / DIGESTS) or ())} - {CURVES}
        return not left <= (self.bucket / stage.name).files().keys()

    def is_whole(self, folder: Path) -> bool:
        """Whether a set has all its images: the bucket has them, whether they are fetched or not."""
        return folder.name not in self._fetched or super().is_whole(folder)

    def check_folder(self, writable: bool = False) -> None:
        """Refuses a bucket that cannot be read, or written. Raises: BucketError: why not."""
        self._known(0.0)
        if writable:
            with contextlib.suppress(FileExistsError):
                self.bucket.write(f"{_FINISHED}/.writable", b"")

    def compute(self, stage: Stage) -> dict:
        """Does a stage's job in a copy, which is published meanwhile, and returns its result."""
        with published(Copy(self.bucket / stage.whole, self.path / stage.whole), self._leases[stage.name]):
            result = super().compute(stage)
        if stage.part:
            return result
        self.bucket.write(f"{_FINISHED}/{stage.name}", b"")
        self._known().add(stage.name)
        self._fetched.add(stage.name)
        self.bucket.remove(self._error_path(stage).name)
        return result

    def fail(self, stage: Stage, error: Exception) -> None:
        """Records that a stage could not be computed, and why, for all machines, unless another has taken it over."""
        super().fail(stage, error)
        mine = self._leases.get(stage.name)
        if (mine is None or not mine.is_lost) and self._error_path(stage).exists():
            self.bucket.write(self._error_path(stage).name, self._error_path(stage).read_bytes())

    def failure(self, stage: Stage) -> tuple[int, str]:
        """When a stage's failure was recorded (in ns), and what it was; (0, "") where none is."""
        if (record := self.bucket.read(self._error_path(stage).name)) is not None:
            self.path.mkdir(parents=True, exist_ok=True)
            self._error_path(stage).write_bytes(record)
        return super().failure(stage)

    @contextlib.contextmanager
    def lease(self, stage: Stage) -> Iterator[bool]:
        """Takes the right to compute a stage, if no other process of any machine has it."""
        mine = self._leases.setdefault(stage.name, Lease(self.bucket, self._lease_path(stage).name))
        with lease(mine) as ours:
            if ours:
                self._known(0.0)  # another machine may have finished it since the last look
            yield bool(ours)

    def holder(self, stage: Stage | str) -> str:
        """Who computes a stage now, in words; "" when that cannot be told."""
        return holder(self.bucket, self._lease_path(stage).name)

    def mark(self, name: str) -> None:
        """Leaves a mark for processes of all machines."""
        self.bucket.write(name, b"")

    def is_marked(self, name: str) -> bool:
        """Whether a process has left a mark."""
        return self.bucket.read(name) is not None

    def unmark(self, name: str) -> None:
        """Takes a mark back, if it is there."""
        self.bucket.remove(name)

    def _known(self, age_secs: float = float("inf")) -> set[str]:
        """The names of the stages that are finished, as of a look that is no older than so many seconds."""
        if self._finished is None or time.monotonic() - self._looked > age_secs:
            self._finished = set(self.bucket.named(f"{_FINISHED}/"))
            self._looked = time.monotonic()
        return self._finished


def store_at(
    where: str, run: Callable[[Stage, Path], dict], primary: bool = True, agree: Callable[[bool], bool] = bool
) -> Store:
    """The store of a folder, or of one in a bucket; see `Store`. Raises: BucketError: it cannot be spoken to."""
    return BucketStore(where, run) if scheme_of(where) else Store(Path(where), run, primary, agree)
