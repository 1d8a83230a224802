"""Laws of the figure of a sampler's draws: bands are as wide as the shares, and named where there is room."""

import re

import numpy as np

from jaxmoust.report.charts import base, sampler_mix
from jaxmoust.report.draw_counts import DrawCounts


def make_draws(shares, names, classes=(1.0, 1.0)):
    """Draws of these shares [W, S], 8,000 a window of 10 steps."""
    counts = np.round(8000 * np.asarray(shares)[:, :, None] * np.asarray(classes) / sum(classes)).astype(int)
    return DrawCounts(list(range(0, 10 * len(counts) + 1, 10)), names, [str(k) for k in range(len(classes))], counts)


def bands(chart):
    """{name: [(step, low, high)]} of a chart of bands."""
    found = {}
    for row in chart.layer[0].data.values:
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


def test_bands_have_their_names_where_there_is_room():
    shares = np.eye(4)[[1, 2, 3, 0]] * 0.92 + 0.02
    names = ["real", "edm_guidance_1", "edm_guidance_2", "a_set_of_quite_a_long_name_4"]
    markup = base.markup(sampler_mix.mix(make_draws(shares, names)), "alt")
    assert re.findall(r'font-weight="600"[^>]*>([^<]*)<', markup) == [*names[:3], "a_set_o…name_4"]
    narrow = base.markup(sampler_mix.mix(make_draws([(0.9, 0.1)] * 4, ["real", "edm"])), "alt")
    assert ">real<" in narrow and ">edm<" not in narrow


def test_bands_are_told_apart_in_grey():
    markup = base.markup(sampler_mix.mix(make_draws([(0.4, 0.3, 0.3)] * 2, ["real", "a", "b"])), "alt")
    assert len(set(re.findall(r'fill-opacity="([\d.]+)"', markup))) == 3
