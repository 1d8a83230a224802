"""Laws of a chart's markup: it reads as its words, follows the page's colours, and does not meddle with its page."""

import re
import xml.etree.ElementTree as ET
from pathlib import Path

import altair as alt
import pytest

from jaxmoust.report.charts import base


def chart(names=("a", "b"), **mark):
    rows = [{"name": name, "x": i + 0.5} for i, name in enumerate(names)]
    return alt.Chart(alt.InlineData(rows)).mark_line(color=base.BETTER, **mark).encode(x="x:Q", y="name:N")


def test_markup_is_one_picture_that_scales_and_reads_as_its_words():
    root = ET.fromstring(base.markup(chart(), 'a & "b"'))
    assert (root.tag, root.get("role"), root.get("aria-label")) == ("svg", "img", 'a & "b"')
    assert root.get("viewBox") and root.get("width") is None
    assert not any(name.startswith("aria") for element in list(root.iter())[1:] for name in element.attrib)


def test_markup_escapes_what_it_is_told():
    markup = base.markup(chart(["<script>alert(1)</script>", 'fill="#0b62a8"']), "<script>")
    assert "<script>" not in markup and "&lt;script&gt;alert(1)" in markup
    assert 'fill="#0b62a8"</text>' in markup.replace("&quot;", '"')  # text is no attribute


def test_markup_takes_its_colours_from_the_page():
    markup = base.markup(chart(), "x")
    assert 'stroke="var(--better)"' in markup and not re.search(r'(fill|stroke)="#', markup)


def test_colours_are_those_of_the_style_in_light_mode():
    style = (Path(base.__file__).parents[1] / "templates" / "style.html").read_text()
    light = style[: style.index("@media")]
    assert len(base.VARIABLES) == 10
    for colour, name in base.VARIABLES.items():
        assert f"--{name}: {colour};" in light


def test_charts_of_one_page_do_not_share_ids():
    first, second = (base.markup(chart(clip=True), words) for words in "ab")
    ids = [set(re.findall(r'id="([^"]+)"', markup)) for markup in (first, second)]
    assert ids[0] and not ids[0] & ids[1]
    assert set(re.findall(r"url\(#([^)]+)\)", first)) == ids[0]


def test_small_multiples_draw_what_each_chart_alone_would():
    rows = [[{"x": 0, "y": i}, {"x": 1, "y": 2 * i}] for i in (1, 5)]
    panel = alt.Chart(alt.NamedData("panel")).mark_line().encode(x="x:Q", y="y:Q")
    alone = [base.markup(panel.properties(data=alt.InlineData(of_panel)), "x") for of_panel in rows]
    drawn = base.small_multiples(panel, [("x", of_panel) for of_panel in rows])
    assert [re.findall(r' d="M[^"]*L[^"]*"', markup) for markup in drawn] == [
        re.findall(r' d="M[^"]*L[^"]*"', markup) for markup in alone
    ]
    assert drawn[0] != drawn[1]


def test_markup_is_the_same_each_time():
    assert base.markup(chart(), "x") == base.markup(chart(), "x")


@pytest.mark.parametrize(("low", "high"), [(60, 8000), (0.25, 10), (1, 1e6), (200, 900)])
def test_log_ticks_are_round_and_inside(low, high):
    ticks = base.log_ticks(low, high)
    assert 2 <= len(ticks) <= 7 and low <= ticks[0] and ticks[-1] <= high
    assert all(f"{tick:e}"[0] in "1235" for tick in ticks)


def test_names_too_long_for_a_chart_keep_both_ends():
    assert [base.shortened("abcdef", most) for most in (3, 4, 5, 6)] == ["a…f", "ab…f", "ab…ef", "abcdef"]
