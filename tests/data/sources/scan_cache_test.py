"""The cache of what was learnt: gives back what was kept of the same facts, whole, or nothing."""

import os
import pathlib
import time

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jaxmoust.data.sources import scan_cache
from jaxmoust.data.sources.scan_cache import file_facts, is_stable, load, save, stat_row


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("JAXMOUST_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=40), st.text(max_size=9), st.text(max_size=9))
def test_load_gives_what_was_remembered_of_the_same_facts_only(content, facts, other):
    save("what", facts, content)
    assert load("what", facts) == content
    assert load("what", facts + "x") is None and load("whatx", facts) is None
    save("what", other, b"new")
    assert load("what", other) == b"new" and (other == facts or load("what", facts) is None)


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
def test_load_gives_nothing_of_a_damaged_entry(folder, spoil):
    save("what", "facts", bytes(range(50)))
    spoil(entry(folder))
    assert load("what", "facts") is None


def test_save_that_is_interrupted_leaves_the_old_entry(folder, monkeypatch):
    save("what", "facts", b"old")

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(scan_cache.os, "replace", fail)
    save("what", "facts", b"new")
    assert load("what", "facts") == b"old" and len(list((folder / "data").iterdir())) == 1


def test_save_says_that_it_cannot_where_the_cache_cannot_be_written(folder, caplog):
    folder.write_text("a file where the folder should be")
    save("what", "facts", b"content")
    assert load("what", "facts") is None
    assert "JAXMOUST_CACHE" in caplog.text


def test_save_without_a_home_does_nothing(monkeypatch):
    monkeypatch.delenv("JAXMOUST_CACHE")

    def fail():
        raise RuntimeError("no home")

    monkeypatch.setattr(pathlib.Path, "home", fail)
    save("what", "facts", b"content")
    assert load("what", "facts") is None


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


def test_is_stable_wants_every_file_left_alone_for_a_tick(tmp_path):
    (tmp_path / "a").write_bytes(b"1")
    os.utime(tmp_path / "a", (1, 1))  # which cannot hide when it was done
    assert not is_stable(rows(tmp_path / "a"))
    assert is_stable(rows(tmp_path / "a"), time.time_ns() + 10**10)
