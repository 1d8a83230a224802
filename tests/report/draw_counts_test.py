"""Laws of the counts of a sampler's draws: what cannot be is refused, and measures allow for chance."""

import itertools

import numpy as np
import pytest

from jaxmoust.report import draw_counts as d

EDGES = list(range(0, 801, 25))  # 32 windows
TEN = [str(k) for k in range(10)]
CUT = np.array([1.0] * 5 + [0.2] * 5)  # half of the classes cut to a fifth


def plant(mix, classes=None, sources=("real", "edm"), names=TEN, per_window=4000, chance=None):
    """Draws of the expected numbers (or, with a generator, of chance): mix(t) and classes(t) at a window's middle."""
    counts = []
    for a, b in itertools.pairwise(EDGES):
        t = (a + b) / 2 / EDGES[-1]
        p = np.ones(len(names)) if classes is None else np.asarray(classes(t), float)
        cells = np.outer(mix(t), p / p.sum())
        n = chance.multinomial(per_window, cells.ravel()) if chance else np.round(cells.ravel() * per_window)
        counts.append(np.reshape(n, cells.shape))
    return d.DrawCounts(EDGES, list(sources), list(names), np.array(counts, np.int64))


def half(t):
    return (0.5, 0.5)


@pytest.mark.parametrize(
    ("classes", "words"),
    [
        (lambda t: np.ones(10), "even"),
        (lambda t: CUT, "0.33 (5) to 1.7 (0)"),
        (lambda t: np.arange(10) != 3, "0 (3) to 1.1 (0)"),
    ],
)
def test_spread_names_the_least_and_the_most_drawn_class(classes, words):
    assert d.spread(plant(half, classes, per_window=36_000)) == words


def test_classes_that_are_preferred_in_part_of_the_steps_are_not_even():
    turns = lambda t: 1 + 0.5 * ((np.arange(10) < 5) == (t < 0.5))  # noqa: E731
    planted = plant(half, turns)
    assert d.unevenness(planted.by_class.sum(axis=0)) == 0 and not planted.even_classes


@pytest.mark.parametrize("num_classes", [1, 2, 10, 1000])
@pytest.mark.parametrize("per_window", [10, 4000])
def test_even_classes_are_called_even_whatever_chance_does(num_classes, per_window):
    names = [f"c{k}" for k in range(num_classes)]
    for seed in range(20):
        planted = plant(half, names=names, per_window=per_window, chance=np.random.default_rng(seed))
        assert planted.even_classes


def test_unevenness_is_the_root_mean_square_deviation_of_many_draws():
    counts = np.array([15, 5, 10, 10]) * 10**8
    assert d.unevenness(counts) == pytest.approx(np.sqrt((0.25 + 0.25) / 4), rel=1e-6)  # chance is 1e-9 of it
    assert d.unevenness(np.array([7, 0, 0, 0]) * 10**8) == pytest.approx(np.sqrt(3), rel=1e-6)


def test_pooled_draws_are_the_sum_of_the_seeds():
    runs = [plant(half, chance=np.random.default_rng(seed)) for seed in range(3)]
    np.testing.assert_array_equal(d.pooled(runs).counts, runs[0].counts + runs[1].counts + runs[2].counts)
    with pytest.raises(ValueError, match=r"draws: got runs of one arm with source_names .*edm.*ddpm"):
        d.pooled([runs[0], plant(half, sources=("real", "ddpm"))])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"step_edges": [1, 10, 20]}, "edges that rise from 0"),
        ({"step_edges": [0, 10, 10]}, "edges that rise from 0"),
        ({"counts": [[[1, 2]]]}, r"expected integers \(2, 1, 2\)"),
        ({"counts": [[[1.0, 2.0]], [[1.0, 2.0]]]}, "got counts float64"),
        ({"counts": [[[1, -1]], [[1, 2]]]}, "negative count"),
        ({"counts": [[[0, 0]], [[1, 2]]]}, "window without draws"),
        ({"counts": None}, r"without \['counts'\]"),
    ],
)
def test_draws_that_cannot_be_are_refused(change, message):
    record = {"step_edges": [0, 10, 20], "source_names": ["real"], "class_names": ["a", "b"]}
    record |= {"counts": [[[1, 2]], [[3, 4]]]}
    assert d.from_record(record).counts.sum() == 10
    with pytest.raises(ValueError, match=message):
        d.from_record({k: v for k, v in (record | change).items() if v is not None})


def test_arms_are_alike_that_drew_the_same():
    one = plant(half)
    assert one.is_like(plant(half)) and not one.is_like(plant(lambda t: (0.4, 0.6)))
    assert not one.is_like(plant(half, sources=("real", "ddpm")))


def test_window_holds_the_step():
    planted = plant(half)
    assert [planted.window(t) for t in (0.0, 0.25, 0.5, 0.99, 1.0)] == [0, 8, 16, 31, 31]
