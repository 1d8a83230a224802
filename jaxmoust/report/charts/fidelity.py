"""How near synthetic images come to training images, as a histogram beside that of held-out ones."""

import numpy as np
from numpy.typing import ArrayLike

from jaxmoust.report.charts.base import DASHES, INK, NEUTRAL, PERCENT, SMALL, SOFT, SYNTHETIC, Chart

NUM_BINS = 40


def ratio_histogram(synthetic: ArrayLike, heldout: ArrayLike, threshold: float) -> Chart:
    """Returns the chart: synthetic images a filled shape, held-out ones a dashed outline.

    Args:
        synthetic, heldout: distance ratios, [N] and [M]; 0 is a copy, 1 the typical held-out image.
        threshold: up to which a synthetic image is suspicious.
    Raises: ValueError: no ratio, or one that is negative or not finite.
    """
    import altair as alt

    ratios = {"synthetic": np.asarray(synthetic, np.float64), "heldout": np.asarray(heldout, np.float64)}
    for name, values in ratios.items():
        if values.ndim != 1 or not values.size or not np.isfinite(values).all() or values.min() < 0:
            raise ValueError(f"{name} ratios: got shape {values.shape}, expected [N], N at least 1, finite, from 0.")
    last = max(float(np.quantile(np.concatenate(list(ratios.values())), 0.995)), 1.2, 1.1 * threshold)
    edges = np.linspace(0, last, NUM_BINS + 1)
    # What lies beyond the last edge is counted in the last bin.
    shares = {name: np.histogram(np.minimum(values, last), edges)[0] / values.size for name, values in ratios.items()}
    rows = [
        {"ratio": edge, **{name: share[min(i, NUM_BINS - 1)] for name, share in shares.items()}}
        for i, edge in enumerate(edges.tolist())
    ]
    chart = alt.Chart(alt.InlineData(rows), width=SMALL - 34, height=96)
    x = alt.X("ratio:Q", title="distance to the nearest training image", axis=alt.Axis(grid=False, tickCount=5))
    tips = [alt.Tooltip("ratio:Q", format=".2f"), *(alt.Tooltip(f"{name}:Q", format=".1%") for name in shares)]
    y = alt.Y("synthetic:Q", title=None, axis=alt.Axis(labelExpr=PERCENT, tickCount=3))
    left = threshold > 0.25 * last  # where there is room for the word
    bound = alt.Chart(alt.InlineData([{"ratio": threshold, "word": "suspicious" if left else "← suspicious"}]))
    word = bound.mark_text(align="right" if left else "left", dx=-5 if left else 5, y=-7, color=SOFT)
    return alt.layer(
        chart.mark_area(interpolate="step-after", color=SYNTHETIC, opacity=0.5).encode(x=x, y=y),
        chart.mark_line(interpolate="step-after", color=NEUTRAL, strokeDash=DASHES).encode(x=x, y="heldout:Q"),
        bound.mark_rule(color=INK, strokeWidth=1.6).encode(x=x),
        word.encode(x=x, text="word:N"),
        chart.mark_bar(opacity=0).encode(x=x, y=alt.value(0), y2=alt.value("height"), tooltip=tips),
    )
