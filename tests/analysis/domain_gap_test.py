"""The domain gap: AUC, calibration, density ratio, plane and overlap on planted sets whose truth is known."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import roc_auc_score

from jaxmoust.analysis import domain_gap


def planted(shift: float, num_real: int, num_made: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Logits whose true log density ratio is shift * x - shift^2 / 2: real N(shift, 1), synthetic N(0, 1)."""
    rng = np.random.default_rng(seed)
    logits = np.concatenate([rng.normal(shift, 1, num_real), rng.normal(0, 1, num_made)])
    return logits, np.arange(num_real + num_made) < num_real


# --- AUC -------------------------------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.integers(1, 12))
def test_auc_is_that_of_scikit_learn_ties_included(seed, num_real, num_made):
    rng = np.random.default_rng(seed)
    logits, is_real = rng.integers(0, 5, num_real + num_made), np.arange(num_real + num_made) < num_real
    value, (low, high) = domain_gap.auc(logits, is_real)
    assert value == pytest.approx(roc_auc_score(is_real, logits), abs=1e-12)
    assert 0 <= low <= value <= high <= 1


def test_auc_interval_covers_the_true_value_whether_sets_are_alike_or_far_apart():
    """Binomial: of 200 trials at 95 % fewer than 181 cover with a probability below 0.1 %."""
    for shift in (0.0, 1.0, 3.0):
        truth = stats.norm.cdf(shift / np.sqrt(2))
        folds = np.arange(80) % 2
        found = [domain_gap.auc(*planted(shift, 40, 40, seed), folds)[1] for seed in range(200)]
        assert sum(low <= truth <= high for low, high in found) > 180


def test_auc_interval_of_a_perfect_split_has_a_width_that_falls_with_the_images():
    widths = []
    for n in (20, 80, 320):
        value, (low, high) = domain_gap.auc(np.arange(2 * n), np.arange(2 * n) >= n)
        assert (value, high) == (1.0, 1.0)
        widths.append(high - low)
    assert widths[0] > 0.05 and widths[0] > 3 * widths[1] > 9 * widths[2]


def test_auc_of_swapped_kinds_is_one_less_the_value():
    logits, is_real = planted(1.0, 30, 50, 0)
    value, (low, high) = domain_gap.auc(logits, is_real)
    other, (low_other, high_other) = domain_gap.auc(logits, ~is_real)
    np.testing.assert_allclose([other, low_other, high_other], [1 - value, 1 - high, 1 - low], atol=1e-9)


def test_auc_compares_images_of_one_fold_only():
    """A second classifier whose logits all lie 100 higher, or are stretched, changes nothing."""
    logits, is_real = planted(1.0, 40, 40, 1)
    folds = np.arange(80) % 2
    expected = domain_gap.auc(logits, is_real, folds)
    assert domain_gap.auc(np.where(folds == 1, 3 * logits + 100, logits), is_real, folds) == expected
    apart = [domain_gap.auc(logits[folds == k], is_real[folds == k])[0] for k in (0, 1)]
    assert expected[0] == pytest.approx(np.mean(apart))


@pytest.mark.parametrize(
    ("logits", "is_real", "said"),
    [
        ([0.0, np.nan], [True, False], "finite"),
        ([0.0, 1.0], [1, 0], "booleans"),
        ([0.0, 1.0, 2.0], [True, False], r"\(3,\)"),
        ([0.0, 1.0], [True, True], "2 real and 0 synthetic"),
    ],
)
def test_auc_and_calibration_refuse_what_has_no_answer(logits, is_real, said):
    for law in (domain_gap.auc, domain_gap.calibrate):
        with pytest.raises(ValueError, match=said):
            law(np.array(logits), np.array(is_real))


# --- calibration and density ratio -----------------------------------------------------------------------------------


@pytest.mark.parametrize("num_made", [4000, 16000])
def test_density_ratio_of_planted_gaussians_is_the_true_one_whatever_their_numbers(num_made):
    """The classifier's own logit is stretched and moved; held-out images set it right."""
    shift = 1.5
    x, is_real = planted(shift, 4000, num_made, 2)
    logits = 3 * x - 7
    ratio = domain_gap.log_density_ratio(logits, domain_gap.calibrate(logits, is_real))
    # The slope is known to about 1 / sqrt(4000) = 1.6 %, hence the ratio over |x| < 3 to about 0.15; twice that.
    inside = np.abs(x) < 3
    np.testing.assert_allclose(ratio[inside], (shift * x - shift**2 / 2)[inside], atol=0.3)
    assert np.exp(ratio[~is_real]).mean() == pytest.approx(1.0, abs=0.15)


def test_calibration_maximises_the_likelihood():
    logits, is_real = planted(1.0, 300, 100, 3)
    found = domain_gap.calibrate(logits, is_real)
    target = np.where(is_real, 301 / 302, 1 / 102)

    def likelihood(slope: float, intercept: float) -> float:
        z = slope * logits + intercept
        return float((target * z - np.logaddexp(0, z)).sum())

    best = likelihood(found.slope, found.intercept)
    for a, b in ((1e-3, 0), (-1e-3, 0), (0, 1e-3), (0, -1e-3)):
        assert likelihood(found.slope + a, found.intercept + b) < best


def test_calibration_stays_finite_where_the_kinds_part_completely():
    logits, is_real = np.concatenate([np.full(50, 40.0), np.full(50, -40.0)]), np.arange(100) < 50
    ratio = domain_gap.log_density_ratio(logits, domain_gap.calibrate(logits, is_real))
    np.testing.assert_allclose(ratio[[0, -1]], [np.log(51), -np.log(51)], rtol=1e-3)


@pytest.mark.parametrize("logits", [np.linspace(1, -1, 40), np.zeros(40)])
def test_calibration_takes_a_classifier_that_is_wrong_to_know_nothing(logits):
    is_real = np.arange(40) >= 10
    found = domain_gap.calibrate(logits, is_real)
    assert found.slope == pytest.approx(0.0, abs=1e-6)
    # Platt's targets move the prior of 30 : 10 a little towards even.
    np.testing.assert_allclose(domain_gap.log_density_ratio(logits, found), 0.0, atol=0.15)


def test_cross_calibration_judges_an_image_by_the_other_half_alone():
    """Change everything in one half: its ratios move with its logits, by the same calibration as before."""
    logits, is_real = planted(1.0, 200, 200, 4)
    halves = np.arange(400) % 2
    ratio, (first, second) = domain_gap.cross_calibrated(logits, is_real, halves)
    changed, (first_again, second_again) = domain_gap.cross_calibrated(
        np.where(halves == 0, 2 * logits, logits), np.where(halves == 0, ~is_real, is_real), halves
    )
    assert second_again == second and first_again != first
    np.testing.assert_allclose(changed[halves == 0] - ratio[halves == 0], second.slope * logits[halves == 0])
    np.testing.assert_array_equal(ratio[halves == 0], domain_gap.log_density_ratio(logits, second)[halves == 0])
    np.testing.assert_array_equal(ratio[halves == 1], domain_gap.log_density_ratio(logits, first)[halves == 1])
    with pytest.raises(ValueError, match="0 or a 1"):
        domain_gap.cross_calibrated(logits, is_real, halves + 1)


def test_log_density_ratio_fits_into_a_float32_above_0():
    sure = domain_gap.Calibration(1.0, 0.0, 10, 10)
    ratio = np.exp(domain_gap.log_density_ratio(np.array([1e6, -1e6]), sure)).astype(np.float32)
    assert np.isfinite(ratio).all() and (ratio > 0).all()


def test_effective_size_counts_equal_weights_and_survives_large_ones():
    assert domain_gap.effective_size(np.full(7, 3.0)) == pytest.approx(7)
    assert domain_gap.effective_size([1.0, 1.0, 0.0, 0.0]) == pytest.approx(2)
    assert domain_gap.effective_size([np.exp(400.0), 1.0]) == pytest.approx(1)


# --- plane and overlap -----------------------------------------------------------------------------------------------


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_plane_is_the_same_for_features_in_another_order_or_moved(seed):
    rng = np.random.default_rng(seed)
    features, order = rng.normal(size=(20, 6)) * [5, 3, 1, 1, 1, 1], rng.permutation(20)
    plane = domain_gap.principal_plane(features)
    other = domain_gap.principal_plane(features[order] + 10)
    np.testing.assert_allclose(other.points, plane.points[order], atol=1e-8)
    np.testing.assert_allclose(other.shares, plane.shares, atol=1e-10)


def test_plane_keeps_the_two_widest_directions_and_their_share_of_the_variance():
    rng = np.random.default_rng(0)
    flat = rng.normal(size=(500, 2)) * [4.0, 2.0]
    turn, _ = np.linalg.qr(rng.normal(size=(5, 5)))
    plane = domain_gap.principal_plane(np.pad(flat, [(0, 0), (0, 3)]) @ turn)
    assert plane.shares.sum() == pytest.approx(1) and plane.shares[0] == pytest.approx(0.8, abs=0.05)
    distances = np.linalg.norm(plane.points[:100, None] - plane.points[None, :100], axis=-1)
    np.testing.assert_allclose(distances, np.linalg.norm(flat[:100, None] - flat[None, :100], axis=-1), atol=1e-9)


@pytest.mark.parametrize("features", [np.ones((4, 3)), np.arange(4.0)[:, None]])
def test_plane_of_features_without_two_directions_is_padded_with_zeros(features):
    plane = domain_gap.principal_plane(features)
    assert plane.points.shape == (4, 2) and not plane.points[:, 1].any() and np.isfinite(plane.shares).all()
    with pytest.raises(ValueError, match="finite"):
        domain_gap.principal_plane(np.array([[1.0, np.inf], [0.0, 0.0]]))


def test_overlap_is_0_for_sets_apart_and_about_1_for_one_law_whatever_their_numbers():
    rng = np.random.default_rng(0)
    for num_real, num_made in ((300, 300), (300, 900)):
        is_real = np.arange(num_real + num_made) < num_real
        points = rng.normal(size=(len(is_real), 2))
        # Ten neighbours of 600 points: a standard error of about 1 / sqrt(600 * 10 / 4) = 0.03; three of them.
        assert domain_gap.overlap(points, is_real) == pytest.approx(1, abs=0.1)
        assert domain_gap.overlap(points + 100 * is_real[:, None], is_real) == 0


def test_overlap_does_not_count_a_point_as_its_own_neighbour():
    """Equal points of both kinds: every neighbour is as likely of the other kind as chance says."""
    assert domain_gap.overlap(np.zeros((40, 2)), np.arange(40) % 2 == 0, 39) == pytest.approx(1)
    assert domain_gap.overlap(np.array([[0.0, 0], [1.0, 0]]), np.array([True, False])) == 1
