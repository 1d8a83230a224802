"""Laws of report/charts/fidelity.py: tables and figures follow the numbers, and can be read aloud."""

import re

import numpy as np
import pytest

from jaxmoust.report.charts.fidelity import LEFT, MOST_CLASSES, copies_by_class, pairs_gallery, ratio_histogram, tables

RESULT = {
    "n": 2000,
    "extractor": "clip-1",
    "fid[clip-1]": 4.5678,
    "fid_floor[clip-1]": 1.2,
    "kid[clip-1]": 0.0123,
    "kid_floor[clip-1]": -0.001,
    "kid_std[clip-1]": 0.1,
    "kid_std_floor[clip-1]": 0.1,
    "closer[pixels-8px]": 0.5,
    "closer_floor[pixels-8px]": 0.5,
}


def test_tables_give_each_metric_of_each_set_beside_its_floor():
    features, pixels = tables({"edm": RESULT, "ddpm": {**RESULT, "fid[clip-1]": 9.0}})
    assert "clip-1" in features.title and "pixels-8px" in pixels.title
    assert features.columns == (
        "Set",
        "FID \N{DOWNWARDS ARROW}",
        "1000 KID \N{DOWNWARDS ARROW}",
    ) and pixels.columns == ("Set", "P(closer)")
    assert features.rows == [
        ("edm", "4.57 (1.20)", "12.30 (\N{MINUS SIGN}1.00)"),
        ("ddpm", "9.00 (1.20)", "12.30 (\N{MINUS SIGN}1.00)"),
    ]
    assert features.values[0][1:] == pytest.approx((4.5678, 12.3)) and features.values[1][1] == 9.0


def test_tables_of_other_extractors_are_apart_and_of_nothing_are_none():
    other = {k.replace("clip-1", "vit-2"): v for k, v in RESULT.items()}
    found = tables({"a": RESULT, "b": other})
    assert [[of in t.title for of in ("clip-1", "pixels-8px", "vit-2")].index(True) for t in found] == [0, 1, 2]
    assert [[row[0] for row in t.rows] for t in found] == [["a"], ["a", "b"], ["b"]]
    assert tables({}) == tables({"a": {"n": 3}}) == []


def test_table_has_a_dash_where_a_set_was_not_measured_so():
    (found,) = tables({"a": {"fid[x]": 1.0, "fid_floor[x]": 0.5}, "b": {"kid[x]": 1.0, "kid_floor[x]": 0.5}})
    assert [row[1] for row in found.rows] == ["1.00 (0.50)", "\N{EN DASH}"] and found.values[1][1] is None


def test_table_compares_as_many_synthetic_as_test_images():
    result = {"fid[x]": 1.0, "fid_alike[x]": 1.25, "fid_floor[x]": 0.5}
    (found,) = tables({"a": result})
    assert found.rows == [("a", "1.25 (0.50)")] and found.values == [(None, 1.25)]


def of_class(name, n, share):
    found = {"class": name, "n": n, "share_suspicious": share if n else None, "lowest_ratio": 0.5 if n else None}
    return {**found, "share_expected": 0.01 if n > 1 else None}


def test_copies_by_class_keep_the_order_of_classes_and_show_a_dash_for_none():
    one = [of_class("a", 0, 0), of_class("b", 5, 0.2), of_class("c", 0, 0)]
    two = [of_class("a", 1, 0.4), of_class("b", 0, 0), of_class("c", 0, 0)]
    found = copies_by_class("net-1", {"edm": one, "ddpm": two})
    assert found.columns == ("Class", "edm", "ddpm")
    dash = "\N{EN DASH}"
    assert found.rows == [("a", dash, f"40.0 ({dash}; 0.50)"), ("b", "20.0 (1.0; 0.50)", dash)]
    assert not copies_by_class("net-1", {"edm": ()}).rows


def test_copies_by_class_of_many_are_the_worst_and_say_so():
    many = [of_class(f"class {i}", 5, i / 100) for i in range(MOST_CLASSES + 5)]
    found = copies_by_class("net-1", {"edm": many, "ddpm": []})
    assert [row[0] for row in found.rows] == [f"class {i}" for i in range(5, MOST_CLASSES + 5)]
    assert found.title.endswith(f"; the {MOST_CLASSES} highest of {MOST_CLASSES + 5} classes")


def bars(markup: str) -> list[float]:
    """The heights of the filled histogram's steps, upwards from its base."""
    path = re.search(r'<path d="M[\d.]+ (\d+)((?:V[\d.]+H[\d.]+)+)V', markup)
    return [float(path[1]) - float(y) for y in re.findall(r"V([\d.]+)H", path[2])]


def test_histogram_has_as_much_where_copies_are_as_there_are_copies():
    rng = np.random.default_rng(0)
    heldout = rng.normal(1, 0.1, 500)
    copies = np.concatenate([np.zeros(100), rng.normal(1, 0.1, 300)])
    found, clean = (
        bars(ratio_histogram(copies, heldout, 0.8, "pixels")),
        bars(ratio_histogram(heldout, heldout, 0.8, "x")),
    )
    assert found[0] / sum(found) == pytest.approx(0.25, abs=0.01)  # heights are written to a tenth of a pixel
    assert sum(clean[:10]) == pytest.approx(0, abs=0.5)


def test_histogram_keeps_far_ratios_in_its_last_bin():
    ratios = np.concatenate([np.ones(995), [50.0] * 4])
    assert len(bars(ratio_histogram(ratios, ratios, 0.5, "x"))) == 40
    assert "NaN" not in ratio_histogram(ratios, ratios, 0.5, "x")


def test_histogram_can_be_read_aloud_and_escapes_what_it_is_told():
    markup = ratio_histogram([0.0, 1.0, 1.0, 1.0], [1.0, 1.0], 0.5, "<b>")
    assert 'role="img"' in markup and "25.0 % of synthetic images lie at or below 0.50, 0.0 % of held-out" in markup
    assert "<b>" not in markup


def test_histogram_writes_its_threshold_where_there_is_room():
    for threshold, word in ((0.9, ">suspicious<"), (0.05, ">← suspicious<")):
        markup = ratio_histogram(np.ones(9), np.ones(9), threshold, "x")
        assert word in markup
        assert all(float(x) >= LEFT - 4 for x in re.findall(r'<text x="([\d.]+)"', markup))


@pytest.mark.parametrize("ratios", [[], [np.nan], [-0.1], [[1.0]]])
def test_histogram_refuses_what_is_no_ratio(ratios):
    with pytest.raises(ValueError, match="synthetic ratios: got shape"):
        ratio_histogram(ratios, [1.0], 0.5, "x")


def test_gallery_shows_each_pair_with_its_ratio_and_its_classes_where_they_differ():
    images = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 1), np.uint8)
    markup = pairs_gallery(images, images, [0.0, 0.52], [("3", "3"), ("4", "<9>")])
    assert markup.count("<img") == markup.count("data:image/png") == 2
    assert "0.52</span> 4 | &lt;9&gt;" in markup and "<9>" not in markup
    assert 'alt="a synthetic 3 and the nearest training image, a 3; ratio 0.00"' in markup
