"""Scores of images: a classifier's confidence in the label of an image. Higher is more confident, hence easier.

A score is a number for each image of a set. Weighted and paced samplers and filters read them.
"""

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax, xlogy

from jaxmoust.data.source import Soft


def confidence(logits: NDArray, labels: NDArray) -> NDArray[np.float64]:
    """The probability p(label | x): [N] in [0, 1], from logits [N, K] and labels [N]."""
    return np.exp(_own(log_softmax(logits.astype(np.float64), axis=1), labels))


def softened(
    score: Callable[[NDArray, NDArray], NDArray], logits: NDArray, labels: NDArray, soft: Soft | None
) -> NDArray:
    """A score under soft labels: that of each of the two classes, by its part of the label."""
    own = score(logits, labels)
    return own if soft is None else (1 - soft.weight) * own + soft.weight * score(logits, soft.second)


def margin(logits: NDArray, labels: NDArray) -> NDArray[np.float64]:
    """The logit of the label less the highest other one: [N]; negative where the classifier says another class."""
    logits = logits.astype(np.float64)
    others = np.where(np.arange(logits.shape[1]) == labels[:, None], -np.inf, logits)
    return _own(logits, labels) - others.max(axis=1)


def certainty(logits: NDArray, labels: NDArray) -> NDArray[np.float64]:
    """One less the entropy of p(. | x) over its largest value ln K: [N] in [0, 1], whatever the label."""
    p = np.exp(log_softmax(logits.astype(np.float64), axis=1))
    return 1.0 + xlogy(p, p).sum(axis=1) / np.log(logits.shape[1])


SCORES: Mapping[str, Callable[[NDArray, NDArray], NDArray[np.float64]]] = {
    "confidence": confidence,
    "margin": margin,
    "certainty": certainty,
}


def _own(values: NDArray, labels: NDArray) -> NDArray:
    return values[np.arange(len(labels)), labels]
