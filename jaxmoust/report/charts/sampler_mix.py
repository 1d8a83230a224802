"""What a sampler drew over the steps: sources, and classes where some were preferred, as bands with their names."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jaxmoust.data.source import REAL
from jaxmoust.report.charts import base
from jaxmoust.report.draw_counts import DrawCounts

WIDTH = 180
LETTER_PX = 7.4
NAMED = 0.12  # a band's name stands where the band is at least this share of the draws


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
    return alt.vconcat(sources, _bands(draws.step_edges, shares, draws.class_names, in_turn, 130), spacing=6)


def _bands(
    edges: Sequence[int], shares: NDArray, names: Sequence[str], styles: Mapping[str, tuple[str, float]], height: int
) -> Any:
    """Shares [W, S] of the draws, stacked upwards; `styles` has the colour and the opacity of each name."""
    import altair as alt

    rows, labels = [], []
    tops = np.cumsum(shares, axis=1)
    for name, share, top in zip(names, shares.T, tops.T, strict=True):
        low, high = (top - share).tolist(), top.tolist()
        ends = zip(edges, [*low, low[-1]], [*high, high[-1]], strict=True)
        rows += [{"step": step, "low": a, "high": b, "name": name} for step, a, b in ends]
        w = _widest(share)
        if share[w] >= NAMED:
            text = base.shortened(name, 14)
            half = edges[-1] * LETTER_PX / 2 * len(text) / WIDTH  # so that it does not leave the frame
            step = min(max((edges[w] + edges[w + 1]) / 2, half), edges[-1] - half)
            labels.append({"step": step, "share": (low[w] + high[w]) / 2, "text": text})
    scales = [alt.Scale(domain=list(styles), range=[style[i] for style in styles.values()]) for i in (0, 1)]
    y = alt.Axis(labelExpr=base.PERCENT, values=[0, 0.5, 1])
    x = alt.X("step:Q", title=None, axis=alt.Axis(tickCount=2, grid=False), scale=alt.Scale(nice=False))
    area = alt.Chart(alt.InlineData(rows), width=WIDTH, height=height)
    area = area.mark_area(interpolate="step-after", opacity=1, stroke=base.PAPER, strokeWidth=0.8).encode(
        x=x,
        y=alt.Y("low:Q", title=None, axis=y, scale=alt.Scale(domain=[0, 1])),
        y2="high:Q",
        fill=alt.Fill("name:N", scale=scales[0], legend=None),
        fillOpacity=alt.FillOpacity("name:N", scale=scales[1], legend=None),
    )
    text = alt.Chart(alt.InlineData(labels)).mark_text(fontSize=11, fontWeight=600)
    return area + text.encode(x="step:Q", y="share:Q", text="text:N")


def _widest(share: NDArray) -> int:
    """The window where a band is widest; of those that are about as wide the one nearest to the middle."""
    windows = np.flatnonzero(share >= share.max() - 0.1)
    return int(windows[np.abs(windows - (len(share) - 1) / 2).argmin()])
