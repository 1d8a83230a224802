"""How well a classifier distinguishes each set from real images, as a section of the page."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from jaxmoust.analysis.accuracy import summary
from jaxmoust.report.charts import base, domain_gap
from jaxmoust.report.numbers import interval_text
from jaxmoust.report.page import Cell, Figure, Section
from jaxmoust.report.sections.diagnostic import Diagnostic

# In the features of which classifier the images are shown.
PLANES = {"domain": "Real or not?", "classifier": "Which class?"}
OVERLAPS = {"domain": "Overlap: real?", "classifier": "Overlap: class?"}
LEGEND = (
    "Discs are real images, triangles synthetic ones, in the first two principal components of a classifier's "
    "features: one that was trained to distinguish real from synthetic, and, where there is one, one that was trained "
    "on real images to predict their class. Overlap 0: separate; 1: mixed as by chance."
)
NOTE = (
    "Distinguished: the held-out images that a classifier of real against synthetic images gets right; 50 % and an AUC "
    "of 0.5 are chance, and less than that is where synthetic images are near copies of single real ones. 95 % "
    "intervals. Where the files' sizes differ, traces of resizing can be part of what the classifier sees."
)


def section(diagnostics: Sequence[Diagnostic]) -> Section:
    """Returns the section: a sentence, the planes of each set's first seed, and what sizes the images had."""
    firsts = {one.name: one for one in reversed(diagnostics)}
    names = list(dict.fromkeys(one.name for one in diagnostics))
    figures = [figure for name in names for figure in _figures(firsts[name])]
    words = [_sentence([firsts[name] for name in names]), *filter(None, (_sizes(firsts[name]) for name in names))]
    return Section("Domain gap", words, figures, (), [NOTE], _answer(diagnostics), LEGEND, small=True)


def _figures(one: Diagnostic) -> list[Figure]:
    with np.load(one.folder / "features.npz") as file:
        features = dict(file)
    labels = [one.result["class_names"][k] for k in features["label"]]
    figures = []
    for name, overlap in one.result["overlap"].items():
        is_real = features["is_real"].astype(bool)
        first, second = (f"{100 * float(share):.0f}" for share in features[f"{name}_shares"])
        words = (
            f"{one.title}, {PLANES[name]} {int(is_real.sum())} real images and {int((~is_real).sum())} synthetic ones "
            f"in the plane of the classifier's features, {first} and {second} % of the variance; overlap {overlap:.2f}"
        )
        markup = base.picture(domain_gap.plane(features[name], is_real, labels), words)
        figures.append(Figure(PLANES[name], f"overlap {overlap:.2f}", markup, one.title))
    return figures


def overview(diagnostics: Sequence[Diagnostic]) -> dict[str, Cell]:
    """Returns what the seeds of one set say of it, by column: means over them, or of one its own intervals."""
    correct, auc = (summary([one.result[name] for one in diagnostics]) for name in ("accuracy", "auc"))
    if len(diagnostics) == 1:
        correct, auc = (
            replace(of, interval=tuple(diagnostics[0].result[f"{name}_interval"]))
            for of, name in ((correct, "accuracy"), (auc, "auc"))
        )
    cells: dict[str, Cell] = {
        "Distinguished, %": (correct.mean, interval_text(correct.mean, correct.interval, digits=1)),
        "AUC": (auc.mean, interval_text(auc.mean, auc.interval, most=1.0)),
    }
    for name, column in OVERLAPS.items():
        if overlaps := [one.result["overlap"][name] for one in diagnostics if name in one.result["overlap"]]:
            cells[column] = float(np.mean(overlaps)), f"{np.mean(overlaps):.2f}"
    return cells


def _sizes(one: Diagnostic) -> str:
    """Says which sizes the images had, where these differ."""
    real, synthetic = one.result["own_shapes"]["real"], one.result["own_shapes"]["synthetic"]
    if real == synthetic:
        return ""
    sizes = ["several sizes" if shape is None else "x".join(map(str, shape)) for shape in (real, synthetic)]
    return f"{one.title}: the real images had {sizes[0]}, the synthetic ones {sizes[1]}."


def _sentence(diagnostics: Sequence[Diagnostic]) -> str:
    """Which sets a classifier distinguishes from real images: those whose interval of the AUC is above chance."""
    sides: dict[str, list[str]] = {}
    for one in diagnostics:
        low, high = one.result["auc_interval"]
        side = "better than chance" if low > 0.5 else "worse than chance" if high < 0.5 else "no better than chance"
        sides.setdefault(side, []).append(one.title)
    of_sides = ", ".join(f"{side} ({'; '.join(names)})" for side, names in sides.items())
    return f"A classifier that was trained to distinguish synthetic from real images is, on held-out ones, {of_sides}."


def _answer(diagnostics: Sequence[Diagnostic]) -> str:
    """How well each set is distinguished over seeds; "" of one seed, and of what serves as a score alone."""
    rates = []
    for name in dict.fromkeys(one.set for one in diagnostics if one.name == one.set):
        mean = summary([one.result["accuracy"] for one in diagnostics if one.name == one.set == name])
        if mean.interval:
            low, high = (min(max(end, 0.0), 100.0) for end in mean.interval)
            (title, *_) = [one.title for one in diagnostics if one.set == name]
            rates.append(f"{mean.mean:.1f} % [{low:.1f}, {high:.1f}] ({title})")
    if not rates:
        return ""
    return f"Real and synthetic images are distinguished in {', '.join(rates)} of cases; chance is 50 %."
