"""From a Vega-Altair chart to a picture on the page, and the look that all charts share.

A chart function returns a chart; `picture` draws it, once, as static SVG inside the page: text stays text, colours
follow the page's style (so that dark mode and print work), and nothing is loaded. Beside it stands its specification,
from which the page's scripts, where they run, draw the same chart again, so that it answers: values on hover, zoom,
arms switched on and off, a menu that saves it. Nothing is shown by colour alone: the verdict on an arm is a shape, and
the baseline is dashed. This file knows neither arms nor statistics. Altair is imported where a chart is made, so that
who draws nothing does not wait for it.
"""

import functools
import hashlib
import json
import math
import re
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2.utils import htmlsafe_json_dumps
from markupsafe import Markup

from jaxmoust.runtime.paths import atomic_write, read_json, visible

if TYPE_CHECKING:
    from altair import TopLevelMixin as Chart
else:
    Chart = object

Rows = Sequence[Mapping[str, Any]]

WIDTH = 360  # a phone's width: text is panels at its own size there, and slightly larger on a desk
SMALL = 220  # of a small multiple
PANEL = "panel"  # its data set

# The page's colours by their names in style.html, as they are in light mode; no two are the same.
PAPER, INK, SOFT, RULE, GRID = "#ffffff", "#16191d", "#59616b", "#dfe3e8", "#e9ecef"
BETTER, WORSE, NEUTRAL, SEED, SYNTHETIC = "#0b62a8", "#b8480a", "#545c66", "#8a939d", "#7650b5"
VARIABLES = {
    **{PAPER: "paper", INK: "ink", SOFT: "soft", RULE: "rule", GRID: "grid", BETTER: "better", WORSE: "worse"},
    **{NEUTRAL: "neutral", SEED: "seed", SYNTHETIC: "synthetic"},
}
DASHES = [4, 3]
PERCENT = "format(100 * datum.value, '~g') + ' %'"  # the label of a share
THOUSANDS = "datum.value >= 10000 ? format(datum.value / 1000, '~g') + 'k' : format(datum.value, '~g')"

_LABELS = {
    "labelColor": SOFT,
    "labelFontSize": 11,
    "titleColor": SOFT,
    "titleFontSize": 11,
    "titleFontWeight": "normal",
}
_CONFIG = {
    "aria": False,  # the whole picture has one text
    "background": None,
    "padding": 2,
    "font": "system-ui, sans-serif",
    "view": {"stroke": None},
    "axis": {**_LABELS, "gridColor": GRID, "domain": False, "ticks": False, "labelPadding": 5, "labelOverlap": True},
    "header": {"labelColor": INK, "labelFontSize": 11, "labelFontWeight": 600, "labelPadding": 2},
    "legend": {**_LABELS, "symbolStrokeWidth": 0, "offset": 6},
    "text": {"color": INK, "fontSize": 12},
    "rule": {"color": NEUTRAL},
    "errorbar": {"rule": {"color": NEUTRAL, "strokeWidth": 1.6}, "ticks": {"color": NEUTRAL, "strokeWidth": 1.6}},
    "line": {"color": BETTER, "strokeWidth": 2},
    "area": {"color": SEED, "opacity": 0.2},
    "point": {"opacity": 1},
}
_WHOLE = (
    "$schema",
    "config",
    "params",
    "datasets",
    "data",
)  # what a specification has once, however many panels it has
# What a still picture with one alternative text does not need.
_UNUSED = {"xmlns", "xlink", "version", "class", "role", "pointer-events", "font-family", "width", "height"}


@dataclass(frozen=True, eq=False)
class Picture:
    """A chart as the page has it.

    Args:
        words: what it shows, for who does not see it. svg: its still picture. spec: itself, in Vega-Lite; the rows of
            one of several small multiples are its data set "panel".
    """

    words: str
    svg: Markup
    spec: Mapping[str, Any]

    def __html__(self) -> Markup:
        spec = htmlsafe_json_dumps(self.spec, dumps=_dumps)  # in which no text can end the script
        return Markup('<div class="chart">{}<script type="application/json">{}</script></div>').format(self.svg, spec)


def picture(chart: Chart, words: str) -> Picture:
    """Draws a chart as a picture that scales with its place on the page, and reads as `words`."""
    import vl_convert

    spec = _spec(chart)
    return Picture(words, _inline(vl_convert.vegalite_to_svg(spec), words), spec)


def small_multiples(chart: Chart, panels: Sequence[tuple[str, Rows]]) -> list[Picture]:
    """Draws one chart for several data sets, as `picture` does; that it is compiled once makes hundreds of them quick.

    Args:
        chart: its data is `alt.NamedData("panel")`. panels: the words and the rows of each.
    """
    import vl_convert

    spec = _spec(chart)
    compiled = vl_convert.vegalite_to_vega(spec)
    (panel,) = [data for data in compiled["data"] if data["name"] == PANEL]
    pictures = []
    for words, rows in panels:
        shown = panel["values"] = _visible(rows)
        svg = _inline(vl_convert.vega_to_svg(json.dumps(compiled)), words)
        pictures.append(Picture(words, svg, {**spec, "datasets": {PANEL: shown}}))
    return pictures


def facets(panels: Mapping[str, Picture], columns: int = 4) -> dict[str, Any]:
    """Returns small multiples with their titles as one specification, for where they stand alone."""
    rows = [{**row, "facet": title} for title, one in panels.items() for row in one.spec["datasets"][PANEL]]
    spec = {name: value for name, value in next(iter(panels.values())).spec.items() if name not in _WHOLE}
    facet = {"field": "facet", "type": "nominal", "sort": list(panels), "title": None}
    return {
        **{name: value for name, value in next(iter(panels.values())).spec.items() if name in _WHOLE},
        **{"datasets": {PANEL: rows}, "data": {"name": PANEL}, "facet": facet, "columns": columns, "spec": spec},
    }


def save(folder: Path, name: str, spec: Mapping[str, Any]) -> None:
    """Writes folder/NAME.json, a chart in Vega-Lite, and its picture, folder/NAME.png."""
    import vl_convert

    config = {name: value for name, value in spec["config"].items() if name != "background"}
    on_paper = {**spec, "config": config, "background": PAPER, "padding": 8}
    atomic_write(folder / f"{name}.json", _dumps(on_paper))
    atomic_write(folder / f"{name}.png", vl_convert.vegalite_to_png(on_paper, scale=2))


def load(folder: Path) -> dict[str, Any]:
    """Returns the charts that `save` left in a folder, by name, as objects of Altair."""
    import altair as alt

    return {path.stem: alt.Chart.from_dict(read_json(path) or {}) for path in sorted(folder.glob("*.json"))}


@functools.cache
def scripts() -> Markup:
    """Returns Vega, Vega-Lite and Vega-Embed as one script, as vl-convert has them; it takes a second to make."""
    import vl_convert

    return Markup(vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;").replace("</script", "<\\/script"))


def switched(chart: Any) -> Any:
    """Leaves out the rows of the arms that are switched off; their names are in the column "arm"."""
    import altair as alt

    return chart.transform_filter("indexof(hidden, datum.arm) < 0").add_params(alt.param(name="hidden", value=[]))


def zoomed(chart: Any, *axes: Any) -> Any:
    """Lets Shift and the wheel zoom these axes, by default both, and dragging move them; a double click undoes it."""
    import altair as alt

    wheel = "wheel![event.shiftKey]"
    zoom = alt.selection_interval("zoom", bind="scales", encodings=list(axes or ("x", "y")), zoom=wheel)
    return chart.properties(name="zoomed").add_params(zoom)


def _dumps(spec: Any, **how: Any) -> str:
    """JSON whose numbers have no more digits than a chart can show."""
    rounded = json.loads(json.dumps(spec), parse_float=lambda text: float(f"{float(text):.6g}"))
    return json.dumps(rounded, separators=(",", ":"), **how)


def _spec(chart: Chart) -> dict[str, Any]:
    return _visible({**chart.to_dict(), "config": _CONFIG})


def _visible(spec: Any) -> Any:
    """A chart or its rows with controls in words and names made visible: the process ends where one is panels."""
    if isinstance(spec, Mapping):
        return {name: _visible(value) for name, value in spec.items()}
    if isinstance(spec, list | tuple):
        return [_visible(value) for value in spec]
    return visible(spec) if isinstance(spec, str) else spec


def _inline(svg: str, words: str) -> Markup:
    """An SVG file as a part of the page: in its colours and fonts, with ids of its own, without what it leaves out."""
    root, words = ET.fromstring(svg), visible(words)
    # Vega counts its ids through the process, so that neither they nor their number may be part of the page's.
    ids = [element.get("id") for element in root.iter() if element.get("id")]
    own = hashlib.sha256(re.sub(r"clip\d+", "", f"{words}\n{svg}").encode()).hexdigest()[:8]
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        for name, value in list(element.items()):
            if name in _UNUSED - ({"width", "height"} if element.tag == "rect" else set()) or name.startswith("aria"):
                del element.attrib[name]
            elif value in VARIABLES:
                element.set(name, f"var(--{VARIABLES[value]})")
            elif name == "id":
                element.set(name, f"{own}-{ids.index(value)}")
            elif value.startswith("url(#"):
                element.set(name, f"url(#{own}-{ids.index(value[5:-1])})")
            elif "opacity" not in name:
                element.set(name, re.sub(r"(\.\d)\d+", r"\1", value))
        for child in list(element):
            if child.get("d") in ("", "M0,0h0v0h0Z") or child.get("display") == "none" or child.get("opacity") == "0":
                element.remove(child)
    root.attrib |= {"role": "img", "aria-label": words}
    return Markup(ET.tostring(root, encoding="unicode"))  # ElementTree has escaped it


def shortened(text: str, most: int) -> str:
    """Returns the text in at most `most` characters (3 or more), cut in its middle: names differ at either end."""
    if len(text) <= most:
        return text
    kept = most - 1
    return f"{text[: kept - kept // 2].rstrip()}…{text[len(text) - kept // 2 :].lstrip()}"


def log_ticks(low: float, high: float) -> list[float]:
    """Returns round numbers inside [low, high] for a logarithmic axis: powers of ten, and steps between them."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    steps = (1,) if math.log10(high / low) > 2 else (1, 3) if high / low > 30 else (1, 2, 5)
    return [tick for p in powers for m in steps if low <= (tick := round(m * 10.0**p, 10)) <= high]
