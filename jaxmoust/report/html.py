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
from jaxmoust.analysis.metrics import METRICS, NUM_BINS
from jaxmoust.report import findings, numbers, power
from jaxmoust.report.arms import ArmSummary, number_of
from jaxmoust.report.charts import base as charts
from jaxmoust.report.charts import intervals, pictures
from jaxmoust.report.page import COLUMNS, METRIC_COLUMNS, TEXT_COLUMNS, Cell, Figure, Page, Section, Table, slug
from jaxmoust.report.sections import cost, sampler_mix, training
from jaxmoust.runtime.paths import atomic_write, visible

MAX_CLASSES_PICTURED = 20  # every class is in the table of classes
BOOTSTRAP = (
    "low and high are the 95 % intervals of the table of results. Those called bootstrap are percentiles of resampled "
    "seeds, and for the difference of resampled test images, too. With about three seeds those of a mean are too short."
)
MEASURED = (
    "Means over seeds with their 95 % intervals. Balanced accuracy and macro-F1 count every class alike, however few "
    f"its images. The calibration error has {NUM_BINS} bins of equal width; it and the likelihood are better if lower."
)


def write_report(page: Page, folder: str | Path, with_figures: bool = False) -> Path:
    """Writes the page to folder/index.html, whole or not at all, and returns that path; the arms also as summary.csv.

    One file: style, scripts, charts, pictures, results.csv and summary.csv are inside it, and nothing is loaded from
    the network.

    Args: with_figures: whether each figure is also written as folder/figures/NAME.png and, in Vega-Lite, NAME.json.
    Raises: OSError: the folder cannot be written.
    """
    summary = findings.summary_rows(page)
    context = _context(page, summary)
    html = render("page.html", context)
    path = Path(folder) / "index.html"
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(path.with_name("summary.csv"), findings.csv_text(summary, ()))
    atomic_write(path, html)
    if with_figures:
        figures = path.with_name("figures")
        figures.mkdir(exist_ok=True)
        for earlier in (*figures.glob("*.json"), *figures.glob("*.png")):
            earlier.unlink()
        for name, spec in _specs(context["figures"], [*context["sections"], *context["image_sections"]]).items():
            charts.save(figures, name, spec)
    return path


def _specs(answer: Mapping[str, Figure], sections: Sequence[Section]) -> dict[str, Mapping[str, Any]]:
    """What each figure of a page is called in a folder, and its specification; small multiples are one."""
    specs = {name: figure.markup.spec for name, figure in answer.items() if isinstance(figure.markup, charts.Picture)}
    for section in sections:
        pictures = {
            " ".join(filter(None, (group, one.title))): one.markup
            for group, figures in section.groups.items()
            for one in figures
            if isinstance(one.markup, charts.Picture)
        }
        multiples = {title: one for title, one in pictures.items() if charts.PANEL in one.spec.get("datasets", ())}
        if multiples:
            specs[section.anchor] = charts.facets(multiples)
        specs |= {f"{section.anchor}-{slug(t)}": one.spec for t, one in pictures.items() if t not in multiples}
    return specs


def render(template: str, context: Mapping[str, Any]) -> str:
    """Fills one of this room's templates; what is not markup is escaped, and a name that is missing is an error."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {"scripts": charts.scripts, "variables": charts.VARIABLES}
    environment.filters |= {
        "points": numbers.points,
        "percent": numbers.percent,
        "p": numbers.p_text,
        "seconds": numbers.seconds_text,
        "whole": lambda value: f"{round(value):+d}".replace("-", numbers.MINUS) if round(value) else "0",
        "pretty": lambda record: json.dumps(record, indent=2, sort_keys=True, default=str),
    }
    return visible(environment.get_template(template).render(context))


def _context(page: Page, summary: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    classes = _classes(page)
    pictured = list(dict.fromkeys(name for gallery in page.galleries for name in gallery.images))
    sections = [*page.sections, *cost.sections(page), *training.sections(page), *sampler_mix.sections(page)]
    fullest = max((len(images) for gallery in page.galleries for images in gallery.images.values()), default=1)
    return {
        "page": page,
        "against": findings.base_words(page),
        "answer": findings.answer(page),
        "gained": any(arm.verdict == "better" for arm in findings.contenders(page)),
        "gaps": findings.gaps(page),
        "verdict": lambda arm: findings.verdict_words(arm, page),
        "method": findings.method(page),
        "seconds": sum(number_of(row["seconds"]) or 0.0 for row in page.rows),
        "to_decide": findings.to_decide(page),
        "power": power.sections(page),
        "figures": _figures(page),
        "sections": [section for section in sections if not section.of_images],
        "image_sections": [section for section in sections if section.of_images],
        "shown_classes": pictured[:MAX_CLASSES_PICTURED],
        "num_classes_pictured": len(pictured),
        "sheet": pictures.image_sheet,
        "sheet_columns": min(pictures.SHEET_COLUMNS, fullest),
        "classes": classes,
        "class_sizes": np.bincount(np.asarray(page.labels, int), minlength=len(page.class_names)).tolist(),
        "shades": pictures.shades(classes),
        "titles": {arm.name: arm.title for arm in page.arms},
        "worst": {name: accuracy.worst_class(values) for name, values in classes.items()},
        "tables": [
            _csv_table(f"results.csv, {_count(len(page.rows), 'run')}", page.rows, COLUMNS),
            _csv_table(f"summary.csv, {_count(len(summary), 'arm')}: intervals by bootstrap", summary, (), BOOTSTRAP),
            *_measured(page),
            *_pairs(page),
        ],
        "downloads": {
            f"{name}.csv": pictures.data_uri(text.encode(), "text/csv;charset=utf-8")
            for name, text in (("results", findings.csv_text(page.rows)), ("summary", findings.csv_text(summary, ())))
        },
        "settings": {
            name: [arm.setting(name, "{:,.0f}") for arm in page.summaries if arm.runs] for name in ("steps", "n_base")
        },
        "wilson": _wilson_margin(page),
        "with_top5": findings.has_top5(page),
    }


def _wilson_margin(page: Page) -> tuple[float, float] | None:
    """How far the test images alone leave one run of the baseline uncertain, in points below and above."""
    num_images, top1 = len(page.labels), page.summary_of(page.baseline).over_seeds("top1")
    if not num_images or top1 is None:
        return None
    low, high = accuracy.wilson(round(top1.mean / 100 * num_images), num_images)
    return low - top1.mean, high - top1.mean


def _figures(page: Page) -> dict[str, Figure]:
    """The figures of the answer, by name: the difference of each arm from its baseline, and the accuracy of each."""
    against, figures = findings.base_words(page), {}
    gains = [
        intervals.Interval(arm.info.name, arm.title, list(arm.gains.values()), d.difference, d.interval, arm.verdict)
        for arm in page.summaries
        if (d := arm.decision)
    ]
    if gains:
        picture = intervals.figure(gains, 0.0, f"{page.terms.unit} above {against}", signed=True)
        figures["difference"] = Figure(f"Difference from {against}", "", picture)
    shown = []
    for arm in page.summaries:
        if top := arm.over_seeds("top1"):
            verdict, values = "baseline" if arm.base is None else arm.verdict, list(arm.by_seed("top1").values())
            shown.append(intervals.Interval(arm.info.name, arm.title, values, top.mean, top.interval, verdict))
    if shown:
        # Where there are several baselines, none of them is a line for all.
        base = page.summary_of(page.baseline).over_seeds("top1") if len(page.baselines) == 1 else None
        picture = intervals.figure(shown, base.mean if base else None, "Top-1 on the test set, %")
        figures["accuracy"] = Figure("Top-1", "", picture)
    return figures


def _classes(page: Page) -> dict[str, list[float]]:
    """Accuracy per class [K] by arm, the mean over the seeds whose ranks were kept."""
    num_classes, labels = len(page.class_names), page.labels
    per_class = {
        arm.name: [accuracy.per_class(ranks, labels, num_classes) for ranks in page.ranks.get(arm.name, {}).values()]
        for arm in page.arms
    }
    return {name: np.mean(of_seeds, axis=0).tolist() for name, of_seeds in per_class.items() if of_seeds}


def _csv_table(title: str, rows: Sequence[Mapping[str, Any]], columns: Sequence[str], note: str = "") -> Table:
    """A CSV file as a table; of numbers that came as text, as they stand there."""

    def cell(name: str, value: Any) -> Cell:
        text = "" if value is None else str(value)
        return text if name in TEXT_COLUMNS else (number_of(value), text)

    names = findings.columns_of(rows, columns)
    return Table(title, names, [[cell(name, row.get(name)) for name in names] for row in rows], note, folded=True)


def _measured(page: Page) -> list[Table]:
    """What was measured besides Top-1 and Top-5, a row an arm; no table of runs that have none of it."""
    measured = [name for name in METRIC_COLUMNS if any(arm.by_seed(name) for arm in page.summaries)]

    def cell(arm: ArmSummary, name: str) -> Cell:
        if (mean := arm.over_seeds(name)) is None:
            return None
        digits, most = (2, 100.0) if METRICS[name].unit == "%" else (3, math.inf)
        return mean.mean, numbers.interval_text(mean.mean, mean.interval, digits=digits, most=most)

    rows = [(arm.title, *(cell(arm, name) for name in measured)) for arm in page.summaries]
    columns = ("Arm", *(f"{METRICS[name].title}, {METRICS[name].unit}" for name in measured))
    return [Table("Other metrics", columns, rows, MEASURED, folded=True)] if measured else []


def _count(n: int, what: str) -> str:
    return f"{n} {what}{'' if n == 1 else 's'}"


def _pairs(page: Page) -> list[Table]:
    """Each run beside its baseline's run of its seed, image by image; no table for none."""
    rows: list[tuple[Cell, ...]] = []
    for arm in page.summaries:
        bases = page.ranks.get(arm.base.name, {}) if arm.base else {}
        for seed, ranks in sorted(page.ranks.get(arm.info.name, {}).items()):
            if seed in bases:
                test = accuracy.mcnemar(ranks, bases[seed])
                rows.append((arm.title, seed, test.only_a, test.only_b, (test.p, numbers.p_text(test.p))))
    note = (
        "The test images that only one of two runs of the same seed got right, and McNemar's exact p: whether these "
        "two networks differ. Whether the arms differ is said by the table of results, over all seeds."
    )
    columns = ("Arm", "Seed", "Only this right", f"Only {findings.base_words(page)} right", "p (McNemar)")
    title = f"Run against run, image by image ({_count(len(rows), 'pair')})"
    return [Table(title, columns, rows, note, folded=True)] if rows else []
