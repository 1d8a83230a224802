"""How well a classifier distinguishes each set from real images, as a section of the page."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxmoust.analysis.accuracy import summary
from jaxmoust.report.charts import base
from jaxmoust.report.charts.domain_gap import plane
from jaxmoust.report.page import Cell, Figure, Section, Table
from jaxmoust.report.sections.diagnostic import Diagnostic

# In the features of which classifier the images are shown.
PLANES = {"domain": "real or synthetic?", "classifier": "which class?"}
COLUMNS = ("Set", "Seed", "AUC", "Correct, %", "Held-out images", "Overlap", "Overlap by class", "Real images")


def section(found: Sequence[Diagnostic]) -> Section:
    """Returns the section: a sentence, the planes of each set's first seed, and a row for each set and seed."""
    firsts = list({one.name: one for one in reversed(found)}.values())[::-1]
    figures = [figure for one in firsts for figure in _figures(one)]
    table = Table("Real or synthetic?", COLUMNS, [_row(one) for one in found])
    legend = (
        "Discs are real images, triangles synthetic ones, in the first two principal components of a classifier's "
        "features: one that was trained to distinguish real from synthetic, and, where there is one, one that was "
        "trained on real images to name their class. Overlap 0: apart; 1: mixed as by chance."
    )
    notes = ["50 % correct and an AUC of 0.5 are chance. 95 % intervals.", *_sizes(firsts)]
    return Section("Domain gap", _words(firsts), figures, [table], notes, _answer(found), legend, small=True)


def _figures(one: Diagnostic) -> list[Figure]:
    with np.load(one.folder / "features.npz") as file:
        features = dict(file)
    if missing := [name for name in ("is_real", *one.result["overlap"]) if name not in features]:
        raise ValueError(f"domain gap: got features without {missing}; give features.npz beside its result.json")
    figures = []
    for name, overlap in one.result["overlap"].items():
        title, is_real = f"{one.title}: {PLANES[name]}", features["is_real"].astype(bool)
        first, second = (f"{100 * float(share):.0f}" for share in features[f"{name}_shares"])
        words = (
            f"{title} {int(is_real.sum())} real images and {int((~is_real).sum())} synthetic ones in the plane of the "
            f"classifier's features, {first} and {second} % of the variance; overlap {overlap:.2f}"
        )
        markup = base.markup(plane(np.asarray(features[name], np.float64), is_real), words)
        figures.append(Figure(title, f"overlap {overlap:.2f}", markup))
    return figures


def _row(one: Diagnostic) -> tuple[Cell, ...]:
    auc, (low, high) = one.result["auc"], one.result["auc_interval"]
    correct, (least, most) = one.result["accuracy"], one.result["accuracy_interval"]
    return (
        one.set,
        one.seed,
        (auc, f"{auc:.3f} [{low:.3f}, {high:.3f}]"),
        (correct, f"{correct:.1f} [{least:.1f}, {most:.1f}]"),
        one.result["n"],
        *(one.result["overlap"].get(name) for name in PLANES),
        "of the base set" if one.result["real"] == "base" else "others",
    )


def _words(found: Sequence[Diagnostic]) -> list[str]:
    """Which sets a classifier distinguishes from real images: those whose interval of the AUC is above chance."""
    sides: dict[str, list[str]] = {}
    for one in found:
        low, high = one.result["auc_interval"]
        side = "better than chance" if low > 0.5 else "worse than chance" if high < 0.5 else "not better than chance"
        sides.setdefault(side, []).append(one.title)
    said = "; ".join(f"{side} for {', '.join(names)}" for side, names in sides.items())
    why = " Worse than chance it is where synthetic images are near copies of single real ones."
    return [
        f"A classifier that was trained to distinguish synthetic from real images, asked about held-out ones, does "
        f"{said}.{why if 'worse than chance' in sides else ''}"
    ]


def _sizes(found: Sequence[Diagnostic]) -> list[str]:
    """A warning for each set whose images had another size than the real ones: traces of resizing can be the gap."""
    warnings = []
    for one in found:
        real, synthetic = (one.result["own_shapes"][kind] for kind in ("real", "synthetic"))
        if real != synthetic:
            warnings.append(
                f"{one.title}: real images were {_shape(real)} and synthetic ones {_shape(synthetic)} before both were "
                f"brought to {_shape(one.result['image_shape'])}: traces of that can be part of what it sees."
            )
    return warnings


def _shape(shape: Sequence[int] | None) -> str:
    return "of several sizes" if shape is None else "x".join(map(str, shape))


def _answer(found: Sequence[Diagnostic]) -> str:
    """How well each set is distinguished over seeds; "" of one seed, and of what serves as a score alone."""
    of_sets: dict[str, list[Mapping[str, Any]]] = {}
    for one in found:
        if one.name == one.set:
            of_sets.setdefault(one.set, []).append(one.result)
    over_seeds = {name: summary([x["accuracy"] for x in results]) for name, results in of_sets.items()}
    rates = []
    for name, mean in over_seeds.items():
        if mean.interval:
            low, high = (min(max(end, 0.0), 100.0) for end in mean.interval)
            rates.append(f"{mean.mean:.1f} % [{low:.1f}, {high:.1f}] ({name})")
    if not rates:
        return ""
    return f"Real and synthetic images are distinguished in {', '.join(rates)} of cases; chance is 50 %."
