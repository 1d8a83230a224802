"""The sections that a page has besides its standard ones: what probes found, and what follows from all runs together.

Probes look at synthetic sets: how well these are told from real images, how close they are, whether they are copies.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jaxmoust.analysis.accuracy import summary
from jaxmoust.report.charts import domain_gap as domain_charts
from jaxmoust.report.charts import fidelity as fidelity_charts
from jaxmoust.report.findings import interval_text
from jaxmoust.report.page import Figure, Page, Section, Table
from jaxmoust.report.sections import equivalence, ratio


@dataclass(frozen=True)
class Looked:
    """What a probe found: its name in the experiment, the set and the seed it looked at, its result, its folder.

    Args: only: Top-1 of the classifiers that trained on that set alone, one a seed, where an arm did.
    """

    name: str
    set: str
    seed: int
    result: Mapping[str, Any]
    folder: Path
    only: tuple[float, ...] = ()


NUM_PAIRS = 8  # of a set, as pictures


def collect(page: Page, looked: Mapping[str, Sequence[Looked]]) -> list[Section]:
    """Returns the further sections of a page, those of its runs first.

    Args:
        looked: table of probes, "domains" or "measures", -> what was found, in the experiment's order.
    """
    of_probes = [PROBES[table](found) for table, found in looked.items() if found]
    return ratio.sections(page) + equivalence.sections(page.rows) + of_probes


def domain_gap(looked: Sequence[Looked]) -> Section:
    """How well a classifier tells each set from real images, and where both lie in its features.

    Of a set at several seeds the first is drawn and said, and all are in the table.
    """
    words, figures, rows, values = [], [], [], []
    drawn: set[str] = set()
    for one in looked:
        if one.name not in drawn:
            drawn.add(one.name)
            with np.load(one.folder / "features.npz") as file:
                panels = domain_charts.read_panels(dict(file), one.result)
            said = f"{domain_charts.gap_sentence(one.result)} {domain_charts.picture_sentence(panels)}"
            words.append(f"{_of(one)}: {said}{_over_seeds([x.result for x in looked if x.name == one.name])}")
            figures += [
                Figure(f"{_of(one)}. {shown.title}", shown.words, domain_charts.panel(shown)) for shown in panels
            ]
        auc, (low, high) = one.result["auc"], one.result["auc_interval"]
        right, (least, most) = one.result["accuracy"], one.result["accuracy_interval"]
        right_text = f"{right:.1f} [{least:.1f}, {most:.1f}]"
        rows.append((one.set, one.seed, f"{auc:.3f} [{low:.3f}, {high:.3f}]", right_text, one.result["n"]))
        values.append((None, one.seed, auc, right, one.result["n"]))
    columns = ("Set", "Seed", "AUC", "Right, %", "Held-out images")
    note = "50 % right and an AUC of 0.5 are chance. 95 % intervals."
    legend = "Discs are real images, triangles synthetic ones."
    table = Table("Real or synthetic?", columns, rows, values)
    side_by_side = len(figures) // len(drawn)  # one picture, or two that belong together
    return Section("Domain gap", words, figures, [table], [note], _gap_answer(looked), legend, side_by_side)


def _gap_answer(looked: Sequence[Looked]) -> str:
    """How well each set is told from real images over seeds; "" of one seed, and of what serves as a score alone."""
    of_sets: dict[str, list[Mapping[str, Any]]] = {}
    for one in looked:
        if one.name == one.set:
            of_sets.setdefault(one.set, []).append(one.result)
    told = [f"{_told(results)} ({name})" for name, results in of_sets.items() if len(results) > 1]
    return f"Real and synthetic images are told apart in {', '.join(told)} of cases; chance is 50 %." if told else ""


def _told(results: Sequence[Mapping[str, Any]]) -> str:
    """What share of the held-out images is told right, over several seeds."""
    said = summary([result["accuracy"] for result in results])
    low, high = (min(max(end, 0.0), 100.0) for end in said.interval)
    return f"{said.mean:.1f} % [{low:.1f}, {high:.1f}]"


def _over_seeds(results: Sequence[Mapping[str, Any]]) -> str:
    """What several sets of one generator, one a seed, say together; "" of one."""
    if len(results) < 2:
        return ""
    return f" Over {len(results)} seeds {_told(results)} are told right."


def fidelity(looked: Sequence[Looked]) -> Section:
    """How close each set is to the real images, whether it copies them, and what a classifier learns from it alone."""
    figures, of_class = [], {}
    for one in looked:
        if not (one.folder / "memorisation.json").exists():  # its generator learnt from other images than these
            continue
        summaries = json.loads((one.folder / "memorisation.json").read_text())
        with np.load(one.folder / "ratios.npz") as ratios, np.load(one.folder / "pairs.npz") as pairs:
            for space, summary in summaries.items():
                both = (ratios[f"{space}/{kind}"] for kind in ("synthetic", "heldout"))
                drawn = fidelity_charts.ratio_histogram(*both, summary["threshold"], space)
                figures.append(Figure(f"{_of(one)}, {space}", "Left of the bar lie what may be copies.", drawn))
                closest = {name: pairs[f"{space}/{name}"][:NUM_PAIRS] for name in ("synthetic", "train", "ratio")}
                labels = (pairs[f"{space}/{kind}_label"][:NUM_PAIRS] for kind in ("synthetic", "train"))
                names = [tuple(one.result["class_names"][k] for k in pair) for pair in zip(*labels, strict=True)]
                gallery = fidelity_charts.pairs_gallery(closest["synthetic"], closest["train"], closest["ratio"], names)
                caption = "Synthetic | its nearest training image; distance over that of a held-out image."
                figures.append(Figure(f"{_of(one)}, {space}: closest pairs", caption, gallery))
                of_class.setdefault(space, {})[_of(one)] = summary.get("per_class", ())
    tables = fidelity_charts.tables({_of(one): one.result for one in looked})
    tables += _alone([one for one in looked if one.only])
    by_class = (fidelity_charts.copies_by_class(space, of_sets) for space, of_sets in of_class.items())
    tables += [table for table in by_class if table.rows]
    notes = (
        "FID, KID and CMMD are distances between distributions of features; precision and density say whether "
        "synthetic images look real, recall and coverage whether they are as varied; suspicious images lie nearer to "
        "a training image than 99 % of held-out real ones do; P(closer) is the chance that a synthetic image lies "
        "nearer than a held-out one. As many test images as synthetic ones are compared, for the metrics depend on how "
        "many there are.",
    )
    words = [f"{_of(one)}: {one.result['notes']}" for one in looked if one.result.get("notes")]
    return Section("Fidelity and memorisation", words, figures, tables, notes, columns=2)


def _alone(looked: Sequence[Looked]) -> list[Table]:
    """The classification accuracy score of each set, where an arm trained on it alone; no table for none.

    Source: Ravuri and Vinyals 2019 (1905.10887), section 3.
    """
    rows, values = [], []
    for one in {one.set: one for one in looked}.values():
        said = summary(one.only)
        text = interval_text(said.mean, said.interval)
        rows.append((one.set, text, said.n))
        values.append((None, said.mean, said.n))
    title = "Classification accuracy score (CAS): Top-1 on real test images of classifiers trained on the set alone"
    return [Table(title, ("Set", "CAS, %", "Seeds"), rows, values)] if rows else []


def _of(one: Looked) -> str:
    return one.set if one.set == one.name else f"{one.set} ({one.name})"


# Table of probes -> what makes its section.
PROBES: Mapping[str, Callable[[Sequence[Looked]], Section]] = {"domains": domain_gap, "measures": fidelity}
