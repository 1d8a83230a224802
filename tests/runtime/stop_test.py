"""Laws of runtime/stop.py."""

import os
import runpy
import signal

import pytest

from jaxmoust.runtime import stop


@pytest.fixture
def unasked(monkeypatch):
    """Nobody has asked yet; afterwards SIGTERM does what it did before."""
    monkeypatch.setattr(stop, "_requested", False)
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def test_sigterm_becomes_a_request(unasked):
    stop.install()
    assert not stop.requested()
    os.kill(os.getpid(), signal.SIGTERM)
    assert stop.requested()


def test_importing_leaves_sigterm_to_python(unasked):
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    runpy.run_path(stop.__file__)
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_stopped_is_no_error_that_is_caught_as_one():
    """Whoever handles bad input (ValueError) or broken disks (OSError) must not take a stop for either."""
    assert not issubclass(stop.Stopped, ValueError | OSError | RuntimeError)
