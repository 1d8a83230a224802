"""Metrics of a run's predictions: Top-k, balanced accuracy, macro-F1, worst class, likelihood, calibration, ROC and PR.

Every metric is a number of a run and, by `contributions`, an array over its test images whose mean is that number, so
that one comparison of arms serves them all. Units are percent, and nats of the likelihood. Classes without a test image
count nowhere. NumPy and SciPy only: this file knows no model and no device, and of files those that a run keeps.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import scipy
from numpy.typing import ArrayLike, NDArray

NUM_BINS = 15  # of the calibration error: of equal width in confidence, as Guo et al. 2017 use
TOP5_FROM = 6  # classes, below which an image is always right at Top-5

Floats = NDArray[np.float64]
# A metric in shares, not percent, and what it is without each of the images [N].
Jackknife = tuple[float, Floats]


@dataclass(frozen=True)
class Metric:
    """A metric's name, unit and needs.

    Args:
        title: for people. needs: the file that a run keeps of it: "ranks", "losses" or "probabilities" (.npy).
        unit: "%" or "nats". higher_is_better: which of two arms is the better one.
    """

    title: str
    needs: str
    unit: str = "%"
    higher_is_better: bool = True


METRICS = {
    "top1": Metric("Top-1", "ranks"),
    "top5": Metric("Top-5", "ranks"),
    "balanced_accuracy": Metric("Balanced accuracy", "ranks"),
    "macro_f1": Metric("Macro-F1", "probabilities"),
    "worst_class": Metric("Accuracy of the worst class", "ranks"),
    "nll": Metric("Negative log-likelihood", "losses", "nats", higher_is_better=False),
    "ece": Metric("Expected calibration error", "probabilities", higher_is_better=False),
    "auroc": Metric("AUROC, mean over classes", "probabilities"),
    "auprc": Metric("AUPRC, mean over classes", "probabilities"),
}


@dataclass(frozen=True, eq=False)
class Answers:
    """A run's predictions for N test images. None is what was not kept; the metrics that need it are then missing.

    Args:
        labels: integers [N] in [0, K). num_classes: K.
        ranks: integers [N] >= 0, the number of classes scored above the true one.
        losses: [N], minus the logarithm of the true class's probability, in nats.
        predicted: integers [N], the class scored highest. confidence: [N], its probability.
        probabilities: [N, K].
    Raises: ValueError: lengths that differ, no image, or labels outside the classes.
    """

    labels: NDArray
    num_classes: int
    ranks: NDArray | None = None
    losses: NDArray | None = None
    predicted: NDArray | None = None
    confidence: NDArray | None = None
    probabilities: NDArray | None = None

    def __post_init__(self):
        labels, num_classes = np.asarray(self.labels), self.num_classes
        if labels.ndim != 1 or not labels.size or labels.min() < 0 or labels.max() >= num_classes:
            raise ValueError(f"labels: got shape {labels.shape}, expected [N], none empty, inside 0..{num_classes - 1}")
        shapes = {"probabilities": (labels.size, num_classes)}
        for name in ("ranks", "losses", "predicted", "confidence", "probabilities"):
            shape, allowed = np.shape(getattr(self, name)), shapes.get(name, labels.shape)
            if getattr(self, name) is not None and shape != allowed:
                raise ValueError(
                    f"{name}: got shape {shape}, expected {allowed}. Pass the whole test set, in the source's order."
                )
        object.__setattr__(self, "labels", labels)

    @classmethod
    def of_probabilities(cls, probabilities: ArrayLike, labels: ArrayLike) -> "Answers":
        """All of it from probabilities [N, K] and labels [N]; a tie counts against the true class, as in training."""
        p, labels = np.asarray(probabilities), np.asarray(labels)
        if p.ndim != 2 or len(p) != len(labels):
            raise ValueError(f"probabilities: got shape {p.shape}, expected [N, K] for {len(labels)} labels.")
        true = np.take_along_axis(p, labels[:, None], axis=1)
        with np.errstate(divide="ignore"):
            losses = -np.log(true[:, 0].astype(np.float64))
        ranks = (~(p < true)).sum(axis=1) - 1
        return cls(labels, p.shape[1], ranks, losses, p.argmax(axis=1), p.max(axis=1).astype(np.float64), p)

    @cached_property
    def sizes(self) -> NDArray[np.int64]:
        """The number of images of each class [K]."""
        return np.bincount(self.labels, minlength=self.num_classes)

    def can(self, name: str) -> bool:
        """Whether a metric can be had of what was kept, and says something of so many classes."""
        needs = {"macro_f1": "predicted", "ece": "confidence"}.get(name, METRICS[name].needs)
        return getattr(self, needs) is not None and (name != "top5" or self.num_classes >= TOP5_FROM)

    def kept(self, name: str) -> NDArray:
        """A field that a metric needs."""
        values = getattr(self, name)
        assert values is not None, name
        return values


def measure(answers: Answers) -> dict[str, float]:
    """Every metric that the answers allow, by name, in percent and nats; no Top-5 of five classes or fewer.

    One that is not finite is left out, as those of a broken network and the AUROC of a single class are.
    """
    found = {name: _in_units(name, _value(name, answers)) for name in METRICS if answers.can(name)}
    return {name: value for name, value in found.items() if np.isfinite(value)}


def contributions(name: str, kept: ArrayLike, labels: ArrayLike, num_classes: int) -> Floats:
    """What each test image adds to a metric: [N], whose mean is the metric in percent or nats.

    Of a mean over images, these are its terms. Of any other metric they are the jackknife's pseudo-values, moved
    together so that their mean is the metric itself: an image counts for N - 1 times what the metric loses without
    it. The only image of its class counts as the mean does. Their spread is that of the metric over test sets, but for
    the worst class, where it is too large if several classes are about as bad: an image is of one of them alone.

    Args:
        name: one of METRICS.
        kept: what the metric needs, as a run keeps it: ranks or losses [N], or probabilities [N, K], of which every
            metric can be had.
        labels: integers [N] in [0, K). num_classes: K.
    Raises: ValueError: no such metric, another file's numbers, shapes that differ, Top-5 of five classes or fewer.
    Source: Efron and Stein 1981, Annals of Statistics 9.
    """
    if name not in METRICS:
        raise ValueError(f"metric: got {name!r}, expected one of {', '.join(METRICS)}")
    values, needs = np.asarray(kept), METRICS[name].needs
    if values.ndim == 2:
        answers = Answers.of_probabilities(values, labels)
    elif needs != "probabilities" and np.issubdtype(values.dtype, np.integer) == (needs == "ranks"):
        answers = Answers(np.asarray(labels), num_classes, **{needs: values})
    else:
        raise ValueError(f"{name}: got {values.dtype} {values.shape}, expected what {needs}.npy of a run holds.")
    if not answers.can(name):
        raise ValueError(f"{name}: got {num_classes} classes, expected {TOP5_FROM} or more. Five are always right.")
    if name in _TERMS:
        return _in_units(name, _TERMS[name](answers).astype(np.float64))
    value, without = _OF[name](answers)
    if name != "ece":  # of the others, each class counts alike: without its only image there is one class less
        without = np.where(answers.sizes[answers.labels] > 1, without, value)
    return _in_units(name, value + (len(without) - 1) * (without.mean() - without))


def check_decidable(name: str, keep: str, num_classes: int) -> None:
    """Refuses to decide on what runs will not keep. Raises: ValueError: see `contributions`.

    Args: name: one of METRICS. keep: what of each test image a run keeps, its eval.keep.
    """
    if METRICS[name].needs == "probabilities" != keep:
        raise ValueError(
            f"decide.metric {name!r} is computed of probabilities, and a classifier keeps {keep!r}, which is "
            f"enough for {', '.join(key for key, metric in METRICS.items() if metric.needs != 'probabilities')}. Set "
            "classifier.eval.keep='probabilities' for any."
        )
    if name == "top5" and num_classes < TOP5_FROM:
        raise ValueError(f"decide.metric 'top5' of {num_classes} classes: five or fewer are always right. Use 'top1'.")


def read_contributions(folder: Path, name: str, labels: ArrayLike, num_classes: int) -> Floats:
    """Reads what `contributions` says of a finished run. Raises: ValueError: the run kept no probabilities."""
    path = folder / f"{METRICS[name].needs}.npy"
    if not path.exists():
        raise ValueError(
            f"{folder} keeps no {path.name}, from which {name} is computed. "
            "Train, or evaluate, with eval.keep='probabilities'."
        )
    return contributions(name, np.load(path), labels, num_classes)


def by_class(name: str, answers: Answers) -> list[float | None]:
    """AUROC or AUPRC of each class against all others, in percent [K]; None for a class that has all images or none."""
    return or_none([100.0 * _OF_CLASS[name](answers, k)[0] for k in range(answers.num_classes)])


def or_none(values: ArrayLike) -> list[float | None]:
    """Numbers for a record, which has no NaN: None in its place."""
    return [float(value) if np.isfinite(value) else None for value in np.asarray(values)]


def to_half(probabilities: NDArray) -> NDArray[np.float16]:
    """Probabilities [N, K] as they are kept: rounded to float16, but that the class scored highest stays the one."""
    kept, best = probabilities.astype(np.float16), probabilities.argmax(axis=1)[:, None]
    top = np.take_along_axis(kept, best, axis=1)
    others = np.arange(kept.shape[1]) != best
    return np.where(others & (kept == top), np.nextafter(top, np.float16(0)), kept)


def _in_units(name: str, value):
    return value if METRICS[name].unit == "nats" else 100.0 * value


def _value(name: str, answers: Answers) -> float:
    return float(_TERMS[name](answers).mean(dtype=np.float64) if name in _TERMS else _OF[name](answers)[0])


def _accuracies(answers: Answers) -> tuple[Floats, Floats]:
    """Accuracy by class [K], NaN without images; and what an image's own class has without it [N]."""
    hits, sizes = answers.kept("ranks") < 1, answers.sizes
    right = np.bincount(answers.labels, hits, answers.num_classes)
    return _ratio(right, sizes, np.nan), _ratio(right[answers.labels] - hits, sizes[answers.labels] - 1)


def _balanced_accuracy(answers: Answers) -> Jackknife:
    of_class, without = _accuracies(answers)
    value = np.nanmean(of_class)
    return float(value), value + (without - of_class[answers.labels]) / np.isfinite(of_class).sum()


def _worst_class(answers: Answers) -> Jackknife:
    of_class, without = _accuracies(answers)
    worst = np.nanargmin(of_class)
    others = np.delete(of_class, worst)
    second = np.nanmin(others) if np.isfinite(others).any() else np.inf
    return float(of_class[worst]), np.minimum(without, np.where(answers.labels == worst, second, of_class[worst]))


def _macro_f1(answers: Answers) -> Jackknife:
    true, said, sizes = answers.labels, answers.kept("predicted"), answers.sizes
    hit = true == said
    right = np.bincount(true, hit, answers.num_classes)
    named = sizes + np.bincount(said, minlength=answers.num_classes)  # as what they are, and as what they are said
    f1 = _ratio(2 * right, named)
    own = _ratio(2 * (right[true] - hit), named[true] - 1 - hit) - f1[true]
    other = np.where(hit | (sizes[said] == 0), 0.0, _ratio(2 * right[said], named[said] - 1) - f1[said])
    value = f1[sizes > 0].mean()
    return value, value + (own + other) / (sizes > 0).sum()


def _calibration_error(answers: Answers) -> Jackknife:
    """Source: Naeini et al. 2015, AAAI; bins as Guo et al. 2017 (1706.04599), Eq. 3: (b / B, (b + 1) / B]."""
    confidence = answers.kept("confidence").astype(np.float64)
    excess = (answers.predicted == answers.labels) - confidence
    bins = np.clip(np.ceil(np.nan_to_num(confidence) * NUM_BINS).astype(int) - 1, 0, NUM_BINS - 1)
    total = np.bincount(bins, excess, NUM_BINS)
    value, n = np.abs(total).sum() / len(excess), len(excess)
    changed = np.abs(total[bins] - excess) - np.abs(total[bins])
    return value, (n * value + changed) / max(n - 1, 1)


def _auroc_of_class(answers: Answers, k: int) -> Jackknife:
    """Source: DeLong et al. 1988, Biometrics 44: pairs ordered right, half of them where they tie, by ranks."""
    score, positive = _scores(answers, k), answers.labels == k
    num, rest = positive.sum(), (~positive).sum()
    right = scipy.stats.rankdata(score)  # of each image, the pairs that it is in and that are ordered right
    right[positive] -= scipy.stats.rankdata(score[positive])
    right[~positive] = num - right[~positive] + scipy.stats.rankdata(score[~positive])
    pairs, every = num * rest, right[positive].sum()
    value = _ratio(every, pairs, np.nan)
    return value, _ratio(every - right, pairs - np.where(positive, rest, num), value)


def _auprc_of_class(answers: Answers, k: int) -> Jackknife:
    """Average precision: the mean over the class's images of the precision among images scored at least as high."""
    score, positive = _scores(answers, k), answers.labels == k
    ranked = np.sort(score[positive])  # ascending
    num = len(ranked)
    found = num - np.searchsorted(ranked, ranked)
    named = len(score) - np.searchsorted(np.sort(score), ranked)
    # Precision at each of the class's images, as it is, and without an image of another class, or of this one, above.
    less = np.maximum(named - 1, 1)
    terms = found / named, found / less, (found - 1) / less
    now, other, same = (np.concatenate([[0.0], np.cumsum(of_images)]) for of_images in terms)
    # How many of the class's images are scored no higher than each image, and so see it above them.
    below = np.searchsorted(ranked, score, side="right")
    value = _ratio(now[-1], num, np.nan)
    kept = now[-1] - now[below]
    own = terms[2][below[positive] - 1]
    without = (kept + other[below]) / max(num, 1)
    without[positive] = _ratio(kept[positive] + same[below[positive]] - own, num - 1, value)
    return value, without


def _over_classes(of_class: Callable[[Answers, int], Jackknife]) -> Callable[[Answers], Jackknife]:
    """The mean of a metric over the classes that have images, and of which not all images are."""

    def mean(answers: Answers) -> Jackknife:
        classes = np.flatnonzero((answers.sizes > 0) & (answers.sizes < len(answers.labels)))
        total, without = 0.0, np.zeros(len(answers.labels))
        for k in classes:
            value, of_images = of_class(answers, int(k))
            total, without = total + value, without + of_images
        return _ratio(total, len(classes), np.nan), _ratio(without, len(classes), np.nan)

    return mean


def _scores(answers: Answers, k: int) -> Floats:
    return answers.kept("probabilities")[:, k].astype(np.float64)


def _ratio(part: ArrayLike, whole: ArrayLike, where_none: float = 0.0):
    part, whole = np.broadcast_arrays(np.asarray(part, np.float64), whole)
    return np.divide(part, whole, out=np.full(part.shape, where_none), where=whole > 0)


_TERMS: dict[str, Callable[[Answers], NDArray]] = {
    "top1": lambda answers: answers.kept("ranks") < 1,
    "top5": lambda answers: answers.kept("ranks") < 5,
    "nll": lambda answers: answers.kept("losses"),
}
_OF_CLASS = {"auroc": _auroc_of_class, "auprc": _auprc_of_class}
_OF: dict[str, Callable[[Answers], Jackknife]] = {
    "balanced_accuracy": _balanced_accuracy,
    "macro_f1": _macro_f1,
    "worst_class": _worst_class,
    "ece": _calibration_error,
    **{name: _over_classes(of_class) for name, of_class in _OF_CLASS.items()},
}
