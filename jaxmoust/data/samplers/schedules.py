"""How a mixture changes over training, as tables of stages: the synthetic share, and the part that is easy enough.

A smooth schedule is cut into equal stages that each hold one value, so that any position is found in a table and
nothing before it is replayed. Values are rounded to 2^-20, which makes a table the same on every machine, whatever
its mathematical library does in the last bit.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from jaxmoust.data.checks import check_choice, check_number, check_whole
from jaxmoust.data.source import REAL

_ONE = 1 << 20


def _check(schedule: Any, what: str, parts: tuple[str, ...], allowed: str, least: float, shapes: Iterable[str]) -> None:
    """Brings the fields of a schedule to plain numbers, or refuses them."""
    for name in ("num_draws", "num_stages"):
        object.__setattr__(schedule, name, check_whole(name, getattr(schedule, name)))
    for name in parts:
        part = check_number(name, getattr(schedule, name), allowed, lambda part: least <= part <= 1.0, f" of {what}")
        object.__setattr__(schedule, name, part)
    check_choice("shape", schedule.shape, shapes, f" of {what}")


# Progress 0..1 -> how much of the way from start to end is done.
RAMPS: Mapping[str, Callable[[float], float]] = {
    "linear": lambda t: t,
    "cosine": lambda t: 0.5 - 0.5 * math.cos(math.pi * t),
    "steps": lambda t: t,
}


@dataclass(frozen=True)
class Ramp:
    """The synthetic share over training, from `start` to `end`; afterwards it stays.

    Attributes:
        num_draws: the length of training.
        start, end: the share at either end, 0 to 1; start above end ramps down.
        shape: "linear", "cosine" (slow at both ends), or "steps" (equal steps, the first at start, the last at end).
        num_stages: how many stages the table has; of "steps", how many plateaus.
        real: the source that is not synthetic. Synthetic sources share in proportion to their images.
    """

    num_draws: int
    start: float
    end: float
    shape: str = "linear"
    num_stages: int = 100
    real: str = REAL

    def __post_init__(self) -> None:
        """Checks the fields."""
        _check(self, "a ramp", ("start", "end"), "a share from 0 to 1", 0.0, RAMPS)

    def table(self) -> list[tuple[int, float]]:
        """Lists (first position, synthetic share) of each stage and of what comes after the last."""
        starts = equal_starts(self.num_draws, self.num_stages)
        n = len(starts)
        # The middle of a stage, so that a linear ramp holds its integral; plateaus reach both ends instead.
        times = [k / max(1, n - 1) if self.shape == "steps" else (k + 0.5) / n for k in range(n)]
        values = [self.start + (self.end - self.start) * RAMPS[self.shape](t) for t in times]
        return [*zip(starts, map(rounded, values), strict=True), (self.num_draws, float(self.end))]


# Progress 0..1 and the part at the start -> the part of the images that is easy enough.
PACES: Mapping[str, Callable[[float, float], float]] = {
    "linear": lambda t, c: c + (1 - c) * t,
    "root": lambda t, c: math.sqrt(c**2 + (1 - c**2) * t),
    "geometric": lambda t, c: c ** (1 - t),
}


@dataclass(frozen=True)
class Pacing:
    """The easiest part of the images that may be drawn, growing over training; afterwards it is all of them.

    Attributes:
        num_draws: the length of training.
        start: the part at the beginning, above 0, up to 1.
        full_at: when in training all images are in, above 0, up to 1.
        shape: "linear"; "root" (square-root competence: each image added stays in the mix equally long); or
            "geometric" (equal factors).
        num_stages: how many stages the growth has; the last stage holds everything.
    Source: Hacohen and Weinshall 2019 (1904.03626), pacing functions; Platanios et al. 2019 (1903.09848), Eq. 8, root.
    """

    num_draws: int
    start: float = 0.2
    full_at: float = 0.8
    shape: str = "linear"
    num_stages: int = 20

    def __post_init__(self) -> None:
        """Checks the fields."""
        _check(self, "a pacing", ("start", "full_at"), "above 0, up to 1", math.ulp(0.0), PACES)

    def table(self) -> list[tuple[int, float]]:
        """Lists (first position, easiest part) of each stage; the last one is 1."""
        growth = max(1, round(self.num_draws * self.full_at))
        starts = equal_starts(growth, self.num_stages)
        parts = [max(1 / _ONE, rounded(PACES[self.shape](k / len(starts), self.start))) for k in range(len(starts))]
        return [*zip(starts, parts, strict=True), (growth, 1.0)]


Stage = tuple[int, Mapping[str, float]]


def levels(num_draws: int, order: Sequence[str], real_part: float = 0.5, real: str = REAL) -> tuple[Stage, ...]:
    """Lays out DisCL's curriculum: one group of synthetic images after the other, then real images only.

    Args:
        num_draws: the length of training.
        order: the synthetic sources, one a level, from the one that comes first.
        real_part: the part of training, at its end, that is real.
        real: the real source.
    Returns: stages for `Curriculum`: (draws, {source: 1.0}), the levels equally long.
    Raises: ValueError: no level, one named twice, a part out of range, or a stage that would have no draw.
    Source: Liang et al. 2025, DisCL (ICCV).
    """
    num_draws = check_whole("num_draws", num_draws)
    if isinstance(order, str) or not order or len(set(order)) < len(order) or real in order:
        raise ValueError(f"Got the levels {list(order)}, expected synthetic sources, each once. Correct them.")
    check_number("real_part", real_part, "0 <= real_part < 1", lambda part: 0.0 <= part < 1.0)
    last = round(num_draws * real_part)
    num_synthetic = num_draws - last
    if num_synthetic < len(order) or (real_part and not last):
        what = f"{num_draws} draws for {len(order)} levels and a real part of {real_part}"
        raise ValueError(f"Got {what}, expected at least one draw for each. Train longer.")
    edges = [num_synthetic * k // len(order) for k in range(len(order) + 1)]
    stages = [(b - a, {name: 1.0}) for (a, b), name in zip(pairwise(edges), order, strict=True)]
    return (*stages, (last, {real: 1.0})) if last else tuple(stages)


def fractions(num_draws: int, stages: Sequence[tuple[float, Mapping[str, float]]]) -> tuple[Stage, ...]:
    """Turns stages given as parts of training, which sum to 1, into stages of whole draws.

    Raises: ValueError: parts that are not positive numbers, do not sum to 1, or are less than a draw.
    """
    num_draws = check_whole("num_draws", num_draws)
    parts = [check_number("the length of a stage", part, "a part above 0") for part, _ in pairs(stages)]
    if not parts or min(parts) <= 0 or abs(sum(parts) - 1.0) > 1e-6:
        raise ValueError(f"Got stages of {parts} of training, expected parts above 0 that sum to 1. Correct them.")
    edges = [round(num_draws * sum(parts[:k])) for k in range(len(parts))] + [num_draws]
    lengths = [b - a for a, b in pairwise(edges)]
    if min(lengths) < 1:
        raise ValueError(f"Got stages of {lengths} draws, expected at least 1 each. Train longer, or merge stages.")
    return tuple((n, dict(row)) for n, (_, row) in zip(lengths, stages, strict=True))


def equal_starts(num_draws: int, num_stages: int) -> list[int]:
    """The first positions of stages as equal as whole draws allow, none of them empty."""
    n = min(num_stages, num_draws)
    return [num_draws * k // n for k in range(n)]


def rounded(value: float) -> float:
    """Rounds to a multiple of 2^-20."""
    return round(value * _ONE) / _ONE


def pairs(stages: Any) -> list[tuple[Any, Any]]:
    """Returns stages as pairs of a length and shares.

    Raises: ValueError: they are none.
    """
    try:
        return [(length, shares) for length, shares in stages]
    except (TypeError, ValueError) as error:
        raise ValueError(f"Got the stages {stages!r}, expected pairs (length, {{source: share}}).") from error
