"""Graceful shutdown: SIGTERM, SIGHUP or Ctrl-C ends work at once, or where it leaves what a later start goes on from.

The command line installs the handlers while it works; a library user who does not keeps Python's own behaviour. A
signal raises `Stopped`, wherever the program is, but inside `deferred`: there it sets a flag, which the work looks at
(`requested`) where it can leave a checkpoint. The second Ctrl-C interrupts at once, for what cannot wait.
"""

import contextlib
import os
import signal
from collections.abc import Callable, Iterator

HINT = b"\nStopping where the same command can go on; Ctrl-C again stops at once.\n"
AT_ONCE = "Interrupted at once; the same command continues from what is finished and the last checkpoint, if any."

_requested = False
_interrupted = False
_ends_process = False
_raised = False
_deferred = 0


class Stopped(BaseException):
    """Work ended early on request, with everything that a later start needs on disk.

    No `Exception`, as KeyboardInterrupt is none: who handles whatever may be wrong with a file must not take it for
    that.
    """


def install(ends_process: bool = False) -> Callable[[], None]:
    """Turns SIGTERM, SIGHUP and the first SIGINT into a request to stop; call it from the main thread.

    What was requested before is forgotten: it was asked of other work. A SIGINT or SIGHUP that is ignored (by a command
    that a shell started in the background, or by nohup) stays so.

    Args: ends_process: the second SIGINT ends the process with one line, instead of raising KeyboardInterrupt, which
        every thread and event loop on the way out would comment on.
    Returns: puts back what was installed before, and forgets what was requested.
    """
    global _requested, _interrupted, _ends_process, _raised, _deferred
    _requested = _interrupted = _raised = False
    _ends_process, _deferred = ends_process, 0
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)}
    for number in (signal.SIGHUP, signal.SIGINT):
        if before[number] in (signal.SIG_IGN, None):  # None: somebody else's, who is not written in Python
            del before[number]
    for number in before:
        signal.signal(number, _request)

    def undo() -> None:
        global _requested, _interrupted
        _requested = _interrupted = False  # what comes after was not asked to stop
        for number, handler in before.items():
            signal.signal(number, handler)

    return undo


@contextlib.contextmanager
def deferred() -> Iterator[None]:
    """While a block lasts, a signal is only noted: the block asks `requested` where it can stop and lose nothing."""
    global _deferred
    _deferred += 1
    try:
        yield
    finally:
        _deferred -= 1


def always_defer() -> None:
    """From now on a signal is only noted: processes that work in step must agree where to stop."""
    global _deferred
    _deferred += 1


def requested() -> bool:
    """Whether this process was asked to stop."""
    return _requested


def interrupted() -> bool:
    """Whether it was asked by Ctrl-C."""
    return _interrupted


def _request(signum: int, frame: object) -> None:
    global _requested, _interrupted, _raised
    if signum == signal.SIGINT and _interrupted:
        if not _ends_process:
            raise KeyboardInterrupt
        _say(f"\njaxmoust: {AT_ONCE}\n".encode())
        os._exit(128 + signum)
    _requested, _interrupted = True, _interrupted or signum == signal.SIGINT
    if _deferred or _raised:
        if signum == signal.SIGINT:
            _say(HINT)
        return
    _raised = True
    raise Stopped("Stopped on request; the same command continues from what is finished.")


def _say(line: bytes) -> None:
    with contextlib.suppress(OSError):
        os.write(2, line)  # no print: the signal may have come in the middle of one
