"""Laws of the charts over numbers of images: marks stand at their numbers, and names do not touch."""

import re

import pytest
from made_up_page import svg

from jaxmoust.report.charts import lines


def centres(markup, colours):
    """Places of the marks of one fill and stroke."""
    found = re.findall(rf'transform="translate\(([\d.]+),([\d.]+)\)" d="[^"]*" fill="{colours}', markup)
    return [(float(x), float(y)) for x, y in found]


def test_learning_curve_places_mixtures_at_their_worth():
    ends = [(100, 30.0), (10_000, 10.0)]
    curve = [{"n": n, "error": error, "low": None, "high": None} for n, error in ends]
    mixtures = [{"n_base": 100, "error": 20.0, "n_eq": 1000.0, "bound": ""}]
    markup = svg(lines.learning_curve(curve, curve, mixtures), "in words")
    ((x, y),) = centres(markup, r'var\(--paper\)"')
    first, last = centres(markup, r'var\(--neutral\)"')
    # Halfway on the logarithmic axis and halfway in error; places have one decimal.
    assert (x, y) == pytest.approx(((first[0] + last[0]) / 2, (first[1] + last[1]) / 2), abs=0.11)


@pytest.mark.parametrize("bound", lines.ARROWS)
def test_bound_of_an_exchange_points_to_where_the_truth_lies(bound):
    mixture = {"name": "250", "ratio": 1, "worth": 0.5, "worst": None, "best": None, "bound": bound}
    law = [{"name": "250", "gain": gain, "ratio": ratio, "low": None, "high": None} for gain, ratio in ((0, 1), (1, 2))]
    markup = svg(lines.exchange([*law, mixture], ["250"]), "in words")
    (shape,) = re.findall(r'd="([^"]*)" fill="var\(--paper\)"', markup)
    xs = [float(x) for x in re.findall(r"[ML](-?[\d.]+),", shape)]
    assert ("A" in shape) == (bound == "")
    if bound:
        assert (sum(x > 0 for x in xs) == 1) == (bound == "at least")  # one tip


def test_by_ratio_names_its_lines_and_the_ratios_that_were_tried():
    points = [(0.0, 76.0, None, None), (1 / 3, 76.4, None, None), (2.0, 76.4, None, None), (4.0, 77.2, None, None)]
    chart = lines.by_ratio([lines.Series("250", points), lines.Series("1,000", points[1:])])
    markup = svg(chart, "in words")
    assert ">250</text>" in markup and ">1,000</text>" in markup and ">real</text>" in markup
    assert {"0", "0.333", "2", "4"} <= set(re.findall(r'text-anchor="(?:middle|start|end)"[^>]*>([\d.]+)<', markup))
    # The step from real images alone is dashed, of the line that has it.
    assert markup.count("stroke-dasharray") == 1
