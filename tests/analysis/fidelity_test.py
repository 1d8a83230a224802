"""Laws of analysis/fidelity.py, against plain formulas over whole matrices and against published packages.

The figures in PUBLISHED are what prdc 0.2 (Naeem et al.'s own), torch-fidelity 0.4.0 (fid_statistics_to_metric, and
kid_features_to_metric with one subset of 130) and github.com/sayakpaul/cmmd-pytorch (its distance.py, in float64, on
rows of length 1) give for `features()` below; they were run once beside this file, and are no dependency of it.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import linalg
from scipy.spatial.distance import cdist

from jaxmoust.analysis import fidelity, nearest_neighbours
from jaxmoust.analysis.fidelity import cmmd, fid, kid, measure, prdc

PUBLISHED = {
    "fid": 12.448051062214489,
    "kid": 2.1236648559570312,
    "precision": 0.9692307692307692,
    "recall": 0.6266666666666667,
    "density": 1.5538461538461539,
    "coverage": 0.9666666666666667,
    "cmmd": 0.2605906906463229,
}


def features(n: int = 150, m: int = 130, num_features: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """Two overlapping clouds, float32; RandomState's streams are frozen for ever."""
    rng = np.random.RandomState(0)
    mix = rng.randn(num_features, num_features)
    real, fake = rng.randn(n, num_features) @ mix, 0.8 * rng.randn(m, num_features) @ mix + 0.4
    return real.astype(np.float32), fake.astype(np.float32)


def plain_fid(real, fake):
    (m1, c1), (m2, c2) = ((x.mean(0), np.cov(x, rowvar=False)) for x in (real.astype(float), fake.astype(float)))
    return np.square(m1 - m2).sum() + np.trace(c1 + c2 - 2 * linalg.sqrtm(c1 @ c2).real)


def plain_kid(real, fake):
    def kernel(a, b):
        return (a.astype(float) @ b.astype(float).T / a.shape[1] + 1) ** 3

    xx, yy = (kernel(x, x)[~np.eye(len(x), dtype=bool)].mean() for x in (real, fake))
    return xx + yy - 2 * kernel(real, fake).mean()


def plain_prdc(real, fake):
    def radius(x, k):
        return np.sort(cdist(x, x), axis=1)[:, k]  # place 0 is the image itself

    d = cdist(real, fake)
    in_wide = d <= radius(real, 5)[:, None]
    return {
        "precision": (d <= radius(real, 3)[:, None]).any(0).mean(),
        "recall": (d <= radius(fake, 3)).any(1).mean(),
        "density": in_wide.sum(0).mean() / 5,
        "coverage": in_wide.any(1).mean(),
    }


def plain_cmmd(real, fake):
    a, b = (x.astype(float) / np.linalg.norm(x.astype(float), axis=1, keepdims=True) for x in (real, fake))

    def mean(x, y):
        return np.exp(-(cdist(x, y) ** 2) / 200).mean()

    return 1000 * (mean(a, a) + mean(b, b) - 2 * mean(a, b))


@pytest.fixture(params=[2048, 64], ids=["one tile", "many tiles"])
def tile(request, monkeypatch):
    """The tiles' side: above and below the number of images, which 64 does not divide."""
    monkeypatch.setattr(nearest_neighbours, "TILE", request.param)
    monkeypatch.setattr(fidelity, "_ROWS", request.param)


def test_every_metric_is_its_formula_over_whole_matrices(tile):
    real, fake = features()
    found = measure(real, fake)
    expected = {"fid": plain_fid(real, fake), "cmmd": plain_cmmd(real, fake), **plain_prdc(real, fake)}
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=1e-5), name
    assert kid(real[:130], fake)[0] == pytest.approx(plain_kid(real[:130], fake), rel=1e-5)


@pytest.mark.parametrize("name", PUBLISHED)
def test_metric_is_what_its_published_package_gives(name):
    real, fake = features()
    found = {**measure(real, fake), "kid": kid(real[:130], fake)[0]}
    assert found[name] == pytest.approx(PUBLISHED[name], rel=1e-5)


def test_fid_of_gaussians_is_the_distance_of_their_means_and_deviations():
    """Features with exact moments: |m1 - m2|^2 + sum (s1 - s2)^2."""
    base = linalg.qr(np.random.RandomState(1).randn(40, 6) - 0.0, mode="economic")[0]
    base = base - base.mean(0)
    base = base @ linalg.inv(linalg.cholesky(np.cov(base, rowvar=False)))  # covariance 1
    s1, s2, shift = np.array([1, 2, 3, 1, 0.5, 4]), np.array([2, 2, 1, 1, 0.5, 3]), np.arange(6) / 10
    expected = np.square(shift).sum() + np.square(s1 - s2).sum()
    assert fid(base * s1, base * s2 + shift) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("n", [5, 12, 13, 60])
def test_fid_of_fewer_images_than_features_is_real_and_0_of_a_set_with_itself(n):
    real, fake = (x[:n] for x in features())
    both = np.concatenate([real, fake])
    assert fid(real, real) == pytest.approx(0, abs=1e-9 * float(np.square(real).sum()))
    assert fid(real, both) >= 0
    # A rotation and a shift of everything, which change no distance, change no FID.
    turn = linalg.qr(np.random.RandomState(2).randn(12, 12))[0]
    assert fid(real @ turn + 1, both @ turn + 1) == pytest.approx(fid(real, both), rel=1e-4)  # features are float32


def test_fid_is_not_disturbed_by_features_that_never_fire_or_repeat():
    real, fake = features()
    dead, twice = np.zeros((150, 3), np.float32), np.concatenate([real, real], axis=1)
    assert fid(np.hstack([real, dead]), np.hstack([fake, dead[:130]])) == pytest.approx(fid(real, fake), rel=1e-9)
    assert fid(twice, np.concatenate([fake, fake], axis=1)) == pytest.approx(2 * fid(real, fake), rel=1e-6)


def test_fid_and_kid_are_symmetric():
    real, fake = features(130, 130)
    assert fid(real, fake) == pytest.approx(fid(fake, real), rel=1e-9)
    assert kid(real, fake) == pytest.approx(kid(fake, real), rel=1e-9)


def test_kid_is_0_in_the_mean_for_sets_of_one_distribution():
    estimates = []
    for seed in range(40):
        x = np.random.RandomState(seed).randn(60, 8)
        estimates.append(kid(x[:30], x[30:])[0])
    assert abs(np.mean(estimates)) < 3 * np.std(estimates) / np.sqrt(len(estimates))
    assert min(estimates) < 0, "unbiased, so not always above 0"


def test_kid_averages_subsets_and_says_how_far_they_scatter():
    real, fake = features()
    mean, std = kid(real, fake, subset_size=50, num_subsets=200)
    assert std > 0 and abs(mean - plain_kid(real, fake)) < 4 * std / np.sqrt(200)
    assert kid(real, fake, subset_size=50, num_subsets=200) == (mean, std)
    assert kid(real[:130], fake)[1] == 0


def test_prdc_is_1_for_a_set_with_itself_and_0_for_one_far_away():
    real, _ = features()
    same, far = prdc(real, real), prdc(real, real + 1000)
    assert (same["precision"], same["recall"], same["coverage"]) == (1, 1, 1) and same["density"] >= 1
    assert far == {"precision": 0, "recall": 0, "density": 0, "coverage": 0}


def test_prdc_tells_a_set_that_lost_a_mode_from_one_that_is_blurred():
    rng = np.random.RandomState(0)
    real = np.concatenate([rng.randn(200, 4), rng.randn(200, 4) + 30])
    lost, blurred = prdc(real, rng.randn(400, 4)), prdc(real, real + 5 * rng.randn(400, 4))
    assert lost["precision"] > 0.9 and 0.4 < lost["recall"] < 0.55 and lost["coverage"] < 0.55
    assert blurred["precision"] < 0.5 and blurred["density"] < 0.2


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31), n=st.integers(6, 40), m=st.integers(6, 40), size=st.sampled_from([5, 16, 64]))
def test_nearest_others_are_those_of_a_full_sort_for_any_tile(seed, n, m, size):
    rng = np.random.RandomState(seed)
    x, y = rng.randn(n, 3).astype(np.float32), rng.randn(m, 3).astype(np.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nearest_neighbours, "TILE", size)
        found = nearest_neighbours.nearest_others(x, 5)
        distance, index = nearest_neighbours.nearest(x, y)
    expected = np.sort(cdist(x, x) + np.diag(np.full(n, np.inf)), axis=1)[:, :5]
    np.testing.assert_allclose(np.sqrt(np.maximum(found, 0)), expected, atol=1e-3)  # a square root near 0
    np.testing.assert_allclose(distance, cdist(x, y).min(axis=1), rtol=1e-6)
    np.testing.assert_allclose(cdist(x, y)[np.arange(n), index], distance, rtol=1e-12)


def test_cmmd_depends_on_directions_alone_and_stands_vectors_of_0():
    real, fake = features()
    assert cmmd(3 * real, fake / 7) == pytest.approx(cmmd(real, fake), rel=1e-5)
    dead = np.where(np.arange(130)[:, None] < 3, 0, fake)
    assert cmmd(real, dead) != cmmd(real, fake) and np.isfinite(cmmd(real, dead))


def test_features_far_from_the_origin_lose_no_neighbours():
    real, fake = features()
    assert prdc(real + 300, fake + 300) == pytest.approx(prdc(real, fake), abs=0.02)  # what float32 leaves of 300.1
    distance, _ = nearest_neighbours.nearest(real[:5] + 300, real + 300)
    np.testing.assert_array_equal(distance, 0)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda real, fake: (real[:5], fake), "real: got 5 images, expected at least 6"),
        (lambda real, fake: (real, fake[:1]), "fake: got 1 images"),
        (lambda real, fake: (real, fake[:, :7]), "fake: got 7 features an image, expected 12"),
        (lambda real, fake: (real[0], fake), r"real: got features of shape \(12,\)"),
        (lambda real, fake: (np.where(real == real[3, 2], np.nan, real), fake), "real: got NaN.*image 3"),
        (lambda real, fake: (real, np.where(fake == fake[4, 2], np.inf, fake)), "fake: got NaN.*image 4"),
        (lambda real, fake: (real, np.where(fake == fake[4, 2], 1e19, fake)), "fake: got.*huge features at image 4"),
    ],
)
def test_measure_refuses_what_has_no_answer(change, said):
    with pytest.raises(ValueError, match=said):
        measure(*change(*features()))


def test_kid_and_cmmd_refuse_impossible_settings():
    real, fake = features()
    with pytest.raises(ValueError, match="subset_size, num_subsets: got 1, 100"):
        kid(real, fake, subset_size=1)
    with pytest.raises(ValueError, match="sigma: got 0"):
        cmmd(real, fake, sigma=0)
