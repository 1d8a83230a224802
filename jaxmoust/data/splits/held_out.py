"""Which images are held out of a set: a part of each class, by a seed, and groups of images never divided."""

from collections.abc import Sequence

import numpy as np

from jaxmoust.data.samplers.permutation import make_key, shuffled


def held_out(
    labels: np.ndarray,
    fraction: float,
    keys: Sequence[int],
    groups: np.ndarray | None = None,
    class_names: Sequence[str] = (),
) -> np.ndarray:
    """Holds a fraction of each class out, at least one image and never all: a function of labels, keys and groups.

    With groups the numbers are those without, or as close below as whole groups come.

    Args:
        labels: integers [N] in [0, K), of each class none or two and up.
        fraction: 0 < fraction < 1.
        keys: K keys; each class is shuffled by its own.
        groups: int64 [N]; images of one group stay together. None: each is by itself.
        class_names: what errors call the classes; () for their numbers.
    Returns: bool [N].
    Raises: ValueError: a class that no choice of whole groups divides.
    """
    totals = np.bincount(labels, minlength=len(keys))
    wanted = np.where(totals > 1, np.clip(np.round(totals * fraction).astype(np.int64), 1, totals - 1), 0)
    out = np.zeros(labels.size, bool)
    if groups is None or np.unique(groups).size == groups.size:
        for c in np.flatnonzero(totals).tolist():
            order = shuffled(np.arange(totals[c]), int(totals[c]), keys[c])
            out[np.flatnonzero(labels == c)[order[: wanted[c]]]] = True
        return out
    _, which = np.unique(groups, return_inverse=True)
    members = np.split(np.argsort(which, kind="stable"), np.cumsum(np.bincount(which))[:-1])
    counts = [np.bincount(labels[group], minlength=len(keys)) for group in members]
    order = shuffled(np.arange(len(members)), len(members), make_key(*keys))
    held = np.zeros(len(keys), np.int64)

    def hold(g: int) -> None:
        out[members[g]] = True
        held[:] += counts[g]

    for g in order:
        if np.all(held + counts[g] <= wanted):
            hold(g)
    for c in np.flatnonzero(totals).tolist():
        if held[c]:
            continue
        rest = [g for g in order if counts[g][c] and np.all((totals - held - counts[g])[counts[g] > 0] > 0)]
        if not rest:
            called = f"the class {class_names[c]!r}" if class_names else f"class number {c}"
            raise ValueError(f"{called} lies in one group, or in groups that no division leaves whole")
        hold(min(rest, key=lambda g: int(counts[g].sum())))
    return out
