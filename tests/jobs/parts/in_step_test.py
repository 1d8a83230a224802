"""Processes of one run refuse, fail and stop together, whichever of them has the reason."""

import threading

import numpy as np
import pytest
from in_threads import in_threads

from jaxmoust.data.synthetic import store as synthetic
from jaxmoust.data.synthetic.spec import SyntheticSpec
from jaxmoust.generate.writing import complete_set, write_missing
from jaxmoust.jobs.parts import job
from jaxmoust.jobs.parts.registry import BadInput
from jaxmoust.runtime import stop
from jaxmoust.runtime.parallel import FailedElsewhere, Machine

SPEC = SyntheticSpec(
    **{"name": "s", "class_names": ("a", "b"), "shape": (4, 4, 1), "num_images": 60, "shard_images": 20},
    **{"seed": 0, "generator": "g", "guidance": 0.0, "steps": 1, "created_by": {}},
)


def draw(labels, indices):
    for _ in labels:
        yield np.zeros((1, *SPEC.shape), np.uint8)


def writer(of_process_1):
    """Writes a set by two processes, of which the second does something before."""

    def write(path, index, count):
        if index == 1:
            of_process_1()
        write_missing(draw, SPEC, path, {}, index, count)

    return write


def raising(error):
    def refuse():
        raise error

    return refuse


def test_what_one_process_raises_ends_all_in_its_words():
    def work(machine):
        with machine.together():
            if machine.process_index == 1:
                raise OSError("no room for me")
        return "gone on"

    ends = in_threads(3, work)
    assert [type(end) for end in ends] == [FailedElsewhere, OSError, FailedElsewhere]
    assert str(ends[0]) == str(ends[2]) == "process 1 of 3 (numbered from 0): no room for me"


def test_processes_of_which_none_raises_go_on():
    def work(machine):
        with machine.together():
            return machine.process_index

    assert in_threads(2, work) == [0, 1]


def test_sigterm_to_one_stops_those_that_have_written_their_shards(tmp_path):
    write = writer(raising(stop.Stopped("Stopped on request with 1 shards to go.")))
    ends = in_threads(2, lambda machine: complete_set(write, tmp_path / "set", SPEC, machine))
    assert [type(end) for end in ends] == [stop.Stopped] * 2 and len({*map(str, ends)}) == 1
    assert synthetic.missing_shards(tmp_path / "set", SPEC) == (1,)


def test_a_set_that_lacks_shards_is_refused_in_all(tmp_path):
    """Each writes into a folder of its own, so neither has all."""
    (tmp_path / "0").mkdir()
    (tmp_path / "1").mkdir()
    write = writer(lambda: None)
    ends = in_threads(2, lambda m: complete_set(write, tmp_path / str(m.process_index), SPEC, m))
    assert isinstance(ends[0], ValueError) and isinstance(ends[1], FailedElsewhere)
    assert str(ends[1]) == f"process 0 of 2 (numbered from 0): {ends[0]}"


def test_a_set_is_completed_by_all_and_the_seconds_of_parts_count_once(tmp_path):
    (tmp_path / "seconds.part0").write_text("2.5")
    write = writer(lambda: None)
    assert in_threads(2, lambda machine: complete_set(write, tmp_path, SPEC, machine)) == [2.5, 0.0]
    assert synthetic.is_whole(tmp_path) and not list(tmp_path.glob("seconds.part*"))


class Toy(job.Job):
    """A job that one process refuses at some point."""

    at = ""

    def _refuse(self, at):
        if at == Toy.at and threading.current_thread().name == "1":
            raise ValueError("this file is not mine")

    def contents(self):
        self._refuse("contents")
        return {}

    def check(self):
        self._refuse("check")

    def open(self):
        self._refuse("open")

    def run(self, folder):
        return {"n": 1}


@pytest.mark.parametrize("at", ["contents", "check", "open", "folder"])
def test_a_job_that_one_process_refuses_is_refused_in_all(tmp_path, monkeypatch, at):
    monkeypatch.setattr(Toy, "at", at)
    monkeypatch.setattr(job, "job_of", lambda task: Toy)
    machines: list[Machine] = []
    monkeypatch.setattr(Machine, "all", classmethod(lambda cls: machines[0]))
    folders = tmp_path / "0", tmp_path / "1"
    if at == "folder":
        folders[1].mkdir()
        (folders[1] / "config.json").write_text('{"task": "other"}')

    def work(machine):
        machines.append(machine)
        machine.barrier("there")
        return job.do({"task": "toy"}, folders[machine.process_index])

    ends = in_threads(2, work)
    assert [type(end) for end in ends] == [BadInput] * 2
    words = f"{folders[1]} holds a run of another" if at == "folder" else "this file is not mine"
    assert str(ends[0]).startswith(f"process 1 of 2 (numbered from 0): {words}") and str(ends[1]).startswith(words)


def test_a_store_that_is_not_one_folder_to_all_is_refused_in_all(tmp_path):
    ends = in_threads(2, lambda m: job.check_shared(tmp_path / str(m.process_index), m, "--store"))
    assert all(f"process 0 wrote in --store={tmp_path / str(i)}: give all" in str(end) for i, end in enumerate(ends))
    assert in_threads(2, lambda machine: job.check_shared(tmp_path / "one", machine, "--store")) == [None, None]


def test_a_bucket_is_refused_to_several_processes(monkeypatch):
    def work(machine):
        monkeypatch.setattr(Machine, "all", classmethod(lambda cls: machine))
        job.check_on_disk("--store", "s3://bucket/stages")

    (end,) = {*map(str, in_threads(2, work))}
    assert end.startswith("--store=s3://bucket/stages: a run of several processes needs a folder on a disk")


def test_a_single_process_raises_as_it_did(tmp_path):
    with pytest.raises(OSError, match="full"), Machine.local(1).together():
        raise OSError("full")
