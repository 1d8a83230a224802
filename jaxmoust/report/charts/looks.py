"""How an arm's difference became certain: its interval at each look, one panel an arm."""

from collections.abc import Mapping, Sequence
from typing import Any

from jaxmoust.report.charts import base

HEIGHT = 90
ENDS = ("mean", "low", "high")


def panels(arms: Sequence[tuple[str, base.Rows]], margin: float) -> list[base.Picture]:
    """Draws for each arm the interval of its difference over the seeds of its looks, between dashed margins.

    Args: arms: (words, a row a look with seeds, mean, low and high), as `cut` leaves them.
    """
    import altair as alt

    seeds = sorted({row["seeds"] for _, rows in arms for row in rows})
    chart = alt.Chart(alt.NamedData("panel"), width=base.SMALL - 40, height=HEIGHT)
    x = alt.X("seeds:Q", title="seeds", scale=alt.Scale(domain=[0, seeds[-1] + 1]), axis=alt.Axis(values=seeds))
    y = alt.Y("low:Q", title=None, axis=alt.Axis(tickCount=4), scale=alt.Scale(nice=False, padding=4))
    lines = alt.Chart(alt.InlineData([{}]))
    edges = [lines.mark_rule(strokeDash=base.DASHES).encode(y=alt.datum(edge)) for edge in (-margin, margin)]
    return base.small_multiples(
        alt.layer(
            lines.mark_rule().encode(y=alt.datum(0)),
            *edges,
            chart.mark_errorbar(ticks=True).encode(x=x, y=y, y2="high:Q"),
            chart.mark_circle(size=50, color=base.NEUTRAL, opacity=1).encode(
                x=x, y="mean:Q", tooltip=["seeds:Q", *(alt.Tooltip(f"{end}:Q", format="+.2f") for end in ENDS)]
            ),
        ),
        arms,
    )


def cut(rows: Sequence[Mapping[str, Any]], margin: float) -> list[dict[str, Any]]:
    """Returns the rows with ends no farther from 0 than three times what the last look needs: early ones are huge."""
    last = rows[-1]
    most = 3 * max(abs(last["low"]), abs(last["high"]), margin)
    return [{**row, **{end: min(max(row[end], -most), most) for end in ENDS}} for row in rows]
