r"""Output to the terminal: plain text, in which nothing of a user's files acts as a control.

A class or a file may be called by any bytes. Those that move a cursor, set a title, turn the direction of writing or
are no character are written as Python writes them, \x1b or \udcff. The one place for it is the streams themselves.
"""

import contextlib
import sys
from collections.abc import Iterator
from typing import Any

from jaxmoust.runtime.paths import visible


class _Plain:
    """A stream that writes control characters escaped; for the rest, the stream that it is given."""

    def __init__(self, stream: Any):
        self._stream = stream

    def write(self, text: str) -> int:
        return self._stream.write(visible(text))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def plain_streams() -> Iterator[None]:
    """Lets standard output and error write text alone while a block lasts."""
    with contextlib.redirect_stdout(_Plain(sys.stdout)), contextlib.redirect_stderr(_Plain(sys.stderr)):
        yield
