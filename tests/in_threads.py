"""Processes of one run, played by threads of one process: what they tell each other, without JAX's service."""

import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from jaxmoust.runtime.parallel import Machine

MOST_SECS = 20.0  # after which a thread that waits for others in vain gives up


def in_threads(count: int, work: Callable[[Machine], Any]) -> list[Any]:
    """What `work(machine)` returned, or raised, in each of so many processes that work in step."""
    meeting, said, ends = threading.Barrier(count, timeout=MOST_SECS), [[0]] * count, [None] * count

    class Member(Machine):
        process_count = count
        process_index = property(lambda self: int(threading.current_thread().name))

        def answers(self, values):
            said[self.process_index] = values
            meeting.wait()
            rows = np.array(said, np.int32)
            meeting.wait()
            return rows

        def barrier(self, name):
            meeting.wait()

    def run() -> None:
        machine = Member(Machine.local(1).devices)
        try:
            ends[machine.process_index] = work(machine)
        except BaseException as e:
            ends[machine.process_index] = e

    threads = [threading.Thread(target=run, name=str(i)) for i in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return ends
