"""Charts of an equivalence fit: the learning curve, the exchange of synthetic for real images, accuracy by ratio.

Numbers in, markup out, in the manner of charts.py, whose classes they use: series are told apart by the shape of their
marks and by names at their ends, bounds by arrows, never by colour. Axes of numbers of images are logarithmic.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup, escape
from numpy.typing import NDArray

from jaxmoust.report.charts import base as charts

WIDTH, HEIGHT = charts.WIDTH, 270
LEFT, RIGHT, TOP, BOTTOM = 44, 356, 10, 230
PANEL_PX = 132  # of a small panel, from title to title
NAMED_RIGHT = 312  # where the plot ends if series have names at its right
LINE_PX = 12.0
# A shape by series, around the origin, about equal in area; they differ in grey as in colour.
SHAPES = (
    '<circle r="3.6" class="mark baseline"/>',
    '<path d="M0-4.6 4.4 3.6h-8.8z" class="mark baseline"/>',
    '<rect x="-3.3" y="-3.3" width="6.6" height="6.6" class="mark baseline"/>',
    '<path d="M0-4.8 4.8 0 0 4.8-4.8 0z" class="mark baseline"/>',
    '<path d="M0 4.6 4.4-3.6h-8.8z" class="mark baseline"/>',
    '<circle r="3" class="mark open"/>',
)
MOST_SERIES = len(SHAPES)


@dataclass(frozen=True)
class Measured:
    """A cell in a chart: where it lies, the interval along the axis that is uncertain, and whether it is a bound.

    Args:
        bound: +1 the truth lies further along that axis, -1 less far, 0 the point itself.
    """

    x: float
    y: float
    interval: tuple[float, float] | None = None
    bound: int = 0


@dataclass(frozen=True)
class Series:
    """A line with its band and its cells.

    Args:
        name: at its end; a number of real images, as a rule. line: of (x, y). band: the outline, two lines of (x, y).
    """

    name: str
    line: Sequence[tuple[float, float]]
    band: tuple[Sequence[tuple[float, float]], Sequence[tuple[float, float]]] | None
    cells: Sequence[Measured]


def learning_curve(
    curve: Series,
    projected: Sequence[tuple[float, float, float, int]],
    alt: str,
) -> Markup:
    """Draws the error of real images alone over their number, and what each mixture is worth on it.

    Args:
        curve: x real images, y error in percent; its cells are the real-only runs, their intervals along y.
        projected: (n_base, error, n_eq, bound) a mixture: a line from a dot at n_base to a
            circle at n_eq, at the height of its error; an arrow where n_eq is a bound.
        alt: the chart in words.
    """
    ys = [y for _, y in curve.line] + [c.y for c in curve.cells] + [error for _, error, _, _ in projected]
    ys += [y for c in curve.cells for y in c.interval or ()] + [y for edge in curve.band or () for _, y in edge]
    xs = [x for x, _ in curve.line] + [n for n, _, _, _ in projected]
    frame = _Frame((min(xs), max(xs)), (min(ys), max(ys)), math.log10, float, (LEFT, RIGHT, TOP, BOTTOM))
    parts = [*frame.grid(), *_labels("real images", "error, %", BOTTOM), *_area(curve, frame)]
    for n_base, error, n_eq, bound in projected:
        x, end, y = frame.x(n_base), frame.x(n_eq), frame.y(error)
        parts.append(f'<path d="M{x:.1f} {y:.1f}H{end:.1f}" class="line seed"/>')
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="1.6" class="seed"/>')
        parts.append(_at(end, y, _arrow(bound) if bound else '<circle r="3" class="mark open"/>'))
    for cell in curve.cells:
        parts += _upright(cell, frame)
        parts.append(_at(frame.x(cell.x), frame.y(cell.y), charts.MARKS["baseline"]))
    return charts.svg(WIDTH, HEIGHT, parts, alt)


def exchange(series: Sequence[Series], alt: str) -> Markup:
    """Draws the synthetic images that real ones are worth, a small panel for each n_base on the same axes.

    x: extra real images that help as much, y: synthetic images, both for each real one. Cells have their interval
    along x, where 0 is no gain (dashed) and less is harm; one beyond the learning curve is an arrow at its bound.
    """
    cells = [cell for one in series for cell in one.cells]
    xs = [0.0, *(x for one in series for x, _ in one.line), *(cell.x for cell in cells)]
    ys = [cell.y for cell in cells]
    columns = min(2, len(series))
    rows = -(-len(series) // columns)
    tall = PANEL_PX if rows > 1 else 2 * PANEL_PX - 30
    parts: list[str] = []
    for i, one in enumerate(series):
        row, column = divmod(i, columns)
        wide = (RIGHT - LEFT - 14 * (columns - 1)) / columns
        left, top = LEFT + column * (wide + 14), TOP + 12 + row * tall
        box = (left, left + wide, top, top + tall - 38)
        frame = _Frame((min(xs), max(xs)), (min(ys), max(ys)), float, math.log10, box)
        parts.append(f'<text x="{left}" y="{top - 4}" class="band-name">{escape(one.name)}</text>')
        parts += frame.grid(numbers_y=column == 0)
        parts.append(f'<path d="M{frame.x(0):.1f} {top}V{box[3]:.1f}" class="reference"/>')
        parts += _area(one, frame)
        for cell in one.cells:
            x, y = frame.x(cell.x), frame.y(cell.y)
            if cell.interval is not None and not cell.bound:
                low, high = (frame.x(v) for v in cell.interval)
                parts.append(f'<path d="M{low:.1f} {y:.1f}H{high:.1f}" class="bar"/>')
            parts.append(_at(x, y, _arrow(cell.bound) if cell.bound else SHAPES[0]))
    bottom = TOP + 12 + rows * tall
    parts += _labels(
        "extra real images that help as much, for each real one", "synthetic, for each real one", bottom - 26
    )
    return charts.svg(WIDTH, bottom + 14, parts, alt)


def by_ratio(series: Sequence[Series], alt: str, head: str = "real") -> Markup:
    """Draws accuracy over the ratio of synthetic to real images, a line per n_base, or whatever `head` says.

    x = 0 is real images alone, and stands left of the logarithmic axis, beyond its break.
    """
    ratios = [x for one in series for x, _ in one.line if x > 0]
    ys = [y for one in series for _, y in one.line]
    ys += [y for one in series for edge in one.band or () for _, y in edge]
    low, high = min(ratios), max(ratios)
    none = low / (high / low) ** 0.18 if high > low else low / 2
    box = (LEFT, NAMED_RIGHT, TOP, BOTTOM)
    frame = _Frame((none, high), (min(ys), max(ys)), lambda x: math.log10(max(x, none)), float, box)
    tried = sorted({float(f"{ratio:.3g}") for ratio in ratios})
    parts = [*frame.grid(tried), frame.tick_x(none, "0")]
    parts += _labels("synthetic images for each real one", "accuracy, %", BOTTOM, NAMED_RIGHT)
    parts += [part for one in series for part in _area(one, frame, gap=True)]
    for one, shape in zip(series, SHAPES, strict=False):
        parts += [_at(frame.x(x), frame.y(y), shape) for x, y in one.line]
    return charts.svg(WIDTH, HEIGHT, [*parts, *_names(series, frame, head)], alt)


class _Frame:
    """Maps numbers to places in a box (left, right, top, bottom), with a little air at its sides."""

    def __init__(
        self,
        xs: tuple[float, float],
        ys: tuple[float, float],
        scale_x: Callable[[float], float],
        scale_y: Callable[[float], float],
        box: tuple[float, float, float, float],
    ):
        self.xs, self.ys, self.scale_x, self.scale_y, self.box = xs, ys, scale_x, scale_y, box

    def x(self, value: float) -> float:
        return self._place(value, self.xs, self.scale_x, self.box[0] + 9, self.box[1] - 8)

    def y(self, value: float) -> float:
        return self._place(value, self.ys, self.scale_y, self.box[3] - 8, self.box[2] + 8)

    @staticmethod
    def _place(value, ends, scale, start, stop):
        low, high = (scale(end) for end in ends)
        share = 0.5 if high <= low else (scale(min(max(value, ends[0]), ends[1])) - low) / (high - low)
        return start + share * (stop - start)

    def tick_x(self, value: float, text: str) -> str:
        x, (_, _, top, bottom) = self.x(value), self.box
        return (
            f'<path d="M{x:.1f} {top}V{bottom:.1f}" class="grid"/>'
            f'<text x="{x:.1f}" y="{bottom + 14:.1f}" text-anchor="middle" class="tick">{text}</text>'
        )

    def grid(self, ticks_x: Sequence[float] = (), numbers_y: bool = True) -> list[str]:
        """The grid and its numbers, thinned until these do not touch; along x at `ticks_x`, else at round numbers."""
        left, right, _, _ = self.box
        parts, last = [], -math.inf
        for tick in ticks_x or _ticks(self.scale_x, self.xs, int((right - left) / 45)):
            text = charts.number(tick)
            if self.x(tick) - last > 4 + 7.0 * len(text):
                parts.append(self.tick_x(tick, text))
                last = self.x(tick)
        last = math.inf
        for tick in _ticks(self.scale_y, self.ys, 5):
            y = self.y(tick)
            if last - y > LINE_PX:
                parts.append(f'<path d="M{left:.1f} {y:.1f}H{right:.1f}" class="grid"/>')
                if numbers_y:
                    at = f'x="{left - 4:.1f}" y="{y + 4:.1f}"'
                    parts.append(f'<text {at} text-anchor="end" class="tick">{charts.number(tick)}</text>')
                last = y
        return parts


def _ticks(scale: Callable[[float], float], ends: tuple[float, float], count: int) -> list[float]:
    if not ends[1] > ends[0]:
        return [ends[0]]
    return charts.ticks(*ends, count) if scale is float else charts.log_ticks(*ends)


def _labels(x: str, y: str, bottom: float, right: float = RIGHT) -> list[str]:
    """What the axes count: below and, turned, at the left."""
    return [
        f'<text x="{(LEFT + right) / 2}" y="{bottom + 32}" text-anchor="middle" class="axis">{escape(x)}</text>',
        f'<text transform="translate(10 {(TOP + bottom) / 2}) rotate(-90)" text-anchor="middle" class="axis">'
        f"{escape(y)}</text>",
    ]


def _area(series: Series, frame: _Frame, gap: bool = False) -> list[str]:
    """The band, then the line over it; with `gap` the piece from x = 0 to the first ratio is dashed."""

    def points(line):
        return " ".join(f"{frame.x(x):.1f},{frame.y(y):.1f}" for x, y in line)

    parts = []
    if series.band is not None and series.line:
        low, high = series.band
        outline = points([*low, *reversed(high)])
        parts.append(f'<polygon points="{outline}" class="band real" style="fill-opacity:.2"/>')
    cut = 2 if gap and series.line and series.line[0][0] == 0 else 0
    if cut:
        parts.append(f'<polyline points="{points(series.line[:2])}" class="line reference"/>')
    parts.append(f'<polyline points="{points(series.line[cut // 2 :])}" class="line mean"/>')
    return parts


def _upright(cell: Measured, frame: _Frame) -> list[str]:
    if cell.interval is None:
        return []
    x, (low, high) = frame.x(cell.x), (frame.y(v) for v in cell.interval)
    return [f'<path d="M{x:.1f} {low:.1f}V{high:.1f}" class="bar"/>']


def _names(series: Sequence[Series], frame: _Frame, head: str) -> list[str]:
    """The names at the right ends of the lines, each with its shape, moved apart where they would touch."""
    ends = [(frame.y(one.line[-1][1]) if one.line else (TOP + BOTTOM) / 2) for one in series]
    places = apart(ends, LINE_PX + 1, TOP + 4, BOTTOM)
    parts = [
        f'<text x="{NAMED_RIGHT + 14}" y="{TOP - 2}" text-anchor="start" class="tick">{escape(head)}</text>'
        if series
        else ""
    ]
    for one, y, shape in zip(series, places, SHAPES, strict=False):
        parts.append(_at(NAMED_RIGHT + 6, y, shape))
        parts.append(f'<text x="{NAMED_RIGHT + 13}" y="{y + 4:.1f}" class="tick">{escape(one.name)}</text>')
    return parts


def apart(places: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Returns the places moved until they are `gap` apart, in their order, inside [low, high] where they fit."""
    order = np.argsort(places, kind="stable")
    moved: NDArray[np.float64] = np.asarray(places, float)[order]
    for i in range(1, len(moved)):
        moved[i] = max(moved[i], moved[i - 1] + gap)
    if len(moved):
        moved[-1] = min(moved[-1], high)
    for i in range(len(moved) - 2, -1, -1):
        moved[i] = min(moved[i], moved[i + 1] - gap)
    if len(moved) and moved[0] < low:
        moved += low - moved[0]
    result = np.empty_like(moved)
    result[order] = moved
    return result.tolist()


def _at(x: float, y: float, mark: str) -> str:
    return f'<g transform="translate({x:.1f} {y:.1f})">{mark}</g>'


def _arrow(bound: int) -> str:
    """A triangle that points to where the truth lies: right for "at least", left for "at most"."""
    tip = 6 if bound > 0 else -6
    return f'<path d="M{tip} 0 {-tip // 2}-5v10z" class="mark open"/>'
