"""The right to do something that at most one process may do at a time, kept as a lock on a file. Free of jax.

The lock is the kernel's (`flock`, by the package filelock): it goes with the process that holds it, killed or not, so
no lease is ever left behind and none has a time limit. Promised between the processes of one machine, and between
machines on a disk whose locks they share: NFS 4, or NFS 3 with its lock manager, and most cluster file systems. There,
a lease of a machine that dies is free once the server gives the machine up (by default 90 s). A disk mounted with
locks of its own (FUSE, as of gcsfuse, rclone, sshfs; NFS with `nolock` or `local_lock`) tells machines nothing of each
other: that is warned of, and there one machine at a time may work.
"""

import contextlib
import errno
import functools
import os
import socket
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

_LOOK_AGAIN_SECS = 0.05
_ALONE = ("nolock", "local_lock=flock", "local_lock=all", "localflock", "nobrl")  # options of NFS, Lustre and CIFS
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)


@contextlib.contextmanager
def lease(path: str | os.PathLike) -> Iterator[bool]:
    """Has the right that a file stands for while a block lasts, if nobody else has it; does not wait for it.

    The file is there only while somebody has the lease (or was killed with it), and names its holder for people.
    On a disk without locks the lease is always given, with a warning.

    Yields: whether this process has it; False when another one, or another block of this one, does.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind := own_locks(os.path.realpath(path.parent)):
        warnings.warn(
            f"The disk of {path.parent} ({kind}) keeps locks on this machine: let one machine at a time work there.",
            stacklevel=3,
        )

    def sign(descriptor: int) -> None:
        # The holder before may have removed the file between our opening and locking it: a lock on a file that has
        # no name any more keeps nobody out.
        if not path.exists() or not os.path.samestat(os.fstat(descriptor), path.stat()):
            raise Timeout(os.fspath(path))
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode())

    lock = FileLock(path, blocking=False, thread_local=False, fallback_to_soft=False, on_acquired=sign)
    try:
        lock.acquire()
    except Timeout:
        yield False
        return
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        warnings.warn(
            f"The disk of {path.parent} has no locks ({error.strerror}): let one process at a time work there.",
            stacklevel=3,
        )
    try:
        yield True
    finally:
        path.unlink(missing_ok=True)  # before the lock goes: see `sign`
        lock.release()


@contextlib.contextmanager
def alone(path: str | os.PathLike) -> Iterator[None]:
    """Has the right that a file stands for while a block lasts; waits as long as somebody else has it. See `lease`."""
    while True:
        with lease(path) as ours:
            if ours:
                yield
                return
        time.sleep(_LOOK_AGAIN_SECS)


def holder(path: str | os.PathLike) -> str:
    """Who has the lease and for how long, "process 12 on host (for 3 min)"; "" when that cannot be told.

    Of a process of this machine that somebody has stopped it is said, and what ends that: it would hold the lease for
    ever.
    """
    try:
        who = Path(path).read_text(encoding="utf-8").strip()
        minutes = max(0.0, time.time() - Path(path).stat().st_mtime) / 60
    except OSError:
        return ""
    _, pid, _, host = [*who.split(" ", 3), "", "", "", ""][:4]
    stopped = ""
    if host == socket.gethostname() and _is_stopped(pid):
        stopped = f", and is stopped: `kill -CONT {pid}` lets it go on, `kill -KILL {pid}` ends it"
    return f"{who} (for {minutes:.0f} min{stopped})" if who else ""


@functools.cache
def own_locks(folder: str, mounts: str = "/proc/self/mountinfo") -> str:
    """The type of a folder's disk where that answers locks on this machine alone; "" for others, or if not told.

    Args: folder: a real path, of what need not be there yet.
    """
    try:
        lines = [line.split(" - ") for line in Path(mounts).read_text().splitlines()]
    except OSError:
        return ""
    point, kind, options = "", "", ""
    for where, (of_kind, _, of_disk) in ((left.split(), right.split(" ", 2)) for left, right in lines):
        at = where[4].replace("\\040", " ")
        if len(at) >= len(point) and f"{folder}/".startswith(at.rstrip("/") + "/"):
            point, kind, options = at, of_kind, f"{where[5]},{of_disk}"
    return kind if kind == "fuse" or kind.startswith("fuse.") or any(one in options for one in _ALONE) else ""


def _is_stopped(pid: str) -> bool:
    """Whether a process got SIGSTOP, or Ctrl-Z; where the system does not say, it is not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "Tt"
    except (OSError, IndexError):
        return False
