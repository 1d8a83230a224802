"""Lines over numbers of images: the learning curve, the exchange of synthetic for real images, accuracy by ratio.

Series differ in the shapes of their marks, bounds are arrows, never colours alone. Rows are plain dicts, so that a
section that computes them can put them into a table as well.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jaxmoust.report.charts.base import (
    DASHES,
    NEUTRAL,
    PAPER,
    SEED,
    SOFT,
    THOUSANDS,
    WIDTH,
    Chart,
    Rows,
    log_ticks,
    zoomed,
)

HEIGHT, PANEL_PX = 220, 96
SHAPES = ["circle", "triangle-up", "square", "diamond", "triangle-down", "cross"]
MOST_SERIES = len(SHAPES)
AXIS_TITLE: dict[str, Any] = {"anchor": "middle", "color": SOFT, "fontSize": 11, "fontWeight": "normal"}
BANDED = "isValid(datum.low)"  # what has an interval
ARROWS = {"at most": "triangle-left", "": "circle", "at least": "triangle-right"}  # to where the truth lies


@dataclass(frozen=True)
class Series:
    """Means by ratio.

    Args:
        name: in the legend. points: (ratio, accuracy, low, high), low and high None without an interval.
    """

    name: str
    points: Sequence[tuple[float, float, float | None, float | None]]


def learning_curve(curve: Rows, measured: Rows, mixtures: Rows) -> Chart:
    """Returns the error of real images alone over their number, and what each mixture is worth on it.

    Args:
        curve: n, error, low, high (None without a band) along the fitted line. measured: the same of real-only runs.
        mixtures: n_base, error, n_eq and bound (a key of ARROWS): a line from a dot at n_base to a circle at n_eq, at
            the height of the error; an arrow where n_eq is a bound.
    """
    import altair as alt

    x = alt.X("n:Q", title="real images", **_log(alt, [row["n"] for row in curve]))
    y = alt.Y("error:Q", title="error, %", scale=alt.Scale(zero=False, nice=False, padding=9))
    fitted, cells, mixed = (
        alt.Chart(alt.InlineData(list(rows)), width=WIDTH - 50, height=HEIGHT) for rows in (curve, measured, mixtures)
    )
    return alt.layer(
        fitted.transform_filter(BANDED).mark_area().encode(x=x, y=alt.Y("low:Q", title="error, %"), y2="high:Q"),
        fitted.mark_line().encode(x=x, y=y),
        mixed.mark_rule(color=SEED, strokeWidth=0.8).encode(x="n_base:Q", x2="n_eq:Q", y="error:Q"),
        mixed.mark_circle(color=SEED, size=10, opacity=1).encode(x="n_base:Q", y="error:Q"),
        _bounded(alt, mixed, "n_eq:Q", "error:Q"),
        cells.transform_filter(BANDED)
        .mark_errorbar(ticks=False)
        .encode(x=x, y=alt.Y("low:Q", title="error, %"), y2="high:Q"),
        zoomed(cells.mark_square(color=NEUTRAL, stroke=PAPER, size=80, opacity=1)).encode(
            x=x, y=y, tooltip=_tips(alt, "n", "error", "low", "high")
        ),
    )


def exchange(rows: Rows, names: Sequence[str]) -> Chart:
    """Returns the synthetic images that real ones are worth, a small panel for each n_base on the same axes.

    x: extra real images that help as much, y: synthetic images, both for each real one; x = 0 is no gain (dashed) and
    less is harm.

    Args:
        rows: name (of the panel) with, of the fitted law: gain, ratio, low, high; or, of a mixture: worth, ratio,
            bound, and worst and best, the ends of its interval.
        names: of the panels, in their order.
    """
    import altair as alt

    columns = min(2, len(names))
    tall = PANEL_PX if len(names) > 2 else 2 * PANEL_PX
    data = alt.InlineData(list(rows))
    chart = alt.Chart(data, width=(WIDTH - 50) / columns - 8, height=tall)
    x = alt.X("gain:Q", title=None, axis=alt.Axis(tickCount=4), scale=alt.Scale(nice=False, padding=9))
    y = alt.Y("ratio:Q", title="synthetic, for each real one", **_log(alt, [row["ratio"] for row in rows]))
    layers = alt.layer(
        chart.mark_rule(strokeDash=DASHES).encode(x=alt.datum(0)),
        chart.transform_filter(BANDED)
        .mark_area(orient="horizontal")
        .encode(x=alt.X("low:Q", title=None), x2="high:Q", y=y),
        chart.mark_line().encode(x=x, y=y, order="ratio:Q"),
        chart.mark_rule(strokeWidth=1.6).encode(x="worst:Q", x2="best:Q", y=y),
        _bounded(alt, chart.transform_filter("isValid(datum.worth)"), "worth:Q", "ratio:Q"),
        data=data,
    )
    panels = layers.facet(alt.Facet("name:N", title=None, sort=list(names)), columns=columns, spacing=14)
    below = alt.TitleParams("extra real images that help as much, for each real one", orient="bottom", **AXIS_TITLE)
    return panels.properties(title=below)


def by_ratio(series: Sequence[Series], head: str = "real") -> Chart:
    """Returns accuracy over the ratio of synthetic to real images, a line per n_base, or whatever `head` says.

    The ratio 0 is real images alone, and stands left of the logarithmic axis, joined by dashes.
    """
    import altair as alt

    ratios = sorted({ratio for one in series for ratio, *_ in one.points if ratio > 0})
    zero = ratios[0] / (ratios[-1] / ratios[0]) ** 0.18 if len(ratios) > 1 else ratios[0] / 2
    rows = [
        {"name": one.name, "ratio": max(ratio, zero), "alone": ratio == 0, "accuracy": mean, "low": low, "high": high}
        for one in series
        for ratio, mean, low, high in one.points
    ]
    names = [one.name for one in series]
    ticks = alt.Axis(values=[zero, *ratios], labelExpr=f"datum.value < {ratios[0]} ? '0' : format(datum.value, '.3~g')")
    chart = alt.Chart(alt.InlineData(rows), width=WIDTH - 50, height=HEIGHT)
    log = alt.Scale(type="log", nice=False, padding=9)
    x = alt.X("ratio:Q", title="synthetic images for each real one", axis=ticks, scale=log)
    y = alt.Y("accuracy:Q", title="accuracy, %", scale=alt.Scale(zero=False, nice=False, padding=9))
    first = chart.transform_window(place="rank()", groupby=["name"], sort=[alt.SortField("ratio")])
    first = first.transform_joinaggregate(broken="max(alone)", groupby=["name"])
    scale, legend = alt.Scale(domain=names, range=SHAPES[: len(names)]), alt.Legend(title=head or None, orient="top")
    marks = chart.mark_point(filled=True, color=NEUTRAL, stroke=PAPER, size=70, opacity=1)
    tips = ["name:N", *_tips(alt, "ratio", "accuracy", "low", "high")]
    return alt.layer(
        chart.transform_filter(BANDED)
        .mark_area()
        .encode(x=x, y=alt.Y("low:Q", title="accuracy, %"), y2="high:Q", detail="name:N"),
        first.transform_filter("datum.broken && datum.place <= 2")
        .mark_line(color=NEUTRAL, strokeDash=DASHES, strokeWidth=1)
        .encode(x=x, y=y, detail="name:N"),
        chart.transform_filter("!datum.alone").mark_line().encode(x=x, y=y, detail="name:N"),
        zoomed(marks).encode(x=x, y=y, shape=alt.Shape("name:N", scale=scale, legend=legend), tooltip=tips),
    )


def _bounded(alt: Any, chart: Any, x: str, y: str) -> Any:
    """Hollow marks: a circle, or a triangle that points to where the truth lies."""
    scale = alt.Scale(domain=list(ARROWS), range=list(ARROWS.values()))
    shape = alt.Shape("bound:N", scale=scale, legend=None)
    tips = _tips(alt, *(shorthand.removesuffix(":Q") for shorthand in (x, y)))
    marks = chart.mark_point(size=50, fill=PAPER, stroke=NEUTRAL, strokeWidth=1.6)
    return marks.encode(x=x, y=y, shape=shape, tooltip=["bound:N", *tips])


def _tips(alt: Any, *columns: str) -> list[Any]:
    return [alt.Tooltip(f"{column}:Q", format=",.4~g") for column in columns]


def _log(alt: Any, values: Sequence[float]) -> dict[str, Any]:
    """A logarithmic axis of numbers of images."""
    axis = alt.Axis(values=log_ticks(min(values), max(values)), labelExpr=THOUSANDS)
    return {"axis": axis, "scale": alt.Scale(type="log", nice=False, padding=9)}
