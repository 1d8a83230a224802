import json
import os
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxmoust.runtime import folder
from jaxmoust.runtime.folder import (
    FolderMismatch,
    RunFolder,
    canonical_json,
    curves_are_whole,
    damaged,
    differences,
    digest,
    environment,
    identity,
)
from jaxmoust.runtime.paths import atomic_write, read_json

CONFIG = {"seed": 0, "optim": {"lr": 1e-3, "betas": (0.9, 0.999)}, "data": {"name": "digits", "path": None}}
HERE = {"device": "1 x x86_64 (cpu, 2 cores)", "cpus": 2}

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


def names(path: Path) -> set[str]:
    return {child.name for child in path.iterdir()}


def test_open_writes_config_and_environment(tmp_path):
    run = RunFolder.open(tmp_path / "a" / "b", CONFIG, HERE)
    assert names(run.path) == {"config.json", "contents.json", "environment.json"}
    assert json.loads((run.path / "config.json").read_text()) == json.loads(json.dumps(CONFIG))
    assert json.loads((run.path / "environment.json").read_text()) == HERE
    assert run.checkpoints == run.path / "checkpoints"


def test_open_again_with_an_equal_config_is_the_same_run(tmp_path):
    RunFolder.open(tmp_path, CONFIG, HERE)
    before = (tmp_path / "config.json").read_bytes()
    optim = {"betas": [np.float64(0.9), 0.999], "lr": 0.001}
    RunFolder.open(tmp_path, {"data": CONFIG["data"], "optim": optim, "seed": 0.0}, HERE)
    assert (tmp_path / "config.json").read_bytes() == before


@pytest.mark.parametrize("primary", [True, False])
def test_open_with_another_config_names_the_fields_and_changes_nothing(tmp_path, primary):
    RunFolder.open(tmp_path, CONFIG, HERE)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    other = {"seed": True, "optim": {"lr": 2e-3, "betas": [0.9, 0.99], "clip": 1.0}, "data": {"name": "digits"}}
    with pytest.raises(FolderMismatch) as error:
        RunFolder.open(tmp_path, other, {"device": "another"}, primary=primary)
    assert error.value.differences == [
        "data.path: folder has null, given nothing",
        "optim.betas: folder has [0.9, 0.999], given [0.9, 0.99]",
        "optim.clip: folder has nothing, given 1.0",
        "optim.lr: folder has 0.001, given 0.002",
        "seed: folder has 0, given true",
    ]
    assert all(line in str(error.value) for line in [*error.value.differences, str(tmp_path)])
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_open_writes_nothing_where_not_primary(tmp_path):
    run = RunFolder.open(tmp_path / "run", CONFIG, HERE, primary=False)
    run.write_result({"top1": 1.0})
    assert not run.path.exists()


def test_open_keeps_the_environments_from_before(tmp_path):
    for device in ["a", "b", "b", "a", "c"]:
        RunFolder.open(tmp_path, CONFIG, {"device": device})
    stored = json.loads((tmp_path / "environment.json").read_text())
    assert stored == {"device": "c", "earlier": [{"device": "b"}, {"device": "a"}]}


@pytest.mark.parametrize("text", ["[1]", '{"earlier": 3}', "{"])
def test_open_replaces_a_damaged_environment(tmp_path, text):
    RunFolder.open(tmp_path, CONFIG, HERE)
    (tmp_path / "environment.json").write_text(text)
    RunFolder.open(tmp_path, CONFIG, HERE)
    assert json.loads((tmp_path / "environment.json").read_text()) == HERE


@pytest.mark.parametrize("text", ["", '{"seed": 0, "opt', "[1, 2]", "null", "\xff"])
def test_open_refuses_a_damaged_config(tmp_path, text):
    (tmp_path / "config.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match=r"config\.json (is damaged|cannot be read)"):
        RunFolder.open(tmp_path, CONFIG, HERE)


def test_open_refuses_a_run_without_its_config(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(ValueError, match=r"has checkpoints but no config\.json"):
        RunFolder.open(tmp_path, CONFIG, HERE)


def test_open_accepts_a_folder_with_other_files(tmp_path):
    (tmp_path / "run.log").touch()
    RunFolder.open(tmp_path, CONFIG, HERE)
    assert {"run.log", "config.json"} <= {path.name for path in tmp_path.iterdir()}


def test_open_where_a_file_is_in_the_way_says_so(tmp_path):
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(ValueError, match="cannot"):
            RunFolder.open(path, CONFIG, HERE)


def test_open_without_permission_says_so(tmp_path, monkeypatch):
    def refuse(path, *args, **kwargs):
        raise PermissionError(13, "Permission denied", os.fspath(path))

    monkeypatch.setattr(Path, "mkdir", refuse)  # the superuser, who may run the tests, is refused nothing
    with pytest.raises(ValueError, match=r"cannot write in .*run: Permission denied .*Give a folder"):
        RunFolder.open(tmp_path / "run", CONFIG, HERE)


@pytest.mark.parametrize("bad", [float("nan"), np.float32("inf"), object(), {1: 2}, [{"b": {1, 2}}]])
def test_open_refuses_a_value_json_cannot_hold_by_its_name(tmp_path, bad):
    with pytest.raises(ValueError, match=r"^optim\.a"):
        RunFolder.open(tmp_path / "run", {"optim": {"a": bad}}, HERE)
    assert not (tmp_path / "run").exists()


def test_result_comes_back_as_it_was_written(tmp_path):
    run = RunFolder.open(tmp_path, CONFIG, HERE)
    run.write_result({"top1": np.float32(0.5), "n": np.int64(797), "per_class": (0.25, 1)})
    assert read_json(tmp_path / "result.json") == {"top1": 0.5, "n": 797, "per_class": [0.25, 1]}
    with pytest.raises(ValueError, match="top1 is nan"):
        run.write_result({"top1": float("nan")})
    assert read_json(tmp_path / "result.json")["top1"] == 0.5


def test_damaged_contents_are_refused(tmp_path):
    RunFolder.open(tmp_path, CONFIG, HERE)
    (tmp_path / "contents.json").write_text("[1]")
    with pytest.raises(ValueError, match=r"contents\.json is damaged: not a JSON object"):
        RunFolder.open(tmp_path, CONFIG, HERE)


def test_place_of_what_is_known_by_its_content_does_not_count(tmp_path):
    """Moved images are the same run; other images under the old path are another one, and each is named."""
    RunFolder.open(tmp_path, CONFIG, HERE, contents={"data.path": "abc", "data.test": "1"})
    moved = {**CONFIG, "data": {"name": "digits", "path": "elsewhere"}}
    assert RunFolder.check(tmp_path, moved, {"data.path": "abc", "data.test": "1"})
    with pytest.raises(FolderMismatch) as error:
        RunFolder.check(tmp_path, CONFIG, {"data.path": "def", "data.base": "2", "data.test": "1"})
    assert error.value.differences == [
        "data.base: folder has content of none, given 2",
        "data.path: folder has content abc, given def",
    ]
    assert not RunFolder.check(tmp_path / "none", CONFIG)


def test_place_that_says_nothing_of_the_run_does_not_count(tmp_path):
    RunFolder.open(tmp_path, CONFIG, HERE, places=("data.path",))
    moved = {**CONFIG, "data": {"name": "digits", "path": "elsewhere"}}
    assert RunFolder.check(tmp_path, moved, places=("data.path",))
    with pytest.raises(FolderMismatch, match=r'data\.path: folder has null, given "elsewhere"'):
        RunFolder.check(tmp_path, moved)


def test_identity_is_of_contents_and_of_every_field_that_names_none():
    known = identity(CONFIG, {"data.path": "abc"}, ("optim.lr",))
    assert known == {
        "seed": 0,
        "optim": {"betas": (0.9, 0.999)},
        "data": {"name": "digits"},
        "contents": {"data.path": "abc"},
    }
    assert digest(known) != digest(identity(CONFIG, {"data.path": "def"}, ("optim.lr",)))


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_atomic_write_that_fails_leaves_the_old_file_alone(tmp_path, monkeypatch, step):
    path = tmp_path / "file"
    atomic_write(path, "old")

    def fail(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os if step == "fsync" else Path, step, fail)
    with pytest.raises(OSError, match="No space"):
        atomic_write(path, b"new")
    assert path.read_text() == "old"
    assert names(tmp_path) == {"file"}


@settings(max_examples=60, deadline=None)
@given(plain)
def test_canonical_json_is_a_fixed_point(value):
    text = canonical_json(value)
    assert canonical_json(json.loads(text)) == text


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.text(), plain), st.dictionaries(st.text(), plain))
def test_configs_differ_exactly_when_their_digests_do(a, b):
    assert not differences(a, dict(reversed(a.items())))
    assert bool(differences(a, b)) == (digest(a) != digest(b))


def test_digest_is_the_same_everywhere():
    assert digest({"b": (1.0, 2.5), "a": {"x": None, "y": True}}) == digest(
        {"a": {"y": True, "x": None}, "b": [1, 2.5]}
    )
    assert digest({}) == "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
    assert digest(CONFIG) == "22cb111b724ff3dfdcb7afc5dfd8b9bed562d0706c1d1075eaf8f3dc8d584236"


def test_environment_says_what_the_numbers_depend_on():
    here = environment("2 x TPU v4")
    assert here["device"] == "2 x TPU v4"
    assert {"jax", "numpy", "orbax-checkpoint"} <= here["packages"].keys()
    assert here["packages"]["numpy"] == np.__version__
    assert canonical_json(here)


def test_environment_has_the_commit_of_its_own_source_tree_only(tmp_path, monkeypatch):
    def git(*args):
        identity = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
        subprocess.run(["git", "-C", tmp_path, *identity, *args], check=True, capture_output=True)

    source = tmp_path / "jaxmoust" / "runtime" / "folder.py"
    source.parent.mkdir(parents=True)
    source.write_text("1")
    monkeypatch.setattr(folder, "__file__", str(source))
    try:
        folder._commit.cache_clear()
        assert folder._commit() == ("", False)
        git("init")
        git("add", ".")
        folder._commit.cache_clear()
        assert folder._commit() == ("", False)  # no commit yet
        git("commit", "-m", "first")
        folder._commit.cache_clear()
        commit, dirty = folder._commit()
        assert re.fullmatch("[0-9a-f]{40}", commit) and not dirty
        source.write_text("2")
        folder._commit.cache_clear()
        assert folder._commit() == (commit, True)
        installed = tmp_path / "venv" / "site" / "jaxmoust" / "runtime" / "folder.py"
        monkeypatch.setattr(folder, "__file__", str(installed))
        folder._commit.cache_clear()
        assert folder._commit() == ("", False)  # somebody else's repository
    finally:
        folder._commit.cache_clear()


def test_open_sweeps_what_killed_writers_left_in_the_folders_of_the_run_alone(tmp_path):
    left = ".step_000010.png.0123abcd.tmp"
    for place in (".", "grids", "report", "fold0", "scores"):
        (tmp_path / place).mkdir(exist_ok=True)
        (tmp_path / place / left).write_text("half")
        (tmp_path / place / "kept.tmp").write_text("")
    RunFolder.open(tmp_path, CONFIG, HERE)
    assert [path.parent.name for path in tmp_path.rglob(left)] == ["scores"]
    assert len(list(tmp_path.rglob("kept.tmp"))) == 5


def test_damaged_names_what_is_other_than_the_run_left_it(tmp_path):
    run = RunFolder.open(tmp_path, CONFIG, HERE)
    for name in ("metrics.jsonl", "ranks.npy", "checkpoints/4/state", "tensorboard/events", "scores/a/result.json"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    assert damaged(tmp_path) == []  # not finished: nothing is known
    run.write_result({"top1": 90.0})
    RunFolder.open(tmp_path, CONFIG, {**HERE, "device": "another"})
    assert damaged(tmp_path) == [] and curves_are_whole(tmp_path)
    for name in ("checkpoints/4/state", "tensorboard/events", "scores/a/result.json", "metrics.jsonl"):
        (tmp_path / name).write_text("x")
    assert damaged(tmp_path) == ["checkpoints/4/state"] and not damaged(tmp_path, deep=False)
    assert not curves_are_whole(tmp_path)
    (tmp_path / "result.json").write_text('{"top1": 1e400}')
    (tmp_path / "ranks.npy").unlink()
    assert set(damaged(tmp_path)) == {"checkpoints/4/state", "result.json", "ranks.npy"}
    (tmp_path / "digests.json").write_text("{")
    assert damaged(tmp_path) == ["digests.json"]


def test_result_is_the_last_file_so_that_no_run_is_finished_without_its_digests(tmp_path, monkeypatch):
    written, write = [], folder.atomic_write
    monkeypatch.setattr(folder, "atomic_write", lambda path, content: (written.append(path.name), write(path, content)))
    RunFolder.open(tmp_path, CONFIG, HERE).write_result({"top1": 90.0})
    assert written[-2:] == ["digests.json", "result.json"] and damaged(tmp_path) == []


def test_open_of_a_damaged_configuration_writes_it_again_where_its_digest_knows_it(tmp_path):
    RunFolder.open(tmp_path, CONFIG, HERE).write_result({"top1": 90.0})
    before = (tmp_path / "config.json").read_bytes()
    (tmp_path / "config.json").write_bytes(before.replace(b"0.001", b"0.002"))
    other = {**CONFIG, "optim": {"lr": 2e-3, "betas": (0.9, 0.999)}}
    RunFolder.open(tmp_path, CONFIG, HERE)
    assert (tmp_path / "config.json").read_bytes() == before
    with pytest.raises(FolderMismatch, match="lr"):
        RunFolder.open(tmp_path, other, HERE)
