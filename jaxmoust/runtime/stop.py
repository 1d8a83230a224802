"""Being asked to stop: SIGTERM sets a flag, long work looks at it between steps and leaves a checkpoint.

The command line installs the handler once; a library user who does not install it keeps Python's own behaviour.
"""

import signal

_requested = False


class Stopped(Exception):
    """Work ended early on request, with everything that a later start needs on disk."""


def install() -> None:
    """Turns SIGTERM into a request that `requested` reports; call it from the main thread."""
    signal.signal(signal.SIGTERM, _request)


def requested() -> bool:
    """Whether this process was asked to stop."""
    return _requested


def _request(signum: int, frame: object) -> None:
    global _requested
    _requested = True
