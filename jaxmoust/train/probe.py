"""A linear probe: multinomial logistic regression on features that are computed once, and cosine k-NN beside it.

Draws are weights here: an image that a sampler draws three times counts three times, and in which order it draws does
not matter, for the problem is convex and has one solution.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from threadpoolctl import threadpool_limits

from jaxmoust.core.checks import require
from jaxmoust.data.splits.folds import fold_of

STRENGTHS = tuple(10.0**-i for i in range(1, 8))
MOST_ITERATIONS = 500
# Of the gradient's norm, in coordinates in which the Hessian is at most 1: of a solution, and of one to compare by.
TOLERANCE, ROUGH = 1e-4, 3e-3
_QUERIES = 1024  # whose neighbours are sought at once
_STRIPES = 16  # into which similarities are cut
NEIGHBOURS, TEMPERATURE = 20, 0.07  # Caron et al. 2021 (2104.14294), section 4.1


@dataclass(frozen=True)
class Probe:
    """How a linear probe is fitted.

    Args:
        views: how many augmented views of each training image have their features computed, besides the image as it
            is; draws of an image go round these. Without an augmentation there are none.
        l2: strength of the penalty l2 / 2 |W|^2 on the mean cross-entropy, of features centred and scaled to a mean
            squared norm of 1; 0 chooses among 1e-1, 1e-2, ... 1e-7.
        folds: the number of parts that the real training images are split into to choose it; each is predicted by a fit
            on the rest.
        features: what `jaxmoust features` left: of the training images, of the test images, then of each synthetic
            set; () computes them in the run.
    Raises: ValueError: numbers that make no sense.
    """

    views: int = 4
    l2: float = 0.0
    folds: int = 3
    features: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuses what could not be fitted."""
        require(0 <= self.views <= 100, "probe.views", self.views, "whole numbers from 0 (none) to 100")
        require(self.l2 >= 0, "probe.l2", self.l2, "0 (chosen) and up")
        require(self.folds >= 2, "probe.folds", self.folds, "whole numbers from 2")


@dataclass(frozen=True)
class Rows:
    """What a probe is fitted on, a row for each view of an image that is drawn.

    Args:
        features: [n, F]. label: [n]. weight: what each row counts, [n], above 0. smoothing: [n], in [0, 1).
        image: which image a row shows, [n]: views of one image are held out together.
        real: whether it is real, [n]: strengths are chosen on real images, where there are any.
        plain: whether it is an image as it is, and no augmented view, [n].
    """

    features: np.ndarray
    label: np.ndarray
    weight: np.ndarray
    smoothing: np.ndarray
    image: np.ndarray
    real: np.ndarray
    plain: np.ndarray


@dataclass(frozen=True)
class Linear:
    """A fitted probe: logits are features @ kernel [F, K] + bias [K].

    Args:
        l2: its strength. losses: the held-out cross-entropy of each strength that was tried.
        gradient: the norm that is left of the objective's gradient. loss: the mean training cross-entropy.
    """

    kernel: np.ndarray
    bias: np.ndarray
    l2: float
    losses: dict[float, float]
    gradient: float
    loss: float


def fit(
    rows: Rows,
    num_classes: int,
    probe: Probe,
    seed: int,
    shares: np.ndarray | None = None,
    tau: float = 0.0,
    select: tuple[np.ndarray, np.ndarray] | None = None,
) -> Linear:
    """Fits the probe, at the strength that predicts held-out images best.

    Features are rotated to the eigenvectors of their covariance C, and each is scaled by 1 / sqrt(C / 2 + l2): the
    Hessian is then at most 1 (Böhning 1992, which bounds the softmax's by I / 2), so that L-BFGS needs few steps and
    no search along a line. Strengths follow each other from the strongest, each from where the line through the two
    solutions before it leads, until two are worse than the best; folds share every pass through the features.

    Args:
        shares, tau: of a logit adjustment, see `Classify`; smoothing then goes towards these shares of the classes.
        select: features [M, F] and labels of images to choose the strength on, in the place of folds.
    Raises: ValueError: fewer images than folds to choose the strength by.
    """
    count, more = len(rows.label), _room(len(rows.label)) - len(rows.label)
    x, basis, spectrum, mean = _rotated(np.pad(rows.features, [(0, more), (0, 0)]), np.pad(rows.weight, (0, more)))
    towards = np.full(num_classes, 1 / num_classes) if shares is None else shares
    offsets = np.zeros(num_classes) if shares is None else tau * np.log(shares)
    numbers = map(_single, (spectrum, np.pad(rows.smoothing, (0, more)), towards, offsets))
    problem = (x, jnp.pad(jnp.asarray(rows.label, jnp.int32), (0, more)), *map(jnp.asarray, numbers))

    def solve(start: np.ndarray, weights: Sequence[np.ndarray], l2: float, tolerance: float) -> tuple[np.ndarray, ...]:
        stacked = np.stack([np.pad(weight / weight.sum(), (0, more)) for weight in weights])
        found = _solve(*problem, start, *map(_single, (stacked, l2, tolerance)))
        return tuple(map(np.asarray, found))

    start, losses = np.zeros((1, len(spectrum) + 1, num_classes), np.float32), dict[float, float]()
    if not probe.l2:
        if select is None:
            fold, scored = _dealt(rows, num_classes, probe.folds, seed)
            weights = [rows.weight * (fold != k) for k in range(probe.folds)]
            is_held = np.zeros((probe.folds, count + more), np.float32)
            is_held[fold[scored], scored] = 1
            held_out = (*problem[:2], is_held)
        else:
            seen = _turned(*map(_single, (select[0], mean, basis)))
            weights, held_out = [rows.weight], (seen, select[1], np.ones((1, len(select[1])), np.float32))
        solutions = {0.0: np.repeat(start, len(weights), 0)}
        for l2 in STRENGTHS:
            *_, before, last = [0 * start, *solutions.values()]
            solutions[l2] = solve(2 * last - before, weights, l2, ROUGH)[0]
            losses[l2] = float(_loss(*held_out, solutions[l2]))
            if min([*losses.values()][-2:]) > min(losses.values()):  # twice worse
                break
        best = min(losses, key=lambda l2: losses[l2])
        start = solutions[best][:1]
    else:
        best = probe.l2
    (solution,), (gradient,), (loss,) = solve(start, [rows.weight], best, TOLERANCE)
    kernel = basis @ solution[:-1].astype(np.float64)
    bias = solution[-1] - mean @ kernel
    return Linear(
        kernel.astype(np.float32), bias.astype(np.float32), best, losses, gradient=float(gradient), loss=float(loss)
    )


def check_folds(num_folds: int, num_images: int, num_held: int) -> None:
    """Refuses fewer images, or fewer that have another one of their class, than folds. Raises: ValueError: so few."""
    if min(num_images, num_held) < num_folds:
        raise ValueError(
            f"probe.folds {num_folds}: of {num_images} images {num_held} can be held out, in classes of two and "
            "more, expected at most a fold for each. Give more images, or the strength itself, probe.l2."
        )


def _single(number: Any) -> np.ndarray:
    return np.asarray(number, np.float32)


def _room(count: int) -> int:
    """The next number of four significant bits: runs of about as many rows share one program."""
    step = 1 << max(count.bit_length() - 4, 0)
    return -(-count // step) * step


def _dealt(rows: Rows, num_classes: int, num_folds: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Splits images into folds: (the fold of each row [n], the rows on which strengths are compared).

    These show images as they are, real ones where there are any, of classes that have another image to learn from.
    """
    images, first, image = np.unique(rows.image, return_index=True, return_inverse=True)
    several = np.bincount(rows.label[first], minlength=num_classes) > 1
    scored = rows.plain & several[rows.label]
    scored &= rows.real if rows.real.any() else True
    check_folds(num_folds, len(images), int(scored.sum()))
    return fold_of(rows.label[first], num_folds, seed)[image], np.flatnonzero(scored)


def _rotated(features: np.ndarray, weight: np.ndarray) -> tuple[jax.Array, np.ndarray, np.ndarray, np.ndarray]:
    """Features [n, F] in the eigenvectors of their covariance, scaled to a mean squared norm of 1.

    Returns: x [F, n]; the basis [F, F], so that x = basis.T @ (features - mean).T; eigenvalues [F]; mean [F].
    """
    share = (weight / weight.sum()).astype(np.float64)
    mean = share.astype(np.float32) @ features
    given = jnp.asarray(features, jnp.float32), jnp.asarray(mean, jnp.float32)
    covariance = np.asarray(_covariance(*given, jnp.asarray(share, jnp.float32)), np.float64)
    scale = np.sqrt(max(np.trace(covariance), np.finfo(np.float32).tiny))
    with threadpool_limits(1, "blas"):  # of so small a matrix several threads mostly wait for each other
        spectrum, basis = np.linalg.eigh(_single(covariance / scale**2))
    basis = (basis / scale).astype(np.float32)
    return _turned(*given, jnp.asarray(basis)), basis, np.maximum(spectrum, 0), mean


@jax.jit
def _covariance(features: jax.Array, mean: jax.Array, share: jax.Array) -> jax.Array:
    centred = features - mean
    return (centred * share[:, None]).T @ centred


@jax.jit
def _turned(features: jax.Array, mean: jax.Array, basis: jax.Array) -> jax.Array:
    return basis.T @ (features - mean).T


@jax.jit
def _loss(x: jax.Array, label: jax.Array, is_held: jax.Array, solutions: jax.Array) -> jax.Array:
    """The mean cross-entropy of the rows [W, n] of x [F, n] that solutions [W, F + 1, K] are compared on."""
    logits = jnp.einsum("wfk,fn->wkn", solutions[:, :-1], x) + solutions[:, -1, :, None]
    given = jnp.take_along_axis(logits, label[None, None, :], axis=1)[:, 0]
    return (is_held * (jax.nn.logsumexp(logits, axis=1) - given)).sum() / is_held.sum()


@jax.jit
def _solve(
    x: jax.Array,
    label: jax.Array,
    spectrum: jax.Array,
    smoothing: jax.Array,
    towards: jax.Array,
    offsets: jax.Array,
    starts: jax.Array,
    weights: jax.Array,
    l2: jax.Array,
    tolerance: jax.Array,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Solves from starts [W, F + 1, K] for rows of weights [W, n]: (solutions, their gradients' norms, losses [W]).

    Args: x: [F, n]: both products of a pass then read it as it lies.
    """
    # The bias, whose features are 1 and not penalised, has a Hessian of at most 1 / 2.
    unit = jnp.append(1 / jnp.sqrt(spectrum / 2 + l2), jnp.sqrt(2.0))[:, None]
    target = (1 - smoothing) * jax.nn.one_hot(label, len(offsets), axis=0) + smoothing * towards[:, None]  # [K, n]

    def gradient_of(u: jax.Array, weight: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The gradient of the objective, and the loss in it."""
        w = u * unit
        logits = w[:-1].T @ x + (w[-1] + offsets)[:, None]
        total = jax.nn.logsumexp(logits, axis=0)
        error = weight * (jnp.exp(logits - total) - target)
        gradient = jnp.concatenate([x @ error.T + l2 * w[:-1], error.sum(1)[None]])
        return unit * gradient, weight @ (total - jnp.sum(target * logits, axis=0))

    solver = optax.lbfgs(1.0, memory_size=5, linesearch=None)

    def minimise(start: jax.Array, weight: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        def unfinished(at: tuple) -> jax.Array:
            return (at[2] < MOST_ITERATIONS) & (at[3] > tolerance)

        def step(at: tuple) -> tuple:
            u, state, count, *_ = at
            gradient, loss = gradient_of(u, weight)
            updates, state = solver.update(gradient, state, u)
            return optax.apply_updates(u, updates), state, count + 1, optax.tree.norm(gradient), loss

        u = start / unit
        u, _, _, norm, loss = jax.lax.while_loop(
            unfinished, step, (u, solver.init(u), 0, jnp.array(jnp.inf), jnp.zeros(()))
        )
        return u * unit, norm, loss

    return jax.vmap(minimise)(starts, weights)


def nearest(rows: Rows, num_classes: int, test: np.ndarray) -> np.ndarray:
    """Votes of the most similar training images, by cosine: [T, K], each vote times what its image counts.

    Only images as they are vote, not augmented views; what these count, their image does. An image of a soft label
    votes for both of its classes.

    Source: Wu et al. 2018 (1805.01978), section 3.4; numbers as Caron et al. 2021 (2104.14294).
    """
    plain = np.flatnonzero(rows.plain) if rows.plain.any() else np.arange(len(rows.label))
    of = rows.image.astype(np.int64) * num_classes + rows.label
    image, first = np.unique(of[plain], return_index=True)
    chosen = plain[first]
    pairs, which = np.unique(of, return_inverse=True)
    counted = np.bincount(which, rows.weight)[np.searchsorted(pairs, image)]
    train, label, count = _unit(rows.features[chosen]), rows.label[chosen], min(NEIGHBOURS, len(chosen))
    votes = np.zeros((len(test), num_classes))
    for start in range(0, len(test), _QUERIES):
        similar = _unit(test[start : start + _QUERIES]) @ train.T
        which = _highest(similar, count)
        vote = counted[which] * np.exp((np.take_along_axis(similar, which, 1) - 1) / TEMPERATURE)
        place = np.broadcast_to(np.arange(start, start + len(which))[:, None], which.shape)
        np.add.at(votes, (place, label[which]), vote)
    return votes


def _highest(values: np.ndarray, count: int) -> np.ndarray:
    """The places [Q, count] of the highest values [Q, n] of each row, in any order.

    One of them is the highest of what lies at its place in as many stripes: there all candidates are.
    """
    width = values.shape[1] // _STRIPES
    if width <= count:
        return np.argpartition(values, -count, axis=1)[:, -count:]
    striped = values[:, : width * _STRIPES].reshape(len(values), _STRIPES, width)
    best = np.argpartition(striped.max(1), -count, axis=1)[:, -count:]
    candidates = (best[:, None] + width * np.arange(_STRIPES)[:, None]).reshape(len(values), -1)
    rest = np.arange(width * _STRIPES, values.shape[1])
    candidates = np.concatenate([candidates, np.broadcast_to(rest, (len(values), len(rest)))], axis=1)
    inside = np.argpartition(np.take_along_axis(values, candidates, 1), -count, axis=1)[:, -count:]
    return np.take_along_axis(candidates, inside, 1)


def _unit(x: np.ndarray) -> np.ndarray:
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)


def spread(counts: np.ndarray, num_views: int, seed: int) -> np.ndarray:
    """Deals the draws of each image out to its views, as evenly as they go: [N] -> [N, num_views].

    Which views get one more than the others is drawn from the seed.
    """
    first = np.random.default_rng((seed, 0x766965)).integers(num_views, size=len(counts))
    turn = (np.arange(num_views) - first[:, None]) % num_views
    return counts[:, None] // num_views + (turn < (counts % num_views)[:, None])
