"""The synthetic sets that join the real images in one pool: filtered by their scores, weighted by them."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from jaxmoust.data.pool import Pool
from jaxmoust.data.samplers.score_based import Weighted

SCORES = "scores"  # as the weight of a source: that of each image is its score


@dataclass(frozen=True)
class Mixture:
    """The synthetic sets of a training, and what of them is used.

    Args:
        synthetic: folders of synthetic sets to mix in; () for none.
        n_synthetic: use the first so many images of each set; 0 is all.
        scores: what `jaxmoust score` or `domain` wrote, a folder, or its name in the set's own folder scores/; one for
            all sets, or one for each.
        drop_lowest: drop this part of each set, the lowest scored; 0 for none.
        drop_per_class: drop that part of each class by itself.
        keep_above: keep what is scored above this number, or "1/C" (one over the number of classes); "" keeps all.
    """

    synthetic: str | tuple[str, ...] = ()
    n_synthetic: int = 0
    scores: str | tuple[str, ...] = ""
    drop_lowest: float = 0.0
    drop_per_class: bool = True
    keep_above: float | str = ""

    def __post_init__(self) -> None:
        """Refuses scores that are not one for all sets, or one for each."""
        if self.score_refs and len(self.score_refs) not in (1, len(self.set_refs)):
            raise ValueError(
                f"data.scores names {len(self.score_refs)} for {len(self.set_refs)} synthetic sets: name one for each "
                "set, or one name that every set has in its folder scores/."
            )

    @property
    def set_refs(self) -> tuple[str, ...]:
        """The sets, always as a tuple."""
        return as_tuple(self.synthetic)

    @property
    def score_refs(self) -> tuple[str, ...]:
        """The scores: none, one for all sets, or one for each."""
        return as_tuple(self.scores)


def as_tuple(refs: str | tuple[str, ...]) -> tuple[str, ...]:
    """One name as a tuple; "" as none."""
    return ((refs,) if refs else ()) if isinstance(refs, str) else tuple(refs)


def weighted(
    pool: Pool,
    seed: int,
    weights: Mapping[str, float | str],
    by: str = "image",
    power: float | None = None,
    shares: Mapping[str, float] | None = None,
    scores: Mapping[str, np.ndarray] | None = None,
) -> Weighted:
    """Draws each image with a probability proportional to its weight.

    Args:
        pool: what is drawn from.
        seed: of the draws.
        weights: that of each image of a source, or, by class, of a class; "scores" weighs each image by its score.
        by: "image" or "class".
        power: what scores are raised to; None is 1.
        shares: source -> share, as in `Share`; None leaves it to the weights.
        scores: source -> numbers [images of that source].
    Raises: ValueError: a power without scores, or scores that are wanted and not there.
    """
    scores, wanted = scores or {}, [name for name, weight in weights.items() if weight == SCORES]
    if power is not None and not wanted:
        raise ValueError(
            "config.sampler.power is what scores are raised to, and no source is weighted by them: "
            f"say weights={{source: {SCORES!r}}}, or leave power out."
        )
    if unscored := sorted(set(wanted) - set(scores)):
        raise ValueError(
            f"config.sampler.weights wants the scores of {unscored}; config.data.scores gives those of "
            f"{sorted(scores) or 'no source'}. Give the folder that `jaxmoust score` wrote."
        )
    exponent = 1.0 if power is None else power
    numbers = {name: scores[name] ** exponent if name in wanted else float(w) for name, w in weights.items()}
    return Weighted(pool, seed=seed, weights=numbers, by=by, shares=shares)
