"""Scores: how sure a classifier is of the class an image is said to show."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxmoust.analysis.scores import SCORES, certainty, confidence, margin

LOGITS = np.array([[2.0, 0.0, 0.0], [0.0, 0.0, 0.0], [-1000.0, 1000.0, 0.0]])


def test_confidence_is_the_softmax_of_the_label():
    e2 = np.exp(2.0)
    np.testing.assert_allclose(confidence(LOGITS, np.array([0, 2, 0])), [e2 / (e2 + 2), 1 / 3, 0.0], rtol=1e-12)


def test_margin_is_negative_where_another_class_scores_higher():
    np.testing.assert_allclose(margin(LOGITS, np.array([0, 1, 0])), [2.0, 0.0, -2000.0])
    np.testing.assert_allclose(margin(LOGITS, np.array([1, 1, 1])), [-2.0, 0.0, 1000.0])


def test_certainty_is_0_for_an_even_guess_and_1_for_a_sure_one_whatever_the_label():
    for labels in (np.array([0, 0, 0]), np.array([2, 1, 0])):
        found = certainty(LOGITS, labels)
        assert found[1] == pytest.approx(0.0, abs=1e-12) and found[2] == 1.0 and 0 < found[0] < 1


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), shift=st.floats(-50, 50))
def test_scores_do_not_change_when_all_logits_shift(seed, shift):
    rng = np.random.default_rng(seed)
    logits, labels = rng.normal(0, 3, (7, 5)).astype(np.float32), rng.integers(0, 5, 7)
    for score in SCORES.values():
        # float64 inside: a shift by 50 costs about 50 ulps.
        np.testing.assert_allclose(score(logits.astype(np.float64) + shift, labels), score(logits, labels), atol=1e-12)


def test_scores_rank_the_surest_image_highest():
    logits = np.array([[1.0, 0.0], [3.0, 0.0], [2.0, 0.0]])
    for score in SCORES.values():
        np.testing.assert_array_equal(np.argsort(score(logits, np.zeros(3, int))), [0, 2, 1])
