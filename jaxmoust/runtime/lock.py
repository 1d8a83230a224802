"""The right to do something that at most one process may do at a time, kept as a lock on a file. Free of jax.

The lock is the kernel's (`flock`, by the package filelock): it goes with the process that holds it, killed or not, so
no lease is ever left behind and none has a time limit. Promised between the processes of one machine, and between
machines on a disk whose locks they share: NFS 4, or NFS 3 with its lock manager, and most cluster file systems. There,
a lease of a machine that dies is free once the server gives the machine up (by default 90 s). A disk mounted with
locks of its own (`nolock`, `local_lock=flock`) tells machines nothing of each other: there, start one at a time.
"""

import contextlib
import errno
import os
import socket
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

_LOOK_AGAIN_SECS = 0.05
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
    """Who has the lease, "process 12 on host"; "" when that cannot be told."""
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except OSError:
        return ""
