"""Accuracy by the number of synthetic images for each real one, as a section of a study's page.

A study of several sizes of base sets has this chart with its fitted law (equivalence_section.py); this is for one size.
"""

from collections.abc import Sequence

from jaxmoust.report.charts import equivalence as drawn
from jaxmoust.report.findings import Line, base_words, line_of, tabulate
from jaxmoust.report.page import Figure, Page, Section

KIND = ("generator", "fine_tuning", "sampler")
LEAST = 3  # different numbers of synthetic images that make a line


def sections(page: Page) -> list[Section]:
    """Returns the section, or none for a study that has not tried several numbers of synthetic images of one kind."""
    lines = tabulate(page)
    if len({line.setting("n_base") for line in lines}) != 1:
        return []
    base = line_of(page.baseline, lines)
    lines_of: dict[tuple[str, ...], dict[float, Line]] = {}
    for line in lines:
        sizes = set(line.of_seeds("n_synthetic").values())
        if line.summary("top1") and len(sizes) == 1 and sizes != {0}:  # what a filter leaves differs by seed
            only = "only" if set(line.of_seeds("share").values()) == {1} else ""
            kind = (*map(line.setting, KIND), only)
            lines_of.setdefault(kind, {})[sizes.pop() / int(line.setting("n_base"))] = line
    lines_of = {kind: by_ratio for kind, by_ratio in lines_of.items() if len(by_ratio) >= LEAST}
    if not lines_of or not base.summary("top1"):
        return []
    names = _names(list(lines_of))
    words, series = [], []
    for kind, by_ratio in lines_of.items():
        alone = {} if kind[-1] else {0.0: base}
        points = dict(sorted({**alone, **by_ratio}.items()))
        series.append(_series(names[kind], points))
        best = max(by_ratio, key=lambda ratio: by_ratio[ratio].summary("top1").mean)
        top = by_ratio[best].summary("top1").mean
        words.append(
            f"{names[kind]}: at best {top:.2f} % at {best:g} to 1, beside {_mean(base):.2f} % of {base.arm.title}."
        )
    alt = "Accuracy by synthetic images for each real one. " + " ".join(words)
    caption = f"Means over seeds with their 95 % bands; 0 is {base_words(page)}."
    shown = series[: drawn.MOST_SERIES]
    return [
        Section(
            "How many synthetic images", words, [Figure("Accuracy by ratio", caption, drawn.by_ratio(shown, alt, ""))]
        )
    ]


def _series(name: str, points: dict[float, Line]) -> drawn.Series:
    means = [(ratio, _mean(line)) for ratio, line in points.items()]
    edges = [line.summary("top1").interval for line in points.values()]
    band = None
    if None not in edges:
        band = tuple([(ratio, edge[i]) for ratio, edge in zip(points, edges, strict=True)] for i in (0, 1))
    return drawn.Series(name, means, band, ())


def _mean(line: Line) -> float:
    return line.summary("top1").mean


def _names(kinds: Sequence[tuple[str, ...]]) -> dict[tuple[str, ...], str]:
    """What tells the kinds apart: the generator, and what differs besides."""
    if len({kind[0] for kind in kinds}) == len(kinds):
        return {kind: kind[0] for kind in kinds}
    differing = [i for i in range(len(kinds[0])) if i == 0 or len({kind[i] for kind in kinds}) > 1]
    return {kind: ", ".join(kind[i] for i in differing if kind[i]) for kind in kinds}
