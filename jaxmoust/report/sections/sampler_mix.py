"""What each arm's sampler drew, as a section of the page: the mix of sources over the steps, and a table."""

from jaxmoust.report.charts import base, sampler_mix
from jaxmoust.report.draw_counts import DrawCounts, spread
from jaxmoust.report.page import Cell, Figure, Page, Section, Table

MOMENTS = {"Start": 0.0, "Half": 0.5, "End": 1.0}  # of the steps
LEGEND = (
    "Counted from every run's sampler, all seeds together, in windows of steps: the share of each source among the "
    "draws, real images at the bottom; below it the share of each class, where some were preferred. Arms that drew "
    "from one source only are in the table alone."
)


def sections(page: Page) -> list[Section]:
    """Returns the section, or none for a page without a record of draws; arms that drew the same share a figure."""
    groups: list[tuple[list[str], DrawCounts]] = []
    rows: list[list[Cell]] = []
    for arm in page.arms:
        if (draws := page.draws.get(arm.name)) is None:
            continue
        rows += _rows(arm.title, draws)
        like = [titles for titles, other in groups if draws.is_like(other)]
        if like:
            like[0].append(arm.title)
        else:
            groups.append(([arm.title], draws))
    figures = []
    for titles, draws in groups:
        if len(shares := _shares(draws)) > 1 or not draws.even_classes:
            ends = ", ".join(f"{name} {of[0]:.0f} % at first, {of[2]:.0f} % at the end" for name, of in shares.items())
            words = f"{' · '.join(titles)}: {ends}; classes {spread(draws)}"
            figures.append(Figure(" · ".join(titles), "", base.picture(sampler_mix.mix(draws), words)))
    missing = [arm.title for arm in page.arms if arm.name not in page.draws]
    notes = [f"No record was kept for {', '.join(missing)}."] if missing else []
    notes.append("The counts by window, source and class are in draws.json of every run's stage.")
    columns = ("Arm", "Source", *(f"{moment}, %" for moment in MOMENTS), "All steps, %", "Draws of a class")
    table = Table("The draws in numbers", columns, rows, "Draws of a class: times an even share.", folded=True)
    drew = Section("What each sampler drew", (), figures, (table,), notes, legend=LEGEND, small=True, folded=True)
    return [drew] if rows else []


def _shares(draws: DrawCounts) -> dict[str, list[float]]:
    """Percent of each source that was drawn, at each of MOMENTS and in all."""
    windows = [draws.window(progress) for progress in MOMENTS.values()]
    used = [s for s in range(len(draws.source_names)) if draws.counts[:, s].any()]
    shares = {s: [*draws.shares[windows, s], draws.shares[:, s].mean()] for s in used}
    return {draws.source_names[s]: [100 * float(x) for x in of_source] for s, of_source in shares.items()}


def _rows(title: str, draws: DrawCounts) -> list[list[Cell]]:
    return [[title, name, *((x, f"{x:.1f}") for x in of), spread(draws)] for name, of in _shares(draws).items()]
