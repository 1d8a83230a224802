"""Figures of what a sampler drew: the mix of sources as stacked bands over steps, and the classes as rows of shades.

Hand-written SVG as in charts.py. Bands are told apart by names written inside them, shades by lightness alone.
"""

import math
from collections.abc import Sequence

import numpy as np
from markupsafe import Markup, escape
from numpy.typing import NDArray

from jaxmoust.data.source import REAL
from jaxmoust.report.charts import base as charts
from jaxmoust.report.sections.sampler_mix import Draws, class_rows
from jaxmoust.report.sections.sampler_mix_text import ratio_text

WIDTH, LEFT, RIGHT = 220, 34, 218
BAND_TOP, BAND_BOTTOM = 5, 61
HEAT_TOP, HEAT_HEIGHT = 70, 90
LABEL_PX, CHARACTER_PX = 12, 7.4  # height of a band's name, and the width of a letter of it in a wide font
NAMED_ROW_PX = 7
NUM_SHADES = 13  # odd, so that an even share is the middle of a shade and chance does not flicker about its border
LEGEND = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0)


def shade(ratio: float) -> int:
    """Returns the shade, 0 (none) to NUM_SHADES, of a ratio to an even share.

    The scale is logarithmic from a quarter to four times, beyond which it stays; 0 is for what was never drawn.
    """
    if ratio <= 0:
        return 0
    return 1 + round((NUM_SHADES - 1) * (min(max(math.log2(ratio), -2.0), 2.0) + 2) / 4)


def opacity(level: int) -> float:
    """Returns the opacity of a shade: an even share is a light grey, so that more and less both stand out."""
    return 0.0 if level == 0 else round(0.05 + 0.87 * ((level - 1) / (NUM_SHADES - 1)) ** 1.6, 3)


def panel(draws: Draws, alt: str) -> Markup:
    """Draws one arm's figure over its steps: above the share of each source, below a row of shades per class.

    Args:
        alt: the figure in words.
    """
    last = draws.step_edges[-1]
    xs = [round(LEFT + edge / last * (RIGHT - LEFT), 1) for edge in draws.step_edges]
    titles, ratios = class_rows(draws)
    row_px = min(HEAT_HEIGHT / len(titles), 16)
    bottom = HEAT_TOP + row_px * len(titles)
    parts = [*_bands(draws, xs), *_heat(ratios, titles, xs, row_px)]
    for tick in charts.ticks(0, last, 2):
        x = LEFT + tick / last * (RIGHT - LEFT)
        anchor = "end" if x > RIGHT - 12 else "middle" if tick else "start"
        text = charts.number(tick)
        parts.append(f'<text x="{x:.1f}" y="{bottom + 13:.1f}" text-anchor="{anchor}" class="tick">{text}</text>')
    return charts.svg(WIDTH, round(bottom + 17), parts, alt)


def _bands(draws: Draws, xs: Sequence[float]) -> list[str]:
    """The sources stacked upwards: real images first, then the synthetic sets in their order."""
    order = sorted(range(len(draws.source_names)), key=lambda s: draws.source_names[s] != REAL)
    tops = np.cumsum(draws.shares[:, order], axis=1)
    height = BAND_BOTTOM - BAND_TOP
    parts, names, low, num_made = [], [], np.zeros(len(tops)), sum(name != REAL for name in draws.source_names)
    made = 0
    for i, s in enumerate(order):
        name, high = draws.source_names[s], tops[:, i]
        kind, fill = ("real", "") if name == REAL else ("made", f' fill-opacity="{0.8 - 0.55 * made / num_made:.2f}"')
        made += name != REAL
        if (high - low).max() > 0:
            path = _outline(xs, BAND_BOTTOM - height * high, BAND_BOTTOM - height * low)
            share = draws.shares[:, s].mean()
            parts.append(
                f'<path d="{path}" class="band {kind}"{fill}><title>{escape(name)}: {share:.0%}</title></path>'
            )
            names.append(_band_name(name, xs, BAND_BOTTOM - height * high, BAND_BOTTOM - height * low))
        low = high
    for share, y in (("100 %", BAND_TOP + 4), ("50", (BAND_TOP + BAND_BOTTOM) / 2 + 4), ("0", BAND_BOTTOM + 4)):
        parts.append(f'<text x="{LEFT - 4}" y="{y:g}" text-anchor="end" class="tick">{share}</text>')
    return parts + names


def _outline(xs: Sequence[float], upper: NDArray, lower: NDArray) -> str:
    """The path of a band: its upper steps to the right, its lower steps back; equal neighbours are one step."""
    there = f"M{xs[0]:.1f} {upper[0]:.1f}"
    for w in range(len(upper)):
        there += f"V{upper[w]:.1f}" if w and f"{upper[w]:.1f}" != f"{upper[w - 1]:.1f}" else ""
        there += f"H{xs[w + 1]:.1f}" if w + 1 == len(upper) or f"{upper[w]:.1f}" != f"{upper[w + 1]:.1f}" else ""
    for w in reversed(range(len(lower))):
        there += f"V{lower[w]:.1f}" if w + 1 == len(lower) or f"{lower[w]:.1f}" != f"{lower[w + 1]:.1f}" else ""
        there += f"H{xs[w]:.1f}" if w == 0 or f"{lower[w]:.1f}" != f"{lower[w - 1]:.1f}" else ""
    return there + "Z"


def _band_name(name: str, xs: Sequence[float], upper: NDArray, lower: NDArray) -> str:
    """The name where the band is thickest, cut in its middle where only that fits; nothing where that does not."""
    for length in (len(name), 9, 7, 5):
        text = charts.shortened(name, length)
        if place := _thickest(CHARACTER_PX * len(text) + 8, xs, upper, lower):
            x, y = place
            return f'<text x="{x:.1f}" y="{y + 4:.1f}" text-anchor="middle" class="band-name">{escape(text)}</text>'
    return ""


def _thickest(width: float, xs: Sequence[float], upper: NDArray, lower: NDArray) -> tuple[float, float] | None:
    """The middle of where a box of this width and of LABEL_PX height fits best into a band, None where it does not."""
    best = (0.0,) * 4
    for start in range(len(upper)):
        stop = int(np.searchsorted(xs, xs[start] + width))
        if stop >= len(xs):
            break
        top, base = upper[start:stop].max(), lower[start:stop].min()
        # Of places about equally thick the one nearest to the middle.
        middle = (xs[start] + xs[stop]) / 2
        thick = base - top if base - top < LABEL_PX else LABEL_PX + 4 * ((base - top - LABEL_PX) // 4)
        best = max(best, (float(thick), -abs(middle - (xs[0] + xs[-1]) / 2), middle, (top + base) / 2))
    return best[2:] if best[0] >= LABEL_PX else None


def _heat(ratios: NDArray, titles: Sequence[str], xs: Sequence[float], row_px: float) -> list[str]:
    """Rows of shades, one path a shade, neighbours of one shade joined; and the rows' names where they can be read."""
    paths: dict[int, list[str]] = {}
    for row, of_windows in enumerate(ratios):
        levels, start = [shade(r) for r in of_windows], 0
        y = HEAT_TOP + row * row_px
        for w, level in enumerate(levels):
            if w + 1 == len(levels) or levels[w + 1] != level:
                # Absolute borders: of two neighbours they are the same number, so that no seam shows.
                box = f"M{xs[start]:.1f} {y:.1f}H{xs[w + 1]:.1f}V{y + row_px:.1f}H{xs[start]:.1f}z"
                paths.setdefault(level, []).append(box)
                start = w + 1
    parts = [
        f'<path d="{"".join(cells)}" opacity="{opacity(level)}"/>' for level, cells in sorted(paths.items()) if level
    ]
    height = row_px * len(titles)
    frame = f'<rect x="{LEFT}" y="{HEAT_TOP}" width="{RIGHT - LEFT}" height="{height:.1f}" class="frame"/>'
    # Rows that are single classes with room for a name are parted and named; groups run into one another.
    lines, names = "", []
    if row_px >= NAMED_ROW_PX:
        lines = "".join(f"M{LEFT} {HEAT_TOP + i * row_px:.1f}H{RIGHT}" for i in range(1, len(titles)))
        names = [_row_name(title, HEAT_TOP + (i + 0.5) * row_px + 3) for i, title in enumerate(titles)]
    shades = f'<g class="heat" shape-rendering="crispEdges">{"".join(parts)}</g>'
    return [shades, f'<path d="{lines}" class="gap"/>', frame, *names]


def _row_name(title: str, y: float) -> str:
    text = escape(charts.shortened(title, 6))
    place = f'x="{LEFT - 4}" y="{y:.1f}" text-anchor="end"'
    return f'<text {place} class="row-name">{text}<title>{escape(title)}</title></text>'


def legend() -> list[tuple[str, float]]:
    """Returns what to write beside each shade of the key, and its opacity."""
    words = {0.0: "never", LEGEND[1]: f"{ratio_text(LEGEND[1])} or less", 1.0: "even", LEGEND[-1]: "4 or more"}
    return [(words.get(ratio, ratio_text(ratio)), opacity(shade(ratio))) for ratio in LEGEND]
