"""Laws of the figure of a sampler's draws: bands are as wide as the shares, and named where there is room."""

import re

import numpy as np
from made_up_page import svg

from jaxmoust.report.charts import sampler_mix
from jaxmoust.report.draw_counts import DrawCounts


def make_draws(shares, names, classes=(1.0, 1.0)):
    """Draws of these shares [W, S], 8,000 a window of 10 steps."""
    counts = np.round(8000 * np.asarray(shares)[:, :, None] * np.asarray(classes) / sum(classes)).astype(int)
    return DrawCounts(list(range(0, 10 * len(counts) + 1, 10)), names, [str(k) for k in range(len(classes))], counts)


def bands(chart):
    """{name: [(step, low, high)]} of a chart of bands."""
    found = {}
    for row in chart.data.values:
        found.setdefault(row["name"], []).append((row["step"], round(row["low"], 9), round(row["high"], 9)))
    return found


def test_bands_are_the_shares_stacked_upwards_from_the_real_images():
    draws = make_draws([(0.25, 0.75), (1, 0)], ["edm", "real"])
    assert bands(sampler_mix.mix(draws)) == {
        "real": [(0, 0, 0.75), (10, 0, 0), (20, 0, 0)],
        "edm": [(0, 0.75, 1), (10, 0, 1), (20, 0, 1)],
    }


def test_classes_are_below_only_where_some_were_preferred():
    assert not hasattr(sampler_mix.mix(make_draws([(0.5, 0.5)] * 2, ["real", "edm"])), "vconcat")
    uneven = sampler_mix.mix(make_draws([(0.5, 0.5)] * 2, ["real", "edm"], (3.0, 1.0)))
    assert bands(uneven.vconcat[1])["0"] == [(0, 0, 0.75), (10, 0, 0.75), (20, 0, 0.75)]
    markup = svg(uneven, "alt")  # classes have no source's colour
    assert len(re.findall(r'<path[^>]*fill="var\(--ink\)"[^>]*fill-opacity', markup)) == 2


def test_bands_have_their_names_in_a_legend_unless_they_are_many():
    shares = np.eye(4)[[1, 2, 3, 0]] * 0.92 + 0.02
    names = ["real", "EDM, guidance 1", "EDM, guidance 2", "<DDPM>"]
    markup = svg(sampler_mix.mix(make_draws(shares, names)), "alt")
    assert all(f">{name}<" in markup for name in (*names[:3], "&lt;DDPM&gt;"))
    many = ["real", *(f"set {i}" for i in range(sampler_mix.MOST_NAMED))]
    assert ">set 0<" not in svg(sampler_mix.mix(make_draws([np.full(len(many), 1 / len(many))] * 2, many)), "alt")


def test_bands_are_told_apart_in_grey():
    markup = svg(sampler_mix.mix(make_draws([(0.4, 0.3, 0.3)] * 2, ["real", "a", "b"])), "alt")
    assert len(set(re.findall(r'fill-opacity="([\d.]+)"', markup))) == 3
