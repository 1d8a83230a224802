"""Charts and pictures of a result page, as small inline SVG and PNG: numbers in, markup out.

SVG is written by hand: text stays text, colours come from the page's style (so that dark mode and print work),
and a chart costs a few kilobytes. Nothing is told by colour alone: the verdict on an arm is a shape, and the
baseline is dashed. This file knows neither arms nor statistics, and loads nothing.
"""

import base64
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup, escape
from numpy.typing import NDArray
from PIL import Image

Curve = Sequence[tuple[float, float]]

WIDTH = 360  # a phone's width: text is drawn at its own size there, and slightly larger on a desk
ROW = 45
MAX_POINTS = 80
THUMB_PX = 48
SHEET_COLUMNS = 8

# Shape by verdict, around the origin: they differ in grey as much as in colour.
MARKS = {
    "baseline": '<rect x="-5" y="-5" width="10" height="10" class="mark baseline"/>',
    "better": '<path d="M0-6.5 6.5 5h-13z" class="mark better"/>',
    "worse": '<path d="M0 6.5 6.5-5h-13z" class="mark worse"/>',
    "open": '<circle r="5" class="mark open"/>',
}


@dataclass(frozen=True)
class Dots:
    """One arm's line in a chart: a figure a seed, their mean, its interval (None for one seed), a verdict."""

    title: str
    values: Sequence[float]
    mean: float
    interval: tuple[float, float] | None
    text: str
    verdict: str = "open"


def ticks(low: float, high: float, count: int = 4) -> list[float]:
    """Returns round numbers (1, 2, 2.5 or 5 times a power of ten apart) inside [low, high], about `count`."""
    if not high > low:
        return [low]
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = power * next(m for m in (1, 2, 2.5, 5, 10) if raw <= m * power * (1 + 1e-9))
    first = math.ceil(low / step - 1e-9)
    return [round(i * step, 10) for i in range(first, math.floor(high / step + 1e-9) + 1)]


def number(value: float) -> str:
    """Returns a tick's label: no trailing zeros, a true minus sign, thousands as k."""
    if abs(value) >= 10_000:
        return f"{value / 1000:g}k".replace("-", "\N{MINUS SIGN}")
    return f"{value:.6g}".replace("-", "\N{MINUS SIGN}")


def shortened(text: str, most: int) -> str:
    """Returns the text in at most `most` characters (3 or more), cut in its middle: names differ at either end."""
    if len(text) <= most:
        return text
    kept = most - 1
    return f"{text[: kept - kept // 2].rstrip()}…{text[len(text) - kept // 2 :].lstrip()}"


def interval_chart(
    lines: Sequence[Dots],
    reference: float | None,
    label: str,
    cut: tuple[float, float] | None = (0.0, 100.0),
) -> Markup:
    """Draws one line per arm: the mean as a shape, its interval as a bar, each seed as a dot below it.

    Args:
        lines: at least one arm, top to bottom.
        reference: where the dashed vertical line stands (the baseline's mean, or 0); None for none.
        label: what the axis counts, with its unit.
        cut: the range that is possible; intervals are drawn no further. None for all numbers.
    """
    cut = cut or (-math.inf, math.inf)
    shown = [x for line in lines for x in (*line.values, line.mean, *(line.interval or ()))]
    shown = [min(max(x, cut[0]), cut[1]) for x in (*shown, *([] if reference is None else [reference]))]
    low, high = min(shown), max(shown)
    pad = 0.04 * (high - low) or 1.0
    low, high = max(low - pad, cut[0]), min(high + pad, cut[1])
    bottom = 6 + ROW * len(lines)

    def at(x: float) -> float:
        return 8 + (min(max(x, low), high) - low) / (high - low) * (WIDTH - 16)

    parts = []
    for tick in ticks(low, high):
        x = at(tick)
        anchor = "start" if x < 14 else "end" if x > WIDTH - 14 else "middle"
        parts.append(f'<path d="M{x:.1f} 4V{bottom}" class="grid"/>')
        parts.append(f'<text x="{x:.1f}" y="{bottom + 15}" text-anchor="{anchor}" class="tick">{number(tick)}</text>')
    if reference is not None:
        # Beside the marks only: a line through the numbers above them would be read as part of them.
        rows = "".join(f"M{at(reference):.1f} {ROW * i + 20}v25" for i in range(len(lines)))
        parts.append(f'<path d="{rows}" class="reference"/>')
    parts += [_dots(line, y=4 + ROW * i, at=at) for i, line in enumerate(lines)]
    parts.append(f'<text x="{WIDTH / 2}" y="{bottom + 32}" text-anchor="middle" class="axis">{escape(label)}</text>')
    alt = "; ".join(f"{line.title} {line.text}" for line in lines)
    return svg(WIDTH, bottom + 38, parts, f"{label}: {alt}")


def _dots(line: Dots, y: float, at) -> str:
    text_px = 6.6 * len(line.text)
    fits = max(8, int((WIDTH - text_px - 10) / 7.5))
    title = shortened(line.title, fits)
    middle = y + 25
    parts = [
        f'<text x="2" y="{y + 12}" class="name">{escape(title)}<title>{escape(line.title)}</title></text>',
        f'<text x="{WIDTH - 2}" y="{y + 12}" text-anchor="end" class="value">{escape(line.text)}</text>',
    ]
    if line.interval is not None:
        a, b = (at(x) for x in line.interval)
        parts.append(f'<path d="M{a:.1f} {middle}H{b:.1f}M{a:.1f} {middle - 4}v8M{b:.1f} {middle - 4}v8" class="bar"/>')
    parts += [f'<circle cx="{at(x):.1f}" cy="{middle + 11}" r="2.3" class="seed"/>' for x in line.values]
    parts.append(f'<g transform="translate({at(line.mean):.1f} {middle})">{MARKS[line.verdict]}</g>')
    return "".join(parts)


def thin(curve: Curve, max_points: int = MAX_POINTS) -> list[tuple[float, float]]:
    """Returns the finite points, at most `max_points`: each the mean of a run of neighbours."""
    points = np.array([(x, y) for x, y in curve if math.isfinite(y)], np.float64).reshape(-1, 2)
    if len(points) <= max_points:
        return [(x, y) for x, y in points.tolist()]
    # The borders of np.array_split: the first groups are the longer ones by one.
    sizes = np.full(max_points, len(points) // max_points)
    sizes[: len(points) % max_points] += 1
    sums = np.add.reduceat(points, np.cumsum(sizes) - sizes, axis=0)
    return [(x, y) for x, y in (sums / sizes[:, None]).tolist()]


def mean_curve(curves: Sequence[Curve]) -> list[tuple[float, float]]:
    """Returns the mean over curves at the steps that all of them have."""
    by_step = [dict(curve) for curve in curves]
    common = sorted(set.intersection(*(set(c) for c in by_step))) if by_step else []
    return [(x, float(np.mean([c[x] for c in by_step]))) for x in common]


def curve_frame(curves: Sequence[Curve], log: bool) -> tuple[float, float, float]:
    """Returns (last step, low, high) that all panels of one metric share, so that they can be compared.

    The first tenth of the steps, where everything is still random, does not stretch the frame.
    """
    last = max((x for curve in curves for x, _ in curve), default=1.0)
    settled = [y for curve in curves for x, y in curve if x >= last / 10 and (y > 0 or not log)] or [0.0, 1.0]
    low, high = min(settled), max(settled)
    pad = 0.06 * (high - low) or 0.5
    return float(last), (low / 1.1 if log else low - pad), (high * 1.1 if log else high + pad)


def curve_panel(curves: Sequence[Curve], baseline: Curve, frame, log: bool, alt: str) -> Markup:
    """Draws one arm's small panel: a thin line a seed, a thick one for their mean, the baseline's mean dashed.

    Args:
        curves: one per seed, of (step, value).
        baseline: the baseline's mean curve; empty for none.
        frame: (last step, low, high) of `curve_frame`; what lies outside is cut off.
        log: whether the value's axis is logarithmic.
        alt: the panel in words.
    """
    width, height, left, bottom = 220, 132, 30, 114
    last, low, high = frame
    scale = math.log10 if log else float
    bottom_value, span = scale(low), scale(high) - scale(low)

    def at(x: float, y: float) -> str:
        rise = (scale(y) - bottom_value) / span if y > 0 or not log else -1.0
        return f"{left + 2 + x / last * (width - left - 6):.1f} {bottom - min(max(rise, -9), 9) * (bottom - 6):.1f}"

    def line(curve: Curve, kind: str) -> str:
        return f'<polyline points="{" ".join(at(x, y) for x, y in curve)}" class="{kind}"/>' if curve else ""

    parts = []
    for tick in log_ticks(low, high) if log else ticks(low, high, 3):
        y = at(0, tick).split()[1]
        parts.append(f'<path d="M{left} {y}H{width - 2}" class="grid"/>')
        parts.append(
            f'<text x="{left - 4}" y="{float(y) + 4:.1f}" text-anchor="end" class="tick">{number(tick)}</text>'
        )
    for tick in ticks(0, last, 2):
        x, anchor = float(at(tick, high).split()[0]), "end" if tick == last else "middle" if tick else "start"
        parts.append(f'<text x="{x:.1f}" y="{height - 3}" text-anchor="{anchor}" class="tick">{number(tick)}</text>')
    # The nested svg cuts off what leaves the frame, without an id that another panel could also have.
    parts.append(
        f'<svg x="{left}" y="2" width="{width - left}" height="{bottom - 1}" viewBox="{left} 2 {width - left} '
        f'{bottom - 1}">{line(baseline, "line reference")}'
        + "".join(line(thin(curve), "line seed") for curve in curves)
        + line(thin(mean_curve(curves)), "line mean")
        + "</svg>"
    )
    return svg(width, height, parts, alt)


def log_ticks(low: float, high: float) -> list[float]:
    """Returns round numbers inside [low, high] for a logarithmic axis: powers of ten, and steps between them."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    steps = (1,) if math.log10(high / low) > 2 else (1, 3) if high / low > 4 else (1, 2, 5)
    return [v for p in powers for m in steps if low <= (v := round(m * 10.0**p, 10)) <= high]


def svg(width: float, height: float, parts: Sequence[str], alt: str) -> Markup:
    """Returns a picture of these elements that scales with its place on the page, and reads as `alt`."""
    body = "".join(parts)
    return Markup(
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(alt)}" preserveAspectRatio="xMidYMid">'
        f"{body}</svg>"
    )


def image_sheet(images: NDArray[np.uint8], columns: int = SHEET_COLUMNS) -> dict:
    """Lays images side by side on one transparent PNG, as a data URI with its size and scale.

    A sheet is `columns` images wide however few there are, so that sheets shown equally wide show images of one size.
    Images above 48 pixels are reduced; smaller ones are left as they are, for the page enlarges them without
    smoothing, pixel by pixel.

    Args:
        images: uint8 [n, H, W, C], C 1 or 3, n >= 1; rows of `columns`.
    Returns: {"uri", "width", "height", "count", "crisp"} (crisp: to be enlarged pixel by pixel).
    Raises: ValueError: another dtype, shape or number of channels.
    """
    images = np.asarray(images)
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] not in (1, 3) or not len(images):
        raise ValueError(
            f"gallery images: got {images.dtype} {images.shape}; allowed uint8 [n >= 1, H, W, 1 or 3]; "
            "pass pixels 0..255, channels last"
        )
    if max(images.shape[1:3]) > THUMB_PX:
        images = np.stack([_thumbnail(image) for image in images])
    count, height, width, channels = images.shape
    gap, rows = max(1, width // 8), -(-count // columns)
    sheet = np.zeros((rows * (height + gap) - gap, columns * (width + gap) - gap, channels + 1), np.uint8)
    for i, image in enumerate(images):
        y, x = i // columns * (height + gap), i % columns * (width + gap)
        sheet[y : y + height, x : x + width, :channels] = image
        sheet[y : y + height, x : x + width, channels] = 255
    data = io.BytesIO()
    Image.fromarray(sheet).save(data, format="PNG", optimize=True)
    return {
        "uri": data_uri(data.getvalue(), "image/png"),
        "width": sheet.shape[1],
        "height": sheet.shape[0],
        "count": count,
        "crisp": max(height, width) <= 32,
    }


def _thumbnail(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    height, width, channels = image.shape
    shrink = THUMB_PX / max(height, width)
    size = max(1, round(width * shrink)), max(1, round(height * shrink))
    picture = Image.fromarray(image[..., 0] if channels == 1 else image)
    return np.asarray(picture.resize(size, Image.Resampling.LANCZOS)).reshape(size[1], size[0], channels)


def data_uri(content: bytes, media_type: str) -> str:
    """Returns the content as a link that needs no network."""
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"


def shades(values: Mapping[str, Sequence[float]], deepest: float = 0.62) -> dict[str, list[float]]:
    """Returns for each value an opacity in [0, deepest]: the lower the accuracy, the darker; NaN is 0."""
    every = np.array([v for row in values.values() for v in row], np.float64)
    every = every[np.isfinite(every)]
    low, high = (every.min(), every.max()) if every.size else (0.0, 0.0)
    span = (high - low) or 1.0
    return {
        name: [float(deepest * (high - v) / span) if math.isfinite(v) else 0.0 for v in row]
        for name, row in values.items()
    }
