"""What a sampler drew, in words: one line an arm, computed from the counts.

Says "half" or "evenly" where the counts differ from that by no more than chance, and by less than a reader would see.
"""

import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from jaxmoust.data.source import REAL
from jaxmoust.report.sections.sampler_mix import CHANGED, EVEN, Draws, change, extremes, unevenness

PLAIN_STARTS = ("half", f"{REAL} images", "synthetic share", "the mix")  # what is no set's name is written large


def sentence(draws: Draws) -> str:
    """Returns one line on what was drawn over the steps: the mix of sources, then the classes."""
    text = f"{sources_in_words(draws)}; {classes_in_words(draws)}"
    return text[0].upper() + text[1:] if text.startswith(PLAIN_STARTS) else text


def sources_in_words(draws: Draws) -> str:
    """Returns the mix of sources over the steps: constant, in stages, or rising and falling.

    Figures are means over windows; a stage's border inside a window is found from that window's mix.
    """
    shares = draws.shares
    made = [name for name in draws.source_names if name != REAL]
    total = 1 - shares[:, list(draws.source_names).index(REAL)] if REAL in draws.source_names else None
    if (found := _stages(draws)) is not None:
        one_figure = len(found) > 2 and len(draws.source_names) == 2 and total is not None
        s = list(draws.source_names).index(made[0]) if one_figure else None
        mixes = [_percent(mean[s]) if one_figure else _mix(mean, draws.source_names) for _, mean in found]
        borders = [f" to step {round(step):,}" for step, _ in found[1:]] + [""]
        legs = [mix + border for mix, border in zip(mixes, borders, strict=True)]
        return (f"{made[0]} share " if one_figure else "") + ", then ".join(legs)
    slack = _slack(draws)
    # Without stages some source leaves the slack of its mean, so that one at least counts as moving.
    if total is not None and np.ptp(total) > slack.min():
        return f"{made[0] if len(made) == 1 else 'synthetic'} share {_course(total, slack)}"
    moving = [s for s in range(len(draws.source_names)) if np.ptp(shares[:, s]) > slack.min()]
    if len(moving) > 4:
        return f"the mix of {len(moving)} sources changes over the steps"
    courses = [f"{draws.source_names[s]} {_course(shares[:, s], slack)}" for s in moving]
    return ", ".join([*courses, f"{_percent(1 - total.mean())} real throughout"] if total is not None else courses)


def classes_in_words(draws: Draws) -> str:
    """Returns how the classes were drawn: evenly or not, and whether that changed over the steps."""
    by_class, names = draws.by_class, draws.class_names
    if len(names) == 1:
        return f"one class, {names[0]}"
    whole = by_class.sum(axis=0)
    if change(by_class) <= CHANGED:
        return "classes evenly" if unevenness(whole) <= EVEN else f"classes unevenly, {_spread(whole, whole, names)}"
    ends = max(1, len(by_class) // 8)
    parts = [by_class[:ends].sum(axis=0), by_class[-ends:].sum(axis=0)]
    first, last = ("evenly" if unevenness(part) <= EVEN else _spread(part, whole, names) for part in parts)
    return f"classes change: at first {first}, at the end {last}"


def _spread(part: NDArray, whole: NDArray, names: Sequence[str]) -> str:
    (least, low), (most, high) = extremes(part, whole, names)
    return f"{ratio_text(low)} ({least}) to {ratio_text(high)} ({most}) times an even share"


def _slack(draws: Draws) -> NDArray[np.float64]:
    """How far a window's share [W] may lie off a constant one: 1.5 points, and three deviations of fair coins."""
    return 0.015 + 1.5 / np.sqrt(draws.counts.sum(axis=(1, 2)))


def _stages(draws: Draws) -> list[tuple[float, NDArray]] | None:
    """The first step and mean mix of each stage, when the mix is constant but for jumps; None when it drifts.

    A run of windows is a stage while all lie within the slack of its mean. One window between two stages is where the
    mix jumped within a window. What looks like stages but leaps by little more than the slack is a drift.
    """
    shares, slack = draws.shares, _slack(draws)
    edges, num_windows = np.asarray(draws.step_edges, float), len(shares)
    runs, start = [], 0
    while start < num_windows:
        stop = start + 1
        while stop < num_windows:
            part = shares[start : stop + 1]
            if (np.abs(part - part.mean(axis=0)) > slack[start : stop + 1, None]).any():
                break
            stop += 1
        runs.append((start, stop))
        start = stop
    if len(runs) == 1:
        return [(0.0, shares.mean(axis=0))]
    shortest = max(2, num_windows // 8)
    kept = [run for i, run in enumerate(runs) if run[1] - run[0] > 1 or i in (0, len(runs) - 1)]
    if any(stop - start < shortest for start, stop in kept) or len(kept) > 6:
        return None
    found = [(0.0, shares[slice(*kept[0])].mean(axis=0))]
    for (_, before), (after, stop) in itertools.pairwise(kept):
        mean, last = shares[after:stop].mean(axis=0), found[-1][1]
        leap = np.abs(mean - last)
        if after - before > 1 or leap.max() < 4 * slack.max():
            return None
        step = edges[before]
        if after > before:
            s = int(leap.argmax())
            kept_share = (shares[before, s] - mean[s]) / (last[s] - mean[s])
            step += float(np.clip(kept_share, 0, 1)) * (edges[after] - edges[before])
        found.append((float(step), mean))
    return found


def _course(share: NDArray, slack: NDArray) -> str:
    """A share over windows, as a movement from the first window to the last, or as a range."""
    first, last = _percent(share[0]), _percent(share[-1])
    wobble = 2 * slack.max()
    if share[-1] - share[0] > wobble and (np.maximum.accumulate(share) - share).max() < wobble:
        return f"rising from {first} to {last}"
    if share[0] - share[-1] > wobble and (share - np.minimum.accumulate(share)).max() < wobble:
        return f"falling from {first} to {last}"
    return f"between {_percent(share.min())} and {_percent(share.max())}, {_percent(share.mean())} in all"


def _mix(shares: NDArray, names: Sequence[str]) -> str:
    """A constant mix of sources in words."""
    present = [(name, share) for name, share in zip(names, shares, strict=True) if share > 0]
    if len(present) == 1 or max(shares) >= 0.995:
        name = max(present, key=lambda item: item[1])[0]
        return "real images only" if name == REAL else f"{name} only"
    if len(present) == 2 and abs(present[0][1] - 0.5) < 0.01:
        return f"half {present[0][0]}, half {present[1][0]}"
    if len(present) > 4:
        made = [share for name, share in present if name != REAL]
        real = [f"{_percent(share)} real" for name, share in present if name == REAL]
        return ", ".join([*real, f"{_percent(sum(made))} from {len(made)} synthetic sets"])
    return ", ".join(f"{_percent(share)} {name}" for name, share in present)


def _percent(share: float) -> str:
    return "under 1 %" if 0 < share < 0.005 else f"{100 * share:.0f} %"


def ratio_text(ratio: float) -> str:
    """Returns how many times an even share, to two digits: 12, 1.7, 0.25."""
    return f"{ratio:.0f}" if ratio >= 10 else f"{ratio:.2g}"
