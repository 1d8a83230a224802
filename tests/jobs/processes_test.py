"""Processes of one run tell the truth to each other: they see one folder, stop together, and end where one has died."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from jaxmoust.runtime import processes, stop

ROOT = Path(__file__).parents[2]
FIT = ("fit", "--config=configs/generator/digits_edm.py:quick", "--config.data.n_base=40")
SECONDS = 60  # within which the others end


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return probe.getsockname()[1]


def start(*lines: tuple[str, ...]) -> list[subprocess.Popen]:
    """Starts the processes of a run, one device each."""
    port, many = free_port(), f"--num_processes={len(lines)}"
    return [
        subprocess.Popen(
            [
                sys.executable,
                "-c",
                "from jaxmoust.cli import main; main()",
                *line,
                f"--coordinator=localhost:{port}",
                many,
                f"--process_id={i}",
            ],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), "JAX_NUM_CPU_DEVICES": "1"},
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        for i, line in enumerate(lines)
    ]


def ended(runs: list[subprocess.Popen], seconds: float = 240) -> list[tuple[int, str]]:
    """The exit code of each, and what it said."""
    try:
        said = [run.communicate(timeout=seconds)[1] for run in runs]
    finally:
        for run in runs:
            run.kill()
    return [(run.returncode, words) for run, words in zip(runs, said, strict=True)]


def wait_for(path: Path, runs: list[subprocess.Popen]) -> None:
    until = time.monotonic() + 180
    while not path.exists():
        assert time.monotonic() < until and all(run.poll() is None for run in runs), [r.communicate() for r in runs]
        time.sleep(0.05)


def test_a_process_that_is_killed_ends_the_others_with_a_sentence(tmp_path):
    work = tmp_path / "edm"
    line = (*FIT, f"--workdir={work}", "--config.train.num_steps=100000", "--config.train.checkpoint_steps=5")
    runs = start(line, line)
    wait_for(work / "checkpoints" / "5", runs)
    runs[1].kill()
    killed = time.monotonic()
    code, words = ended(runs)[0]
    assert code == 1 and time.monotonic() - killed < SECONDS
    assert f"jaxmoust: {processes.OTHER_ENDED}" in words and "Traceback" not in words


def test_sigterm_to_one_process_stops_all_while_they_sample(quick_study, tmp_path):
    work = tmp_path / "set"
    line = ("sample", "--config=configs/sample/edm.py:quick", f"--config.generator={quick_study.generator}")
    line += (f"--workdir={work}", "--config.num_images=100000", "--config.shard_images=20")
    runs = start(line, line)
    wait_for(work / "spec.json", runs)
    runs[1].send_signal(signal.SIGTERM)
    sent = time.monotonic()
    outcomes = ended(runs)
    assert [code for code, _ in outcomes] == [143, 143] and time.monotonic() - sent < SECONDS, outcomes
    assert not (work / "result.json").exists()


def test_folders_of_their_own_are_refused_in_all(tmp_path):
    lines = [(*FIT, f"--workdir={tmp_path / name}" + "/edm") for name in ("one", "two")]
    for code, words in ended(start(*lines)):
        assert code == 2 and "process 1 of 2 (numbered from 0) does not see what process 0 wrote in --workdir" in words
    assert not list(tmp_path.rglob("checkpoints"))


def test_who_does_not_come_is_named(monkeypatch):
    monkeypatch.setattr(processes, "SAY_SECS", 0.5)
    port, said, refused = free_port(), [], []

    def arrive(number: int) -> None:
        try:
            processes.meet("localhost", port, number, 4, said.append, 3.0)
        except ValueError as e:
            refused.append(str(e))

    threads = [threading.Thread(target=arrive, args=(number,)) for number in (0, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    missing = "processes 1, 3 of 4 (numbered from 0)"
    assert f"waiting for {missing} at port {port}" in said
    assert len(refused) == 2 and all(f"{missing} did not come" in words for words in refused)


def test_those_who_all_come_go_on_together():
    port, left = free_port(), []

    def arrive(number: int) -> None:
        processes.meet("localhost", port, number, 3, print, 20.0)
        left.append(number)

    threads = [threading.Thread(target=arrive, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(left) == [0, 1, 2]


@pytest.mark.parametrize("asked", [0, 1])
def test_sigterm_to_one_that_waits_for_others_stops_all_that_wait(monkeypatch, asked):
    port, ends, sent = free_port(), {}, threading.Event()
    name = threading.current_thread
    monkeypatch.setattr(processes.stop, "requested", lambda: sent.is_set() and name().name == str(asked))

    def arrive(number: int) -> None:
        try:
            processes.meet("localhost", port, number, 4, print, 60.0)
        except stop.Stopped as e:
            ends[number] = str(e)

    threads = [threading.Thread(target=arrive, args=(number,), name=str(number)) for number in (0, 1, 2)]
    for thread in threads:
        thread.start()
    time.sleep(1.0)  # they wait for the fourth
    sent.set()
    for thread in threads:
        thread.join(5.0)
    assert ends == dict.fromkeys((0, 1, 2), processes.STOPPED)


def test_a_process_that_goes_while_others_come_may_come_again():
    port, left = free_port(), []

    def arrive(number: int) -> None:
        processes.meet("localhost", port, number, 3, print, 20.0)
        left.append(number)

    threads = [threading.Thread(target=arrive, args=(number,)) for number in (0, 1, 2)]
    threads[0].start()
    time.sleep(0.5)  # process 0 listens by then
    with socket.create_connection(("localhost", port)) as peer:
        peer.sendall(b"jaxmoust 1 3")
        time.sleep(0.5)
    for thread in threads[1:]:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(left) == [0, 1, 2]


@pytest.mark.parametrize(
    ("number", "count", "why"), [(1, 3, "two processes have --process_id=1"), (2, 2, "is 3 here and 2")]
)
def test_numbers_that_do_not_fit_are_refused_in_all(number, count, why):
    port, refused = free_port(), []

    def arrive(number: int, count: int) -> None:
        try:
            processes.meet("localhost", port, number, count, print, 10.0)
        except ValueError as e:
            refused.append(str(e))

    threads = [threading.Thread(target=arrive, args=given) for given in ((0, 3), (1, 3), (number, count))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(refused) == 3 and all(why in words for words in refused[:1] + refused)
