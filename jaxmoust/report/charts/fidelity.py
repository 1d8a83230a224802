"""Figures of fidelity and memorisation: numbers in, markup out, by hand-written SVG as in charts.py.

Synthetic images are a filled shape, held-out ones a dashed outline, so that nothing is told by colour alone.
"""

import re
from collections.abc import Mapping, Sequence

import numpy as np
from markupsafe import Markup, escape
from numpy.typing import ArrayLike, NDArray

from jaxmoust.report.charts import base as charts
from jaxmoust.report.page import Table

NUM_BINS = 40
MOST_CLASSES = 20
LEFT, TOP, BOTTOM, HEIGHT = 30, 26, 146, 182

# What each metric is called, how it is written, and which way is better (+1 higher, -1 lower, 0 neither).
METRICS: dict[str, tuple[str, str, int]] = {
    "fid": ("FID", ".2f", -1),
    "kid": ("1000 KID", ".2f", -1),
    "cmmd": ("CMMD", ".3f", -1),
    "precision": ("Precision", ".2f", 1),
    "recall": ("Recall", ".2f", 1),
    "density": ("Density", ".2f", 1),
    "coverage": ("Coverage", ".2f", 1),
    "suspicious": ("Suspicious %", ".1f", -1),
    "closer": ("P(closer)", ".2f", 0),
}
_SCALE = {"kid": 1000.0, "suspicious": 100.0}
_NAMED = re.compile(r"^(\w+?)(_floor|_alike)?\[(.+)\]$")


def tables(results: Mapping[str, Mapping[str, object]]) -> list[Table]:
    """Lays out what `jaxmoust measure` left: a table for each extractor (and for pixels), a row for each set.

    Every metric stands beside its floor, the same of test images: of as many synthetic images as there are test images,
    where there are more. Metrics that are not known here (kid_std) are left out.

    Args:
        results: set -> its result.json.
    """
    found: dict[str, dict[str, dict[str, tuple[float, str]]]] = {}
    for name, result in results.items():
        for key in result:
            match = _NAMED.match(key)
            if not match or match[2] or match[1] not in METRICS or f"{match[1]}_floor[{match[3]}]" not in result:
                continue
            metric, of = match[1], match[3]
            _, form, _ = METRICS[metric]
            alike = f"{metric}_alike[{of}]"
            keys = (alike if alike in result else key, f"{metric}_floor[{of}]")
            value, floor = (_SCALE.get(metric, 1.0) * float(result[k]) for k in keys)
            text = f"{value:{form}} ({floor:{form}})".replace("-", "\N{MINUS SIGN}")
            found.setdefault(of, {}).setdefault(name, {})[metric] = value, text
    return [_table(of, rows) for of, rows in found.items()]


def _table(of: str, rows: Mapping[str, Mapping[str, tuple[float, str]]]) -> Table:
    """One extractor's table; an arrow says which way is better."""
    shown = [metric for metric in METRICS if any(metric in row for row in rows.values())]
    arrows = {1: " \N{UPWARDS ARROW}", -1: " \N{DOWNWARDS ARROW}", 0: ""}
    columns = ("Set", *(METRICS[metric][0] + arrows[METRICS[metric][2]] for metric in shown))
    cells = [[row.get(metric, (None, "\N{EN DASH}")) for metric in shown] for row in rows.values()]
    texts = [(name, *(text for _, text in row)) for name, row in zip(rows, cells, strict=True)]
    values = [(None, *(value for value, _ in row)) for row in cells]
    return Table(f"By {of}; in brackets the same of as many test images", columns, texts, values)


def copies_by_class(space: str, of_sets: Mapping[str, Sequence[Mapping[str, object]]]) -> Table:
    """Lays out memorisation by class: a row for each class, a column for each set.

    A cell is the % of suspicious images, in brackets that of the class's held-out images (what a set without copies
    would have), and the lowest ratio.

    Of many classes the MOST_CLASSES with the largest share of suspicious images in any set; memorisation.json has all.

    Args:
        of_sets: set -> the `per_class` of its summary, all in the order of the classes.
    """
    found: dict[str, dict[str, tuple[float, str]]] = {}
    for name, classes in of_sets.items():
        for one in classes:
            of_class = found.setdefault(one["class"], {})
            if one["n"]:
                share = 100 * float(one["share_suspicious"])
                expected = one.get("share_expected")
                floor = "\N{EN DASH}" if expected is None else f"{100 * expected:.1f}"
                of_class[name] = share, f"{share:.1f} ({floor}; {one['lowest_ratio']:.2f})"
    found = {k: shares for k, shares in found.items() if shares}
    worst = sorted(found, key=lambda k: -max(share for share, _ in found[k].values()))[:MOST_CLASSES]
    rows = [k for k in found if k in worst]
    cells = [[found[k].get(name, (None, "\N{EN DASH}")) for name in of_sets] for k in rows]
    title = f"Suspicious % by class, by {space}; in brackets that of held-out images, and the lowest ratio"
    title += f"; the {MOST_CLASSES} highest of {len(found)} classes" if len(found) > MOST_CLASSES else ""
    texts = [(k, *(text for _, text in row)) for k, row in zip(rows, cells, strict=True)]
    return Table(title, ("Class", *of_sets), texts, [(None, *(value for value, _ in row)) for row in cells])


def ratio_histogram(synthetic: ArrayLike, heldout: ArrayLike, threshold: float, label: str) -> Markup:
    """Draws how near synthetic images come to training images, filled, beside held-out ones, dashed.

    Args:
        synthetic, heldout: distance ratios, [N] and [M]; 0 is a copy, 1 the typical held-out image.
        threshold: up to which a synthetic image is suspicious.
        label: what the distance is of, such as "pixels-8px", for the chart in words.
    Raises: ValueError: no ratio, or one that is negative or not finite.
    """
    sets = [np.asarray(x, np.float64) for x in (synthetic, heldout)]
    for x, name in zip(sets, ("synthetic", "heldout"), strict=True):
        if x.ndim != 1 or not x.size or not np.isfinite(x).all() or x.min() < 0:
            raise ValueError(f"{name} ratios: got shape {x.shape}; allowed [N], N at least 1, finite, from 0")
    last = max(float(np.quantile(np.concatenate(sets), 0.995)), 1.2, 1.1 * threshold)
    edges = np.linspace(0, last, NUM_BINS + 1)
    # What lies beyond the last edge is counted in the last bin.
    shares = [100 * np.histogram(np.minimum(x, last), edges)[0] / x.size for x in sets]
    high = max(share.max() for share in shares)
    right = charts.WIDTH - 6

    def across(ratio: float) -> float:
        return LEFT + ratio / last * (right - LEFT)

    def up(share: float) -> float:
        return BOTTOM - share / high * (BOTTOM - TOP - 8)

    parts = []
    for tick in charts.ticks(0, high, 3):
        parts.append(f'<path d="M{LEFT} {up(tick):.1f}H{right}" class="grid"/>')
        text = f"{charts.number(tick)} %" if tick else "0"
        parts.append(f'<text x="{LEFT - 4}" y="{up(tick) + 4:.1f}" text-anchor="end" class="tick">{text}</text>')
    for tick in charts.ticks(0, last, 5):
        place = f'x="{across(tick):.1f}" y="{BOTTOM + 15}" text-anchor="middle"'
        parts.append(f'<text {place} class="tick">{charts.number(tick)}</text>')
    parts.append(f'<path d="{_steps(shares[0], edges, across, up)}V{BOTTOM}Z" class="band made" fill-opacity="0.55"/>')
    parts.append(f'<path d="{_steps(shares[1], edges, across, up)}" class="reference" stroke-width="1.8"/>')
    x = across(threshold)
    parts.append(f'<path d="M{x:.1f} {TOP - 4}V{BOTTOM}" class="bar"/>')
    shift, anchor, word = (-5, "end", "suspicious") if x - LEFT > 72 else (5, "start", "← suspicious")
    parts.append(f'<text x="{x + shift:.1f}" y="{TOP + 6}" text-anchor="{anchor}" class="value">{word}</text>')
    parts += _key()
    place = f'x="{(LEFT + right) / 2}" y="{HEIGHT - 4}" text-anchor="middle"'
    parts.append(f'<text {place} class="axis">distance to the nearest training image</text>')
    return charts.svg(charts.WIDTH, HEIGHT, parts, _in_words(*sets, threshold, label))


def _steps(shares: NDArray, edges: NDArray, across, up) -> str:
    """The outline of a histogram from its lower left corner to above its lower right one."""
    path = f"M{across(edges[0]):.1f} {BOTTOM}"
    for share, edge in zip(shares, edges[1:], strict=True):
        path += f"V{up(share):.1f}H{across(edge):.1f}"
    return path


def _key() -> list[str]:
    return [
        f'<rect x="{LEFT}" y="4" width="14" height="9" class="band made" fill-opacity="0.55"/>',
        f'<text x="{LEFT + 19}" y="13" class="value">synthetic</text>',
        f'<path d="M{LEFT + 88} 9h20" class="reference" stroke-width="1.8"/>',
        f'<text x="{LEFT + 113}" y="13" class="value">held-out real; 1 is their median</text>',
    ]


def _in_words(synthetic: NDArray, heldout: NDArray, threshold: float, label: str) -> str:
    near, far = (100 * float((x <= threshold).mean()) for x in (synthetic, heldout))
    return (
        f"Distance to the nearest training image over that of a typical held-out image, in {label}: median "
        f"{np.median(synthetic):.2f} of synthetic images, {np.median(heldout):.2f} of held-out ones; {near:.1f} % of "
        f"synthetic images lie at or below {threshold:.2f}, {far:.1f} % of held-out ones."
    )


def pairs_gallery(
    synthetic: NDArray[np.uint8],
    train: NDArray[np.uint8],
    ratios: Sequence[float],
    names: Sequence[tuple[str, str]],
) -> Markup:
    """Shows pairs side by side, synthetic on the left, its nearest training image on the right, and their ratio.

    Args:
        synthetic, train: uint8 [P, H, W, C]. ratios: [P]. names: the classes of the two images of each pair.
    """
    figures = []
    for left, right, ratio, (made_for, of_train) in zip(synthetic, train, ratios, names, strict=True):
        sheet = charts.image_sheet(np.stack([left, right]), columns=2)
        alt = f"a synthetic {made_for} and the nearest training image, a {of_train}; ratio {ratio:.2f}"
        crisp = "image-rendering:pixelated;" if sheet["crisp"] else ""
        other = "" if made_for == of_train else f" {escape(made_for)} | {escape(of_train)}"
        figures.append(
            f'<figure><img src="{sheet["uri"]}" width="{sheet["width"]}" height="{sheet["height"]}" '
            f'style="{crisp}width:100%;height:auto" alt="{escape(alt)}">'
            f'<figcaption class="note"><span class="num">{ratio:.2f}</span>{other}</figcaption></figure>'
        )
    grid = "display:grid;grid-template-columns:repeat(auto-fill,minmax(96px,1fr));gap:14px 20px"
    return Markup(f'<div class="pairs" style="{grid}">{"".join(figures)}</div>')
