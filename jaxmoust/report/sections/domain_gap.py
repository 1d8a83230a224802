"""How well a classifier distinguishes each set from real images, as a section of the page."""

from collections.abc import Sequence

import numpy as np

from jaxmoust.analysis.accuracy import summary
from jaxmoust.report.charts import base, domain_gap
from jaxmoust.report.page import Cell, Figure, Section, Table
from jaxmoust.report.sections.diagnostic import Diagnostic

# In the features of which classifier the images are shown.
PLANES = {"domain": "real or synthetic?", "classifier": "which class?"}
COLUMNS = (
    *("Set", "Seed", "AUC", "Correct, %", "Held-out images", "Overlap", "Overlap by class"),
    *("Real images", "Own size, real", "Own size, synthetic"),
)
LEGEND = (
    "Discs are real images, triangles synthetic ones, in the first two principal components of a classifier's "
    "features: one that was trained to distinguish real from synthetic, and, where there is one, one that was trained "
    "on real images to name their class. Overlap 0: apart; 1: mixed as by chance."
)
NOTE = (
    "50 % correct and an AUC of 0.5 are chance; worse than chance is where synthetic images are near copies of single "
    "real ones. 95 % intervals. Where own sizes differ, traces of resizing can be part of what the classifier sees."
)


def section(found: Sequence[Diagnostic]) -> Section:
    """Returns the section: a sentence, the planes of each set's first seed, and a row for each set and seed."""
    firsts = {one.name: one for one in reversed(found)}
    names = list(dict.fromkeys(one.name for one in found))
    figures = [figure for name in names for figure in _figures(firsts[name])]
    table = Table("Real or synthetic?", COLUMNS, [_row(one) for one in found])
    words = [_sentence([firsts[name] for name in names])]
    return Section("Domain gap", words, figures, [table], [NOTE], _answer(found), LEGEND, small=True)


def _figures(one: Diagnostic) -> list[Figure]:
    with np.load(one.folder / "features.npz") as file:
        features = dict(file)
    figures = []
    for name, overlap in one.result["overlap"].items():
        title, is_real = f"{one.title}: {PLANES[name]}", features["is_real"].astype(bool)
        first, second = (f"{100 * float(share):.0f}" for share in features[f"{name}_shares"])
        words = (
            f"{title} {int(is_real.sum())} real images and {int((~is_real).sum())} synthetic ones in the plane of the "
            f"classifier's features, {first} and {second} % of the variance; overlap {overlap:.2f}"
        )
        markup = base.markup(domain_gap.plane(features[name], is_real), words)
        figures.append(Figure(title, f"overlap {overlap:.2f}", markup))
    return figures


def _row(one: Diagnostic) -> list[Cell]:
    auc, correct = one.result["auc"], one.result["accuracy"]
    auc_text = f"{auc:.3f} [{', '.join(f'{end:.3f}' for end in one.result['auc_interval'])}]"
    correct_text = f"{correct:.1f} [{', '.join(f'{end:.1f}' for end in one.result['accuracy_interval'])}]"
    overlap = one.result["overlap"]
    overlaps = [(overlap[name], f"{overlap[name]:.2f}") if name in overlap else None for name in PLANES]
    shapes = [one.result["own_shapes"][kind] for kind in ("real", "synthetic")]
    sizes = ["several" if shape is None else "x".join(map(str, shape)) for shape in shapes]
    real = "of the base set" if one.result["real"] == "base" else "others"
    return [one.set, one.seed, (auc, auc_text), (correct, correct_text), one.result["n"], *overlaps, real, *sizes]


def _sentence(found: Sequence[Diagnostic]) -> str:
    """Which sets a classifier distinguishes from real images: those whose interval of the AUC is above chance."""
    sides: dict[str, list[str]] = {}
    for one in found:
        low, high = one.result["auc_interval"]
        side = "better than chance" if low > 0.5 else "worse than chance" if high < 0.5 else "no better than chance"
        sides.setdefault(side, []).append(one.title)
    of_sides = "; ".join(f"{side} for {', '.join(names)}" for side, names in sides.items())
    return f"A classifier that was trained to distinguish synthetic from real images is, on held-out ones, {of_sides}."


def _answer(found: Sequence[Diagnostic]) -> str:
    """How well each set is distinguished over seeds; "" of one seed, and of what serves as a score alone."""
    rates = []
    for name in dict.fromkeys(one.set for one in found if one.name == one.set):
        mean = summary([one.result["accuracy"] for one in found if one.name == one.set == name])
        if mean.interval:
            low, high = (min(max(end, 0.0), 100.0) for end in mean.interval)
            rates.append(f"{mean.mean:.1f} % [{low:.1f}, {high:.1f}] ({name})")
    if not rates:
        return ""
    return f"Real and synthetic images are distinguished in {', '.join(rates)} of cases; chance is 50 %."
