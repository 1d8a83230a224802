"""The figure of the answer: arms one below the other, each with its mean, its interval and its seeds."""

import statistics
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jaxmoust.report.charts import base
from jaxmoust.report.numbers import interval_text

ROW_PX, LINE_PX = 45, 15
MOST_CHARS = 46  # of a title in one line
# Arms that reach more than CUT times as far as the middle one are cut, to where REACH times as far is.
CUT, REACH = 5.0, 3.0
# Shape, fill, stroke and arrow by verdict: they differ in grey as much as in colour.
MARKS = {
    "baseline": ("square", base.NEUTRAL, base.PAPER, base.NEUTRAL),
    "better": ("triangle-up", base.BETTER, base.PAPER, base.BETTER),
    "worse": ("triangle-down", base.WORSE, base.PAPER, base.WORSE),
    "equivalent": ("diamond", base.NEUTRAL, base.PAPER, base.NEUTRAL),
    "undecided": ("circle", base.PAPER, base.NEUTRAL, base.NEUTRAL),
}


@dataclass(frozen=True)
class Interval:
    """One arm's line in the figure: a value a seed, their mean, its interval (None for one seed), a verdict."""

    name: str
    title: str
    values: Sequence[float]
    mean: float
    interval: tuple[float, float] | None
    verdict: str = "undecided"


def figure(arms: Sequence[Interval], reference: float | None, axis: str, signed: bool = False) -> base.Picture:
    """Draws `intervals` with the numbers of all arms as its alternative text."""
    words = "; ".join(f"{arm.title} {interval_text(arm.mean, arm.interval, signed)}" for arm in arms)
    return base.picture(intervals(arms, reference, axis, signed), f"{axis}: {words}")


def intervals(arms: Sequence[Interval], reference: float | None, axis: str, signed: bool = False) -> base.Chart:
    """Returns a chart with a line an arm: the mean as a shape, its interval as a bar, each seed as a dot below it.

    The axis is that of most arms (see `domain`): of one far away there is an arrow at the edge, and its number. Where a
    title has no room beside its numbers, all titles stand above them, in as many lines as it takes.

    Args:
        arms: at least one, top to bottom.
        reference: where the dashed vertical line stands (the baseline's mean, or 0); None for none.
        axis: what the axis counts, with its unit.
        signed: whether it counts differences; else percentages, whose intervals are cut at 0 and 100.
    """
    import altair as alt

    texts = [interval_text(arm.mean, arm.interval, signed) for arm in arms]
    lines = [textwrap.wrap(arm.title, MOST_CHARS) for arm in arms]
    fit = all(7.5 * len(arm.title) + 6.6 * len(text) < base.WIDTH - 10 for arm, text in zip(arms, texts, strict=True))
    above = 0 if fit else LINE_PX * max(map(len, lines))
    row_px = ROW_PX + above

    def row(arm: Interval, text: str, title: list[str]) -> dict[str, Any]:
        low, high = arm.interval or (None, None)
        if not signed and low is not None and high is not None:
            low, high = max(low, 0.0), min(high, 100.0)
        row = {"arm": arm.name, "whole_title": arm.title, "title": title, "text": text, "verdict": arm.verdict}
        return {**row, "mean": arm.mean, "low": low, "high": high, "seeds": list(arm.values), "reference": reference}

    def by_verdict(place: int) -> dict[str, Any]:
        scale = alt.Scale(domain=list(MARKS), range=[mark[place] for mark in MARKS.values()])
        return {"field": "verdict", "type": "nominal", "scale": scale, "legend": None}

    rows, limits = alt.InlineData(list(map(row, arms, texts, lines))), domain(arms, reference)
    chart = alt.Chart(rows, width=base.WIDTH - 8, height=alt.Step(row_px))
    scale = alt.Scale(zero=False, nice=False, padding=10, domain=limits or alt.Undefined)
    x = alt.X("mean:Q", title=axis, axis=alt.Axis(tickCount=4), scale=scale)
    title_dy = alt.expr(f"-15 - {LINE_PX} * datum.title.length") if above else -15  # the last line above the numbers
    place: dict[str, Any] = {"axis": None, "sort": None, "scale": alt.Scale(padding=0)}
    y = alt.Y("arm:N", bandPosition=(above + 22.5) / row_px, **place)

    def between(top_px: float, bottom_px: float) -> dict[str, Any]:
        start, end = ((above + px) / row_px for px in (top_px, bottom_px))
        return {"y": alt.Y("arm:N", bandPosition=start, **place), "y2": alt.Y2("arm:N", bandPosition=end)}

    means = chart.mark_point(size=130, strokeWidth=1.6, opacity=1, clip=True).encode(
        x=x, y=y, shape=alt.Shape(**by_verdict(0)), fill=alt.Fill(**by_verdict(1)), stroke=alt.Stroke(**by_verdict(2))
    )
    bars = chart.transform_filter("isValid(datum.low)").mark_rule(strokeWidth=1.6, clip=True)
    dots = chart.transform_flatten(["seeds"]).mark_circle(yOffset=11, size=18, color=base.SEED, opacity=1, clip=True)
    seeds = dots.encode(x="seeds:Q", y=y)
    left, right = "datum.mean < domain('x')[0]", "datum.mean > domain('x')[1]"
    arrow = alt.expr(f"{left} ? '◀' : {right} ? '▶' : ''")
    away = chart.mark_text(text=arrow, x=alt.expr(f"{left} ? 5 : width - 5"), fontSize=13)
    tips = [alt.Tooltip(f"{column}:N", title=title) for column, title in TIPS.items()]
    return base.switched(
        alt.layer(
            *(
                # Beside the marks only: a line through the numbers above them would be read as part of them.
                [chart.mark_rule(strokeDash=base.DASHES).encode(x="reference:Q", **between(16, 41))]
                if reference is not None
                else []
            ),
            bars.encode(x=alt.X("low:Q", title=axis), x2="high:Q", y=y),
            *(bars.encode(x=alt.X(f"{end}:Q", title=axis), **between(18, 27)) for end in ("low", "high")),
            *([seeds] if any(arm.values for arm in arms) else []),
            base.zoomed(means, "x"),
            away.encode(y=y, color=alt.Color(**by_verdict(3))),
            chart.mark_text(align="left", dy=title_dy, fontWeight=600, lineHeight=LINE_PX).encode(
                x=alt.value(0), y=y, text="title:N"
            ),
            chart.mark_text(align="right", dy=-15, color=base.SOFT).encode(
                x=alt.value(base.WIDTH - 8), y=y, text="text:N"
            ),
            chart.mark_rect(opacity=0).encode(y=alt.Y("arm:N", **place), tooltip=tips),  # the whole line has them
        )
    )


TIPS = {"whole_title": "Arm", "text": "Mean, 95 % interval", "verdict": "Verdict", "seeds": "Seeds"}


def domain(arms: Sequence[Interval], reference: float | None) -> list[float] | None:
    """Returns the ends of an axis on which most arms can be read, None where that is all of them."""
    middle = statistics.median(arm.mean for arm in arms) if reference is None else reference
    ends = [(*(arm.interval or (arm.mean, arm.mean)), *arm.values, arm.mean) for arm in arms]
    reaches = [max(abs(end - middle) for end in of_arm) for of_arm in ends]
    typical = statistics.median_low(reaches)
    if not 0 < CUT * typical < max(reaches):
        return None
    low, high = middle - REACH * typical, middle + REACH * typical
    # An axis ends where the last of the arms on it does, which may be sooner.
    return [max(low, min(map(min, ends))), min(high, max(map(max, ends)))]
