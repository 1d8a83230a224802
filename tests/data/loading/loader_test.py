"""Batches: process slices, restarts, exact evaluation; from memory or read one by one, the same."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxmoust.data.loading.loader import eval_stream, train_stream
from jaxmoust.data.loading.transforms import RandomResizedCrop, Resize
from jaxmoust.data.pool import Pool
from jaxmoust.data.samplers.share import Share
from jaxmoust.data.samplers.shuffle import Random
from jaxmoust.data.source import Soft, from_arrays


def make_source(name, num, px=4, channels=1, num_classes=3):
    images = np.random.default_rng(num).integers(0, 256, (num, px, px, channels), dtype=np.uint8)
    return from_arrays(images, np.arange(num) % num_classes, ["a", "b", "c"], name)


def make_sampler():
    pool = Pool.from_sources([make_source("real", 13), make_source("edm", 29)])
    return Share(pool, {"real": 0.5, "edm": 0.5}, 3)


def stream(sampler=None, batch_size=12, image_px=4, channels=1, **options):
    sampler = sampler or make_sampler()
    options.setdefault("num_threads", 0)
    return train_stream(sampler.pool, sampler, batch_size, image_px=image_px, channels=channels, **options)


def take(iterator, num):
    return [next(iterator) for _ in range(num)]


def assert_equal(batches, others):
    assert len(batches) == len(others)
    for one, two in zip(batches, others, strict=True):
        assert one.keys() == two.keys()
        for name in one:
            np.testing.assert_array_equal(one[name], two[name], err_msg=name)


def test_train_stream_batch_is_what_the_sampler_drew():
    sampler = make_sampler()
    for step, batch in enumerate(take(stream(sampler), 5)):
        keys = sampler.keys(step * 12, (step + 1) * 12)
        everything = np.concatenate([s.images(range(len(s))) for s in sampler.pool.sources])
        np.testing.assert_array_equal(batch["image"], everything[keys])
        np.testing.assert_array_equal(batch["label"], sampler.pool.label(keys))
        np.testing.assert_array_equal(batch["source"], sampler.pool.source(keys))
        np.testing.assert_array_equal(batch["index"], keys - sampler.pool.offsets[batch["source"]])
        assert {name: (a.dtype, a.shape) for name, a in batch.items()} == {
            "image": (np.uint8, (12, 4, 4, 1)),
            "label": (np.int32, (12,)),
            "source": (np.int32, (12,)),
            "index": (np.int32, (12,)),
            "slot": (np.int32, (12,)),
        }


def test_train_stream_without_pixels_draws_the_same():
    for batch, bare in zip(take(stream(), 3), take(stream(pixels=False), 3), strict=True):
        del batch["image"]
        assert_equal([batch], [bare])


def in_parts(process_count, num, state=None, **options):
    """What the processes of a run get, joined step by step."""
    parts = []
    for p in range(process_count):
        part = stream(process_index=p, process_count=process_count, **options)
        if state is not None:
            part.set_state(state)
        parts.append(take(part, num))
    return [{k: np.concatenate([b[k] for b in step]) for k in step[0]} for step in zip(*parts, strict=True)]


@pytest.mark.parametrize("process_count", [1, 2, 3, 8])
@settings(max_examples=10, deadline=None)
@given(per_process=st.integers(1, 5), start_step=st.one_of(st.integers(0, 9), st.integers(2**40, 2**41)))
def test_train_stream_process_slices_join_to_the_global_batch(process_count, per_process, start_step):
    batch_size = process_count * per_process
    options = {"batch_size": batch_size, "start_step": start_step, "train_transform": RandomResizedCrop(4, 1)}
    joined = in_parts(process_count, 3, **options)
    assert_equal(joined, take(stream(**options), 3))
    assert joined[0]["slot"].tolist() == list(range(batch_size))


@pytest.mark.parametrize("batch_size", [5000, 4096, 96])
def test_train_stream_of_large_batches_is_the_samplers_order(batch_size):
    """Draws of several small steps are computed together, those of large ones by each process for itself."""
    sampler = make_sampler()
    for process_count in (1, 2):
        size = batch_size * process_count
        joined = in_parts(process_count, 2, sampler=sampler, batch_size=size, start_step=3)
        keys = sampler.keys(3 * size, 5 * size).reshape(2, -1)
        for batch, expected in zip(joined, keys, strict=True):
            np.testing.assert_array_equal(batch["label"], sampler.pool.label(expected))
            np.testing.assert_array_equal(batch["source"], sampler.pool.source(expected))


def test_train_stream_started_at_a_step_continues_the_stream():
    assert_equal(take(stream(start_step=3), 2), take(stream(), 5)[3:])


@pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 1), (3, 8), (8, 3)])
def test_train_stream_restored_continues_under_another_number_of_processes(before, after):
    options = {"batch_size": 24, "train_transform": RandomResizedCrop(4, 1)}
    states = []
    for p in range(before):
        part = stream(process_index=p, process_count=before, **options)
        take(part, 3)
        states.append(json.loads(json.dumps(part.get_state())))
    assert all(state == {"next_index": 3} for state in states)
    assert_equal(in_parts(after, 2, states[0], **options), take(stream(start_step=3, **options), 2))


def test_train_stream_batches_may_be_written_to():
    first = stream(batch_size=4)
    for batch in take(first, 2):
        for name in ("image", "label", "source"):
            batch[name][:] = 0
    assert_equal(take(first, 2), take(stream(batch_size=4), 4)[2:])


def checksum(batches):
    return [int(b["image"].astype(np.int64).sum()) * 1000 + int(b["label"] @ np.arange(12)) for b in batches]


def test_train_stream_restored_in_a_new_process_continues():
    iterator = stream(train_transform=RandomResizedCrop(4, 1))
    take(iterator, 7)
    script = (
        "import json, sys; sys.path.insert(0, sys.argv[1]); import loader_test as t\n"
        "it = t.stream(train_transform=t.RandomResizedCrop(4, 1), num_threads=2)\n"
        "it.set_state(json.loads(sys.argv[2])); print(json.dumps(t.checksum(t.take(it, 3))))"
    )
    out = subprocess.run(
        [sys.executable, "-c", script, os.path.dirname(__file__), json.dumps(iterator.get_state())],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "PYTHONHASHSEED": "9"},
        capture_output=True,
        text=True,
    )
    assert out.returncode == 0, out.stderr
    assert json.loads(out.stdout.splitlines()[-1]) == checksum(take(iterator, 3))


@pytest.mark.parametrize("num_threads", [0, 1, 3, None])
def test_train_stream_does_not_depend_on_the_number_of_threads(num_threads):
    crop = RandomResizedCrop(4, 1)
    expected = take(stream(train_transform=crop, num_threads=0), 6)
    assert_equal(take(stream(train_transform=crop, num_threads=num_threads), 6), expected)


@pytest.mark.parametrize(("image_px", "channels"), [(4, 1), (4, 3), (6, 1)])
@pytest.mark.parametrize("num_threads", [0, None])
def test_streams_from_memory_from_a_map_and_read_one_by_one_are_equal(tmp_path, image_px, channels, num_threads):
    source = make_source("real", 13)
    shape = {"image_px": image_px, "channels": channels, "num_threads": num_threads}
    from_memory = take(stream(decoded="memory", **shape), 3)
    evaluated = list(eval_stream(source, 5, decoded="memory", **shape))
    for other in ({"decoded": "map", "map_dir": tmp_path}, {"decoded": "none"}):
        assert_equal(take(stream(**other, **shape), 3), from_memory)
        assert_equal(list(eval_stream(source, 5, **other, **shape)), evaluated)


def test_train_stream_random_transform_is_keyed_by_seed_and_position():
    """The same image drawn in two epochs is cut differently; the same position always alike."""
    pool = Pool.from_sources([make_source("real", 1, px=16)])
    sampler = Random(pool, 5)
    images = np.concatenate([b["image"] for b in take(stream(sampler, 4, train_transform=RandomResizedCrop(4, 1)), 3)])
    assert len({bytes(image) for image in images}) == 12
    other = next(stream(Random(pool, 6), 4, train_transform=RandomResizedCrop(4, 1)))["image"]
    assert not np.array_equal(other, images[:4])


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 30), st.integers(1, 9), st.integers(1, 3))
def test_eval_stream_counts_every_image_once(num, per_process, process_count):
    source = make_source("test", num)
    streams = [
        eval_stream(
            source, per_process * process_count, image_px=4, channels=1, process_index=p, process_count=process_count
        )
        for p in range(process_count)
    ]
    assert len({len(s) for s in streams}) == 1
    batches = [s[i] for s in streams for i in range(len(s))]
    assert all(b["image"].shape == (per_process, 4, 4, 1) for b in batches)
    joined = {k: np.concatenate([b[k] for b in batches]) for k in batches[0]}
    real = joined["mask"] == 1
    assert joined["mask"].sum() == num and set(joined["mask"]) <= {0.0, 1.0}
    index = joined["index"][real]
    np.testing.assert_array_equal(np.sort(index), np.arange(num))
    np.testing.assert_array_equal(joined["image"][real], source.images(index))
    np.testing.assert_array_equal(joined["label"][real], source.labels[index])
    assert np.all(joined["index"][~real] == -1) and not joined["image"][~real].any()


def test_eval_stream_judges_the_central_square_that_was_asked_for():
    images = np.zeros((3, 8, 8, 1), np.uint8)
    images[:, 2:6, 2:6] = 200
    source = from_arrays(images, np.zeros(3, np.int32))
    cut = (Resize(4, 1, crop_fraction=part) for part in (1.0, 0.5))
    whole, inner = (list(eval_stream(source, 3, image_px=4, channels=1, transform=transform)) for transform in cut)
    assert np.all(inner[0]["image"] == 200) and np.any(whole[0]["image"] < 50)


def test_eval_stream_is_a_list_that_can_be_walked_twice():
    batches = eval_stream(make_source("test", 7), 3, image_px=4, channels=1)
    assert len(batches) == 3
    assert_equal(list(batches), [batches[i] for i in range(3)])
    assert_equal(list(batches), list(batches))
    with pytest.raises(IndexError, match="expected 0 to 2"):
        batches[3]
    assert {name: a.dtype for name, a in batches[0].items()} == {
        "image": np.uint8,
        "label": np.int32,
        "mask": np.float32,
        "index": np.int32,
    }


def test_train_stream_of_a_filtered_pool_delivers_the_kept_images_under_their_own_keys():
    pool = make_sampler().pool
    kept = np.arange(42) % 3 == 0
    sampler = Random(pool.keep(kept), 4)
    batches = take(stream(sampler, 7), 2)  # 14 images are kept: one epoch
    got = np.concatenate([b["image"] for b in batches])
    everything = np.concatenate([s.images(range(len(s))) for s in pool.sources])
    np.testing.assert_array_equal(got, everything[sampler.keys(0, 14)])
    assert {image.tobytes() for image in got} == {image.tobytes() for image in everything[kept]}


def test_train_stream_refuses_a_pool_without_images():
    pool = Pool.from_labels({"real": np.array([0, 1])})
    with pytest.raises(ValueError, match=r"made from labels.*from_sources"):
        stream(Random(pool, 0), 2)


def test_train_stream_refuses_a_sampler_of_another_pool():
    pool = Pool.from_sources([make_source("real", 5)])
    with pytest.raises(ValueError, match=r"(?s)Got a sampler over .*expected one over"):
        train_stream(pool, make_sampler(), 4, image_px=4, channels=1)


@pytest.mark.parametrize("options", [{"batch_size": 7, "process_count": 2}, {"batch_size": 0}])
def test_streams_refuse_a_batch_that_the_processes_do_not_divide(options):
    with pytest.raises(ValueError, match=r"global batch of .* positive multiple"):
        stream(**options)


def test_streams_refuse_a_process_that_is_not_there():
    with pytest.raises(ValueError, match="process 2 of 2"):
        eval_stream(make_source("test", 3), 2, image_px=4, channels=1, process_index=2, process_count=2)


def test_train_stream_refuses_a_step_before_the_first():
    with pytest.raises(ValueError, match="start_step=-1"):
        stream(start_step=-1)


def test_train_stream_refuses_a_transform_of_another_shape():
    with pytest.raises(ValueError, match=r"\(5, 5, 1\) from Resize.*expected \(4, 4, 1\)"):
        stream(train_transform=Resize(5, 1))
    with pytest.raises(ValueError, match=r"\(4, 4, 1\) from RandomResizedCrop.*expected \(4, 4, 3\)"):
        next(stream(channels=3, train_transform=RandomResizedCrop(4, 1)))


def test_train_stream_says_the_soft_label_of_each_draw():
    edm = replace(
        make_source("edm", 29), soft=Soft(np.arange(29, dtype=np.int32) % 2, np.linspace(0, 1, 29, dtype=np.float32))
    )
    sampler = Share(Pool.from_sources([make_source("real", 13), edm]), {"real": 0.5, "edm": 0.5}, 3)
    for batch in take(stream(sampler), 3):
        syn = batch["source"] == 1
        np.testing.assert_array_equal(batch["second"][syn], edm.soft.second[batch["index"][syn]])
        np.testing.assert_array_equal(batch["second_weight"], np.where(syn, edm.soft.weight[batch["index"]], 0))
    assert "second" not in next(stream())
    part = edm.subset(np.array([7, 3]))
    assert part.soft.second.tolist() == [1, 1] and part.soft.weight.tolist() == edm.soft.weight[[7, 3]].tolist()
