"""Laws of a chart's markup: it reads as its words, follows the page's colours, and does not meddle with its page."""

import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import altair as alt
import pytest
import vl_convert
from made_up_page import svg
from PIL import Image

from jaxmoust.report.charts import base


def chart(names=("a", "b"), **mark):
    rows = [{"name": name, "x": i + 0.5} for i, name in enumerate(names)]
    return alt.Chart(alt.InlineData(rows)).mark_line(color=base.BETTER, **mark).encode(x="x:Q", y="name:N")


def test_markup_is_one_picture_that_scales_and_reads_as_its_words():
    root = ET.fromstring(svg(chart(), 'a & "b"'))
    assert (root.tag, root.get("role"), root.get("aria-label")) == ("svg", "img", 'a & "b"')
    assert root.get("viewBox") and root.get("width") is None
    assert not any(name.startswith("aria") for element in list(root.iter())[1:] for name in element.attrib)


def test_markup_escapes_what_it_is_told():
    markup = svg(chart(["<script>alert(1)</script>", 'fill="#0b62a8"']), "<script>")
    assert "<script>" not in markup and "&lt;script&gt;alert(1)" in markup
    assert 'fill="#0b62a8"</text>' in markup.replace("&quot;", '"')  # text is no attribute


def test_markup_takes_its_colours_from_the_page():
    markup = svg(chart(), "x")
    assert 'stroke="var(--better)"' in markup and not re.search(r'(fill|stroke)="#', markup)


def test_colours_are_those_of_the_style_in_light_mode():
    style = (Path(base.__file__).parents[1] / "templates" / "style.html").read_text()
    light = style[: style.index("@media")]
    assert len(base.VARIABLES) == 10
    for colour, name in base.VARIABLES.items():
        assert f"--{name}: {colour};" in light


def test_charts_of_one_page_do_not_share_ids():
    first, second = (svg(chart(clip=True), words) for words in "ab")
    ids = [set(re.findall(r'id="([^"]+)"', markup)) for markup in (first, second)]
    assert ids[0] and not ids[0] & ids[1]
    assert set(re.findall(r"url\(#([^)]+)\)", first)) == ids[0]


def test_small_multiples_draw_what_each_chart_alone_would():
    rows = [[{"x": 0, "y": i}, {"x": 1, "y": 2 * i}] for i in (1, 5)]
    panel = alt.Chart(alt.NamedData("panel")).mark_line().encode(x="x:Q", y="y:Q")
    alone = [svg(panel.properties(data=alt.InlineData(of_panel)), "x") for of_panel in rows]
    drawn = base.small_multiples(panel, [("x", of_panel) for of_panel in rows])
    assert [re.findall(r' d="M[^"]*L[^"]*"', one.svg) for one in drawn] == [
        re.findall(r' d="M[^"]*L[^"]*"', markup) for markup in alone
    ]
    assert drawn[0].svg != drawn[1].svg


def spec_of(picture):
    """The specification that a page's script reads."""
    return json.loads(re.search(r'<script type="application/json">(.*?)</script>', picture.__html__(), re.S)[1])


def test_picture_carries_its_chart_in_which_no_name_ends_the_script():
    evil = "</script><script>alert(1)</script><!--"
    drawn = base.picture(chart([evil, "b"]), evil)
    html = drawn.__html__()
    assert html.count("</script>") == html.count("<script") == 1 and "<!--" not in html
    (rows,) = spec_of(drawn)["datasets"].values()
    assert rows[0]["name"] == evil


def test_numbers_on_a_page_have_six_digits():
    assert base._dumps({"x": 1 / 3, "n": 1234567}) == '{"x":0.333333,"n":1234567}'


def test_small_multiples_together_are_one_chart_of_the_same_rows(tmp_path):
    panel = alt.Chart(alt.NamedData("panel")).mark_line().encode(x="x:Q", y="y:Q")
    drawn = base.small_multiples(panel, [(title, [{"x": 0, "y": i}, {"x": 1, "y": 2}]) for i, title in enumerate("ba")])
    spec = base.facets(dict(zip("ba", drawn, strict=True)))
    assert [(row["facet"], row["y"]) for row in spec["datasets"]["panel"]] == [("b", 0), ("b", 2), ("a", 1), ("a", 2)]
    base.save(tmp_path, "two", spec)
    with Image.open(tmp_path / "two.png") as picture:
        assert picture.width > 200
    ((name, loaded),) = base.load(tmp_path).items()
    assert name == "two" and isinstance(loaded, alt.FacetChart)


def test_rows_of_arms_that_are_switched_off_are_left_out():
    rows = [{"arm": name, "x": i, "name": name} for i, name in enumerate(("EDM", "DDPM"))]
    plain = alt.Chart(alt.InlineData(rows)).mark_text().encode(y="x:O", text="name:N")
    spec = base.picture(base.switched(plain), "x").spec
    assert [param["name"] for param in spec["params"]] == ["hidden"] and spec["params"][0]["value"] == []
    off = {**spec, "params": [{"name": "hidden", "value": ["EDM"]}]}
    assert ">EDM<" in vl_convert.vegalite_to_svg(spec) and ">EDM<" not in vl_convert.vegalite_to_svg(off)


def test_markup_is_the_same_each_time():
    assert svg(chart(), "x") == svg(chart(), "x")


@pytest.mark.parametrize(("low", "high"), [(60, 8000), (0.25, 10), (1, 1e6), (200, 900)])
def test_log_ticks_are_round_and_inside(low, high):
    ticks = base.log_ticks(low, high)
    assert 2 <= len(ticks) <= 7 and low <= ticks[0] and ticks[-1] <= high
    assert all(f"{tick:e}"[0] in "1235" for tick in ticks)


def test_names_too_long_for_a_chart_keep_both_ends():
    assert [base.shortened("abcdef", most) for most in (3, 4, 5, 6)] == ["a…f", "ab…f", "ab…ef", "abcdef"]
