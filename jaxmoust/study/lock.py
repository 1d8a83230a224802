"""The right to do something that at most one process may do at a time, kept as a lock on a file.

The lock is the kernel's (`flock`): it goes with the process that holds it, killed or not, so no lease is ever left
behind and none has a time limit. Promised between the processes of one machine, and between machines on a disk whose
locks they share: NFS 4, or NFS 3 with its lock manager, where Linux turns `flock` into a lock of the server, and most
cluster file systems. There, a lease of a machine that dies is free once the server gives the machine up (by default
90 s). A disk mounted with locks of its own (`nolock`, `local_lock=flock`) tells machines nothing of each other: there,
start one at a time. A child that a process forks keeps its leases until it ends too.
"""

import contextlib
import errno
import fcntl
import os
import socket
import warnings
from collections.abc import Iterator
from pathlib import Path

# What a lock that another has is refused with: EACCES on some network disks.
_TAKEN = (errno.EAGAIN, errno.EACCES)
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)


@contextlib.contextmanager
def lease(path: Path) -> Iterator[bool]:
    """Has the right that a file stands for while a block lasts, if nobody else has it; does not wait for it.

    The file is there only while somebody has the lease (or was killed with it), and names its holder for people.
    On a disk without locks the lease is always given, with a warning.

    Yields: whether this process has it; False when another one, or another block of this one, does.
    """
    descriptor = _take(path)
    try:
        yield descriptor is not None
    finally:
        if descriptor is not None:
            path.unlink(missing_ok=True)  # before the lock goes: see `_take`
            os.close(descriptor)


def holder(path: Path) -> str:
    """Who has the lease, "process 12 on host"; "" when that cannot be told."""
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def _take(path: Path) -> int | None:
    """Opens and locks the file: its descriptor, or None when another holds the lock."""
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The holder before may have removed the file between our opening and locking it: a lock on a file that
            # has no name any more keeps nobody out.
            if not _is_named(descriptor, path):
                os.close(descriptor)
                continue
            os.ftruncate(descriptor, 0)
            os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
            return descriptor
        except OSError as error:
            if error.errno in _NO_LOCKS:
                warnings.warn(
                    f"The disk of {path.parent} has no locks ({error.strerror}): let one process at a time work there.",
                    stacklevel=4,
                )
                return descriptor
            os.close(descriptor)
            if error.errno in _TAKEN:
                return None
            raise


def _is_named(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False
