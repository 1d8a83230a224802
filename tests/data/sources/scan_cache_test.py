"""The cache of what was learnt: gives back what was kept of the same facts, whole, or nothing."""

import os
import pathlib
import time

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jaxmoust.data.sources import scan_cache
from jaxmoust.data.sources.scan_cache import file_facts, recall, remember, settled, stat_row


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("JAXMOUST_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=40), st.text(max_size=9), st.text(max_size=9))
def test_recall_gives_what_was_remembered_of_the_same_facts_only(content, facts, other):
    remember("what", facts, content)
    assert recall("what", facts) == content
    assert recall("what", facts + "x") is None and recall("whatx", facts) is None
    remember("what", other, b"new")
    assert recall("what", other) == b"new" and (other == facts or recall("what", facts) is None)


def entry(folder):
    return next((folder / "data").iterdir())


def cut(file):
    file.write_bytes(file.read_bytes()[:-1])


def empty(file):
    file.write_bytes(b"")


def flip(file):
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)


@pytest.mark.parametrize("spoil", [cut, empty, flip, os.unlink])
def test_recall_gives_nothing_of_a_damaged_entry(folder, spoil):
    remember("what", "facts", bytes(range(50)))
    spoil(entry(folder))
    assert recall("what", "facts") is None


def test_remember_that_is_interrupted_leaves_the_old_entry(folder, monkeypatch):
    remember("what", "facts", b"old")

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(scan_cache.os, "replace", fail)
    remember("what", "facts", b"new")
    assert recall("what", "facts") == b"old" and len(list((folder / "data").iterdir())) == 1


def test_remember_says_that_it_cannot_where_the_cache_cannot_be_written(folder, caplog):
    folder.write_text("a file where the folder should be")
    remember("what", "facts", b"content")
    assert recall("what", "facts") is None
    assert "JAXMOUST_CACHE" in caplog.text


def test_remember_without_a_home_does_nothing(monkeypatch):
    monkeypatch.delenv("JAXMOUST_CACHE")

    def fail():
        raise RuntimeError("no home")

    monkeypatch.setattr(pathlib.Path, "home", fail)
    remember("what", "facts", b"content")
    assert recall("what", "facts") is None


def rows(*files):
    return np.array([stat_row(file.stat()) for file in files])


def test_file_facts_change_with_name_size_and_time(tmp_path):
    file = tmp_path / "a"
    file.write_bytes(b"1")
    facts = [file_facts(["a"], rows(file)), file_facts(["b"], rows(file))]
    file.write_bytes(b"12")
    facts.append(file_facts(["a"], rows(file)))
    os.utime(file, (1, 1))
    facts.append(file_facts(["a"], rows(file)))
    assert len(set(facts)) == 4


def test_settled_wants_every_file_left_alone_for_a_tick(tmp_path):
    (tmp_path / "a").write_bytes(b"1")
    os.utime(tmp_path / "a", (1, 1))  # which cannot hide when it was done
    assert not settled(rows(tmp_path / "a"))
    assert settled(rows(tmp_path / "a"), time.time_ns() + 10**10)
