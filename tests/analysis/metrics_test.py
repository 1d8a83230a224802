"""Laws of the metrics: equal to scikit-learn's, and what an image adds is what leaving it out takes away."""

import numpy as np
import pytest
from sklearn import metrics as reference

from jaxmoust.analysis import metrics
from jaxmoust.analysis.decisions import decide
from jaxmoust.analysis.metrics import METRICS, Answers, contributions, measure


def said_of(num_images=60, num_classes=6, seed=0, sharp=1.5, decimals=None):
    """Probabilities [N, K] that know a little of labels [N], of which every class has at least two."""
    rng = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(num_classes).repeat(2), rng.integers(0, num_classes, num_images)])[:num_images]
    logits = rng.normal(size=(num_images, num_classes)) + sharp * np.eye(num_classes)[labels]
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return (p if decimals is None else p.round(decimals)), labels


def test_metrics_are_those_of_the_reference():
    p, labels = said_of(400, decimals=2)  # ties, which each of them has its own way to break
    found, every, said = measure(Answers.of_probabilities(p, labels)), np.eye(6)[labels], p.argmax(axis=1)
    assert set(found) == set(METRICS)
    assert found["macro_f1"] == pytest.approx(100 * reference.f1_score(labels, said, average="macro"))
    assert found["auroc"] == pytest.approx(100 * reference.roc_auc_score(every, p, average="macro"))
    assert found["auprc"] == pytest.approx(100 * reference.average_precision_score(every, p, average="macro"))
    p, labels = said_of(400)  # none
    found, said = measure(Answers.of_probabilities(p, labels)), p.argmax(axis=1)
    assert found["top1"] == pytest.approx(100 * reference.accuracy_score(labels, said))
    assert found["top5"] == pytest.approx(100 * reference.top_k_accuracy_score(labels, p, k=5))
    assert found["balanced_accuracy"] == pytest.approx(100 * reference.balanced_accuracy_score(labels, said))
    assert found["worst_class"] == pytest.approx(100 * reference.recall_score(labels, said, average=None).min())
    assert found["nll"] == pytest.approx(reference.log_loss(labels, p))


def test_calibration_error_is_the_gap_of_each_bin_by_its_share():
    p = np.array([[0.9, 0.1], [0.91, 0.09], [0.4, 0.6], [0.3, 0.7]])
    labels = np.array([0, 1, 1, 1])
    # 0.9 and 0.91 share a bin, half of them right; 0.6 lies on the upper edge of its bin, 0.7 in the next but one.
    by_hand = (2 * (0.905 - 0.5) + (1 - 0.6) + (1 - 0.7)) / 4
    assert measure(Answers.of_probabilities(p, labels))["ece"] == pytest.approx(100 * by_hand)


@pytest.mark.parametrize("decimals", [None, 1])
@pytest.mark.parametrize("name", METRICS)
def test_contributions_are_pseudo_values_whose_mean_is_the_metric(name, decimals):
    p, labels = said_of(decimals=decimals)
    p = np.clip(p, 0.01, None)  # a likelihood of 0 has no mean
    value = measure(Answers.of_probabilities(p, labels))[name]
    of_images, n = contributions(name, p, labels, 6), len(labels)
    assert of_images.mean() == pytest.approx(value)
    without = [measure(Answers.of_probabilities(np.delete(p, i, 0), np.delete(labels, i)))[name] for i in range(n)]
    pseudo = n * value - (n - 1) * np.array(without)
    np.testing.assert_allclose(of_images, pseudo - pseudo.mean() + value, rtol=1e-9, atol=1e-9)  # rounding, times n


@pytest.mark.parametrize("name", METRICS)
def test_contributions_tell_the_spread_over_test_sets(name):
    num_sets, size = 300, 400
    values, errors = [], []
    for seed in range(num_sets):
        p, labels = said_of(size, seed=seed)
        of_images = contributions(name, p, labels, 6)
        values.append(of_images.mean())
        errors.append(of_images.var(ddof=1) / size)
    # The standard error of a standard deviation of 300 is 4 %. The least of six equal classes varies less than any one
    # of them, which is all that leaving out an image sees: there the spread is stated too large, never too small.
    near = {"worst_class": (0.85, 1.8)}.get(name, (0.85, 1.18))
    assert near[0] < np.sqrt(np.mean(errors)) / np.std(values) < near[1]


def studies(name, num_studies, gain, num_arms=3, num_seeds=4, size=300, num_classes=6):
    """The verdicts on the arms of made-up studies, each on a test set of its own; runs differ in how much they know."""
    rng, found = np.random.default_rng(0), []
    for _ in range(num_studies):
        labels = rng.integers(0, num_classes, size)
        shared, values = rng.normal(size=(size, num_classes)), {}
        for arm in range(num_arms + 1):
            for seed in range(num_seeds):
                sharp = 2.0 + gain * (arm > 0) + 0.1 * rng.normal()
                logits = shared + 0.5 * rng.normal(size=shared.shape) + sharp * np.eye(num_classes)[labels]
                p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
                values.setdefault(f"arm{arm}", {})[seed] = contributions(name, p, labels, num_classes)
        families = dict.fromkeys(values, "mixture")
        decided = decide(values, "arm0", families, higher_is_better=METRICS[name].higher_is_better)
        found.append([one.verdict for one in decided.values()])
    return np.array(found)


@pytest.mark.parametrize("name", ["balanced_accuracy", "macro_f1", "worst_class", "nll", "ece"])
def test_arms_are_decided_on_any_metric(name):
    """Equal arms are claimed to differ in one study of twenty; those that know more are better, however it counts."""
    wrong = np.isin(studies(name, 100, gain=0.0), ("better", "worse")).any(axis=1)
    assert wrong.mean() <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 100)
    if name in ("balanced_accuracy", "macro_f1", "nll"):
        found = studies(name, 20, gain=0.5)
        assert (found == "better").mean() > 0.5 and not (found == "worse").any()


def test_terms_of_a_mean_are_what_a_run_keeps():
    p, labels = said_of()
    answers = Answers.of_probabilities(p, labels)
    np.testing.assert_allclose(contributions("top1", answers.ranks, labels, 6), 100.0 * (answers.ranks < 1))
    np.testing.assert_allclose(contributions("nll", answers.losses, labels, 6), answers.losses)
    same = contributions("balanced_accuracy", answers.ranks, labels, 6)
    np.testing.assert_allclose(same, contributions("balanced_accuracy", p, labels, 6))


def test_classes_without_images_and_of_one_image_are_allowed():
    p, labels = said_of(40)
    p = np.concatenate([p, np.full((40, 1), 0.01)], axis=1)  # of a seventh class there is no image
    labels[labels == 5] = 0
    labels[0] = 5  # and of the sixth there is one
    for name in METRICS:
        of_images = contributions(name, p, labels, 7)
        assert np.isfinite(of_images).all(), name
    assert contributions("balanced_accuracy", p, labels, 7)[0] == pytest.approx(
        measure(Answers.of_probabilities(p, labels))["balanced_accuracy"]
    )
    assert metrics.by_class("auroc", Answers.of_probabilities(p, labels))[6] is None


def test_broken_answers_have_the_metrics_that_ranks_give():
    p, labels = said_of(40)
    p[3] = np.nan
    found = measure(Answers.of_probabilities(p, labels))
    assert "top1" in found and not {"nll", "ece"} & set(found)


def test_top5_of_five_classes_is_no_metric():
    p, labels = said_of(num_classes=5)
    assert "top5" not in measure(Answers.of_probabilities(p, labels))
    with pytest.raises(ValueError, match="top5: got 5 classes"):
        contributions("top5", p, labels, 5)


def test_constant_scores_are_wrong_and_no_better_than_chance():
    labels = np.arange(6).repeat(5)
    found = measure(Answers.of_probabilities(np.full((30, 6), 1 / 6), labels))
    assert (found["top1"], found["worst_class"], found["auroc"]) == (0.0, 0.0, 50.0)
    assert found["auprc"] == pytest.approx(100 / 6)


def test_half_precision_keeps_the_class_scored_highest():
    rng = np.random.default_rng(0)
    p = np.float32([[0.25001, 0.25002, 0.25, 0.24997], [1.0, 0.0, 0.0, 0.0], [0.0, 2e-9, 0.99999999, 0.0]])
    p = np.concatenate([p, rng.dirichlet(np.ones(4), 500).astype(np.float32)])
    kept = metrics.to_half(p)
    assert kept.dtype == np.float16 and kept[0].argsort()[-1] == 1
    np.testing.assert_array_equal(kept.argmax(axis=1), p.argmax(axis=1))
    np.testing.assert_allclose(kept, p, rtol=2e-3, atol=1e-7)  # float16: 11 bits, and one step lower where two met


def test_read_contributions_asks_for_the_file_that_a_run_kept(tmp_path):
    p, labels = said_of()
    answers = Answers.of_probabilities(p, labels)
    np.save(tmp_path / "ranks.npy", answers.ranks)
    found = metrics.read_contributions(tmp_path, "top1", labels, 6)
    np.testing.assert_allclose(found, 100.0 * (answers.ranks < 1))
    with pytest.raises(ValueError, match=r"keeps no probabilities.npy.*eval.keep"):
        metrics.read_contributions(tmp_path, "auroc", labels, 6)


def test_what_runs_will_not_keep_is_refused_beforehand():
    for name, metric in METRICS.items():
        metrics.check_decidable(name, "probabilities", 6)
        if metric.needs != "probabilities":
            metrics.check_decidable(name, "ranks", 6)
    with pytest.raises(ValueError, match=r"keeps 'ranks', which is enough for top1, .*eval.keep='probabilities'"):
        metrics.check_decidable("auroc", "ranks", 6)
    with pytest.raises(ValueError, match="'top5' of 5 classes"):
        metrics.check_decidable("top5", "ranks", 5)


@pytest.mark.parametrize(
    ("name", "answers", "match"),
    [
        ("accuracy", np.zeros(4, int), "metric: got 'accuracy', expected one of top1"),
        ("top1", np.zeros(4), "expected what ranks.npy"),
        ("nll", np.zeros(4, int), "expected what losses.npy"),
        ("auroc", np.zeros(4, int), "expected what probabilities.npy"),
        ("top1", np.zeros(3, int), "ranks: got shape"),
        ("top1", np.zeros((3, 2)), "probabilities: got shape"),
    ],
)
def test_contributions_refuse_what_is_no_metrics(name, answers, match):
    with pytest.raises(ValueError, match=match):
        contributions(name, answers, np.array([0, 1, 0, 1]), 2)
