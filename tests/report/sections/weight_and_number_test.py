"""The section of number and weight: from the page's own runs, in words, a picture and a table."""

import itertools
from dataclasses import replace

import pytest
from made_up_page import make_page

from jaxmoust.report.arms import summarise
from jaxmoust.report.sections import ratio, weight_and_number

CELLS = dict(zip((f"arm{i}" for i in range(1, 7)), itertools.product((100, 400, 1000), (0.1, 1.0)), strict=True))


@pytest.fixture
def page():
    """Arm 0 is real images alone; the others get more right with more images, and fewer with more weight."""
    page = make_page((0, 6, -6, 12, 0, 18, 6))
    for row in page.rows:
        number, weight = CELLS.get(row["arm"], (0, 1.0))
        row |= {"n_synthetic": number, "share": 0.5 if number else 0.0, "weight": weight}
    return page


def sections(page):
    return weight_and_number.sections(summarise(page.arms, page.rows), page.baseline, page.ranks)


def test_number_and_weight_are_told_with_their_intervals(page):
    (made,) = sections(page)
    slope, best = made.words
    assert slope.startswith("In the middle of the grid, ten times as many synthetic images change Top-1 by +")
    assert "counts ten times as much by \N{MINUS SIGN}" in slope and "more images gain more" in slope
    assert "highest at 10 [" in best and "weight of 0.1 [" in best and "at the edge of the grid" in best
    (figure,), (table,) = made.figures, made.tables
    assert figure.markup.svg.count("<text") >= 6 and len(table.rows) == 6
    assert table.rows[0][:2] == [1.0, 0.1] and made.answer == slope


@pytest.mark.parametrize("change", [{"weight": 1.0}, {"n_synthetic": 100}, {"share": 1.0}, {"weight": None}])
def test_study_without_a_grid_has_no_such_section(page, change):
    for row in page.rows:
        row |= change
    assert sections(page) == []


def test_arms_of_another_base_set_are_not_compared_with_this_ones_baseline(page):
    arms = [replace(arm, baseline="another") for arm in page.arms]
    assert weight_and_number.sections(summarise(arms, page.rows), page.baseline, page.ranks) == []


def test_arms_of_other_weights_are_lines_of_their_own(page):
    """One would otherwise stand for all that have as many images."""
    (made,) = ratio.sections(summarise(page.arms, page.rows), page.baseline)
    assert [words.partition(":")[0] for words in made.words] == ["edm, weight 0.1", "edm, weight 1"]


def test_grid_with_holes_says_why_it_has_no_surface(page):
    """Two rows and two columns that cross once: what number and weight do together was not tried."""
    cross = [(100, 0.1), (400, 0.1), (1000, 0.1), (100, 0.5), (100, 1.0), (100, 2.0)]
    for row in page.rows:
        if row["arm"] in CELLS:
            number, weight = cross[list(CELLS).index(row["arm"])]
            row |= {"n_synthetic": number, "weight": weight}
    (made,) = sections(page)
    assert not made.figures and not made.answer
    assert made.words[0].startswith("No surface is fitted to these arms: 6 cells of 3 seeds")
