"""Samplers and pools in plain `grain.DataLoader` with worker processes, over every kind of source."""

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import grain
import numpy as np
import pytest
from absl import flags

from jaxmoust.data.image import encode_png
from jaxmoust.data.loading.transforms import RandomResizedCrop, Resize
from jaxmoust.data.pool import Pool
from jaxmoust.data.samplers.share import Share
from jaxmoust.data.samplers.shuffle import Random
from jaxmoust.data.source import from_arrays
from jaxmoust.data.sources.registry import image_folder
from jaxmoust.data.synthetic.store import SyntheticSpec, finish, open_synthetic, write_shard

CLASSES = ("ant", "bee")


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """An array, a folder of images, a synthetic set (TFDS, ArrayRecord), and a part of each of the latter two."""
    root = tmp_path_factory.mktemp("sources")
    images = np.random.default_rng(0).integers(0, 256, (12, 6, 6, 3), dtype=np.uint8)
    for i, image in enumerate(images[:6]):
        path = root / "folder" / CLASSES[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode_png(image))
    spec = SyntheticSpec("made", CLASSES, (6, 6, 3), 8, 4, 0, "abc", 1.0, 2, dict.fromkeys(CLASSES, ""), {})
    for shard in range(2):
        write_shard(root / "made", spec, shard, images[slice(*spec.shard_bounds(shard))])
    finish(root / "made", spec)
    folder, made = image_folder(str(root / "folder"), "all"), open_synthetic(root / "made")
    return (
        from_arrays(images, np.arange(12) % 2, CLASSES, "arrays"),
        folder,
        made,
        folder.subset(np.array([4, 1]), "part of a folder"),
        made.subset(np.array([7, 0, 7]), "part of a set"),
    )


@pytest.fixture
def parsed_flags():
    """Grain asks absl's flags when it starts workers; a program under absl.app.run has parsed them."""
    was_parsed = flags.FLAGS.is_parsed()
    flags.FLAGS.mark_as_parsed()
    yield
    if not was_parsed:
        flags.FLAGS.unparse_flags()


def loader(pool, sampler, worker_count, operations=()):
    return grain.DataLoader(
        data_source=pool,
        sampler=sampler,
        operations=operations,
        worker_count=worker_count,
        shard_options=grain.sharding.NoSharding(),
    )


def take(iterator, num):
    return [next(iterator) for _ in range(num)]


def assert_equal(records, others):
    assert len(records) == len(others)
    for one, two in zip(records, others, strict=True):
        assert one.keys() == two.keys()
        for name in one:
            np.testing.assert_array_equal(one[name], two[name], err_msg=name)


def test_every_kind_of_source_reads_the_same_after_pickling(sources):
    for source in sources:
        again = pickle.loads(pickle.dumps(source))
        assert again.digest == source.digest and len(again) == len(source)
        for i in range(len(source)):
            np.testing.assert_array_equal(again.read(i), source.read(i))


def test_a_pool_and_its_samplers_are_the_same_after_pickling(sources):
    pool = Pool.from_sources(sources)
    for sampler in (Random(pool, 3), Share(pool, dict.fromkeys(pool.source_names, 0.2), 3)):
        again = pickle.loads(pickle.dumps(sampler))
        assert again == sampler and repr(again) == repr(sampler)
        np.testing.assert_array_equal(again.keys(5, 90), sampler.keys(5, 90))


@pytest.mark.usefixtures("parsed_flags")
def test_grain_loader_gives_the_same_records_with_worker_processes_and_continues_from_a_state(sources):
    pool = Pool.from_sources(sources)
    sampler = Share(pool, dict.fromkeys(pool.source_names, 0.2), 3)
    cut = RandomResizedCrop(4, 3)
    expected = take(iter(loader(pool, sampler, 0, [cut])), 20)
    assert {int(record["source"]) for record in expected} == set(range(5))
    iterator = iter(loader(pool, sampler, 2, [cut]))
    assert_equal(take(iterator, 9), expected[:9])
    state = iterator.get_state()
    assert_equal(take(iterator, 4), expected[9:13])
    restored = iter(loader(pool, sampler, 2, [cut]))
    restored.set_state(state)
    assert_equal(take(restored, 11), expected[9:])


@pytest.mark.usefixtures("parsed_flags")
def test_grain_loader_batches_of_two_workers_hold_the_same_records(sources):
    """Grain lets each worker make whole batches of every second record; two batches hold what two hold without."""
    pool = Pool.from_sources(sources[:1])
    sampler, operations = Random(pool, 1), [Resize(3, 1), grain.transforms.Batch(4)]
    pairs = [take(iter(loader(pool, sampler, workers, operations)), 2) for workers in (0, 2)]
    one, two = (np.concatenate([batch["image"] for batch in pair]) for pair in pairs)
    assert one.shape == (8, 3, 3, 1)
    assert sorted(image.tobytes() for image in one) == sorted(image.tobytes() for image in two)


def make_numbers():
    images = np.arange(50, dtype=np.uint8)[:, None, None, None]
    return Random(Pool.from_sources([from_arrays(images, np.arange(50) % 3, None, "numbers")]), 2)


def test_grain_loader_state_restores_in_a_new_process():
    sampler = make_numbers()
    iterator = iter(loader(sampler.pool, sampler, 0))
    take(iterator, 33)
    state = iterator.get_state()
    script = (
        "import sys; sys.path.insert(0, sys.argv[1]); import workers_test as t\n"
        "sampler = t.make_numbers(); it = iter(t.loader(sampler.pool, sampler, 0))\n"
        "it.set_state(sys.argv[2].encode()); print([int(r['image'][0, 0, 0]) for r in t.take(it, 40)])"
    )
    command = [sys.executable, "-c", script, str(Path(__file__).parent), state.decode()]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "PYTHONHASHSEED": "9"}
    out = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert out.returncode == 0, out.stderr
    assert json.loads(out.stdout.splitlines()[-1]) == [int(r["image"][0, 0, 0]) for r in take(iterator, 40)]
