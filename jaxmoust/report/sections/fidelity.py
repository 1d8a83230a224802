"""How close each set is to the real images, whether it copies them, and the accuracy of classifiers trained on it."""

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
    "held-out one. As many test images as synthetic ones are compared, for the metrics depend on how many there "
    "are; in brackets the same of test images. CAS is the classification accuracy score: Top-1 on real test images of "
    "classifiers that were trained on the set alone (Ravuri and Vinyals 2019)."
)
CLOSEST = "The synthetic images closest to a training image"
PAIRS = (
    "Of each set the synthetic images that lie closest to a training image: synthetic on the left, its nearest "
    "training image on the right, and the distance over that of a typical held-out image, by pixels and by features."
)
SHOWN = "The synthetic images above, each with its nearest training image"
ABOVE = (
    "Synthetic on the left, its nearest training image by features on the right, and the ratio of distances as below."
)
LEGEND = (
    "Distances to the nearest training image, over that of a typical held-out one: synthetic images filled, held-out "
    "real ones dashed, 1 is their median. Images left of the bar may be copies."
)


def sections(diagnostics: Sequence[Diagnostic]) -> list[Section]:
    """Returns two sections of all sets that were measured: their distances, and the pairs that are the closest."""
    figures, pairs, shown = list[Figure](), list[Figure](), list[Figure]()
    by_class: dict[str, dict[str, Sequence[Mapping[str, Any]]]] = {}
    for one in diagnostics:
        path = one.folder / "memorisation.json"
        spaces = json.loads(path.read_text()) if path.exists() else {}
        for space, memorised in spaces.items():
            title = f"{one.title}, {space_words(space)}"
            figures.append(_distances(one, space, title, memorised["threshold"]))
            pairs.append(_pairs(one, "pairs.npz", space, title, NUM_PAIRS))
            by_class.setdefault(space, {})[one.title] = memorised.get("per_class", ())
        if spaces and (one.folder / "shown.npz").exists():  # in features, the last; earlier versions wrote none
            shown.append(_pairs(one, "shown.npz", space, title))
    tables = [table for space, of_sets in by_class.items() if (table := copies_by_class(space, of_sets)).rows]
    words = [f"{one.title}: {one.result['notes']}" for one in diagnostics if one.result.get("notes")]
    legend = LEGEND if figures else ""
    distances = Section("Fidelity and memorisation", words, figures, tables, (NOTE,), legend=legend, small=True)
    closest = Section(CLOSEST, figures=pairs, legend=PAIRS, columns=2, folded=True, of_images=True)
    above = Section(SHOWN, figures=shown, legend=ABOVE, columns=2, folded=True, of_images=True)
    return [distances, *([above] if shown else ()), *([closest] if pairs else ())]


def overview(diagnostics: Sequence[Diagnostic]) -> dict[str, dict[str, Cell]]:
    """Returns the results of `jaxmoust measure` for each set, by column.

    Every metric stands beside its floor, the same of test images: of as many synthetic images as there are test images,
    where there are more. A column says in which space it is, where there are several. Metrics that are not known here
    (kid_std) are left out.
    """
    keys = [match for one in diagnostics for key in one.result if (match := re.fullmatch(r"(\w+)\[(.+)\]", key))]
    spaces = {name: list(dict.fromkeys(match[2] for match in keys if match[1] == name)) for name in METRICS}
    cells: dict[str, dict[str, Cell]] = {one.title: {} for one in diagnostics}
    for name, (title, form, unit) in METRICS.items():
        for one, space in ((one, space) for space in spaces[name] for one in diagnostics):
            value = one.result.get(f"{name}_alike[{space}]", one.result.get(f"{name}[{space}]"))
            floor = one.result.get(f"{name}_floor[{space}]")
            if value is not None and floor is not None:
                text = f"{unit * float(value):{form}} ({unit * float(floor):{form}})".replace("-", MINUS)
                column = f"{title} {space_words(space, spaces[name])}" if len(spaces[name]) > 1 else title
                cells[one.title][column] = unit * float(value), text
    for one in diagnostics:
        if one.top1_alone:
            alone = summary(one.top1_alone)
            cells[one.title]["CAS, %"] = alone.mean, interval_text(alone.mean, alone.interval)
    return cells


def space_words(space: str, others: Sequence[str] = ()) -> str:
    """Names a space of features for people: without the digest of its checkpoint, if the rest of the name differs."""
    name = re.sub(r"-[0-9a-f]{8}$", "", space)
    if sum(other.startswith(name) for other in others) > 1:
        return space
    return name.replace("_", " ").replace("pixels-", "pixels at ")


def _distances(one: Diagnostic, space: str, title: str, threshold: float) -> Figure:
    """The histogram of distances in one space."""
    with np.load(one.folder / "ratios.npz") as ratios:
        synthetic, heldout = (ratios[f"{space}/{kind}"] for kind in ("synthetic", "heldout"))
    near, far = (100 * float((x <= threshold).mean()) for x in (synthetic, heldout))
    words = (
        f"{title}: distance to the nearest training image over that of a typical held-out image, median "
        f"{np.median(synthetic):.2f} of synthetic images, {np.median(heldout):.2f} of held-out ones; {near:.1f} % of "
        f"synthetic images lie at or below {threshold:.2f}, {far:.1f} % of held-out ones."
    )
    histogram = base.picture(ratio_histogram(synthetic, heldout, threshold), words)
    return Figure(f"By {space_words(space)}", f"{near:.1f} % ({far:.1f})", histogram, one.title)


def _pairs(one: Diagnostic, file: str, space: str, title: str, most: int | None = None) -> Figure:
    """The first pairs of a file in one space."""
    kinds = ("synthetic", "train", "ratio", "synthetic_label", "train_label")
    with np.load(one.folder / file) as arrays:
        pairs = {kind: arrays[f"{space}/{kind}"][:most] for kind in kinds}
    names = [
        (one.result["class_names"][a], one.result["class_names"][b])
        for a, b in zip(pairs["synthetic_label"], pairs["train_label"], strict=True)
    ]
    gallery = pairs_gallery(pairs["synthetic"], pairs["train"], pairs["ratio"].tolist(), names)
    return Figure(title, "", gallery)


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
    title = f"Suspicious % by class, by {space_words(space)}; in brackets that of held-out images, and the lowest ratio"
    rows = [(k, *map(of_class.get, of_sets)) for k, of_class in cells.items() if of_class]
    return Table(title, ("Class", *of_sets), rows, folded=True)
