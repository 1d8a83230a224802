"""What a sampler drew over the steps: the sources as stacked bands, and below them the classes as rows of shades.

Bands are told apart by names written inside them, shades by lightness alone.
"""

import itertools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jaxmoust.report.charts.base import INK, PAPER, PERCENT, SEED, SYNTHETIC, Chart, shortened
from jaxmoust.report.draw_counts import DrawCounts, class_rows

WIDTH = 180
NAMED = 0.22  # a band's name stands where the band is at least this share of the draws
REAL = "real"
LETTER_PX = 7.4
SHADES = 3  # for each doubling of the draws


def mix(draws: DrawCounts) -> Chart:
    """Returns the figure of one arm; its classes only where some were preferred."""
    import altair as alt

    bands = _bands(draws)
    return bands if draws.even_classes else alt.vconcat(bands, _classes(draws), spacing=6)


def _bands(draws: DrawCounts) -> Any:
    """The sources stacked upwards: real images first, then the synthetic sets in their order."""
    import altair as alt

    edges = list(draws.step_edges)
    order = sorted(range(len(draws.source_names)), key=lambda s: draws.source_names[s] != REAL)
    tops = np.cumsum(draws.shares[:, order], axis=1)
    rows, names = [], []
    low = np.zeros(len(tops))
    for s, high in zip(order, tops.T, strict=True):
        name, ends = draws.source_names[s], [*range(len(tops)), len(tops) - 1]
        rows += [
            {"step": edge, "low": low[w], "high": high[w], "source": name} for edge, w in zip(edges, ends, strict=True)
        ]
        w = _widest(high - low)
        if high[w] - low[w] >= NAMED:
            written, last = shortened(name, 14), edges[-1]
            half = last * LETTER_PX / 2 * len(written) / WIDTH  # so that it does not leave the frame
            step = min(max((edges[w] + edges[w + 1]) / 2, half), last - half)
            names.append({"step": step, "share": (low[w] + high[w]) / 2, "name": written})
        low = high
    synthetic = [name for name in draws.source_names if name != REAL]
    depth = [0.8 - 0.55 * i / len(synthetic) for i in range(len(synthetic))]
    colours = alt.Scale(domain=[REAL, *synthetic], range=[SEED, *[SYNTHETIC] * len(synthetic)])
    opacities = alt.Scale(domain=[REAL, *synthetic], range=[0.38, *depth])
    x = alt.X("step:Q", title=None, axis=alt.Axis(tickCount=2, grid=False), scale=alt.Scale(nice=False))
    y = alt.Y("low:Q", title=None, axis=alt.Axis(labelExpr=PERCENT, values=[0, 0.5, 1]), scale=alt.Scale(domain=[0, 1]))
    area = alt.Chart(alt.InlineData(rows), width=WIDTH, height=60)
    area = area.mark_area(interpolate="step-after", opacity=1, stroke=PAPER, strokeWidth=1)
    text = alt.Chart(alt.InlineData(names)).mark_text(fontSize=11, fontWeight=600, limit=WIDTH)
    return alt.layer(
        area.encode(
            x=x,
            y=y,
            y2="high:Q",
            detail=alt.Detail("source:N"),
            fill=alt.Fill("source:N", scale=colours, legend=None),
            fillOpacity=alt.FillOpacity("source:N", scale=opacities, legend=None),
        ),
        text.encode(x="step:Q", y="share:Q", text="name:N"),
    )


def _widest(thickness: NDArray) -> int:
    """The window where a band is thickest; of those that are about as thick the one nearest to the middle."""
    windows = np.flatnonzero(thickness >= thickness.max() - 0.1)
    return int(windows[np.abs(windows - (len(thickness) - 1) / 2).argmin()])


def _classes(draws: DrawCounts) -> Any:
    """Rows of shades: the darker, the more often a class was drawn; on a logarithmic scale about an even share."""
    import altair as alt

    titles, ratios = class_rows(draws)
    shades = np.round(SHADES * np.log2(np.clip(ratios, 0.25, 4)))
    rows = []
    for k, of_class in enumerate(np.where(ratios > 0, shades, np.nan)):
        # Neighbours of one shade are one mark.
        borders = [0, *(np.flatnonzero(np.diff(of_class)) + 1), len(of_class)]
        rows += [
            {"class": titles[k], "start": draws.step_edges[a], "stop": draws.step_edges[b], "shade": float(of_class[a])}
            for a, b in itertools.pairwise(borders)
            if ratios[k, a] > 0
        ]
    chart = alt.Chart(alt.InlineData(rows), width=WIDTH, height=max(60, min(90, 16 * len(titles))))
    opacity = alt.Scale(domain=[-2 * SHADES, 2 * SHADES], range=[0.06, 0.92])
    return chart.mark_rect(color=INK).encode(
        x=alt.X("start:Q", title=None, axis=alt.Axis(tickCount=2, grid=False), scale=alt.Scale(nice=False)),
        x2="stop:Q",
        y=alt.Y("class:N", title=None, sort=titles, axis=alt.Axis(labelFontSize=8, labelLimit=30, labelPadding=3)),
        opacity=alt.Opacity("shade:Q", scale=opacity, legend=None),
    )
