"""From a Vega-Altair chart to markup on the page, and the look that all charts share.

A chart function returns a chart; `markup` draws it, once, as static SVG inside the page: text stays text, colours
follow the page's style (so that dark mode and print work), and nothing is loaded. Nothing is told by colour alone: the
verdict on an arm is a shape, and the baseline is dashed. This file knows neither arms nor statistics. Altair is
imported where a chart is made, so that who draws nothing does not wait for it.
"""

import hashlib
import json
import math
import re
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from jaxmoust.runtime.paths import visible

if TYPE_CHECKING:
    from altair import TopLevelMixin as Chart
else:
    Chart = object

Rows = Sequence[Mapping[str, Any]]

WIDTH = 360  # a phone's width: text is drawn at its own size there, and slightly larger on a desk
SMALL = 220  # of a small multiple

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
    "text": {"color": INK, "fontSize": 12},
    "rule": {"color": NEUTRAL},
    "errorbar": {"rule": {"color": NEUTRAL, "strokeWidth": 1.6}, "ticks": {"color": NEUTRAL, "strokeWidth": 1.6}},
    "line": {"color": BETTER, "strokeWidth": 2},
    "area": {"color": SEED, "opacity": 0.2},
    "point": {"opacity": 1},
}
# What a still picture with one alternative text does not need.
_UNUSED = {"xmlns", "xlink", "version", "class", "role", "pointer-events", "font-family", "width", "height"}


def markup(chart: Chart, words: str) -> Markup:
    """Draws a chart as a picture that scales with its place on the page, and reads as `words`."""
    import vl_convert

    return _inline(vl_convert.vegalite_to_svg(_spec(chart)), words)


def small_multiples(chart: Chart, panels: Sequence[tuple[str, Rows]]) -> list[Markup]:
    """Draws one chart for several data sets, as `markup` does; that it is compiled once makes hundreds of them quick.

    Args:
        chart: its data is `alt.NamedData("panel")`. panels: the words and the rows of each.
    """
    import vl_convert

    compiled = vl_convert.vegalite_to_vega(_spec(chart))
    (panel,) = [data for data in compiled["data"] if data["name"] == "panel"]
    drawn = []
    for words, rows in panels:
        panel["values"] = _visible(rows)
        drawn.append(_inline(vl_convert.vega_to_svg(json.dumps(compiled)), words))
    return drawn


def _spec(chart: Chart) -> dict[str, Any]:
    return _visible({**chart.to_dict(), "config": _CONFIG})


def _visible(spec: Any) -> Any:
    """A chart or its rows with controls in words and names made visible: the process ends where one is drawn."""
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
            if child.get("d") in ("", "M0,0h0v0h0Z") or child.get("display") == "none":
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
