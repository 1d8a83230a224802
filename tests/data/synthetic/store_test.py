"""The synthetic set on disk (law 6): plain TFDS opens it; a shard is whole or absent; a restart completes it."""

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import asdict, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxmoust.data.synthetic import store as synthetic
from jaxmoust.data.synthetic.store import (
    SyntheticSpec,
    finish,
    is_set,
    is_whole,
    missing_shards,
    open_synthetic,
    shard_range,
    write_shard,
)
from jaxmoust.runtime import paths

SPEC = SyntheticSpec(
    name="small_set",
    class_names=("cat", "dog", "cow"),
    shape=(4, 5, 3),
    num_images=11,
    shard_images=4,
    seed=7,
    generator="abc123",
    guidance=2.0,
    steps=18,
    prompts={"cow": "a cow", "cat": "a cat", "dog": "a dog"},
    created_by={"method": "edm", "layers": [1, 2]},
)
IMAGES = np.random.default_rng(0).integers(0, 256, (11, 4, 5, 3), dtype=np.uint8)


def shard_images(shard):
    return IMAGES[slice(*SPEC.shard_bounds(shard))]


def write_all(path, spec=SPEC):
    for shard in missing_shards(path, spec):
        write_shard(path, spec, shard, shard_images(shard))


@pytest.fixture
def folder(tmp_path):
    write_all(tmp_path)
    finish(tmp_path, SPEC, {"versions": {"jax": "0.10"}})
    return tmp_path


def run(script, *arguments, **env):
    path = os.pathsep.join(filter(None, sys.path))
    return subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": path, **env},
        capture_output=True,
        text=True,
    )


def test_synthetic_set_opens_in_plain_tfds_as_it_was_given(folder):
    """In a process that cannot import jaxmoust and that never imports TensorFlow."""
    script = """
import json, sys
sys.modules["jaxmoust"] = None
import tensorflow_datasets as tfds
builder = tfds.builder_from_directory(sys.argv[1])
assert builder.info.features["label"].names == ["cat", "dog", "cow"]
rows = [{k: v.decode() if isinstance(v, bytes) else getattr(v, "tolist", lambda: v)() for k, v in row.items()}
        for row in builder.as_data_source()["train"]]
assert "tensorflow" not in sys.modules
print(json.dumps(rows))
"""
    out = run(script, folder)
    assert out.returncode == 0, out.stderr
    rows = json.loads(out.stdout.splitlines()[-1])
    assert len(rows) == 11
    for j, row in enumerate(rows):
        np.testing.assert_array_equal(row.pop("image"), IMAGES[j])
        assert row == {
            "label": j % 3,
            "index": j // 3,
            "seed": 7,
            "prompt": ["a cat", "a dog", "a cow"][j % 3],
            "guidance": 2.0,
            "steps": 18,
            "generator": "abc123",
        }


def test_synthetic_set_opens_as_a_source(folder):
    source = open_synthetic(folder)
    np.testing.assert_array_equal(source.images(range(11)), IMAGES)
    np.testing.assert_array_equal(source.labels, np.arange(11) % 3)
    assert (source.name, source.class_names, source.shape) == ("small_set", ("cat", "dog", "cow"), (4, 5, 3))


def test_synthetic_set_records_what_made_it(folder):
    provenance = json.loads((folder / "provenance.json").read_text())
    assert provenance["generator"] == "abc123" and provenance["versions"] == {"jax": "0.10"}
    assert provenance["spec"]["created_by"] == {"method": "edm", "layers": [1, 2]}
    assert SyntheticSpec(**provenance["spec"]) == SPEC


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 60), st.integers(1, 20), st.integers(1, 7))
def test_shard_ranges_join_to_every_image_of_every_class_once(num_images, shard, num_classes):
    names = tuple(str(c) for c in range(num_classes))
    spec = replace(SPEC, class_names=names, prompts=(), num_images=num_images, shard_images=shard)
    parts = [shard_range(spec, s) for s in range(spec.num_shards)]
    labels, indices = (np.concatenate(part) for part in zip(*parts, strict=True))
    np.testing.assert_array_equal(labels, np.arange(num_images) % num_classes)
    np.testing.assert_array_equal(indices, np.arange(num_images) // num_classes)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=5).filter(sum))
def test_shard_ranges_of_unequal_classes_count_up_within_each(counts):
    names = tuple(str(c) for c in range(len(counts)))
    spec = replace(SPEC, class_names=names, prompts=(), num_images=sum(counts), class_counts=counts)
    labels, indices = spec.labels_and_indices(0, spec.num_images)
    for c, count in enumerate(counts):
        assert indices[labels == c].tolist() == list(range(count))
    if len(set(counts)) == 1:  # equal classes: the same order as without counts
        equal = replace(spec, class_counts=())
        np.testing.assert_array_equal(labels, equal.labels_and_indices(0, spec.num_images)[0])


@pytest.fixture(scope="module")
def killed_writers_folder(tmp_path_factory):
    """What is left of a writer that wrote shard 0 and was killed just before shard 1 got its name."""
    folder = tmp_path_factory.mktemp("killed")
    script = (
        "import os, signal, sys; sys.path.insert(0, sys.argv[2]); import store_test as t\n"
        "t.write_shard(sys.argv[1], t.SPEC, 0, t.shard_images(0))\n"
        "os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        "t.write_shard(sys.argv[1], t.SPEC, 1, t.shard_images(1))"
    )
    out = run(script, folder, os.path.dirname(__file__), PYTHONHASHSEED="3")
    assert out.returncode == -signal.SIGKILL, out.stderr
    return folder


def test_write_shard_bytes_do_not_depend_on_the_process(killed_writers_folder, tmp_path):
    """The digest of a set that was killed and completed is that of an unbroken one."""
    here = write_shard(tmp_path, SPEC, 0, shard_images(0))
    assert (killed_writers_folder / here.name).read_bytes() == here.read_bytes()


def test_write_shard_killed_at_the_last_moment_leaves_it_absent(killed_writers_folder, tmp_path):
    shutil.copytree(killed_writers_folder, tmp_path, dirs_exist_ok=True)
    assert list(tmp_path.glob(".*.tmp"))  # the killed writer's
    assert missing_shards(tmp_path, SPEC) == (1, 2)
    write_all(tmp_path)
    finish(tmp_path, SPEC)
    np.testing.assert_array_equal(open_synthetic(tmp_path).images(range(11)), IMAGES)
    assert not list(tmp_path.glob(".*.tmp"))


def test_write_shard_that_fails_leaves_nothing(tmp_path, monkeypatch):
    encoded = [synthetic.encode_png(IMAGES[0])]
    monkeypatch.setattr(synthetic, "encode_png", lambda image: encoded.pop())
    with pytest.raises(IndexError, match="pop from empty list"):
        write_shard(tmp_path, SPEC, 0, shard_images(0))
    assert missing_shards(tmp_path, SPEC) == (0, 1, 2)
    assert [file.name for file in tmp_path.iterdir()] == ["spec.json"]


def test_two_writers_of_different_shards_complete_one_set(tmp_path):
    script = (
        "import sys; sys.path.insert(0, sys.argv[2]); import store_test as t\n"
        "[t.write_shard(sys.argv[1], t.SPEC, s, t.shard_images(s)) for s in (0, 2)]"
    )
    path = os.pathsep.join(filter(None, sys.path))
    other = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path), os.path.dirname(__file__)],
        env={**os.environ, "PYTHONPATH": path},
    )
    write_shard(tmp_path, SPEC, 1, shard_images(1))
    assert other.wait() == 0
    assert missing_shards(tmp_path, SPEC) == ()
    finish(tmp_path, SPEC)
    np.testing.assert_array_equal(open_synthetic(tmp_path).images(range(11)), IMAGES)


def shard_file(folder, shard):
    return folder / f"small_set-train.array_record-{shard:05d}-of-00003"


def truncate(file):
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def empty(file):
    file.write_bytes(b"")


def swap_length(file):
    """The last shard, of three images, in the place of one of four."""
    file.write_bytes(shard_file(file.parent, 2).read_bytes())


@pytest.mark.parametrize("spoil", [truncate, empty, os.unlink, swap_length])
def test_open_synthetic_names_a_shard_that_is_not_whole_and_a_restart_completes_it(folder, spoil):
    spoil(shard_file(folder, 1))
    with pytest.raises(ValueError, match=r"(?s)1 of 3 shards.*array_record-00001-of-00003.*Run the job"):
        open_synthetic(folder)
    assert missing_shards(folder, SPEC) == (1,)
    with pytest.raises(ValueError, match=r"array_record-00001-of-00003"):
        finish(folder, SPEC)
    write_all(folder)
    finish(folder, SPEC)
    np.testing.assert_array_equal(open_synthetic(folder).images(range(11)), IMAGES)


def flip(file, place=0.5):
    data = bytearray(file.read_bytes())
    data[int(place * len(data))] ^= 4
    file.write_bytes(data)


@pytest.fixture(scope="module")
def finished_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    write_all(folder)
    finish(folder, SPEC, {"versions": {"jax": "0.10"}})
    return folder


def contents(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_file_of_a_finished_set_that_is_damaged_is_noticed_and_the_same_work_mends_it(finished_folder, data):
    before = contents(finished_folder)
    file = finished_folder / data.draw(st.sampled_from(sorted(before)))
    spoil = data.draw(st.sampled_from([truncate, empty, os.unlink, flip]))
    spoil(*[file, data.draw(st.floats(0, 1, exclude_max=True))][: 1 + (spoil is flip)])
    assert is_set(finished_folder)
    if not (file.suffix == ".json" and is_whole(finished_folder)):  # not: the case of an escaped digit, a space
        assert not is_whole(finished_folder)
        with pytest.raises(ValueError, match=r"(?s)(Got |provenance\.json).*(?i:run|finish|write|wrote) "):
            open_synthetic(finished_folder)
    elif file.exists():
        assert json.loads(file.read_text()) == json.loads(before[file.name])
    write_all(finished_folder)
    finish(finished_folder, SPEC, {"versions": {"jax": "0.10"}})
    assert is_whole(finished_folder) and contents(finished_folder) == before


def test_a_shard_that_is_mended_with_other_bytes_belongs_to_the_set(folder):
    """Images of another device may differ in the last bit: the set is whole again, and not missing for ever."""
    flip(shard_file(folder, 1))
    assert missing_shards(folder, SPEC) == (1,)
    write_shard(folder, SPEC, 1, 255 - shard_images(1))
    assert missing_shards(folder, SPEC) == () and is_whole(folder)
    assert not list(folder.glob(".*"))
    flip(shard_file(folder, 1))
    assert missing_shards(folder, SPEC) == (1,)


def test_a_set_without_recorded_digests_opens_and_is_whole_as_before(folder):
    forget_digests(folder)
    np.testing.assert_array_equal(open_synthetic(folder).images(range(11)), IMAGES)
    assert is_whole(folder) and missing_shards(folder, SPEC) == ()
    truncate(shard_file(folder, 2))
    assert not is_whole(folder) and missing_shards(folder, SPEC) == (2,)


def test_a_file_is_hashed_once_a_process_unless_it_changes(folder, monkeypatch):
    monkeypatch.setattr(paths, "_SETTLED_NS", -(10**12))
    assert is_whole(folder)
    read = paths._read_digest.cache_info().misses
    assert is_whole(folder) and missing_shards(folder, SPEC) == ()
    assert paths._read_digest.cache_info().misses == read
    file = shard_file(folder, 1)
    data = file.read_bytes()
    file.write_bytes(data[::-1])
    os.utime(file, (1, 1))
    assert not is_whole(folder)


def test_a_folder_that_holds_no_finished_set_is_not_whole(tmp_path):
    assert not is_whole(tmp_path) and not is_set(tmp_path) and not is_whole(tmp_path / "nothing")
    write_shard(tmp_path, SPEC, 0, shard_images(0))
    assert is_set(tmp_path) and not is_whole(tmp_path)


def forget_digests(folder):
    """Leaves a set as it was before digests were recorded."""
    provenance = json.loads((folder / "provenance.json").read_text())
    (folder / "provenance.json").write_text(json.dumps({n: provenance[n] for n in ("generator", "spec", "versions")}))


def test_open_synthetic_names_the_set_of_a_damaged_record_when_it_is_read(folder):
    forget_digests(folder)
    file = shard_file(folder, 0)
    data = bytearray(file.read_bytes())
    place = data.index(b"abc123")
    data[place] ^= 255
    file.write_bytes(data)
    with pytest.raises(ValueError, match=r"unreadable record, number \d of small_set"):
        open_synthetic(folder).images(range(4))


@pytest.mark.parametrize("name", ["dataset_info.json", "features.json"])
@pytest.mark.parametrize("text", ["", "{", "[]", '{"splits": 3}', "[" * 10**5])
def test_open_synthetic_says_which_set_has_files_that_tfds_cannot_read(folder, name, text):
    forget_digests(folder)
    (folder / name).write_text(text)
    with pytest.raises(ValueError, match=r"(?s)Got .*TFDS files cannot be read .*Write the set again"):
        open_synthetic(folder)


@pytest.mark.parametrize("what", [b"a cat", b"abc123", b"\x07"])
def test_open_synthetic_notices_a_bit_of_what_an_image_was_made_of(folder, what):
    """A prompt, a generator, a seed: none of them is a pixel, and all of them belong to the set."""
    file = shard_file(folder, 1)
    data = bytearray(file.read_bytes())
    data[data.rindex(what)] ^= 1
    file.write_bytes(data)
    with pytest.raises(ValueError, match=r"array_record-00001-of-00003 is damaged.*Run the job that wrote the set"):
        open_synthetic(folder)


@pytest.mark.parametrize("name", ["label.labels.txt", "spec.json", "dataset_info.json", "features.json"])
def test_open_synthetic_names_another_file_that_is_damaged_or_lost(folder, name):
    for spoil in (lambda file: flip(file, 0.3), os.unlink) if name != "dataset_info.json" else (flip,):
        spoil(folder / name)
        with pytest.raises(ValueError, match=rf"whose {name} is missing or damaged.*Run the job that wrote the set"):
            open_synthetic(folder)
        finish(folder, SPEC, {"versions": {"jax": "0.10"}})
        assert is_whole(folder)


def test_open_synthetic_digest_follows_the_images(folder, tmp_path_factory):
    before = open_synthetic(folder).digest
    assert open_synthetic(folder).digest == before
    write_shard(folder, SPEC, 1, 255 - shard_images(1))
    assert open_synthetic(folder).digest != before


@pytest.mark.parametrize("name", ["provenance.json", "dataset_info.json"])
def test_open_synthetic_refuses_a_set_that_is_not_finished(folder, name):
    (folder / name).unlink()
    with pytest.raises(ValueError, match=rf"no {name}, expected a finished synthetic set"):
        open_synthetic(folder)


def test_open_synthetic_refuses_a_provenance_that_is_not_one(folder):
    for content, said in (("{}", "does not describe a synthetic set"), ("{", "is damaged")):
        (folder / "provenance.json").write_text(content)
        with pytest.raises(ValueError, match=rf"provenance\.json.*{said}|{said}.*provenance\.json"):
            open_synthetic(folder)


def test_open_synthetic_refuses_files_that_contradict_each_other(folder):
    provenance = json.loads((folder / "provenance.json").read_text())
    provenance["spec"]["class_names"] = ["cat", "dog", "ox"]
    provenance = {name: value for name, value in provenance.items() if name not in ("files", "digest")}
    (folder / "provenance.json").write_text(json.dumps(provenance))
    with pytest.raises(ValueError, match=r"(?s)\['cat', 'dog', 'cow'\].*do not fit.*\['cat', 'dog', 'ox'\]"):
        open_synthetic(folder)


@pytest.mark.parametrize("act", [missing_shards, finish, lambda p, s: write_shard(p, s, 0, shard_images(0))])
def test_a_folder_of_another_spec_is_refused_with_the_difference(folder, act):
    other = replace(SPEC, steps=20, created_by={"method": "ddpm"})
    said = r"(?s)another synthetic set.*created_by: .*'edm'.*'ddpm'.*steps: 18 there, 20 given"
    with pytest.raises(ValueError, match=said):
        act(folder, other)


@pytest.mark.parametrize(
    ("images", "said"),
    [
        (IMAGES[:3], r"\(3, 4, 5, 3\).*uint8 \(4, 4, 5, 3\)"),
        (IMAGES[:4].astype(np.float32), r"float32"),
        (IMAGES[:4, :3], r"\(4, 3, 5, 3\)"),
    ],
)
def test_write_shard_refuses_images_that_are_not_the_shards(tmp_path, images, said):
    with pytest.raises(ValueError, match=said):
        write_shard(tmp_path, SPEC, 0, images)
    assert not list(tmp_path.iterdir())


def test_write_shard_refuses_a_number_of_prompts_that_does_not_fit(tmp_path):
    with pytest.raises(ValueError, match="2 prompts for 4 images"):
        write_shard(tmp_path, SPEC, 0, IMAGES[:4], ["a", "b"])


def test_write_shard_takes_a_prompt_for_each_image(tmp_path):
    import tensorflow_datasets as tfds

    prompts = [f"number {j}" for j in range(11)]
    for shard in range(3):
        bounds = slice(*SPEC.shard_bounds(shard))
        write_shard(tmp_path, SPEC, shard, IMAGES[bounds], prompts[bounds])
    finish(tmp_path, SPEC)
    rows = tfds.builder_from_directory(str(tmp_path)).as_data_source("train")
    assert [row["prompt"].decode() for row in rows] == prompts


def test_synthetic_spec_of_numpy_numbers_is_that_of_pythons():
    counts = np.array([4, 4, 3])
    spec = replace(SPEC, num_images=np.int64(11), seed=np.int64(7), guidance=np.float32(2), class_counts=counts)
    assert spec == replace(SPEC, class_counts=(4, 4, 3)) and json.loads(json.dumps(asdict(spec)))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"name": "Small-Set"}, r"name='Small-Set', expected lower case"),
        ({"class_names": ("a", "a", "b")}, "class_names"),
        ({"class_names": ()}, "class_names"),
        ({"class_names": ("a", "b ", "c")}, "without space at their ends"),
        ({"shape": (4, 5)}, "shape"),
        ({"shape": (4, 5, 2)}, "shape"),
        ({"num_images": 0}, "num_images=0, expected 1 to 100,000,000"),
        ({"num_images": 2**31}, "num_images=2147483648"),
        ({"shard_images": 0}, "shard_images=0"),
        ({"seed": 2**63}, "64-bit"),
        ({"prompts": ("a",)}, "one prompt for each of the 3 classes"),
        ({"prompts": {"cat": "a"}}, r"one prompt for each of the 3 classes \['cat', 'dog', 'cow'\]"),
        ({"class_counts": (1, 1, 1)}, "11 in all"),
        ({"created_by": {"a": object()}}, "what JSON can hold"),
    ],
)
def test_synthetic_spec_refuses_fields_out_of_range(change, said):
    with pytest.raises(ValueError, match=f"(?s)Got .*{said}"):
        SyntheticSpec(**{**asdict(SPEC), **change})


def test_shard_range_refuses_a_shard_that_is_not_there():
    for shard in (-1, 3):
        with pytest.raises(ValueError, match="expected 0 to 2"):
            shard_range(SPEC, shard)
