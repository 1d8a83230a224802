"""What a sampler drew: counts by window of steps, source and class, and measures of them.

The measures allow for chance: a window is a finite sample, so that no two are ever quite alike. Knows nothing of
words, pictures, samplers or files.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy
from numpy.typing import NDArray

EVEN = 0.05  # classes whose draws differ by less than this from an even share (root mean square) are called even
RARE = 1e-5  # the chance that even classes are not called so
FIELDS = ("step_edges", "source_names", "class_names", "counts")


@dataclass(frozen=True, eq=False)
class DrawCounts:
    """How often each source and class was drawn, by window of training steps.

    Args:
        step_edges: W + 1 rising integers from 0; window w holds the steps step_edges[w] to step_edges[w + 1] - 1.
        source_names: S names; the real images are called "real".
        class_names: K names.
        counts: integers [W, S, K], none negative, with at least one draw in every window.
    Raises: ValueError: anything else.
    """

    step_edges: Sequence[int]
    source_names: Sequence[str]
    class_names: Sequence[str]
    counts: NDArray[np.int64]

    def __post_init__(self):
        counts, edges = np.asarray(self.counts), np.asarray(self.step_edges)
        shape = (len(edges) - 1, len(self.source_names), len(self.class_names))
        if min(shape) < 1 or edges[0] != 0 or (np.diff(edges) <= 0).any():
            raise ValueError(
                f"draws: got step_edges {list(self.step_edges)}, {shape[1]} sources and {shape[2]} classes, expected "
                "edges that rise from 0, and at least one of each."
            )
        if counts.shape != shape or counts.dtype.kind not in "iu":
            raise ValueError(
                f"draws: got counts {counts.dtype} {counts.shape}, expected integers {shape}: windows, sources, "
                "classes."
            )
        if counts.min() < 0 or not counts.sum(axis=(1, 2)).all():
            raise ValueError(
                "draws: got a negative count or a window without draws, expected neither. Count them again."
            )
        object.__setattr__(self, "counts", counts)

    @property
    def shares(self) -> NDArray[np.float64]:
        """The share of each source among a window's draws, [W, S]."""
        of_sources = self.counts.sum(axis=2)
        return of_sources / of_sources.sum(axis=1, keepdims=True)

    @property
    def by_class(self) -> NDArray[np.int64]:
        """Draws of each class from all sources, [W, K]."""
        return self.counts.sum(axis=1)

    @property
    def even_classes(self) -> bool:
        """Whether no class is preferred, neither in the whole nor in any quarter of the steps."""
        quarters = np.array_split(self.by_class, min(4, len(self.counts)))
        return all(unevenness(part.sum(axis=0)) <= EVEN for part in (self.by_class, *quarters))

    def window(self, progress: float) -> int:
        """The window that holds the step at a progress in [0, 1]."""
        step = progress * self.step_edges[-1]
        return min(int(np.searchsorted(self.step_edges, step, side="right")), len(self.step_edges) - 1) - 1

    def is_like(self, other: "DrawCounts") -> bool:
        """Whether another arm's draws are the same, count for count."""
        return not _differing(self, other) and np.array_equal(self.counts, other.counts)


def from_record(record: Mapping[str, Any]) -> DrawCounts:
    """Returns the draws of a run's draws.json. Raises ValueError: a field is missing, or `DrawCounts` refuses them."""
    if missing := [name for name in FIELDS if name not in record]:
        raise ValueError(f"draws: got a record without {missing}, expected records with {list(FIELDS)}")
    return DrawCounts(**{name: record[name] for name in FIELDS})


def pooled(runs: Sequence[DrawCounts]) -> DrawCounts:
    """Returns the draws of several runs (an arm's seeds) added up; shares of the sum are means over equal runs.

    Raises: ValueError: the runs differ in windows, sources or classes.
    """
    first = runs[0]
    for other in runs[1:]:
        for name in _differing(first, other):
            raise ValueError(
                f"draws: got runs of one arm with {name} {list(getattr(first, name))} and "
                f"{list(getattr(other, name))}, expected the same. Run the arm's seeds with one configuration."
            )
    counts = np.sum([run.counts for run in runs], axis=0)
    return DrawCounts(first.step_edges, first.source_names, first.class_names, counts)


def _differing(a: DrawCounts, b: DrawCounts) -> list[str]:
    return [name for name in FIELDS[:3] if list(getattr(a, name)) != list(getattr(b, name))]


def unevenness(counts: NDArray) -> float:
    """Root mean square deviation of class shares from an even share, in even shares, less what chance explains.

    0 for even classes, sqrt(K - 1) when one class has it all. Of n draws from even classes chance makes n times the
    square follow a chi-squared law with K - 1 degrees of freedom, of which the one in RARE is subtracted. Drawing
    without replacement leaves less to chance, so that the allowance is ample.

    Args:
        counts: draws by class [K], at least one in all.
    """
    num_draws, num_classes = counts.sum(), len(counts)
    square = num_classes * ((counts / num_draws) ** 2).sum() - 1
    return float(np.sqrt(max(square - scipy.stats.chi2.isf(RARE, max(num_classes - 1, 1)) / num_draws, 0.0)))


def spread(draws: DrawCounts) -> str:
    """Returns "even", or how often the least and the most drawn class were drawn, in even shares."""
    if draws.even_classes:
        return "even"
    ratios = draws.by_class.sum(axis=0) * len(draws.class_names) / draws.counts.sum()
    ends = [int(ratios.argmin()), int(ratios.argmax())]
    return " to ".join(f"{ratios[k]:.2g} ({draws.class_names[k]})" for k in ends)
