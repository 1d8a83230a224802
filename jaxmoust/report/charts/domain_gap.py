"""Images in the plane of a classifier's features: real images as discs, synthetic ones as hollow triangles."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jaxmoust.report.charts import base
from jaxmoust.report.charts.base import NEUTRAL, RULE, SYNTHETIC, Chart, zoomed

SIZE, PADDING = (base.SMALL - 5, 124), 8  # in pixels
MAX_POINTS = 150  # of a kind: more cover one another


def plane(points: NDArray[np.floating], is_real: NDArray[np.bool_], labels: Sequence[str]) -> Chart:
    """Returns the chart: at most MAX_POINTS images of each kind, evenly taken; both axes on one scale.

    Args:
        points: [N, 2], finite. is_real: booleans [N], some of both. labels: the class of each.
    Raises: ValueError: other shapes, points that are not finite, or images of one kind only.
    """
    import altair as alt

    if points.shape != (len(is_real), 2) or not np.isfinite(points).all() or not is_real.any() or is_real.all():
        raise ValueError(
            f"domain gap: got points {points.shape} for {int(is_real.sum())} real images of {len(is_real)}, "
            "expected finite [N, 2] with some of both kinds."
        )
    rows = []
    for kind, mask in (("synthetic", ~is_real), ("real", is_real)):
        keys = np.flatnonzero(mask)
        some = keys[np.linspace(0, keys.size - 1, min(keys.size, MAX_POINTS)).astype(int)]
        rows += [
            {"x": x, "y": y, "kind": kind, "class": labels[key]}
            for key, (x, y) in zip(some, points[some].tolist(), strict=True)
        ]
    middle = (points.min(axis=0) + points.max(axis=0)) / 2
    per_px = float((np.ptp(points, axis=0) / (np.array(SIZE) - 2 * PADDING)).max()) or 1.0

    def axis(i: int) -> dict[str, Any]:
        reach = per_px * (SIZE[i] / 2 - PADDING)
        domain = [float(middle[i]) - reach, float(middle[i]) + reach]
        return {"axis": None, "scale": alt.Scale(domain=domain, nice=False, padding=PADDING)}

    def by_kind(real: str, synthetic: str) -> dict[str, Any]:
        scale = alt.Scale(domain=["real", "synthetic"], range=[real, synthetic])
        return {"field": "kind", "type": "nominal", "scale": scale, "legend": None}

    chart = alt.Chart(alt.InlineData(rows), width=SIZE[0], height=SIZE[1], view=alt.ViewConfig(stroke=RULE))
    return zoomed(chart.mark_point(size=30, strokeWidth=1.2, opacity=0.9)).encode(
        tooltip=["kind:N", "class:N"],
        x=alt.X("x:Q", **axis(0)),
        y=alt.Y("y:Q", **axis(1)),
        shape=alt.Shape(**by_kind("circle", "triangle-up")),
        fill=alt.Fill(**by_kind(NEUTRAL, "transparent")),
        stroke=alt.Stroke(**by_kind("transparent", SYNTHETIC)),
    )
