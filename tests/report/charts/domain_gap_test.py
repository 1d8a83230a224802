"""Laws of the planes: every image inside the frame, both axes on one scale, kinds that differ in shape."""

import re

import numpy as np
import pytest
from made_up_page import svg

from jaxmoust.report.charts.domain_gap import MAX_POINTS, plane


def make_points(num_real=30, num_synthetic=40):
    is_real = np.arange(num_real + num_synthetic) < num_real
    return np.random.default_rng(0).normal(size=(len(is_real), 2)) + 9 * is_real[:, None], is_real


def marks(points, is_real):
    """(x, y, shape) of every mark that is drawn."""
    markup = svg(plane(points, is_real, ["a"] * len(is_real)), "x")
    found = re.findall(r'transform="translate\(([\d.-]+),([\d.-]+)\)" d="(M[^"]*)"', markup)
    return [(float(x), float(y), d) for x, y, d in found], markup


def test_plane_draws_every_image_inside_its_frame_and_kinds_differ_in_shape():
    drawn, markup = marks(*make_points())
    width, height = map(float, re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)', markup).groups())
    assert all(0 <= x <= width and 0 <= y <= height for x, y, _ in drawn)
    shapes = [d for *_, d in drawn]
    assert sorted(shapes.count(d) for d in set(shapes)) == [30, 40]


def test_plane_keeps_one_scale_for_both_axes():
    ((x0, y0, _), (x1, y1, _)), _ = marks(np.array([[0.0, 0.0], [10.0, 1.0]]), np.array([True, False]))
    assert abs((x1 - x0) / (y0 - y1)) == pytest.approx(10, rel=0.02)  # places are written to a tenth of a unit


def test_plane_of_many_images_takes_some_of_each_kind_evenly():
    drawn, markup = marks(*make_points(2000, 500))
    assert len(drawn) == 2 * MAX_POINTS and len(markup) < 60_000


@pytest.mark.parametrize(
    ("points", "is_real"),
    [
        (np.zeros((3, 3)), [True, False, True]),
        (np.zeros((2, 2)), [True, True]),
        (np.array([[0.0, np.nan], [0.0, 0.0]]), [True, False]),
    ],
)
def test_plane_refuses_what_cannot_be_drawn(points, is_real):
    with pytest.raises(ValueError, match="domain gap: got points"):
        plane(points, np.array(is_real), "abc")
