"""Laws of runtime/stop.py."""

import os
import runpy
import signal
import subprocess
import sys
import textwrap

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
    with stop.deferred():
        os.kill(os.getpid(), number)
        assert stop.requested() and not stop.interrupted()
        os.kill(os.getpid(), number)  # impatience costs nothing


def test_sigint_becomes_a_request_once_and_then_interrupts(unasked, capfd):
    stop.install()
    with stop.deferred():
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.requested() and stop.interrupted() and "Ctrl-C again stops at once" in capfd.readouterr().err
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_signal_outside_of_what_defers_it_ends_work_there_and_its_clearing_up_is_left_alone(unasked, number):
    stop.install()
    with pytest.raises(stop.Stopped, match="the same command continues"):
        with stop.deferred():
            pass
        os.kill(os.getpid(), number)
    if number != signal.SIGINT:
        os.kill(os.getpid(), number)
    assert stop.requested() and stop.interrupted() == (number == signal.SIGINT)


def test_second_interrupt_of_the_program_ends_it_with_one_line():
    """Even where an event loop and threads are at work, as in a checkpoint."""
    script = """
        import asyncio, os, signal, threading, time
        from jaxmoust.runtime import stop
        stop.install(ends_process=True)

        async def work():
            tasks = [asyncio.to_thread(time.sleep, 30) for _ in range(3)]
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
            await asyncio.gather(*tasks)

        with stop.deferred():
            asyncio.run(work())
    """
    run = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, timeout=20)
    assert run.returncode == 130
    assert run.stderr.split("\n") == ["", stop.HINT.decode().strip(), "", f"jaxmoust: {stop.AT_ONCE}", ""]


def test_processes_that_work_in_step_are_never_ended_by_one_of_them(unasked):
    stop.install()
    stop.always_defer()
    os.kill(os.getpid(), signal.SIGTERM)
    assert stop.requested()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_signal_that_is_ignored_stays_so(unasked, number):
    signal.signal(number, signal.SIG_IGN)
    stop.install()
    os.kill(os.getpid(), number)
    assert not stop.requested()


def test_installing_forgets_what_was_asked_of_other_work_and_is_undone(unasked):
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    undo = stop.install()
    with stop.deferred():
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
    """Whoever handles bad input, broken disks or damaged files must not take it for one of these."""
    assert not issubclass(stop.Stopped, Exception)
