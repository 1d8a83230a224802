"""Laws of the statistics: hand-worked numbers, exact references, and coverage where only simulation can tell."""

import numpy as np
import pytest
from scipy import stats

from jaxmoust.analysis import accuracy


def simulated_ranks(rng, num_seeds, num_images, seed_sd, image_sd, gain=0.3):
    """Two arms on the same seeds and images: a probit of image difficulty, gain, and their interactions."""
    difficulty = 1.0 + rng.standard_normal(num_images)
    gain = gain + image_sd * rng.standard_normal(num_images) + seed_sd * rng.standard_normal((num_seeds, 1))
    noise = 0.7 * rng.standard_normal((2, num_seeds, num_images))
    return (difficulty + gain + noise[0] < 0).astype(int), (difficulty + noise[1] < 0).astype(int)


def true_difference(seed_sd, image_sd, gain=0.3):
    """The difference in points over all seeds and images that `simulated_ranks` draws from."""
    spread = 1 + 0.7**2
    a = stats.norm.cdf((1 + gain) / np.sqrt(spread + image_sd**2 + seed_sd**2))
    return 100 * (a - stats.norm.cdf(1 / np.sqrt(spread)))


def coverage(method, num_seeds, num_images, seed_sd, image_sd, trials=400, **options):
    rng, truth, inside = np.random.default_rng(0), true_difference(seed_sd, image_sd), 0
    for _ in range(trials):
        a, b = simulated_ranks(rng, num_seeds, num_images, seed_sd, image_sd)
        low, high = accuracy.paired_difference(a, b, method=method, **options).interval
        inside += low <= truth <= high
    return inside / trials


def test_top_k_counts_the_ranks_below_k():
    ranks = [0, 0, 1, 4, 9]
    assert [accuracy.top_k(ranks, k) for k in (1, 2, 5, 10)] == [40.0, 60.0, 80.0, 100.0]


def test_per_class_weighted_by_class_size_is_top_k():
    rng = np.random.default_rng(0)
    ranks, labels = rng.integers(0, 10, 500), rng.integers(0, 7, 500)
    of_classes = accuracy.per_class(ranks, labels, num_classes=7, k=3)
    weighted = of_classes @ np.bincount(labels, minlength=7) / 500
    assert weighted == pytest.approx(accuracy.top_k(ranks, 3), rel=1e-12)  # the same sums in another order


def test_per_class_is_nan_for_a_class_without_images_and_worst_class_skips_it():
    of_classes = accuracy.per_class([0, 0, 1, 0], [0, 0, 2, 2], num_classes=4)
    np.testing.assert_array_equal(of_classes, [100.0, np.nan, 50.0, np.nan])
    assert accuracy.worst_class(of_classes) == 2
    assert accuracy.worst_class([np.nan, np.nan]) is None


@pytest.mark.parametrize(("right", "images"), [(0, 5), (5, 5), (733, 797), (1, 10_000)])
def test_wilson_equals_the_reference(right, images):
    reference = stats.binomtest(right, images).proportion_ci(method="wilson")
    # 1e-9 points: the same closed form, rounded in another order.
    assert accuracy.wilson(right, images) == pytest.approx((100 * reference.low, 100 * reference.high), abs=1e-9)


def test_wilson_keeps_its_coverage_near_the_edge():
    right = np.arange(101)
    bounds = np.array([accuracy.wilson(int(r), 100) for r in right])
    for truth in (0.95, 0.98):
        inside = (bounds[:, 0] <= 100 * truth) & (100 * truth <= bounds[:, 1])
        # Exact, by summing the binomial; counts are discrete, so no interval hits 95 % everywhere.
        assert 0.92 < stats.binom.pmf(right, 100, truth)[inside].sum() < 0.99


def test_summary_is_student_t_over_seeds():
    values = [91.0, 92.5, 93.0]
    got = accuracy.summary(values)
    reference = stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
    assert (got.mean, got.n) == (pytest.approx(np.mean(values)), 3)
    assert got.sd == pytest.approx(np.std(values, ddof=1))
    assert got.interval == pytest.approx(tuple(reference), rel=1e-9)  # same formula, rounding only


def test_summary_of_one_seed_has_no_interval():
    assert accuracy.summary([91.0]) == accuracy.Summary(91.0, None, 1, None)


def test_summary_of_three_seeds_is_covered_by_t_and_not_by_the_bootstrap():
    rng, inside = np.random.default_rng(0), {"t": 0, "bootstrap": 0}
    for values in rng.normal(90.0, 1.0, (400, 3)):
        for method in inside:
            low, high = accuracy.summary(values, method, num_resamples=300).interval
            inside[method] += low <= 90.0 <= high
    # 3.3 standard errors of 400 trials at 95 % are 3.6 points.
    assert inside["t"] / 400 == pytest.approx(0.95, abs=0.036)
    assert inside["bootstrap"] / 400 < 0.85


def test_summary_bootstrap_of_many_seeds_agrees_with_t():
    values = np.random.default_rng(0).normal(90.0, 1.0, 400)
    t, bootstrap = accuracy.summary(values).interval, accuracy.summary(values, "bootstrap").interval
    assert bootstrap == pytest.approx(t, abs=0.01)  # a tenth of the half width 0.1: 10,000 draws' noise


def test_paired_difference_is_antisymmetric():
    a, b = simulated_ranks(np.random.default_rng(0), 4, 60, 0.1, 0.3)
    there, back = accuracy.paired_difference(a, b), accuracy.paired_difference(b, a)
    assert (there.mean, there.p) == (pytest.approx(-back.mean), pytest.approx(back.p))
    assert there.interval == pytest.approx((-back.interval[1], -back.interval[0]))


def test_paired_difference_excludes_zero_exactly_when_p_is_below_the_level():
    rng, seen = np.random.default_rng(0), set()
    for _ in range(100):
        got = accuracy.paired_difference(*simulated_ranks(rng, 3, 100, 0.1, 0.3))
        seen.add(got.p < 0.05)
        assert (got.p < 0.05) == (got.interval[0] > 0 or got.interval[1] < 0)
    assert seen == {True, False}


@pytest.mark.parametrize("num_seeds", [3, 10])
@pytest.mark.parametrize(("seed_sd", "image_sd"), [(0.0, 1.0), (0.2, 0.3), (0.5, 0.0)])
def test_paired_difference_crossed_covers_whatever_varies(num_seeds, seed_sd, image_sd):
    covered = coverage("crossed", num_seeds, 100, seed_sd, image_sd)
    # 3.3 standard errors of 400 trials at 95 % are 3.6 points; probit accuracies are skewed, hence a little more.
    assert covered > 0.905
    # Few seeds are not credited with all that images tell, so that there it covers more.
    assert num_seeds == 3 or covered < 0.995


def test_paired_difference_over_seeds_alone_is_too_sure_about_other_images():
    assert coverage("seeds", 10, 100, seed_sd=0.0, image_sd=1.0) < 0.75


def test_paired_difference_bootstrap_does_not_know_the_spread_of_three_seeds():
    assert coverage("bootstrap", 3, 100, 0.8, 0.0, trials=200, num_resamples=300) < 0.88


def test_paired_difference_crossed_is_the_test_over_seeds_when_images_are_only_noise():
    # One seed at most misses each image: images differ less than noise would, and S - 1 degrees remain.
    a = np.array([[1, 0, 0, 1, 0, 0], [0, 1, 0, 0, 1, 0], [0, 0, 1, 0, 0, 0]])
    b = np.ones_like(a)
    crossed = accuracy.paired_difference(a, b)
    seeds = accuracy.paired_difference(a, b, method="seeds")
    assert crossed.p == pytest.approx(seeds.p)
    assert crossed.interval == pytest.approx(seeds.interval)


def test_paired_difference_crossed_is_the_test_over_images_when_seeds_agree():
    rng, num_seeds = np.random.default_rng(0), 50
    a, b = rng.integers(0, 2, 200), rng.integers(0, 2, 200)
    got = accuracy.paired_difference(np.tile(a, (num_seeds, 1)), np.tile(b, (num_seeds, 1)))
    d = 100.0 * ((a < 1).astype(int) - (b < 1).astype(int))
    half = stats.t.isf(0.025, num_seeds - 1) * d.std(ddof=1) / np.sqrt(200)
    # What counting whole images hides of the seeds' spread, 1 / (12 x 50 x 200 images), is added: 1e-5 of the width.
    assert got.interval == pytest.approx((d.mean() - half, d.mean() + half), rel=1e-3)


def test_paired_difference_of_equal_arms_that_answer_some_images_by_chance_has_small_p_no_more_often_than_it_says():
    rng, small = np.random.default_rng(0), 0
    for _ in range(3000):  # two trainings of one recipe, which answer a tenth of 300 images by chance
        unsure = rng.random(300) < 0.1
        a, b = (unsure & (rng.random((2, 3, 300)) < 0.5)).astype(int)
        small += accuracy.paired_difference(a, b).p < 0.005
    # 15 are expected, 28 are 3.3 standard errors more; Hillis's degrees of freedom gave 50.
    assert small < 28


def test_seeds_that_tie_are_as_far_apart_as_counting_images_hides():
    a, b = np.zeros((3, 100), int), np.zeros((3, 100), int)
    b[np.arange(3), np.arange(3)] = 1  # each seed of a wins one image, each another: 1, 1 and 1 points
    for method in ("crossed", "seeds"):
        got = accuracy.paired_difference(a, b, method=method)
        # By hand: an error of 100 / (100 sqrt(12 x 3)) = 1 / 6, so t = 6 with two degrees of freedom.
        assert (got.mean, got.p) == (pytest.approx(1.0), pytest.approx(2 * stats.t.sf(6, 2)))


def test_paired_difference_bootstrap_is_the_law_of_resampling_seeds_and_images():
    a, b = simulated_ranks(np.random.default_rng(0), 3, 80, 0.2, 0.3)
    got = accuracy.paired_difference(a, b, method="bootstrap")
    rng, d = np.random.default_rng(1), 100.0 * ((a < 1).astype(int) - (b < 1).astype(int))
    plain = [d[rng.integers(0, 3, 3)][:, rng.integers(0, 80, 80)].mean() for _ in range(10_000)]
    width = got.interval[1] - got.interval[0]
    # Quantiles of two independent sets of 10,000 draws at 2.5 % differ by under 4 % of the width (4 errors).
    assert got.interval == pytest.approx(tuple(np.quantile(plain, [0.025, 0.975])), abs=0.04 * width)
    assert got == accuracy.paired_difference(a, b, method="bootstrap")


def test_paired_difference_of_one_seed_has_neither_interval_nor_p():
    got = accuracy.paired_difference([[0, 0, 1, 0]], [[0, 1, 1, 1]])
    assert (got.mean, got.interval, got.p, got.num_seeds, got.num_images) == (50.0, None, None, 1, 4)


def test_paired_difference_of_equal_runs_is_zero_with_p_one():
    ranks = np.zeros((3, 5), int)
    got = accuracy.paired_difference(ranks, ranks)
    assert (got.mean, got.p) == (0.0, 1.0)
    assert got.interval[1] == -got.interval[0] <= stats.t.isf(0.025, 2) * 100 / 5  # of one image in five


def test_mcnemar_is_the_exact_binomial_of_the_discordant_images():
    a, b = np.array([0] * 30 + [0] * 8 + [1] * 2), np.array([0] * 30 + [1] * 8 + [0] * 2)
    # By hand: 2 (C(10,0) + C(10,1) + C(10,2)) / 2^10 = 112 / 1024.
    assert accuracy.mcnemar(a, b) == accuracy.McNemar(8, 2, pytest.approx(112 / 1024))


def test_mcnemar_of_equal_runs_has_p_one():
    assert accuracy.mcnemar([0, 1, 2], [0, 1, 2]) == accuracy.McNemar(0, 0, 1.0)


def test_relative_error_reduction_is_the_share_of_errors_gone():
    assert accuracy.relative_error_reduction(91.0, 90.0) == pytest.approx(10.0)
    assert accuracy.relative_error_reduction(98.0, 99.0) == pytest.approx(-100.0)
    assert accuracy.relative_error_reduction(99.0, 100.0) is None


@pytest.mark.parametrize(
    ("call", "got", "remedy"),
    [
        (lambda: accuracy.top_k([[0, 1]]), r"shape \(1, 2\)", r"expected \[N\]"),
        (lambda: accuracy.top_k([]), r"shape \(0,\)", "none empty"),
        (lambda: accuracy.top_k([0.5, 1.0]), "float64", "number of classes scored above"),
        (lambda: accuracy.top_k([-1, 0]), "from -1", "integers >= 0"),
        (lambda: accuracy.top_k([0, 1], k=0), "got 0", "1 or more"),
        (lambda: accuracy.per_class([0, 1], [0], 3), r"shape \(1,\)", "one label per rank"),
        (lambda: accuracy.per_class([0, 1], [0, 3], 3), r"0\.\.3", r"expected 0\.\.2"),
        (lambda: accuracy.wilson(5, 4), "5 right of 4", "0 <= right <= images"),
        (lambda: accuracy.summary([]), r"\[\]", "one finite number a seed"),
        (lambda: accuracy.summary([90.0, np.nan]), "nan", "Drop failed runs"),
        (lambda: accuracy.summary([90.0, 91.0], method="z"), "'z'", "'t', 'bootstrap'"),
        (lambda: accuracy.summary([90.0, 91.0], level=95), "95", r"inside \(0, 1\)"),
        (lambda: accuracy.paired_difference([[0, 1]], [[0, 1, 1]]), r"\(1, 3\)", "same test images"),
        (lambda: accuracy.paired_difference([[0]], [[0]], method="z"), "'z'", "'crossed'"),
        (lambda: accuracy.mcnemar([[0, 1]], [[0, 1]]), r"shape \(1, 2\)", r"expected \[N\]"),
        (lambda: accuracy.mcnemar([0, 1], [0]), r"\(1,\)", "same test images"),
    ],
)
def test_bad_input_is_refused_with_what_was_got_and_the_remedy(call, got, remedy):
    with pytest.raises(ValueError, match=f"(?s){got}.*{remedy}"):
        call()
