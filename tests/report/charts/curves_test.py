"""Laws of the training curves: thinned curves keep their mean, and all panels have one frame."""

import re

import numpy as np
import pytest

from jaxmoust.report.charts import curves


def test_thin_keeps_the_mean_of_a_curve_and_its_bound():
    curve = [(step, float(step % 7)) for step in range(1, 801)]
    thinned = curves.thin(curve)
    assert len(thinned) == curves.MAX_POINTS
    assert np.mean(thinned, axis=0) == pytest.approx(np.mean(curve, axis=0))  # groups of equal size


def test_mean_curve_takes_the_steps_that_all_have():
    assert curves.mean_curve([[(1, 2.0), (2, 4.0)], [(2, 6.0), (3, 1.0)]]) == [(2, 5.0)]
    assert curves.mean_curve([]) == []


def make_panels(**arms):
    return curves.panels([(title, [curve], []) for title, curve in arms.items()], "Loss")


def test_panels_share_one_frame_and_say_what_they_end_with():
    low, high = make_panels(low=[(0, 1.0), (10, 1.0)], high=[(0, 5.0), (10, 5.0)])
    assert 'aria-label="Loss of low over 10 steps, at the end 1"' in low.svg
    heights = [float(re.search(r'd="M[\d.]+,([\d.]+)L', panel.svg)[1]) for panel in (low, high)]
    assert heights[0] > heights[1]  # downwards


def test_panels_of_values_far_apart_are_logarithmic():
    frame = curves.curve_frame([[(1, 0.01), (10, 1.0)]], log=True)
    assert frame == pytest.approx((10, 0.01 / 1.1, 1.1))
    (panel,) = make_panels(a=[(1, 0.01), (10, 1.0)])
    assert {"0.01", "0.1", "1"} <= set(re.findall(r">([\d.]+)</text>", panel.svg))


def test_panel_of_a_curve_that_is_not_finite_leaves_it_out():
    (panel,) = make_panels(a=[(0, float("nan")), (5, 1.0), (10, 2.0)])
    assert "NaN" not in panel.svg
