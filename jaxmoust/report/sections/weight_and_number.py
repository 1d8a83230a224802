"""What number and weight of synthetic images do together, as a section of a study's page: a fitted surface."""

from collections.abc import Sequence

import numpy as np

from jaxmoust.analysis.surface import Estimate, Surface, fit
from jaxmoust.report.arms import ArmSummary, Ranks
from jaxmoust.report.charts import base, grid
from jaxmoust.report.numbers import points
from jaxmoust.report.page import Cell, Figure, Section, Table
from jaxmoust.report.sections.ratio import KIND

LEAST_CELLS = 6


def sections(arms: Sequence[ArmSummary], baseline: str, ranks: Ranks) -> list[Section]:
    """Returns a section for each kind of mixtures that comes in several numbers at several weights; mostly none."""
    kinds: dict[tuple[str, ...], dict[tuple[float, float], str]] = {}
    for arm in arms:
        sizes, weights, bases = (set(arm.by_seed(name).values()) for name in ("n_synthetic", "weight", "n_base"))
        compared = arm.info.baseline in ("", baseline)  # of another base set, real images alone are others
        one = len(sizes) == len(weights) == len(bases) == 1 and min(*sizes, *weights) > 0
        if one and compared and arm.info.name in ranks and min(arm.by_seed("share").values()) < 1:
            cell = (sizes.pop() / bases.pop(), weights.pop())
            kinds.setdefault(tuple(arm.setting(name) for name in KIND if name != "weight"), {})[cell] = arm.info.name
    made = []
    for kind, names in kinds.items():
        levels = [len(set(of)) for of in zip(*names, strict=True)]
        shared = set(ranks.get(baseline, {})).intersection(*(ranks[name] for name in names.values()))
        if min(levels) < 2 or len(names) < LEAST_CELLS:
            continue
        title = "Weight and number" + (f" ({kind[0]})" if len(kinds) > 1 else "")
        alone = [ranks[baseline][seed] < 1 for seed in sorted(shared)]
        right = [[ranks[name][seed] < 1 for seed in sorted(shared)] for name in names.values()]
        differences = 100 * (np.array(right, np.float32) - np.array(alone, np.float32))
        try:
            made.append(_section(title, fit(list(names), differences)))
        except ValueError as why:  # a grid with holes, or of one seed
            made.append(Section(title, [f"No surface is fitted to these arms: {why}"]))
    return made


def _section(title: str, surface: Surface) -> Section:
    which = "which of the two gains more is undecided"
    if surface.difference.low > 0 or surface.difference.high < 0:
        which = "more images gain more" if surface.difference.low > 0 else "more weight gains more"
    ratios, weights = ({*of} for of in zip(*surface.cells, strict=True))
    at_edge = any(
        np.isclose(best.value, [min(of), max(of)]).any()
        for of, best in ((ratios, surface.ratio_best), (weights, surface.weight_best))
    )
    words = [
        f"In the middle of the grid, ten times as many synthetic images change Top-1 by {_points(surface.number)}, and "
        f"a loss that counts ten times as much by {_points(surface.weight)}: {which} "
        f"(a difference of {_points(surface.difference)}).",
        f"The fitted surface is highest at {_number(surface.ratio_best)} synthetic images for each real one, with a "
        f"weight of {_number(surface.weight_best)}: {_points(surface.highest)} beside real images alone. The highest "
        "place was chosen for being the highest, so this is a little too much."
        + (" It lies at the edge of the grid, and may lie beyond." if at_edge else ""),
    ]
    rows = [
        {"ratio": ratio, "weight": weight, "gain": float(gain), "fitted": float(fitted)}
        for (ratio, weight), gain, fitted in zip(surface.cells, surface.gains, surface.fitted, strict=True)
    ]
    off = float(np.abs(surface.gains - surface.fitted).max())
    caption = (
        "Points of Top-1 above real images alone, as measured. The quadratic surface that is fitted to them is at most "
        f"{off:.2f} points off."
    )
    said = "Gain by number and weight. " + "; ".join(
        f"{row['ratio']:g} to 1 at weight {row['weight']:g}: {points(row['gain'])}" for row in rows
    )
    figure = Figure("Gain by number and weight", caption, base.picture(grid.gains(rows), said))
    cells: list[list[Cell]] = [
        [row["ratio"], row["weight"], (row["gain"], points(row["gain"])), points(row["fitted"])] for row in rows
    ]
    columns = ("Synthetic for each real", "Weight", "Gain", "Fitted")
    return Section(title, words, [figure], [Table("Number and weight", columns, cells)], answer=words[0])


def _points(one: Estimate) -> str:
    return f"{points(one.value)} points [{points(one.low)}, {points(one.high)}]"


def _number(one: Estimate) -> str:
    return f"{one.value:.2g} [{one.low:.2g}, {one.high:.2g}]"
