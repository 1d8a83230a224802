"""A grid of two settings: the gain in each cell, as a number on a colour."""

from jaxmoust.report.charts.base import Chart, Rows

CELL_PX = 62


def gains(rows: Rows) -> Chart:
    """Draws gains by the number of synthetic images (across) and their weight (up).

    Args: rows: ratio, weight, gain and fitted of each cell.
    """
    import altair as alt

    most = max((abs(row["gain"]) for row in rows), default=0.0) or 1.0
    num_x, num_y = (len({row[name] for row in rows}) for name in ("ratio", "weight"))
    x = alt.X("ratio:O", title="synthetic images for each real one", axis=alt.Axis(labelAngle=0))
    y = alt.Y("weight:O", title="weight of a synthetic image", sort="descending")
    color = alt.Color("gain:Q", scale=alt.Scale(scheme="redblue", domain=[-most, most]), legend=None)
    tips = ["ratio:O", "weight:O", *(alt.Tooltip(f"{name}:Q", format="+.2f") for name in ("gain", "fitted"))]
    chart = alt.Chart(alt.InlineData(list(rows)), width=num_x * 1.6 * CELL_PX, height=num_y * CELL_PX * 0.7)
    number = alt.condition(f"abs(datum.gain) > {0.75 * most}", alt.value("white"), alt.value("black"))
    return alt.layer(
        chart.mark_rect().encode(x=x, y=y, color=color, tooltip=tips),
        chart.mark_text(fontSize=12).encode(x=x, y=y, text=alt.Text("gain:Q", format="+.2f"), color=number),
    )
