"""The page that shows what an experiment found: one self-contained HTML file of numbers, charts and pictures.

This file trains nothing, reads no run's folder and claims nothing: the words and numbers come from `findings`.
"""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import numpy as np

from jaxmoust.analysis import accuracy
from jaxmoust.report.charts import base as charts
from jaxmoust.report.charts import sampler_mix
from jaxmoust.report.findings import (
    MINUS,
    Line,
    answer,
    base_words,
    columns_of,
    contenders,
    csv_text,
    gaps,
    interval_text,
    line_of,
    p_text,
    points,
    seconds_text,
    summary_rows,
    tabulate,
)
from jaxmoust.report.page import TEXT_COLUMNS, Page, Section, Table, number_of
from jaxmoust.report.sections.sampler_mix import MAX_ROWS, Draws, extremes, plain, same
from jaxmoust.report.sections.sampler_mix_text import ratio_text, sentence
from jaxmoust.runtime.paths import atomic_write

# Where in the steps the table of draws looks.
MOMENTS = {"start": 0.0, "a quarter": 0.25, "half": 0.5, "three quarters": 0.75, "end": 1.0}
MAX_CLASSES_PICTURED = 20  # every class is in the table of classes
# The metrics that are drawn over steps, in this order, by the names they have in metrics.jsonl.
CURVES = {
    "eval_top1": "Top-1 on the test set, %",
    "top1": "Top-1 on the test set, %",
    "loss": "Training loss",
    "train_loss": "Training loss",
    "eval_loss": "Loss on the test set",
}


def write_report(page: Page, folder: str | Path) -> Path:
    """Writes the page to folder/index.html, whole or not at all, and returns that path; the arms also as summary.csv.

    One file: style, charts, pictures, results.csv and summary.csv are inside it, and nothing is loaded from the
    network.

    Raises: OSError: the folder cannot be written.
    """
    context = _context(page)
    path = Path(folder) / "index.html"
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(path.with_name("summary.csv"), csv_text(context["summary"], ()))
    atomic_write(path, render("page.html", context))
    return path


def render(template: str, context: Mapping[str, Any]) -> str:
    """Fills one of this room's templates; what is not markup is escaped, and a name that is missing is an error."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "points": points,
        "whole": lambda value: f"{round(value):+d}".replace("-", MINUS) if round(value) else "0",
        "p": p_text,
        "seconds": seconds_text,
        "pretty": lambda record: json.dumps(record, indent=2, sort_keys=True, default=str),
    }
    return environment.get_template(template).render(context)


def _context(page: Page) -> dict[str, Any]:
    lines, classes = tabulate(page), _classes(page)
    reference = line_of(page.baseline, lines)
    pictured = list(dict.fromkeys(name for gallery in page.galleries for name in gallery.images))
    pictures = [images for gallery in page.galleries for images in gallery.images.values()]
    columns, summary = columns_of(page.rows), summary_rows(page, lines)
    return {
        "page": page,
        "lines": lines,
        "against": base_words(page),
        "answer": answer(page, lines),
        "gained": any(line.verdict == "better" for line in contenders(lines)),
        "gaps": gaps(page, lines),
        "family": sum(line.holm_p is not None for line in lines),
        "facts": _facts(page),
        "charts": _interval_charts(page, lines),
        "marks": charts.MARKS,
        **sections_context(page.sections),
        "curves": _curve_charts(page),
        "max_points": charts.MAX_POINTS,
        "drawn": _drawn(page),
        "shown_classes": pictured[:MAX_CLASSES_PICTURED],
        "num_classes_pictured": len(pictured),
        "sheet": charts.image_sheet,
        "sheet_columns": min(charts.SHEET_COLUMNS, max(map(len, pictures), default=1)),
        "classes": classes,
        "class_sizes": np.bincount(np.asarray(page.labels, int), minlength=len(page.class_names)).tolist(),
        "shades": charts.shades(classes),
        "worst": {name: accuracy.worst_class(values) for name, values in classes.items()},
        "title_of": {arm.name: arm.title for arm in page.arms},
        "pairs": _pairs(page),
        "columns": columns,
        "numeric": [name for name in columns if name not in TEXT_COLUMNS],
        "summary": summary,
        "summary_csv": charts.data_uri(csv_text(summary, ()).encode(), "text/csv;charset=utf-8"),
        "csv": charts.data_uri(csv_text(page.rows).encode(), "text/csv;charset=utf-8"),
        "stages": _stages(page.provenance),
        "wilson": _wilson_margin(reference, len(page.labels)),
    }


def sections_context(sections: Sequence[Section]) -> dict[str, Any]:
    """Returns what sections.html shows of these sections."""
    return {"sections": [(section, [_cells(table) for table in section.tables]) for section in sections]}


def _facts(page: Page) -> list[tuple[str, str]]:
    def every(column):
        return ", ".join(dict.fromkeys(str(row[column]) for row in page.rows if row[column]))

    seconds = sum(number_of(row["seconds"]) or 0.0 for row in page.rows)
    dirty = sum(_known(stage).get("dirty") is True for stage in page.provenance)
    changed = f"; {dirty} of {len(page.provenance)} stages by a tree with changes not committed" if dirty else ""
    facts = [
        ("runs", f"{len(page.rows)} of {len(page.arms) * len(page.seeds)}"),
        ("seeds", ", ".join(map(str, page.seeds))),
        ("test images", f"{len(page.labels):,} in {len(page.class_names)} classes"),
        ("time of the classifiers", seconds_text(seconds)),
        ("device", every("device")),
        ("commit", every("commit") + changed),
    ]
    return [(name, text) for name, text in facts if text]


def _wilson_margin(reference: Line, num_images: int) -> tuple[float, float] | None:
    """How far the test images alone leave one run of the baseline uncertain, in points below and above."""
    if not num_images or (top1 := reference.summary("top1")) is None:
        return None
    low, high = accuracy.wilson(round(top1.mean / 100 * num_images), num_images)
    return low - top1.mean, high - top1.mean


def _interval_charts(page: Page, lines: Sequence[Line]) -> list[tuple[str, str]]:
    """Titles and charts of the answer: difference to the baseline, Top-1, Top-5."""
    drawn, against = [], base_words(page)
    if dots := [_difference_dots(line, line_of(line.base.name, lines)) for line in lines if line.difference]:
        axis = f"points of Top-1 above {against}"
        drawn.append((f"Difference to {against}", charts.interval_chart(dots, 0.0, axis, cut=None)))
    # Where there are several baselines, none of them is a line for all.
    reference = line_of(page.baseline, lines) if len(page.baselines) == 1 else None
    for k, column in ((1, "top1"), (5, "top5")):
        dots = []
        for line in lines:
            if (s := line.summary(column)) is not None:
                verdict = "baseline" if line.base is None else line.verdict if k == 1 else "open"
                values = list(line.of_seeds(column).values())
                dots.append(
                    charts.Dots(line.arm.title, values, s.mean, s.interval, interval_text(s.mean, s.interval), verdict)
                )
        if dots:
            base = reference and reference.summary(column)
            chart = charts.interval_chart(dots, base and base.mean, f"Top-{k} on the test set, %")
            drawn.append((f"Top-{k}", chart))
    return drawn


def _cells(table: Table) -> tuple[Table, list[bool], list[list[tuple[Any, str]]]]:
    """A section's table as the page shows it: (table, which columns are numbers, rows of (sorted by, text))."""
    values = table.values or [[None] * len(table.columns)] * len(table.rows)
    rows = [[_cell(*pair) for pair in zip(*both, strict=True)] for both in zip(table.rows, values, strict=True)]
    numeric = [all(not isinstance(row[i][0], str) or not row[i][0] for row in rows) for i in range(len(table.columns))]
    return table, numeric, rows


def _cell(cell: str | float | None, value: float | None) -> tuple[Any, str]:
    if isinstance(cell, str):
        return (cell if value is None else value), cell
    if cell is None or not math.isfinite(cell):
        return "", "\N{EN DASH}"
    return cell, (f"{cell:,}" if isinstance(cell, int) else f"{cell:.4g}").replace("-", MINUS)


def _difference_dots(line: Line, reference: Line) -> charts.Dots:
    base, d = reference.of_seeds("top1"), line.difference
    values = [x - base[seed] for seed, x in line.of_seeds("top1").items() if seed in base]
    text = interval_text(d.mean, d.interval, signed=True)
    return charts.Dots(line.arm.title, values, d.mean, d.interval, text, line.verdict)


def _curve_charts(page: Page) -> list[tuple[str, list[tuple[str, str, str]]]]:
    """For each metric, its title and one panel an arm: (arm's title, last value, chart)."""
    drawn = []
    for metric, title in CURVES.items():
        of_arms = {
            arm: [[(step, values[metric]) for step, values in curve if metric in values] for curve in of_seeds.values()]
            for arm, of_seeds in page.curves.items()
        }
        every = [curve for curves in of_arms.values() for curve in curves]
        if not any(len(curve) > 1 for curve in every):
            continue
        heights = [y for curve in every for _, y in curve if math.isfinite(y)]
        log = min(heights, default=0) > 0 and max(heights) > 20 * min(heights)
        frame = charts.curve_frame(every, log)
        bases = {name: charts.thin(charts.mean_curve(of_arms.get(name, []))) for name in page.baselines}
        panels = []
        for arm in page.arms:
            curves = [curve for curve in of_arms.get(arm.name, []) if curve]
            last = "".join(f"{y:.3g}" for _, y in charts.mean_curve(curves)[-1:])
            alt = f"{title} of {arm.title} over {frame[0]:g} steps, at the end {last}"
            panels.append(
                (
                    arm.title,
                    last,
                    charts.curve_panel(curves, bases[page.baseline_of(arm.name)], frame, log, alt) if curves else "",
                )
            )
        drawn.append((title, panels))
    return drawn


def _drawn(page: Page) -> dict[str, Any] | None:
    """What the samplers drew: figures (arms that drew the same share one), arms told in words alone, a table."""
    known = [(arm.title, page.draws[arm.name]) for arm in page.arms if arm.name in page.draws]
    if not known:
        return None
    groups: list[tuple[list[str], Draws]] = []
    for title, draws in known:
        if (like := next((titles for titles, other in groups if same(draws, other)), None)) is not None:
            like.append(title)
        else:
            groups.append(([title], draws))
    in_words: dict[str, list[str]] = {}
    panels = []
    for titles, draws in groups:
        words = sentence(draws)
        if plain(draws):
            in_words.setdefault(words, []).extend(titles)
        else:
            alt = f"{', '.join(titles)}: {words}. Share of each source and of each class over steps."
            panels.append((titles, words, sampler_mix.panel(draws, alt)))
    return {
        "panels": panels,
        "in_words": in_words,
        "unrecorded": [arm.title for arm in page.arms if arm.name not in page.draws],
        "legend": sampler_mix.legend(),
        "grouped": len(page.class_names) > MAX_ROWS,
        "num_rows": min(MAX_ROWS, len(page.class_names)),
        "num_windows": max(len(draws.step_edges) - 1 for _, draws in known),
        "moments": list(MOMENTS),
        "table": [row for title, draws in known for row in _draws_rows(title, draws)],
    }


def _draws_rows(title: str, draws: Draws) -> list[tuple[str, str, list[tuple[float, str]]]]:
    """An arm's rows of the table of draws: (arm, what, [(number, text) at each of MOMENTS])."""
    windows = [draws.window(progress) for progress in MOMENTS.values()]
    percents = [(name, 100 * draws.shares[windows, s]) for s, name in enumerate(draws.source_names)]
    rows = [(title, f"{name}, % of draws", [(x, f"{x:.1f}") for x in of]) for name, of in percents]
    whole = draws.by_class.sum(axis=0)
    at = [extremes(draws.by_class[w], whole, draws.class_names) for w in windows]
    for i, what in enumerate(("least drawn", "most drawn")):
        figures = [(pair[i][1], f"{ratio_text(pair[i][1])} ({pair[i][0]})") for pair in at]
        rows.append((title, f"{what}, times an even share", figures))
    return rows


def _classes(page: Page) -> dict[str, list[float]]:
    """Accuracy per class [K] by arm, the mean over the seeds whose ranks were kept."""
    num_classes = len(page.class_names)
    return {
        arm.name: np.mean(
            [accuracy.per_class(r, page.labels, num_classes) for r in page.ranks[arm.name].values()], axis=0
        ).tolist()
        for arm in page.arms
        if page.ranks.get(arm.name)
    }


def _pairs(page: Page) -> list[dict[str, Any]]:
    """Each run beside its baseline's run of its seed, image by image."""
    bases = {arm.name: page.ranks.get(page.baseline_of(arm.name), {}) for arm in page.arms}
    return [
        {"title": arm.title, "seed": seed, "test": accuracy.mcnemar(ranks, bases[arm.name][seed])}
        for arm in page.arms
        if arm.name not in page.baselines
        for seed, ranks in sorted(page.ranks.get(arm.name, {}).items())
        if seed in bases[arm.name]
    ]


def _known(stage: Mapping[str, Any]) -> dict[str, Any]:
    """All that is recorded of a stage, flat."""
    return {**stage.get("environment", {}), **(stage.get("result") or {}), **stage}


def _stages(provenance: Sequence[Mapping[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """The stages by kind, each flattened to what the page shows."""
    grouped = {}
    for stage in provenance:
        known = _known(stage)
        name = known.get("name") or known["digest"]
        shown = {
            "name": name,
            "what": known.get("what", known["kind"]),
            "found": known.get("found", not known.get("computed", True)),
            "seconds": number_of(known.get("seconds")),
            "device": known.get("device", ""),
            "commit": str(known.get("commit", ""))[:12] + (" and changes" if known.get("dirty") is True else ""),
            "versions": known.get("versions") or known.get("packages"),
            "config": known.get("config", {}),
        }
        grouped.setdefault(known["kind"], []).append(shown)
    return grouped
