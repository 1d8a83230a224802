"""Maps of decoded images: made once, whole or not at all, and never taken for another data set's."""

import dataclasses
import os
import re
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import grain
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxmoust.data.loading import memmap
from jaxmoust.data.loading.memmap import map_path, open_map
from jaxmoust.data.loading.transforms import Resize
from jaxmoust.data.source import from_arrays

SHAPE = (4, 4, 1)
TRANSFORM = Resize(4, 1)


def make_source(num=40, seed=0):
    images = np.random.default_rng(seed).integers(0, 256, (num, 5, 5, 1), dtype=np.uint8)
    return from_arrays(images, np.arange(num) % 2, ["a", "b"])


def make_map(folder, source=None, transform=TRANSFORM, shape=SHAPE, make=None):
    source = source or make_source()
    return open_map(source, transform, shape, make or (lambda i: transform.map(source.read(i))), folder, 2)


def names(folder):
    """What lies in a folder."""
    return sorted(path.name for path in Path(folder).iterdir())


def everything(images):
    """All images of a map, through its check."""
    return images.take(np.arange(len(images)))


def test_map_holds_the_transformed_images_and_nothing_else_lies_beside_it(tmp_path):
    source = make_source()
    images = make_map(tmp_path / "maps", source)
    np.testing.assert_array_equal(everything(images), [TRANSFORM.map(source.read(i)) for i in range(40)])
    np.testing.assert_array_equal(images[7], TRANSFORM.map(source.read(7)))
    assert not images.images.flags.writeable
    assert names(tmp_path / "maps") == [map_path(source, TRANSFORM, SHAPE, tmp_path).name]
    np.testing.assert_array_equal(np.load(images.path), everything(images))  # a plain .npy file


def test_map_is_made_once(tmp_path):
    source, made = make_source(300), []

    def make(i):
        made.append(i)
        return TRANSFORM.map(source.read(i))

    make_map(tmp_path, source, make=make)
    checked = len(made) - 300
    assert sorted(set(made)) == list(range(300)) and checked < 40
    make_map(tmp_path, source, make=make)
    assert len(made) == 300 + 2 * checked  # the second time only what the check makes


def test_map_of_other_content_transform_or_shape_is_another_file(tmp_path):
    paths = {
        map_path(make_source(), TRANSFORM, SHAPE, tmp_path),
        map_path(make_source(seed=1), TRANSFORM, SHAPE, tmp_path),
        map_path(make_source(41), TRANSFORM, SHAPE, tmp_path),
        map_path(make_source(), Resize(4, 1, "box"), SHAPE, tmp_path),
        map_path(make_source(), Resize(4, 3), (4, 4, 3), tmp_path),
    }
    assert len(paths) == 5
    assert map_path(make_source(), Resize(4, 1), SHAPE, tmp_path) in paths


SCRIPT = """
import sys, time
sys.path.insert(0, sys.argv[1])
import memmap_test as t
source, slow = t.make_source(), float(sys.argv[3])
def make(i):
    time.sleep(slow)
    print("made", flush=True)
    return t.TRANSFORM.map(source.read(i))
images = t.make_map(sys.argv[2], source, make=make)
print("sum", int(t.everything(images).sum()), flush=True)
"""


def start(folder, slow):
    command = [sys.executable, "-c", SCRIPT, str(Path(__file__).parent), str(folder), str(slow)]
    root = Path(__file__).parents[3]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(root), *sys.path]))}
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


def test_map_of_a_killed_maker_is_not_there_and_the_next_maker_makes_it_whole(tmp_path):
    process = start(tmp_path, 0.05)
    assert process.stdout.readline() == "made\n"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    source = make_source()
    assert not map_path(source, TRANSFORM, SHAPE, tmp_path).exists()
    images = make_map(tmp_path, source)
    np.testing.assert_array_equal(everything(images), [TRANSFORM.map(source.read(i)) for i in range(40)])
    assert len(names(tmp_path)) == 1  # what the killed one left was written over


def test_map_wanted_by_several_processes_is_made_by_one(tmp_path):
    processes = [start(tmp_path, 0.01) for _ in range(3)]
    outs = [process.communicate()[0].splitlines() for process in processes]
    sums = {out[-1] for out in outs}
    assert len(sums) == 1 and sums.pop().startswith("sum ")
    made = sorted(len(out) - 1 for out in outs)
    assert made[0] == made[1] == made[2] - 40  # each checks alike; one of them also made all 40
    assert len(names(tmp_path)) == 1


def test_map_whose_maker_fails_is_made_by_the_one_who_waits(tmp_path):
    source, begun, results = make_source(), threading.Event(), []

    def fail(i):
        begun.set()
        time.sleep(0.2)
        raise OSError("the network disk went away")

    def first():
        with pytest.raises(OSError, match="went away"):
            make_map(tmp_path, source, make=fail)
        results.append("failed")

    thread = threading.Thread(target=first)
    thread.start()
    begun.wait()
    images = make_map(tmp_path, source)
    thread.join()
    assert results == ["failed"] and len(names(tmp_path)) == 1
    np.testing.assert_array_equal(images[7], TRANSFORM.map(source.read(7)))


def test_map_that_fails_leaves_nothing(tmp_path):
    def fail(i):
        raise ValueError("Got an unreadable image")

    with pytest.raises(ValueError, match="unreadable image"):
        make_map(tmp_path, make=fail)
    assert names(tmp_path) == []


def test_map_without_room_says_so_and_leaves_nothing(tmp_path):
    """The limit on the size of files stands for a full disk: the system refuses both where the room is asked for."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (512, hard))
    try:
        with pytest.raises(ValueError, match=r"Got no room for .* GB of decoded images .*Make room, name another"):
            make_map(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert names(tmp_path) == []


def test_map_asks_for_its_room_before_the_first_image(tmp_path, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(ValueError, match="No space left on device"):
        make_map(tmp_path, make=lambda i: pytest.fail("an image was made"))
    assert names(tmp_path) == []


def test_map_refuses_a_file_of_another_data_set_under_its_name(tmp_path):
    other = make_source(seed=1)
    make_map(tmp_path, other)
    source = make_source()
    map_path(other, TRANSFORM, SHAPE, tmp_path).rename(map_path(source, TRANSFORM, SHAPE, tmp_path))
    with pytest.raises(ValueError, match=r"image 0 is not what the data set gives.*Delete it"):
        make_map(tmp_path, source)


@pytest.mark.parametrize("damage", ["short", "junk", "other shape", "empty"])
def test_map_refuses_a_damaged_file(tmp_path, damage):
    source = make_source()
    make_map(tmp_path, source)
    path = map_path(source, TRANSFORM, SHAPE, tmp_path)
    if damage == "other shape":
        np.save(path, np.zeros((40, 16), np.uint8))
    else:
        path.write_bytes({"short": path.read_bytes()[:-1], "junk": b"junk" * 99, "empty": b""}[damage])
    with pytest.raises(ValueError, match=r"is no map of.*[Dd]elete it"):
        make_map(tmp_path, source)


@pytest.fixture(scope="module")
def whole_map(tmp_path_factory):
    """A map of 200 images in 13 blocks, and its bytes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(memmap, "_BLOCK_BYTES", 16 * 16)
        source, folder = make_source(200), tmp_path_factory.mktemp("map")
        images = make_map(folder, source)
        yield source, folder, images.path, images.path.read_bytes()


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 4000), st.integers(0, 7), st.sampled_from(["flip", "cut", "empty", "zeros"]))
def test_map_that_is_damaged_anywhere_is_mended_or_refused(whole_map, place, bit, kind):
    """Never other pixels, and never a file that stays damaged without a word."""
    source, folder, path, before = whole_map
    place, data = place % len(before), bytearray(before)
    if kind == "flip":
        data[place] ^= 1 << bit
    elif kind == "zeros":
        data[place : place + 50] = bytes(len(data[place : place + 50]))
    path.write_bytes({"cut": data[:place], "empty": b""}.get(kind, data))
    expected = np.stack([TRANSFORM.map(source.read(i)) for i in range(200)])
    try:
        images = make_map(folder, source)
        np.testing.assert_array_equal(everything(images), expected)
        np.testing.assert_array_equal(np.load(path), expected)
        assert path.read_bytes() == before
    except ValueError as error:
        assert re.search("[Dd]elete it; it is made again", str(error))
        assert kind in ("cut", "empty") or place + 50 > len(before) - 13 * 16 or place < 128  # header or digests
        path.unlink()
        np.testing.assert_array_equal(everything(make_map(folder, source)), expected)


def test_map_compares_a_block_when_it_is_first_touched_and_once(tmp_path, monkeypatch):
    monkeypatch.setattr(memmap, "_BLOCK_BYTES", 16)
    monkeypatch.setattr(memmap, "_NUM_CHECKED", 1)
    source = make_source()
    images, hashed = make_map(tmp_path, source), []
    monkeypatch.setattr(memmap, "_sum", lambda part, of=memmap._sum: hashed.append(len(part)) or of(part))
    images.take(np.array([5, 7, 5]))
    assert hashed == [1, 1]
    images.take(np.array([7, 8]))
    assert hashed == [1, 1, 1]


def test_map_that_can_neither_be_believed_nor_made_again_is_refused(tmp_path):
    source = make_source()
    images = make_map(tmp_path, source)
    with images.path.open("r+b") as file:
        file.seek(128 + 16 * 3)
        file.write(b"x" * 16)
    broken = dataclasses.replace(images, make=lambda i: np.zeros(SHAPE, np.uint8))
    with pytest.raises(ValueError, match=r"images 0 to \d+ are neither .* Delete it; it is made again"):
        everything(broken)


def test_map_refuses_a_transform_that_does_not_say_what_it_does(tmp_path):
    class Darken(grain.transforms.Map):
        def map(self, element):
            return element // 2

    with pytest.raises(ValueError, match="frozen dataclass"):
        make_map(tmp_path, transform=Darken())


def test_fill_stops_at_the_first_error(monkeypatch):
    monkeypatch.setattr(memmap, "_AT_ONCE", 1)
    made = []

    def make(i):
        made.append(i)
        raise ValueError(f"image {i}")

    with pytest.raises(ValueError, match="image 0"):
        memmap.fill(np.empty((1000, 1), np.uint8), make, 1)
    assert len(made) < 1000
