"""What a sampler drew over the steps: sources, and classes where some were preferred, as bands."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jaxmoust.data.source import REAL
from jaxmoust.report.charts import base
from jaxmoust.report.draw_counts import DrawCounts

WIDTH = 180
MOST_NAMED = 8  # bands that have a place in the legend; all have their names where the pointer is


def mix(draws: DrawCounts) -> base.Chart:
    """Returns the figure of one arm: the sources, real images first, and below them its classes unless drawn evenly."""
    import altair as alt

    synthetic = [name for name in draws.source_names if name != REAL]
    styles = {REAL: (base.SEED, 0.38)}
    styles |= {name: (base.SYNTHETIC, 0.8 - 0.55 * i / len(synthetic)) for i, name in enumerate(synthetic)}
    order = sorted(range(len(draws.source_names)), key=lambda s: draws.source_names[s] != REAL)
    names = [draws.source_names[s] for s in order]
    sources = _bands(draws.step_edges, draws.shares[:, order], names, styles, 72)
    if draws.even_classes:
        return sources
    shares = draws.by_class / draws.by_class.sum(axis=1, keepdims=True)
    in_turn = {name: (base.INK, 0.14 + 0.14 * (i % 2)) for i, name in enumerate(draws.class_names)}
    classes = _bands(draws.step_edges, shares, draws.class_names, in_turn, 130)
    both = alt.vconcat(sources, classes, spacing=6)
    return both.resolve_scale(fill="independent", fillOpacity="independent")  # classes have no source's colour


def _bands(
    edges: Sequence[int], shares: NDArray, names: Sequence[str], styles: Mapping[str, tuple[str, float]], height: int
) -> Any:
    """Shares [W, S] of the draws, stacked upwards; `styles` has the colour and the opacity of each name."""
    import altair as alt

    rows = []
    for name, share, top in zip(names, shares.T, np.cumsum(shares, axis=1).T, strict=True):
        low, high = (top - share).tolist(), top.tolist()
        ends = zip(edges, [*low, low[-1]], [*high, high[-1]], strict=True)
        rows += [{"step": step, "low": a, "high": b, "name": name} for step, a, b in ends]
    scales = [alt.Scale(domain=list(styles), range=[style[i] for style in styles.values()]) for i in (0, 1)]
    named = len(names) <= MOST_NAMED
    legend = alt.Legend(title=None, orient="bottom", columns=2, labelLimit=WIDTH // 2) if named else None
    y = alt.Axis(labelExpr=base.PERCENT, values=[0, 0.5, 1])
    x = alt.X("step:Q", title=None, axis=alt.Axis(tickCount=2, grid=False), scale=alt.Scale(nice=False))
    area = alt.Chart(alt.InlineData(rows), width=WIDTH, height=height)
    return area.mark_area(interpolate="step-after", opacity=1, stroke=base.PAPER, strokeWidth=0.8).encode(
        x=x,
        y=alt.Y("low:Q", title=None, axis=y, scale=alt.Scale(domain=[0, 1])),
        y2="high:Q",
        fill=alt.Fill("name:O", scale=scales[0], legend=legend),
        fillOpacity=alt.FillOpacity("name:O", scale=scales[1], legend=legend),
        tooltip="name:N",
    )
