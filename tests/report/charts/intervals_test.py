"""Laws of the figure of the answer: every arm has its mean, interval and seeds where the numbers put them."""

import itertools
import re

import pytest

from jaxmoust.report.charts import intervals
from jaxmoust.report.charts.intervals import Interval

REAL = Interval("real", "Real only", (79.0, 80.0, 81.0), 80.0, (77.5, 82.5), "baseline")
EDM = Interval("edm", "EDM", (90.0,), 90.0, None, "better")


def places(markup, pattern):
    return [float(x) for x in re.findall(pattern, markup)]


def test_figure_has_every_seed_and_says_every_number():
    markup = intervals.figure([REAL, EDM], 80.0, "Top-1, %").svg
    assert 'aria-label="Top-1, %: Real only 80.00 [77.50, 82.50]; EDM 90.00"' in markup
    (dots,) = (group for group in re.findall(r"<g[^>]*>(?:<path[^>]*/>)+</g>", markup) if "--seed" in group)
    assert len(re.findall("<path", dots)) == 4
    assert [f">{text}</text>" in markup for text in ("Real only", "EDM", "80.00 [77.50, 82.50]", "90.00")] == [True] * 4


def test_marks_stand_at_their_means_and_differ_in_shape_by_verdict():
    arms = [
        Interval(verdict, verdict, (float(i),), float(i), None, verdict) for i, verdict in enumerate(intervals.MARKS)
    ]
    markup = intervals.figure(arms, None, "x", signed=True).svg
    marks = re.findall(r'transform="translate\(([\d.]+),[\d.]+\)" d="([^"]*)" fill="[^"]*" stroke=', markup)
    xs, shapes = [float(x) for x, _ in marks], {d for _, d in marks}
    assert len(marks) == len(shapes) == len(intervals.MARKS)
    assert [b - a for a, b in itertools.pairwise(xs)] == pytest.approx([xs[1] - xs[0]] * (len(xs) - 1), abs=0.11)


def test_dashed_line_stands_at_the_reference_or_nowhere():
    assert intervals.figure([REAL, EDM], 80.0, "x").svg.count("stroke-dasharray") == 2  # a piece beside each arm
    assert "stroke-dasharray" not in intervals.figure([REAL, EDM], None, "x").svg


def test_interval_of_a_percentage_is_cut_at_what_is_possible():
    wide = Interval("wide", "Wide", (5.0, 95.0), 50.0, (-500.0, 600.0))
    rows = intervals.intervals([wide], None, "x").data.values
    assert (rows[0]["low"], rows[0]["high"]) == (0, 100)
    rows = intervals.intervals([wide], None, "x", signed=True).data.values
    assert (rows[0]["low"], rows[0]["high"]) == (-500, 600)


def test_names_are_whole_above_their_numbers_where_they_do_not_fit_beside_them():
    names = ["Real", "Real + external SD, fine-tuned", f"Real, stronger augmentation {'of every kind ' * 3}, 250"]
    arms = [Interval(name, name, (80.0, 82.0), 81.0, (79.5, 82.5)) for name in names]
    for num, lines in ((1, ["Real"]), (2, names[:2])):
        markup = intervals.figure(arms[:num], 80.0, "Top-1, %").svg
        assert re.findall(r">(Real[^<]*)</text>", markup) == lines
    beside, above, high = (intervals.figure(arms[:n], 80.0, "x").svg for n in (1, 2, 3))
    assert "".join(re.findall(r"<tspan[^>]*>([^<]*)", high)).replace(" ", "") in names[2].replace(" ", "")
    heights = [places(markup, r'viewBox="0 0 [\d.]+ ([\d.]+)"')[0] for markup in (beside, above, high)]
    assert heights[1] - heights[0] == intervals.ROW_PX + 2 * intervals.LINE_PX  # two rows of a line more
    assert heights[2] - heights[1] > intervals.ROW_PX + intervals.LINE_PX


def test_axis_is_that_of_most_arms_and_one_far_away_is_an_arrow_at_the_edge_with_its_number():
    near = [Interval(f"arm{i}", f"Arm {i}", (), 0.1 * i, (0.1 * i - 1.5, 0.1 * i + 1.5)) for i in range(5)]
    far = Interval("far", "Far", (-40.0, -38.0), -39.0, (-55.0, -23.0), "worse")
    low, high = intervals.domain([*near, far], 0.0)
    assert -10 < low <= -1.5 and 1.9 <= high < 10
    markup = intervals.figure([*near, far], 0.0, "x", signed=True).svg
    assert markup.count("◀") == 1 and "▶" not in markup and "39.00" in markup
    assert "◀" not in intervals.figure(near, 0.0, "x", signed=True).svg


def test_axis_holds_every_arm_where_they_are_alike_or_few():
    assert intervals.domain([REAL, EDM], 80.0) is None and intervals.domain([EDM], None) is None
    assert intervals.domain([Interval("a", "A", (), 0.0, None), EDM], 0.0) is None  # nothing to measure by
