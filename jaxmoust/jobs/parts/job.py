"""What a job is: one object that checks everything it can, then does its work in a folder."""

import contextlib
import secrets
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from jaxmoust.config import Config, Schema
from jaxmoust.data.mixture import as_tuple
from jaxmoust.generate.writing import PART_SECONDS
from jaxmoust.jobs.parts.inputs import Inputs
from jaxmoust.jobs.parts.registry import BadInput, job_of
from jaxmoust.runtime import parallel
from jaxmoust.runtime.bucket import scheme_of
from jaxmoust.runtime.bucket_copy import scratch_folder, working_copy
from jaxmoust.runtime.folder import RunFolder, damaged, digest, environment, identity
from jaxmoust.runtime.lock import holder, lease
from jaxmoust.runtime.paths import atomic_write, read_json

LOCK = ".lock"
# Fields that only say where something lies, or where a copy of it is kept.
PLACES = (
    *("data.path", "data.classes", "data.labels", "data.captions", "data.near_duplicates_by"),
    *("data.map_dir", "data.decoded", "latents.keep"),
)


class Job(ABC):
    """One thing to do: a complete configuration in, a folder with a result out.

    `check` refuses on shapes, names and labels alone, so that a study can check every stage before the first one has
    run; `open` reads what is large, and may refuse still; `run` works. Who computes a job calls them in this order.

    Args:
        config: complete, see `sections`. inputs: what it refers to.
    """

    # What a configuration of this job holds, besides `task`.
    sections: ClassVar[Schema]
    # Which real images its result depends on: of "base", "unused", "test" and "validation".
    images: ClassVar[tuple[str, ...]] = ()
    # Fields, dotted, that name other runs, sets or files.
    refers: ClassVar[tuple[str, ...]] = ()

    def __init__(self, config: Config, inputs: Inputs | None = None):
        self.config, self.inputs = config, inputs or Inputs()
        self.machine = parallel.Machine.all()

    @abstractmethod
    def check(self) -> None:
        """Refuses what cannot run. Raises: ValueError."""

    def open(self) -> None:  # noqa: B027, as most jobs read nothing more
        """Reads what `run` needs. Raises: ValueError: what lies there cannot be used."""

    @property
    def places(self) -> tuple[str, ...]:
        """Fields that do not tell one run from another."""
        return PLACES

    @abstractmethod
    def run(self, folder: RunFolder) -> dict[str, Any]:
        """Does the work, or what is left of it, and returns the result."""

    def write(self, folder: Path, index: int, count: int) -> None:
        """Does a part of `run`: every `count`-th shard of a set, or class of adapters by class, from the `index`-th.

        Raises: TypeError: a job whose work is not shared out; `in_parts` has no parts of such.
        """
        raise TypeError(f"{type(self).__name__} is done as a whole, by `run`, and has no part {index} of {count}.")

    def promise(self) -> dict[str, Any]:
        """What is known of the result once `check` has passed: what checks of other jobs read of it."""
        return {}

    def opened(self) -> Any:
        """What `check` has opened that checks of jobs which refer to this one want, too."""
        return None

    def contents(self) -> dict[str, str]:
        """The content address of everything the job reads, under the fields that name it."""
        found: dict[str, str] = {}
        if self.images:
            real = self.inputs.real(self.config["data"])
            sources = {"base": real.base, "unused": real.unused, "test": real.test, "validation": real.validation}
            found |= {f"data.{name}": source.digest for name in self.images if (source := sources[name]) is not None}
        for field in self.refers:
            refs = _at(self.config, field)
            found |= {field: self.inputs.digest(refs)} if refs else {}
        return {field: digest for field, digest in found.items() if digest}

    def calibrate(self) -> float | None:
        """The seconds that `run` should take, by a little of it, once `check` has passed; None: that is not known."""
        return None

    @staticmethod
    def work(config: Config, size_of: Callable[[str], int]) -> float:
        """How much there is to do, in units that take alike long: by default images that go through a training.

        Args: size_of: the number of images of a synthetic set.
        """
        return config["train"]["num_steps"] * config["train"]["batch_size"] if "train" in config else 1.0


@contextlib.contextmanager
def refusals() -> Iterator[None]:
    """Turns what checks raise into a BadInput: what is wrong with a value, a file, or a size that nothing holds."""
    try:
        yield
    except (ValueError, OSError) as e:
        raise BadInput(str(e)) from e
    except (MemoryError, OverflowError) as e:
        raise BadInput(f"This machine cannot hold what the configuration asks for: {e or 'no memory left'}.") from e


def check_free(workdir: Path, machine: parallel.Machine) -> None:
    """Refuses a folder in which another process works. Raises: ValueError: with that process.

    Of the processes of one run the first looks: the others must not take its own lock for somebody else's.
    """
    with machine.together():
        held = machine.primary and (workdir / LOCK).exists() and _is_held(workdir / LOCK)
    if machine.agree(held):
        who = holder(workdir / LOCK) or "another process"
        raise ValueError(f"{workdir} is in use by {who}. Wait for it, or give another folder.")


def _is_held(lock: Path) -> bool:
    with lease(lock) as free:  # a file that a killed process left behind is nobody's
        return not free


def check_shared(folder: Path, machine: parallel.Machine, flag: str = "--workdir") -> None:
    """Refuses a folder that is not one and the same to all processes of a run. Raises: ValueError: who sees another.

    Args: flag: what names the folder, which is made where it is not there.
    """
    if machine.process_count == 1:
        return
    token = machine.answers([secrets.randbelow(1 << 31)])[0, 0]  # other runs may work in a store
    sign = folder / f".shared-{token:08x}"
    with machine.together():
        if machine.primary:
            folder.mkdir(parents=True, exist_ok=True)
            atomic_write(sign, "")
    others = machine.differing(sign.exists())
    if machine.primary:
        sign.unlink()
    if others:
        raise ValueError(
            f"process {others[0]} of {machine.process_count} (numbered from 0) does not see what process 0 wrote in "
            f"{flag}={folder}: give all of them one folder, on a disk that they share."
        )


def check_apart(workdir: Path, config: Config, refers: tuple[str, ...], inputs: Inputs) -> None:
    """Refuses to write a run into what it reads: into a folder of images, or as the folder of a set or of a run.

    Raises: ValueError: which field names that folder.
    """
    here, data = workdir.resolve(), config.get("data", {})
    for field in refers:
        for ref in as_tuple(_at(config, field)):
            if ref and inputs.path(ref).is_dir() and inputs.path(ref).resolve() == here:
                raise ValueError(f"--workdir={workdir} is config.{field}, which the run reads. Give another folder.")
    if data.get("source") == "folder" and data["path"]:
        images = Path(data["path"]).expanduser().resolve()
        if images in (here, *here.parents):
            raise ValueError(
                f"--workdir={workdir} is config.data.path, or inside it, and would become one of its classes. Give "
                "another folder."
            )


def _at(config: Config, field: str) -> Any:
    """The value of a dotted field; "" of one that a section of another name has."""
    value: Any = config
    for name in field.split("."):
        value = value.get(name, "")
    return value


def check_on_disk(flag: str, where: str) -> None:
    """Refuses a bucket to a run of several processes. Raises: ValueError: with the flag."""
    if scheme_of(where) and parallel.Machine.all().process_count > 1:
        raise ValueError(
            f"{flag}={where}: a run of several processes needs a folder on a disk that they share. Give one, and copy "
            "it to the bucket when it is finished."
        )


@contextlib.contextmanager
def folder_at(where: str) -> Iterator[Path]:
    """The folder of a run, or of a bucket's a copy that is published while a block lasts.

    Raises: BadInput: it cannot be read or written, or another process works there. BucketError: at the end, it cannot
        be published any more.
    """
    with contextlib.ExitStack() as stack:
        with refusals():
            check_on_disk("--workdir", where)
            copy = working_copy(where, scratch_folder()) if scheme_of(where) else None
            folder = stack.enter_context(copy) if copy else Path(where)
        yield folder


@dataclass(frozen=True)
class Outcome:
    """The outcome of a job: its result, and when it was finished, if that was before ("" if it was now)."""

    result: dict[str, Any]
    found: str = ""


@contextlib.contextmanager
def open_alone(
    workdir: Path, config: Config, contents: Mapping[str, str], places: tuple[str, ...], machine: parallel.Machine
) -> Iterator[RunFolder]:
    """Opens a run's folder and keeps other processes out of it while a block lasts.

    The lock is asked for, and no file of who has it, for a process that was killed leaves that file behind.

    Raises: BadInput: another process works there, or the folder is not of this run, or cannot be written.
    """
    with contextlib.ExitStack() as stack:
        try:
            with machine.together():
                ours = machine.primary and stack.enter_context(lease(workdir / LOCK))
            if not machine.agree(ours):
                who = holder(workdir / LOCK) or "another process"
                raise ValueError(f"{workdir} is in use by {who}. Wait for it, or give another folder.")
            here = environment(machine.description)
            with machine.together():
                folder = RunFolder.open(workdir, config, here, machine.primary, contents, places)
            check_shared(workdir, machine)
        except OSError as e:
            raise BadInput(
                f"cannot write in {workdir}: {e}. Give a folder that can be made and written by this user."
            ) from e
        except ValueError as e:
            raise BadInput(str(e)) from e
        yield folder


def do(config: Config, workdir: Path, inputs: Inputs | None = None, part: tuple[int, int] | None = None) -> Outcome:
    """Does the job of a complete configuration in a folder, or finds the result of the same job and data there.

    Args: part: (i, k) does what `Job.write` does, beside others who do the rest; None does all.
    Raises:
        BadInput: the configuration, its data or the folder does not allow it; nothing was written.
    """
    machine = parallel.Machine.all()
    with refusals():
        check_free(workdir, machine)
        with machine.together():
            inputs = inputs or Inputs()
            job = job_of(config["task"])(inputs.local(config), inputs)
            check_apart(workdir, job.config, job.refers, inputs)
            contents = job.contents()
        if others := machine.differing(int(digest(identity(config, contents, job.places))[:7], 16)):
            raise ValueError(
                f"Process {others[0]} of this run reads other data than process 0, or has another configuration: start "
                "the same command in each, where all find the same files."
            )
        result_file = workdir / "result.json"
        with machine.together():
            is_there = RunFolder.check(workdir, config, contents, job.places)
            is_done = is_there and result_file.exists() and not damaged(workdir) and job.inputs.is_whole(workdir)
        if machine.agree(is_done):
            check_shared(workdir, machine)
            result: Any = read_json(result_file)
            finished = result_file.stat().st_mtime
            return Outcome(result, time.strftime("%Y-%m-%d %H:%M", time.localtime(finished)))
        with machine.together():
            job.check()
            job.open()
    if part:
        started = time.monotonic()
        job.write(workdir, *part)
        seconds = time.monotonic() - started
        if not (spent := workdir / f"{PART_SECONDS}{part[0]}").exists():  # else all of it was there
            atomic_write(spent, f"{seconds}")
        return Outcome({"seconds": seconds})
    with open_alone(workdir, config, contents, job.places, machine) as folder:
        result = job.run(folder)
        folder.write_result(result)
    machine.barrier("finished")
    return Outcome(result)
