"""The figure of the answer: arms one below the other, each with its mean, its interval and its seeds."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from jaxmoust.report.charts import base
from jaxmoust.report.numbers import interval_text

ROW_PX = 45
# Shape and colours by verdict: they differ in grey as much as in colour.
MARKS = {
    "baseline": ("square", base.NEUTRAL, base.PAPER),
    "better": ("triangle-up", base.BETTER, base.PAPER),
    "worse": ("triangle-down", base.WORSE, base.PAPER),
    "equivalent": ("diamond", base.NEUTRAL, base.PAPER),
    "undecided": ("circle", base.PAPER, base.NEUTRAL),
}


@dataclass(frozen=True)
class Interval:
    """One arm's line in the figure: a value a seed, their mean, its interval (None for one seed), a verdict."""

    title: str
    values: Sequence[float]
    mean: float
    interval: tuple[float, float] | None
    verdict: str = "undecided"


def figure(arms: Sequence[Interval], reference: float | None, axis: str, signed: bool = False) -> Markup:
    """Draws `intervals` with the numbers of all arms as its alternative text."""
    words = "; ".join(f"{arm.title} {interval_text(arm.mean, arm.interval, signed)}" for arm in arms)
    return base.markup(intervals(arms, reference, axis, signed), f"{axis}: {words}")


def intervals(arms: Sequence[Interval], reference: float | None, axis: str, signed: bool = False) -> base.Chart:
    """Returns a chart with a line an arm: the mean as a shape, its interval as a bar, each seed as a dot below it.

    Args:
        arms: at least one, top to bottom.
        reference: where the dashed vertical line stands (the baseline's mean, or 0); None for none.
        axis: what the axis counts, with its unit.
        signed: whether it counts differences; else percentages, whose intervals are cut at 0 and 100.
    """
    import altair as alt

    def row(i: int, arm: Interval) -> dict[str, Any]:
        text = interval_text(arm.mean, arm.interval, signed)
        title = base.shortened(arm.title, max(8, int((base.WIDTH - 6.6 * len(text) - 10) / 7.5)))
        low, high = arm.interval or (None, None)
        if not signed and low is not None and high is not None:
            low, high = max(low, 0.0), min(high, 100.0)
        row = {"i": i, "top": i - 0.2, "bottom": i + 0.35, "title": title, "text": text, "verdict": arm.verdict}
        return {**row, "mean": arm.mean, "low": low, "high": high, "seeds": list(arm.values), "reference": reference}

    def by_verdict(place: int) -> dict[str, Any]:
        scale = alt.Scale(domain=list(MARKS), range=[mark[place] for mark in MARKS.values()])
        return {"field": "verdict", "type": "nominal", "scale": scale, "legend": None}

    rows = alt.InlineData([row(i, arm) for i, arm in enumerate(arms)])
    chart = alt.Chart(rows, width=base.WIDTH - 8, height=ROW_PX * len(arms))
    x = alt.X("mean:Q", title=axis, axis=alt.Axis(tickCount=4), scale=alt.Scale(zero=False, nice=False, padding=10))
    y = alt.Y("i:Q", axis=None, scale=alt.Scale(domain=[-0.6, len(arms) - 0.5], reverse=True, nice=False))
    # Beside the marks only: a line through the numbers above them would be read as part of them.
    dashed = chart.mark_rule(strokeDash=base.DASHES).encode(x="reference:Q", y=alt.Y("top:Q", axis=None), y2="bottom:Q")
    seeds = chart.transform_flatten(["seeds"]).mark_circle(yOffset=11, size=18, color=base.SEED, opacity=1)
    means = chart.mark_point(size=130, strokeWidth=1.6, opacity=1).encode(
        x=x, y=y, shape=alt.Shape(**by_verdict(0)), fill=alt.Fill(**by_verdict(1)), stroke=alt.Stroke(**by_verdict(2))
    )
    return alt.layer(
        *([dashed] if reference is not None else []),
        chart.transform_filter("isValid(datum.low)")
        .mark_errorbar(ticks=True)
        .encode(x=alt.X("low:Q", title=axis), x2="high:Q", y=y),
        seeds.encode(x="seeds:Q", y=y),
        means,
        chart.mark_text(align="left", dy=-19, fontWeight=600).encode(x=alt.value(0), y=y, text="title:N"),
        chart.mark_text(align="right", dy=-19, color=base.SOFT).encode(x=alt.value(base.WIDTH - 8), y=y, text="text:N"),
    )
