"""Several processes of one run: they meet before JAX joins them, and where one dies the others end with a sentence.

Free of jax, so that it is there before jax is.
"""

import contextlib
import ctypes
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable

from jaxmoust.runtime import stop

MEET_SECS = 300.0  # within which all of them are started
SAY_SECS = 30.0  # between two lines that say who is waited for
_POLL_SECS = 0.2
_GO, _STOP, _GONE = "go", "stop", "gone"  # what they say to each other; the last is a closed line
STOPPED = "Stopped on request while the processes of this run met; the same command in every process begins it."
OTHER_ENDED = (
    "Another process of this run has ended, or cannot be reached any more: its own log says why. The same command in "
    "every process continues."
)


def meet(
    host: str, port: int, number: int, count: int, say: Callable[[str], object], seconds: float = MEET_SECS
) -> None:
    """Waits until every process of a run is there, and says now and then which are not.

    Process 0 listens where JAX's service will afterwards; it lets the others go once all have come.

    Args: number: of this process, of `count`. say: receives a line of text. seconds: how long to wait at most.
    Raises:
        ValueError: some did not come, named; or two came with one number, or with another count.
        stop.Stopped: one of those that wait was asked to stop.
    """
    if count > 1:
        (_receive if number == 0 else _report)(host, port, number, count, say, time.monotonic() + seconds)


def _receive(host: str, port: int, number: int, count: int, say: Callable[[str], object], until: float) -> None:
    dual = socket.has_dualstack_ipv6()
    try:
        server = socket.create_server(
            ("", port), family=socket.AF_INET6 if dual else socket.AF_INET, dualstack_ipv6=dual
        )
    except OSError as e:
        raise ValueError(f"process 0 cannot listen on port {port}: {e}. Give another one, the same to all.") from e
    peers, rest, wrong, said = dict[int, socket.socket](), list[socket.socket](), "", time.monotonic()
    with server:
        server.settimeout(_POLL_SECS)
        while True:
            if stop.requested() or _STOP in (words := {i: _heard(peer) for i, peer in peers.items()}).values():
                wrong = _STOP
                break
            for i in [i for i, word in words.items() if word == _GONE]:
                peers.pop(i).close()  # it may come again
            if len(peers) + len(rest) >= count - 1:
                break
            missing = [str(i) for i in range(1, count) if i not in peers]
            who = f"process{'es' if len(missing) > 1 else ''} {', '.join(missing)} of {count} (numbered from 0)"
            if (now := time.monotonic()) > until:
                wrong = wrong or f"{who} did not come. Start the same command in each, with a --process_id of its own"
                break
            if now > said + SAY_SECS:
                say(f"waiting for {who} at port {port}")
                said = now
            try:
                peer, _ = server.accept()
                peer.settimeout(2.0)
                word, its_number, its_count = peer.recv(64).decode().split()
                its = int(its_number)
            except (OSError, ValueError):  # nobody, or somebody else
                continue
            if word != "jaxmoust":
                continue
            if its in peers and _heard(peers[its]) == _GONE:
                peers.pop(its).close()
            if int(its_count) != count:
                wrong = f"--num_processes is {count} here and {its_count} there"
            elif its in (0, *peers):
                wrong = f"two processes have --process_id={its}"
            if its in (0, *peers):
                rest.append(peer)
            else:
                peers[its] = peer
            until = min(until, now + 2.0) if wrong else until  # those who come now hear of it, too
    for peer in (*peers.values(), *rest):
        with peer, contextlib.suppress(OSError):  # it has gone
            peer.sendall((_STOP if wrong == _STOP else f"no {wrong}" if wrong else _GO).encode())
    if wrong == _STOP:
        raise stop.Stopped(STOPPED)
    if wrong:
        raise ValueError(f"the processes cannot be joined: {wrong}.")


def _heard(peer: socket.socket, secs: float = 0.0) -> str:
    """What a peer says within so many seconds; "" is nothing yet, and _GONE that it has closed."""
    if not select.select([peer], [], [], secs)[0]:
        return ""
    try:
        return peer.recv(256).decode(errors="replace") or _GONE
    except OSError:
        return _GONE


def _report(host: str, port: int, number: int, count: int, say: Callable[[str], object], until: float) -> None:
    said, answer = time.monotonic(), ""
    while answer in ("", _GONE) and time.monotonic() < until:
        try:
            with socket.create_connection((host, port), timeout=2.0) as peer:
                peer.sendall(f"jaxmoust {number} {count}".encode())
                answer = ""
                while not answer and time.monotonic() < until + 2.0:  # process 0 gives up first, and says why
                    if stop.requested():
                        peer.sendall(_STOP.encode())
                        answer = _STOP
                    else:
                        answer = _heard(peer, _POLL_SECS)  # once all have come
        except OSError:
            if time.monotonic() > said + SAY_SECS:
                say(f"waiting for process 0 of {count} at {host}:{port}")
                said = time.monotonic()
        if answer == _STOP or stop.requested():
            raise stop.Stopped(STOPPED)
        if answer in ("", _GONE):
            time.sleep(_POLL_SECS)
    if answer != _GO:
        why = answer.removeprefix("no ") if answer.startswith("no ") else ""
        why = why or f"process 0 did not come, or lets nobody go, at {host}:{port}"
        raise ValueError(f"the processes cannot be joined: {why}.")


def supervise(work: Callable[[], int], failed: int = 1, stopped: int = 143) -> int:
    """Runs the work of one process of several in a child, and returns its exit code.

    Where another process of the run is gone, JAX's runtime aborts this one from a thread of its own: that is then said
    in a sentence, and the code is that of a failure. Signals go on to the child.

    Args: work: returns the exit code. failed, stopped: the codes of a failure, and of a stop by SIGTERM.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        _end_with_parent()
        code = work()
        os.write(writer, bytes([code]))
        sys.stdout.flush()
        sys.stderr.flush()
        if code == failed:
            os._exit(code)  # what JAX does at the end waits for the others, who may be waiting for this one
        sys.exit(code)
    os.close(writer)
    asked: list[int] = []

    def pass_on(number: int, frame: object) -> None:
        asked.append(number)
        os.kill(child, number)

    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, pass_on)
    _, status = os.waitpid(child, 0)
    with open(reader, "rb") as pipe:
        code_byte = pipe.read(1)
    if code_byte:
        return code_byte[0]
    if (code := os.waitstatus_to_exitcode(status)) >= 0:
        return code
    if asked:
        return stopped
    print(f"jaxmoust: {OTHER_ENDED}", file=sys.stderr)
    return failed


def _end_with_parent() -> None:
    """Ties the child's life to its parent's (on Linux); a terminal's Ctrl-C reaches the parent, which passes it on."""
    os.setpgid(0, 0)
    try:
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    except (AttributeError, OSError):
        return
