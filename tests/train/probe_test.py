"""Laws of the linear probe: one solution, which scikit-learn finds too; a draw is a weight; folds hold images out."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from jaxmoust.train import probe
from jaxmoust.train.probe import Probe, Rows, fit, nearest, spread

K, F = 3, 5


def rows_of(x, label, weight=None, image=None, plain=None, real=None, smoothing=0.0) -> Rows:
    n = len(label)
    default = (np.ones(n), np.arange(n), np.ones(n, bool), np.ones(n, bool))
    weight, image, plain, real = (
        d if x is None else x for x, d in zip((weight, image, plain, real), default, strict=True)
    )
    return Rows(x.astype(np.float32), label, weight, np.full(n, smoothing), image, real, plain)


@pytest.fixture(scope="module")
def points():
    """Three clouds that overlap, far from 0 and of unequal scale: (x [60, F], label)."""
    rng = np.random.default_rng(0)
    label = np.arange(60) % K
    x = rng.normal(size=(60, F)) + rng.normal(size=(K, F))[label]
    return (x * [1, 10, 0.1, 1, 1] + 7).astype(np.float32), label


def test_probe_is_the_solution_of_scikit_learn(points):
    """At l2 on features of mean squared norm 1: C = 1 / (l2 * the sum of weights)."""
    x, label = points
    weight = 1.0 + np.arange(60) % 4
    found = fit(rows_of(x, label, weight), K, Probe(l2=1e-3), 0)
    mean = weight @ x / weight.sum()
    scale = np.sqrt(weight @ ((x - mean) ** 2).sum(1) / weight.sum())
    peer = LogisticRegression(C=1 / (1e-3 * weight.sum()), tol=1e-8, max_iter=10_000)
    peer.fit((x - mean) / scale, label, weight)
    ours = (x @ found.kernel + found.bias) - (x @ found.kernel + found.bias).mean(1, keepdims=True)
    theirs = peer.decision_function((x - mean) / scale)
    np.testing.assert_allclose(ours, theirs - theirs.mean(1, keepdims=True), atol=2e-3)  # gradients below 1e-4
    assert found.gradient <= probe.TOLERANCE and found.l2 == 1e-3 and found.losses == {}


def test_image_drawn_twice_is_two_images_in_any_order(points):
    x, label = points
    twice = np.concatenate([np.arange(60), np.arange(0, 60, 2)])
    weighted = fit(rows_of(x, label, 1.0 + (np.arange(60) % 2 == 0)), K, Probe(l2=1e-2), 0)
    again = fit(rows_of(x[twice[::-1]], label[twice[::-1]]), K, Probe(l2=1e-2), 0)
    np.testing.assert_allclose(weighted.kernel, again.kernel, atol=1e-3)  # gradients below 1e-4


def test_logit_adjustment_moves_the_biases_by_the_shares(points):
    """With next to no features what is left is the classes' shares, which the adjustment takes out."""
    x, label = points
    weight, tau = np.array([8.0, 1.0, 1.0])[label], 1.0
    shares = np.bincount(label, weight) / weight.sum()
    plain, adjusted = (
        fit(rows_of(x * 0 + 1e-3 * x, label, weight), K, Probe(l2=10.0), 0, *how) for how in ((), (shares, tau))
    )
    bias = [one.bias + x.mean(0) * 1e-3 @ one.kernel for one in (plain, adjusted)]
    np.testing.assert_allclose(np.diff(bias[0] - np.log(shares)), 0, atol=0.05)
    np.testing.assert_allclose(np.diff(bias[1]), 0, atol=0.05)


def test_strength_is_that_of_the_lowest_held_out_loss_and_views_go_with_their_image(points, monkeypatch):
    """Held out are plain views of real images alone; a view that stayed behind would make the weakest look best."""
    x, _ = points
    rng = np.random.default_rng(1)
    noise = rng.integers(0, K, 60)  # labels that nothing predicts
    views = rows_of(
        np.repeat(x, 2, 0), np.repeat(noise, 2), image=np.repeat(np.arange(60), 2), plain=np.arange(120) % 2 == 0
    )
    found = fit(views, K, Probe(), 0)
    assert found.l2 == min(found.losses, key=found.losses.get) == probe.STRENGTHS[0]
    assert found.losses[1e-1] == pytest.approx(np.log(K), abs=0.15)
    assert list(found.losses) == [1e-1, 1e-2, 1e-3]  # two that are worse end the search


def test_strengths_are_judged_by_real_images_where_there_are_any(points):
    x, label = points
    real = np.arange(60) < 30
    wrong = np.where(real, label, (label + 1) % K)  # synthetic labels that are all wrong
    judged = probe._dealt(rows_of(x, wrong, real=real), K, 3, 0)[1]
    assert set(judged) == set(range(30))
    assert len(probe._dealt(rows_of(x, wrong, real=~real & False), K, 3, 0)[1]) == 60


def test_class_of_one_image_is_learnt_and_never_held_out(points):
    x, label = points
    one = np.where(np.arange(60) == 2, 2, label % 2)
    judged = probe._dealt(rows_of(x, one), K, 3, 0)[1]
    assert 2 not in judged and len(judged) == 59
    assert np.isfinite(fit(rows_of(x, one), K, Probe(), 0).kernel).all()
    with pytest.raises(ValueError, match=r"probe.folds 3: of 3 images 0 can be held out.*probe\.l2"):
        fit(rows_of(x[:3], np.arange(3)), K, Probe(), 0)


def test_separable_points_have_a_solution_at_every_strength():
    """Without the penalty the weights would be infinite."""
    label = np.arange(40) % 2
    x = np.stack([label * 2.0 - 1, np.arange(40) % 7], 1).astype(np.float32)
    found = fit(rows_of(x, label), 2, Probe(), 0)
    assert (np.argmax(x @ found.kernel + found.bias, 1) == label).all() and found.gradient < 1e-2


def test_constant_features_say_the_shares_of_the_classes():
    found = fit(rows_of(np.full((9, F), 3.0), np.array([0] * 6 + [1] * 3)), 2, Probe(l2=1e-3), 0)
    logits = np.full(F, 3.0) @ found.kernel + found.bias
    assert logits[0] - logits[1] == pytest.approx(np.log(2), abs=1e-3)


def test_neighbours_vote_by_cosine_and_by_what_they_count():
    x = np.array([[1, 0], [0, 1], [10, 1], [0.1, 0.9]], np.float32)
    rows = rows_of(x, np.array([0, 1, 0, 1]), plain=np.array([True, True, True, False]), image=np.array([0, 1, 2, 1]))
    votes = nearest(rows, 2, np.array([[5, 0.2], [0.2, 5.0], [1, 1]], np.float32))
    assert votes.argmax(1)[:2].tolist() == [0, 1]
    assert votes[2, 1] == pytest.approx(2 * np.exp((np.sqrt(0.5) - 1) / 0.07))  # its view counts for its image


@pytest.mark.parametrize("n", [21, 335, 340, 700])
def test_highest_are_those_of_a_whole_row(n):
    values = np.random.default_rng(n).normal(size=(9, n)).astype(np.float32)
    found = np.take_along_axis(values, probe._highest(values, 20), 1)
    np.testing.assert_array_equal(np.sort(found, 1), np.sort(values, 1)[:, -20:])


def test_draws_go_round_the_views():
    counts = np.array([0, 1, 7, 10])
    dealt = spread(counts, 5, 3)
    assert dealt.sum(1).tolist() == counts.tolist()
    assert (dealt.max(1) - dealt.min(1) <= 1).all() and (spread(counts, 5, 3) == dealt).all()
    assert len({tuple(spread(np.full(50, 1), 5, seed).argmax(1)) for seed in range(3)}) == 3


@pytest.mark.parametrize("fields", [{"views": -1}, {"l2": -1.0}, {"folds": 1}])
def test_probe_refuses_what_makes_no_sense(fields):
    with pytest.raises(ValueError, match=r"probe\.\w+ .*expected"):
        Probe(**fields)


def test_strength_is_chosen_on_validation_images_where_there_are_any(points):
    """Labels that nothing predicts want the strongest penalty, whatever the training images say."""
    x, label = points
    by_folds = fit(rows_of(x, label), K, Probe(folds=2), 0)
    chosen = fit(rows_of(x, label), K, Probe(folds=2), 0, select=(x, np.roll(label, 1)))
    assert by_folds.l2 < chosen.l2 == probe.STRENGTHS[0]
    same = fit(rows_of(x, label), K, Probe(l2=chosen.l2), 0)
    np.testing.assert_allclose(chosen.kernel, same.kernel, atol=1e-3)  # gradients below 1e-4


def test_neighbour_of_a_soft_label_votes_for_both_of_its_classes():
    x, image = np.array([[1, 0], [1, 0], [0, 1]], np.float32), np.array([0, 0, 1])
    rows = rows_of(x, np.array([0, 1, 1]), np.array([0.75, 0.25, 1.0], np.float32), image)
    votes = nearest(rows, 2, np.array([[1.0, 0.0]], np.float32))
    assert votes[0, 0] / votes[0, 1] == pytest.approx(3, rel=1e-4)
