"""Laws of runtime/stop.py."""

import os
import runpy
import signal

import pytest

from jaxmoust.runtime import stop


@pytest.fixture
def unasked(monkeypatch):
    """Nobody has asked yet; afterwards the signals do what they did before."""
    monkeypatch.setattr(stop, "_requested", False)
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_sigterm_and_sighup_become_a_request(unasked, number):
    stop.install()
    assert not stop.requested()
    os.kill(os.getpid(), number)
    assert stop.requested() and not stop.interrupted()
    os.kill(os.getpid(), number)  # impatience costs nothing


def test_sigint_becomes_a_request_once_and_then_interrupts(unasked, capfd):
    stop.install()
    os.kill(os.getpid(), signal.SIGINT)
    assert stop.requested() and stop.interrupted() and "Ctrl-C again stops at once" in capfd.readouterr().err
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_signal_that_is_ignored_stays_so(unasked, number):
    signal.signal(number, signal.SIG_IGN)
    stop.install()
    os.kill(os.getpid(), number)
    assert not stop.requested()


def test_installing_forgets_what_was_asked_of_other_work_and_is_undone(unasked):
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    undo = stop.install()
    os.kill(os.getpid(), signal.SIGINT)
    undo()
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
    stop.install()
    assert not stop.requested() and not stop.interrupted()


def test_importing_leaves_sigterm_to_python(unasked):
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    runpy.run_path(stop.__file__)
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_stopped_is_no_error_that_is_caught_as_one():
    """Whoever handles bad input (ValueError) or broken disks (OSError) must not take a stop for either."""
    assert not issubclass(stop.Stopped, ValueError | OSError | RuntimeError)
