"""Real and synthetic images dealt out: held out once, never in the training pool of their judge, matched by class."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxmoust.data.source import from_arrays
from jaxmoust.data.splits.real_vs_synthetic import KINDS, split_folds


def make_source(name: str, labels: list[int], first: int) -> object:
    """Each image is one pixel that tells it from every other: first, first + 1, ..."""
    pixels = np.arange(first, first + len(labels), dtype=np.uint8)[:, None, None, None]
    return from_arrays(pixels, np.array(labels), ["a", "b", "c"], name)


def pixels(source) -> set[int]:
    return set(source.images(np.arange(len(source))).ravel().tolist())


LABELS = st.lists(st.integers(0, 2), min_size=6, max_size=40)


@settings(max_examples=30, deadline=None)
@given(LABELS, LABELS, st.integers(2, 3), st.integers(0, 99))
def test_kinds_every_image_is_held_out_once_and_never_trained_on_by_its_judge(real, made, num_folds, seed):
    real, made = [*range(3)] * num_folds + real, [*range(3)] * num_folds + made
    sources = {"real": make_source("base", real, 0), "synthetic": make_source("edm", made, 100)}
    kinds = split_folds(*sources.values(), num_folds, seed)
    seen = {kind: [] for kind in KINDS}
    for fold in range(num_folds):
        pool = kinds.training_pool(fold)
        trained = {int(pool[key]["image"].item()) for key in pool.kept}
        heldout = kinds.heldout(fold)
        assert trained == set.union(*map(pixels, sources.values())) - set.union(*map(pixels, heldout.values()))
        for kind, source in heldout.items():
            seen[kind] += pixels(source)
    assert {kind: sorted(of) for kind, of in seen.items()} == {k: sorted(pixels(s)) for k, s in sources.items()}


@settings(max_examples=30, deadline=None)
@given(LABELS, LABELS, st.integers(0, 99))
def test_kinds_count_as_many_of_each_from_every_class_of_a_fold(real, made, seed):
    real, made = [0, 0, 1, 1, *real], [0, 0, 1, 1, *made]
    kinds = split_folds(make_source("base", real, 0), make_source("edm", made, 100), 2, seed)
    for fold in (0, 1):
        held, counted = kinds.heldout(fold), kinds.heldout(fold, only_counted=True)
        expected = np.minimum(*(source.class_counts() for source in held.values()))
        for source in counted.values():
            np.testing.assert_array_equal(source.class_counts(), expected)


def test_kinds_are_the_classes_of_the_pool_whatever_the_images_show():
    kinds = split_folds(make_source("base", [0, 1, 2, 2], 0), make_source("edm", [2, 2, 1, 0, 0], 100), 2, 0)
    pool = kinds.pool
    assert pool.class_names == KINDS and pool.source_names == ("real", "synthetic")
    np.testing.assert_array_equal(pool.counts(), [[0, 4], [5, 0]])


@pytest.mark.parametrize(
    ("real", "made", "num_folds", "said"),
    [
        ([0, 1, 2], [0, 1, 2, 0], 2, r"2 folds of 3 real images"),
        ([0, 1, 2, 0], [0, 1, 2], 2, r"2 folds of 3 synthetic images"),
        ([0, 1, 2, 0], [0, 1, 2, 0], 1, "two folds and up"),
        ([0, 0, 0, 0], [1, 1, 1, 1], 2, r"in \[0, 1\] no class has an image of both kinds"),
    ],
)
def test_kinds_refuse_folds_that_could_not_be_judged(real, made, num_folds, said):
    with pytest.raises(ValueError, match=said):
        split_folds(make_source("base", real, 0), make_source("edm", made, 100), num_folds, 0)


def test_kinds_refuse_sources_of_other_classes():
    other = from_arrays(np.zeros((4, 1, 1, 1), np.uint8), np.zeros(4, int), ["z"], "edm")
    with pytest.raises(ValueError, match="the same in the same order"):
        split_folds(make_source("base", [0, 1, 2, 0], 0), other, 2, 0)
