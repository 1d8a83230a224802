"""Laws of the histogram of distances: its shapes follow the numbers, and what is no ratio is refused."""

import numpy as np
import pytest
from made_up_page import svg

from jaxmoust.report.charts.fidelity import NUM_BINS, ratio_histogram


def shares(*ratios):
    """The shares of synthetic images in each bin."""
    return [row["synthetic"] for row in ratio_histogram(*ratios).layer[0].data.values][:NUM_BINS]


def test_histogram_has_as_much_where_copies_are_as_there_are_copies():
    rng = np.random.default_rng(0)
    heldout = rng.normal(1, 0.1, 500)
    copies = np.concatenate([np.zeros(100), rng.normal(1, 0.1, 300)])
    assert shares(copies, heldout, 0.8)[0] == 0.25 and sum(shares(copies, heldout, 0.8)) == pytest.approx(1)
    assert sum(shares(heldout, heldout, 0.8)[:10]) == 0


def test_histogram_keeps_far_ratios_in_its_last_bin():
    ratios = np.concatenate([np.ones(995), [50.0] * 4])
    assert shares(ratios, ratios, 0.5)[-1] == pytest.approx(4 / 999)


def test_histogram_tells_its_kinds_apart_in_grey_and_writes_its_threshold_where_there_is_room():
    for threshold, word in ((0.9, ">suspicious<"), (0.05, ">← suspicious<")):
        markup = svg(ratio_histogram(np.ones(9), np.full(9, 0.5), threshold), "x")
        assert word in markup and markup.count("stroke-dasharray") == 1 and "NaN" not in markup


@pytest.mark.parametrize("ratios", [[], [np.nan], [-0.1], [[1.0]]])
def test_histogram_refuses_what_is_no_ratio(ratios):
    with pytest.raises(ValueError, match="synthetic ratios: got shape"):
        ratio_histogram(ratios, [1.0], 0.5)
