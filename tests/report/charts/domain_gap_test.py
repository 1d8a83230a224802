"""The picture of the domain gap and its sentences: what they say is computed from the numbers they are given."""

import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from jaxmoust.report.charts import domain_gap
from jaxmoust.report.charts.domain_gap import Panel, gap_sentence, panel, picture_sentence, read_panels

RESULT = {
    "accuracy": 95.5,
    "accuracy_interval": [91.7, 97.6],
    "auc": 0.9976,
    "auc_interval": [0.9757, 0.9998],
    "n": 2000,
    "real": "base",
    "image_shape": [8, 8, 1],
    "own_shapes": {"real": [8, 8, 1], "synthetic": [8, 8, 1]},
    "overlap": {"domain": 0.05, "classifier": 1.04},
}


def make_features(num_real: int = 30, num_made: int = 40) -> dict[str, np.ndarray]:
    points = np.random.default_rng(0).normal(size=(num_real + num_made, 2))
    is_real = np.arange(len(points)) < num_real
    return {
        "is_real": is_real,
        "domain": points + 9 * is_real[:, None],
        "domain_shares": np.array([0.9, 0.05]),
        "classifier": points,
        "classifier_shares": np.array([0.4, 0.2]),
    }


def parse(markup: str) -> ET.Element:
    return ET.fromstring(markup)


def test_panels_are_two_where_a_real_trained_classifier_was_given_else_one():
    assert [p.title for p in read_panels(make_features(), RESULT)] == list(domain_gap.TITLES.values())
    alone = {**RESULT, "overlap": {"domain": 0.05}}
    assert [p.title for p in read_panels(make_features(), alone)] == [domain_gap.TITLES["domain"]]
    features = make_features()
    del features["classifier"]
    with pytest.raises(ValueError, match=r"without \['classifier'\]"):
        read_panels(features, RESULT)


def test_panel_draws_every_image_inside_its_frame_and_says_how_many():
    shown = read_panels(make_features(), RESULT)[0]
    drawn = parse(panel(shown))
    paths = {p.get("class"): p.get("d") for p in drawn.iter("path")}
    for kind, count in (("real", 30), ("made", 40)):
        at = np.array(re.findall(r"M([\d.]+) ([\d.]+)m", paths[f"point {kind}"]), float)
        assert len(at) == count and at.min() >= 0 and at.max() <= domain_gap.SIZE
    for words in ("30 real", "40 synthetic", "90 and 5 %", "overlap 0.05"):
        assert words in drawn.get("aria-label")


def test_panel_keeps_one_scale_for_both_axes():
    points = np.array([[0.0, 0.0], [10.0, 1.0]])
    drawn = panel(Panel("t", points, np.array([True, False]), (0.9, 0.1), 0.0))
    (x0, y0), (x1, y1) = sorted(np.array(re.findall(r"M([\d.]+) ([\d.]+)m", drawn), float).tolist())
    assert (x1 - x0) / (y0 - y1) == pytest.approx(10, rel=0.01)  # places are written to a tenth of a unit


def test_panel_of_many_images_takes_some_of_each_kind_evenly():
    shown = read_panels(make_features(2000, 500), RESULT)[1]
    markup = panel(shown)
    assert len(re.findall(r"M[\d.]+ [\d.]+m", markup)) == 2 * domain_gap.MAX_POINTS
    assert len(markup) < 20_000


def test_kinds_differ_in_shape_besides_colour():
    marks = [re.search(r' d="([^"]*)"', domain_gap.key_mark(kind)).group(1) for kind in ("real", "made")]
    assert marks[0] != marks[1]


@pytest.mark.parametrize(
    ("points", "is_real"),
    [
        (np.zeros((3, 3)), [True, False, True]),
        (np.zeros((2, 2)), [True, True]),
        (np.array([[0.0, np.nan], [0.0, 0.0]]), [True, False]),
    ],
)
def test_panel_refuses_what_cannot_be_drawn(points, is_real):
    with pytest.raises(ValueError, match="domain panel"):
        Panel("t", points, np.array(is_real), (0.5, 0.5), 0.0)


@pytest.mark.parametrize(
    ("interval", "said"),
    [
        ([0.9757, 0.9998], "tells synthetic images from real ones"),
        ([0.45, 0.55], "not found to tell"),
        ([0.2, 0.4], "near copies"),
    ],
)
def test_sentence_follows_the_interval_of_the_auc(interval, said):
    text = gap_sentence({**RESULT, "auc": float(np.mean(interval)), "auc_interval": interval})
    assert said in text and "2,000 held-out" in text and f"[{interval[0]:.3f}, {interval[1]:.3f}]" in text


def test_sentence_warns_where_the_kinds_had_other_sizes():
    assert "traces" not in gap_sentence(RESULT)
    resized = {**RESULT, "own_shapes": {"real": None, "synthetic": [64, 64, 3]}, "image_shape": [32, 32, 3]}
    text = gap_sentence(resized)
    assert "several sizes" in text and "64x64x3" in text and "32x32x3" in text and "traces" in text


def test_sentence_of_the_picture_says_where_the_kinds_are_apart_and_where_mixed():
    text = picture_sentence(read_panels(make_features(), RESULT))
    assert "real from synthetic they lie apart (overlap 0.05)" in text and "mixed (overlap 1.04)" in text
