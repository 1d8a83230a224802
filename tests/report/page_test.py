"""Laws of what a page is made of: contradictions are refused when it is born, with what is allowed instead."""

import dataclasses

import numpy as np
import pytest
from made_up_page import CLASSES, make_page

from jaxmoust.report.arms import ArmInfo
from jaxmoust.report.draw_counts import DrawCounts
from jaxmoust.report.page import Table


def test_baseline_that_is_compared_with_another_arm_is_refused():
    arms = [ArmInfo(f"arm{i}", "", "", base) for i, base in enumerate(("", "arm2", "arm0"))]
    with pytest.raises(ValueError, match=r"got 'arm2'.*not itself"):
        make_page(arms=arms)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: {"baseline": "real"}, "baseline: got 'real', expected .*'arm0'"),
        (lambda p: {"arms": [p.arms[0], p.arms[0]]}, "arms: got .* expected each name once"),
        (lambda p: {"arms": p.arms[:2]}, "rows: got arm 'arm2'"),
        (lambda p: {"rows": [*p.rows, dict(p.rows[0])]}, "arm 'arm0' seed 0 twice"),
        (lambda p: {"rows": [{k: v for k, v in p.rows[0].items() if k != "top1"}]}, r"without \['top1'\]"),
        (lambda p: {"labels": p.labels[:-1]}, r"ranks\['arm0'\]\[0\]: got shape \(240,\), expected \(239,\)"),
        (lambda p: {"labels": p.labels + 1}, r"labels: .* inside 0\.\.5"),
        (lambda p: {"rows": [{**p.rows[0], "top1": 12.0}]}, r"from the ranks and 12\.00 in the row"),
    ],
)
def test_contradictions_are_refused(change, message):
    with pytest.raises(ValueError, match=f"(?s){message}"):
        make_page(**change(make_page()))


def test_page_refuses_draws_of_what_it_has_not():
    of_trial = DrawCounts([0, 1], ["real"], list(CLASSES), np.ones((1, 1, 6), int))
    for draws in ({"arm9": of_trial}, {"arm0": DrawCounts([0, 1], ["real"], ["a", "b"], np.ones((1, 1, 2), int))}):
        with pytest.raises(ValueError, match=r"draws: got arm .* expected arms"):
            make_page(draws=draws)


def test_table_whose_rows_do_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"table 'T': got a row of 1 cells, expected 2, one for each of \['a', 'b'\]"):
        Table("T", ("a", "b"), [("x", 1.0), ("y",)])


def test_table_sorts_numbers_as_numbers_and_shows_their_text():
    table = Table("T", ("name", "p", "n"), [("a", (0.5, "0.5 [0, 1]"), 1200), ("b", None, float("nan"))])
    assert table.numeric == [False, True, True]
    dash = "\N{EN DASH}"
    assert table.cells == [[("a", "a"), (0.5, "0.5 [0, 1]"), (1200, "1,200")], [("b", "b"), ("", dash), ("", dash)]]


def test_page_is_whole_at_birth_and_compares_its_arms_once():
    page = make_page()
    with pytest.raises(dataclasses.FrozenInstanceError):
        page.rows = []
    assert page.summaries is page.summaries
