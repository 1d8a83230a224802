"""The surface over number and weight: what was planted is found, and as surely as it is said."""

import itertools

import numpy as np
import pytest

from jaxmoust.analysis.surface import fit, terms

CELLS = list(itertools.product((1.0, 4.0, 10.0), (0.1, 0.3, 1.0, 3.0)))
PLANTED = np.array([2.0, 1.0, -0.5, 0.25, -3.0, -2.0])
PLACES = np.log10(CELLS)
MIDDLE = (PLACES.min(axis=0) + PLACES.max(axis=0)) / 2
GAINS = terms(*(PLACES - MIDDLE).T, True, True) @ PLANTED


def observed(rng, num_seeds=4, num_images=60):
    """Gains of runs, and images that are harder for some arms than for others: both are drawn anew."""
    of_runs = rng.normal(0, 0.7, (len(CELLS), num_seeds, 1))
    slopes = rng.normal(0, 8, (1, 1, num_images)) * PLACES[:, :1, None]
    return GAINS[:, None, None] + of_runs + slopes + rng.normal(0, 5, (len(CELLS), num_seeds, num_images))


def test_surface_without_noise_is_found():
    surface = fit(CELLS, np.broadcast_to(GAINS[:, None, None], (12, 3, 5)))
    np.testing.assert_allclose(surface.fitted, GAINS)
    assert [surface.number.value, surface.weight.value] == pytest.approx(PLANTED[1:3].tolist())
    assert surface.difference.value == pytest.approx(1.5) and surface.number.low == pytest.approx(1.0)
    # The top of the planted surface, where its gradient is nothing, is in the grid.
    top = np.linalg.solve([[-6.0, 0.25], [0.25, -4.0]], [-1.0, 0.5]) + MIDDLE
    found = np.log10([surface.ratio_best.value, surface.weight_best.value])
    steps = (PLACES.max(axis=0) - PLACES.min(axis=0)) / 24
    assert np.all(np.abs(found - top) <= steps / 2 + 1e-9)
    assert surface.highest.value == pytest.approx(GAINS.max(), abs=0.5) and surface.highest.value >= GAINS.max() - 0.1


def test_intervals_cover_what_was_planted():
    rng, trials = np.random.default_rng(1), 300
    inside = {"number": 0, "difference": 0, "ratio_best": 0}
    top = 10 ** (np.linalg.solve([[-6.0, 0.25], [0.25, -4.0]], [-1.0, 0.5]) + MIDDLE)[0]
    for _ in range(trials):
        surface = fit(CELLS, observed(rng))
        for name, true in (("number", 1.0), ("difference", 1.5), ("ratio_best", top)):
            one = getattr(surface, name)
            inside[name] += one.low <= true <= one.high
    # Of 95 %; three standard deviations of 300 trials are 3.8 points. Where a surface is highest is drawn less surely.
    assert 0.91 < inside["number"] / trials < 0.99 and 0.91 < inside["difference"] / trials < 0.99
    assert inside["ratio_best"] / trials > 0.88


@pytest.mark.parametrize("cells, seeds", [(CELLS[:4], 3), (CELLS, 1), ([(1.0, w) for w in (0.1, 0.3, 1.0)] * 2, 3)])
def test_too_little_for_a_surface_is_refused(cells, seeds):
    with pytest.raises(ValueError, match="expected two seeds and more"):
        fit(cells, np.zeros((len(cells), seeds, 5)))


def test_two_levels_have_no_square():
    cells = list(itertools.product((1.0, 10.0), (0.1, 1.0)))
    surface = fit(cells, np.array([0.0, 1.0, 2.0, 3.0])[:, None, None] * np.ones((1, 2, 3)))
    assert (surface.number.value, surface.weight.value) == pytest.approx((2.0, 1.0))
