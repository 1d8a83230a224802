"""Training curves as small multiples, a panel an arm: a thin line a seed, a thick one for their mean."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxmoust.report.charts.base import (
    BETTER,
    DASHES,
    NEUTRAL,
    SEED,
    Chart,
    Picture,
    log_ticks,
    small_multiples,
    zoomed,
)

Curve = Sequence[tuple[float, float]]

MAX_POINTS = 40
# Colour, width and dashes of each kind of line, from the lowest to the topmost.
STYLES: dict[str, tuple[str, float, list[int]]] = {
    "baseline": (NEUTRAL, 1.2, DASHES),
    "seed": (SEED, 0.8, []),
    "mean": (BETTER, 2, []),
}


def panels(arms: Sequence[tuple[str, Sequence[Curve], Curve]], metric: str) -> list[Picture]:
    """Draws a panel for each arm, all on the same axes, so that they can be compared.

    Args:
        arms: (title, a curve a seed, the baseline's mean curve). metric: its name, for the panels in words.
    """
    curves = [curve for _, of_seeds, _ in arms for curve in of_seeds]
    heights = [y for curve in curves for _, y in curve if math.isfinite(y)]
    log = min(heights, default=0) > 0 and max(heights) > 20 * min(heights)
    frame, rows_of = curve_frame(curves, log), []
    for title, of_seeds, baseline in arms:
        mean = mean_curve(of_seeds)
        lines = [("baseline", baseline), *(("seed", curve) for curve in of_seeds), ("mean", mean)]
        rows = [
            {"line": i, "kind": kind, "step": [x for x, _ in points], "value": [y for _, y in points]}
            for i, (kind, line) in enumerate(lines)
            if (points := [(x, y) for x, y in thin(line) if y > 0 or not log])
        ]
        rows_of.append((f"{metric} of {title} over {frame[0]:g} steps, at the end {last_value(of_seeds)}", rows))
    return small_multiples(curve_panel(frame, log), rows_of)


def curve_panel(frame: tuple[float, float, float], log: bool) -> Chart:
    """Returns one panel over the data set "panel": a row a line: its number, kind (of STYLES), steps and values.

    Args:
        frame: (last step, low, high) of `curve_frame`; what lies outside is cut off.
        log: whether the value's axis is logarithmic.
    """
    import altair as alt

    def by_kind(place: int) -> dict[str, Any]:
        scale = alt.Scale(domain=list(STYLES), range=[style[place] for style in STYLES.values()])
        return {"field": "kind", "type": "ordinal", "scale": scale, "legend": None}

    steps, values = alt.Axis(tickCount=2, grid=False), alt.Axis(tickCount=3)
    if log:
        values = alt.Axis(values=log_ticks(*frame[1:]), format="~g")
    scale = alt.Scale(type="log" if log else "linear", domain=list(frame[1:]), nice=False)
    chart = alt.Chart(alt.NamedData("panel"), width=186, height=108).transform_flatten(["step", "value"])
    return zoomed(chart.mark_line(clip=True, tooltip=True)).encode(
        x=alt.X("step:Q", title=None, axis=steps, scale=alt.Scale(domain=[0, frame[0]], nice=False)),
        y=alt.Y("value:Q", title=None, axis=values, scale=scale),
        detail="line:N",
        color=alt.Color(**by_kind(0)),
        size=alt.Size(**by_kind(1)),
        strokeDash=alt.StrokeDash(**by_kind(2)),
    )


def curve_frame(curves: Sequence[Curve], log: bool) -> tuple[float, float, float]:
    """Returns (last step, low, high) that all panels of one metric share.

    The first tenth of the steps, where everything is still random, does not stretch the frame.
    """
    last = max((x for curve in curves for x, _ in curve), default=1.0)
    settled = [y for curve in curves for x, y in curve if x >= last / 10 and math.isfinite(y) and (y > 0 or not log)]
    low, high = min(settled, default=0.0), max(settled, default=1.0)
    pad = 0.06 * (high - low) or 0.5
    return float(last), (low / 1.1 if log else low - pad), (high * 1.1 if log else high + pad)


def thin(curve: Curve, max_points: int = MAX_POINTS) -> list[tuple[float, float]]:
    """Returns the finite points, at most `max_points`: each the mean of a run of neighbours."""
    points = np.array([(x, y) for x, y in curve if math.isfinite(y)], np.float64).reshape(-1, 2)
    if len(points) > max_points:
        # The borders of np.array_split: the first groups are the longer ones by one.
        sizes = np.full(max_points, len(points) // max_points)
        sizes[: len(points) % max_points] += 1
        points = np.add.reduceat(points, np.cumsum(sizes) - sizes, axis=0) / sizes[:, None]
    return [(x, y) for x, y in points.tolist()]


def mean_curve(curves: Sequence[Curve]) -> list[tuple[float, float]]:
    """Returns the mean over curves at the steps that all of them have."""
    by_step = [dict(curve) for curve in curves]
    common = sorted(set.intersection(*(set(c) for c in by_step))) if by_step else []
    return [(x, sum(c[x] for c in by_step) / len(by_step)) for x in common]


def last_value(curves: Sequence[Curve]) -> str:
    """Returns the mean at the last step, to three digits; "" where there is none."""
    return "".join(f"{y:.3g}" for _, y in mean_curve(curves)[-1:])
