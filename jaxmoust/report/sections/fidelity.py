"""How close each set is to the real images, whether it copies them, and what a classifier learns from it alone."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxmoust.analysis.accuracy import summary
from jaxmoust.report.charts import base
from jaxmoust.report.charts.fidelity import ratio_histogram
from jaxmoust.report.charts.pictures import pairs_gallery
from jaxmoust.report.numbers import MINUS, interval_text
from jaxmoust.report.page import Cell, Figure, Section, Table
from jaxmoust.report.sections.diagnostic import Diagnostic

NUM_PAIRS = 8  # of a set, as pictures

# What each metric is called (an arrow says which way is better), how it is written, and in which unit.
METRICS: dict[str, tuple[str, str, float]] = {
    "fid": ("FID ↓", ".2f", 1),
    "kid": ("1000 KID ↓", ".2f", 1000),
    "cmmd": ("CMMD ↓", ".3f", 1),
    "precision": ("Precision ↑", ".2f", 1),
    "recall": ("Recall ↑", ".2f", 1),
    "density": ("Density ↑", ".2f", 1),
    "coverage": ("Coverage ↑", ".2f", 1),
    "suspicious": ("Suspicious % ↓", ".1f", 100),
    "closer": ("P(closer)", ".2f", 1),
}
NOTE = (
    "FID, KID and CMMD are distances between distributions of features; precision and density say whether synthetic "
    "images look real, recall and coverage whether they are as varied; suspicious images lie nearer to a training "
    "image than 99 % of held-out real ones do; P(closer) is the chance that a synthetic image lies nearer than a "
    "held-out one. As many test images as synthetic ones are compared, for the metrics depend on how many there are."
)
PAIRS = "Synthetic | its nearest training image; distance over that of a held-out image."
LEGEND = (
    "Distances to the nearest training image, over that of a typical held-out one: synthetic images filled, held-out "
    "real ones dashed, 1 is their median. Left of the bar lie what may be copies."
)


def section(found: Sequence[Diagnostic]) -> Section:
    """Returns the section of all sets that were measured."""
    figures: list[Figure] = []
    by_class: dict[str, dict[str, Sequence[Mapping[str, Any]]]] = {}
    for one in found:
        path = one.folder / "memorisation.json"
        for space, memorised in json.loads(path.read_text()).items() if path.exists() else ():
            figures += _figures(one, space, memorised["threshold"])
            by_class.setdefault(space, {})[one.title] = memorised.get("per_class", ())
    tables = metric_tables({one.title: one.result for one in found}) + _alone(found)
    tables += [table for space, of_sets in by_class.items() if (table := copies_by_class(space, of_sets)).rows]
    words = [f"{one.title}: {one.result['notes']}" for one in found if one.result.get("notes")]
    legend = LEGEND if figures else ""
    return Section("Fidelity and memorisation", words, figures, tables, (NOTE,), legend=legend, columns=2)


def _figures(one: Diagnostic, space: str, threshold: float) -> list[Figure]:
    """The histogram of distances in one space, and the closest pairs."""
    title = f"{one.title}, {space}"
    with np.load(one.folder / "ratios.npz") as ratios:
        synthetic, heldout = (ratios[f"{space}/{kind}"] for kind in ("synthetic", "heldout"))
    near, far = (100 * float((x <= threshold).mean()) for x in (synthetic, heldout))
    words = (
        f"{title}: distance to the nearest training image over that of a typical held-out image, median "
        f"{np.median(synthetic):.2f} of synthetic images, {np.median(heldout):.2f} of held-out ones; {near:.1f} % of "
        f"synthetic images lie at or below {threshold:.2f}, {far:.1f} % of held-out ones."
    )
    histogram = base.markup(ratio_histogram(synthetic, heldout, threshold), words)
    kinds = ("synthetic", "train", "ratio", "synthetic_label", "train_label")
    with np.load(one.folder / "pairs.npz") as file:
        pairs = {kind: file[f"{space}/{kind}"][:NUM_PAIRS] for kind in kinds}
    names = [
        (one.result["class_names"][a], one.result["class_names"][b])
        for a, b in zip(pairs["synthetic_label"], pairs["train_label"], strict=True)
    ]
    gallery = pairs_gallery(pairs["synthetic"], pairs["train"], pairs["ratio"].tolist(), names)
    return [Figure(title, "", histogram), Figure(f"{title}: closest pairs", PAIRS, gallery)]


def metric_tables(results: Mapping[str, Mapping[str, Any]]) -> list[Table]:
    """Lays out what `jaxmoust measure` left: a table for each extractor (and for pixels), a row for each set.

    Every metric stands beside its floor, the same of test images: of as many synthetic images as there are test images,
    where there are more. Metrics that are not known here (kid_std) are left out.

    Args:
        results: set -> its result.json, with keys such as "fid[clip-1]", "fid_floor[clip-1]", "fid_alike[clip-1]".
    """
    keys = [match for result in results.values() for key in result if (match := re.fullmatch(r"(\w+)\[(.+)\]", key))]
    tables = []
    for space in dict.fromkeys(match[2] for match in keys):
        cells = {name: _metrics(result, space) for name, result in results.items()}
        shown = [metric for metric in METRICS if any(metric in of_set for of_set in cells.values())]
        rows = [(name, *map(of_set.get, shown)) for name, of_set in cells.items() if of_set]
        title = f"By {space}; in brackets the same of as many test images"
        tables += [Table(title, ("Set", *(METRICS[metric][0] for metric in shown)), rows)] if rows else []
    return tables


def _metrics(result: Mapping[str, Any], space: str) -> dict[str, Cell]:
    cells: dict[str, Cell] = {}
    for metric, (_, form, unit) in METRICS.items():
        value = result.get(f"{metric}_alike[{space}]", result.get(f"{metric}[{space}]"))
        floor = result.get(f"{metric}_floor[{space}]")
        if value is not None and floor is not None:
            text = f"{unit * float(value):{form}} ({unit * float(floor):{form}})".replace("-", MINUS)
            cells[metric] = unit * float(value), text
    return cells


def copies_by_class(space: str, of_sets: Mapping[str, Sequence[Mapping[str, Any]]]) -> Table:
    """Lays out memorisation by class: a row for each class of which some set has images, a column for each set.

    A cell is the % of suspicious images, in brackets that of the class's held-out images (what a set without copies
    would have), and the lowest ratio.

    Args:
        of_sets: set -> the `per_class` of its summary, all in the order of the classes.
    """
    cells: dict[str, dict[str, Cell]] = {}
    for name, classes in of_sets.items():
        for one in classes:
            of_class = cells.setdefault(one["class"], {})
            if one["n"]:
                share, expected = 100 * float(one["share_suspicious"]), one.get("share_expected")
                floor = "\N{EN DASH}" if expected is None else f"{100 * expected:.1f}"
                of_class[name] = share, f"{share:.1f} ({floor}; {one['lowest_ratio']:.2f})"
    title = f"Suspicious % by class, by {space}; in brackets that of held-out images, and the lowest ratio"
    rows = [(k, *map(of_class.get, of_sets)) for k, of_class in cells.items() if of_class]
    return Table(title, ("Class", *of_sets), rows, folded=True)


def _alone(found: Sequence[Diagnostic]) -> list[Table]:
    """The classification accuracy score of each set, where an arm trained on it alone; no table for none.

    Source: Ravuri and Vinyals 2019 (1905.10887), section 3.
    """
    rows: list[tuple[Cell, ...]] = []
    for name, top1 in {one.set: one.top1_alone for one in found if one.top1_alone}.items():
        mean = summary(top1)
        rows.append((name, (mean.mean, interval_text(mean.mean, mean.interval)), mean.n))
    title = "Classification accuracy score (CAS): Top-1 on real test images of classifiers trained on the set alone"
    return [Table(title, ("Set", "CAS, %", "Seeds"), rows)] if rows else []
