"""Being asked to stop: SIGTERM, SIGHUP or Ctrl-C sets a flag; long work looks at it and leaves a checkpoint.

The command line installs the handlers while it works; a library user who does not keeps Python's own behaviour. The
second Ctrl-C interrupts at once, for what cannot wait.
"""

import contextlib
import os
import signal
from collections.abc import Callable

HINT = b"\nStopping where the same command can go on; Ctrl-C again stops at once.\n"

_requested = False
_interrupted = False


class Stopped(Exception):
    """Work ended early on request, with everything that a later start needs on disk."""


def install() -> Callable[[], None]:
    """Turns SIGTERM, SIGHUP and the first SIGINT into a request that `requested` reports; call it from the main thread.

    What was requested before is forgotten: it was asked of other work. A SIGINT or SIGHUP that is ignored (by a command
    that a shell started in the background, or by nohup) stays so.

    Returns: puts back what was installed before.
    """
    global _requested, _interrupted
    _requested = _interrupted = False
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)}
    for number in (signal.SIGHUP, signal.SIGINT):
        if before[number] in (signal.SIG_IGN, None):  # None: somebody else's, who is not written in Python
            del before[number]
    for number in before:
        signal.signal(number, _request)

    def undo() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    return undo


def requested() -> bool:
    """Whether this process was asked to stop."""
    return _requested


def interrupted() -> bool:
    """Whether it was asked by Ctrl-C."""
    return _interrupted


def _request(signum: int, frame: object) -> None:
    global _requested, _interrupted
    if signum == signal.SIGINT and _interrupted:
        raise KeyboardInterrupt
    if signum == signal.SIGINT:
        _interrupted = True
        with contextlib.suppress(OSError):
            os.write(2, HINT)  # no print: the signal may have come in the middle of one
    _requested = True
