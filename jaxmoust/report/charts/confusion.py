"""The confusion matrix."""

import json
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from jaxmoust.report.charts.base import INK, NEUTRAL, WIDTH, WORSE, Chart, shortened

MOST_TEXT = 12  # classes up to which each cell has room for its number
MOST_LABEL = 14


def confusion_matrix(shares: ArrayLike, class_names: Sequence[str]) -> Chart:
    """Returns the chart: a row for each true class, a column for each predicted one; the diagonal is right.

    Args: shares: [K, K], of the images of a class (row) the part that got each label (column); NaN: it has no images.
    """
    import altair as alt

    rows = [
        {"true": i, "predicted": j, "share": share, "right": i == j}
        for i, of_class in enumerate(np.nan_to_num(np.asarray(shares, np.float64)).tolist())
        for j, share in enumerate(of_class)
        if share > 0
    ]
    names = [shortened(name, MOST_LABEL) for name in class_names]
    words = f"{json.dumps(names)}[datum.value]"
    domain = list(range(len(names)))
    x = alt.X(
        "predicted:O",
        title="predicted",
        scale=alt.Scale(domain=domain),
        axis=alt.Axis(labelExpr=words, grid=False, labelAngle=-60),
    )
    y = alt.Y("true:O", title="true", scale=alt.Scale(domain=domain), axis=alt.Axis(labelExpr=words, grid=False))
    chart = alt.Chart(alt.InlineData(rows), width=WIDTH - 90, height=WIDTH - 90)
    cells = chart.mark_rect().encode(
        x=x,
        y=y,
        color=alt.condition("datum.right", alt.value(NEUTRAL), alt.value(WORSE)),
        # A root, so that rare mistakes are seen beside what is right nearly always.
        opacity=alt.Opacity("share:Q", scale=alt.Scale(type="sqrt", domain=[0, 1], range=[0, 0.8]), legend=None),
        tooltip=[alt.Tooltip("share:Q", format=".1%")],
    )
    if len(names) > MOST_TEXT:
        return alt.layer(cells)
    text = chart.mark_text(fontSize=9, color=INK).encode(x=x, y=y, text=alt.Text("share:Q", format=".0%"))
    return alt.layer(cells, text)
