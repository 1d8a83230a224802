"""What each arm's sampler drew, as a section of the page: the mix of sources over the steps, and a table."""

from jaxmoust.report.charts import base, sampler_mix
from jaxmoust.report.draw_counts import MAX_ROWS, DrawCounts, class_rows
from jaxmoust.report.page import Cell, Figure, Page, Section, Table

# Where in the steps the table looks.
MOMENTS = {"Start": 0.0, "Half": 0.5, "End": 1.0}


def sections(page: Page) -> list[Section]:
    """Returns the section, or none for a page without a record of draws; arms that drew the same share a figure."""
    known = [(arm.title, page.draws[arm.name]) for arm in page.arms if arm.name in page.draws]
    if not known:
        return []
    groups: list[tuple[list[str], DrawCounts]] = []
    for title, draws in known:
        like = next((titles for titles, other in groups if draws.is_like(other)), None)
        if like is None:
            groups.append(([title], draws))
        else:
            like.append(title)
    figures = []
    for titles, draws in groups:
        if len(_used(draws)) > 1 or not draws.even_classes:
            names = " · ".join(titles)
            figures.append(Figure(names, "", base.markup(sampler_mix.mix(draws), f"{names}: {_words(draws)}")))
    num_windows = max(len(draws.counts) for _, draws in known)
    words = (
        f"Counted from every run's sampler, all seeds together, in up to {num_windows} windows of steps. Above, the "
        "share of each source among the draws, real images at the bottom; arms that drew one source throughout are in "
        "the table alone. Below, where some classes were preferred, a row for each class"
    )
    if len(page.class_names) > MAX_ROWS:
        words += f" (of {len(page.class_names)}, {MAX_ROWS} groups, the most drawn at the top)"
    words += ": the darker, the more often, on a logarithmic scale from a quarter of an even share to four times."
    missing = [arm.title for arm in page.arms if arm.name not in page.draws]
    notes = [f"No record was kept for {', '.join(missing)}."] if missing else []
    notes.append("The counts by window, source and class are in draws.json of every run's stage.")
    columns = ("Arm", "Source", *(f"{moment}, %" for moment in MOMENTS), "All steps, %", "Draws of a class")
    rows = [row for title, draws in known for row in _rows(title, draws)]
    table = Table("The draws in numbers", columns, rows, "Draws of a class: times an even share.", folded=True)
    return [Section("What each sampler drew", (), figures, (table,), notes, legend=words, small=True)]


def _used(draws: DrawCounts) -> list[int]:
    return [s for s in range(len(draws.source_names)) if draws.counts[:, s].any()]


def _words(draws: DrawCounts) -> str:
    """The figure's alternative text: the share of each source at its ends, and the classes."""
    shares = [
        f"{draws.source_names[s]} {draws.shares[0, s]:.0%} of draws at first, {draws.shares[-1, s]:.0%} at the end"
        for s in _used(draws)
    ]
    return f"{', '.join(shares)}; classes {_spread(draws)}".replace("%", " %")


def _spread(draws: DrawCounts) -> str:
    """The least and the most drawn class (of many: group of classes) over all steps, in even shares."""
    if draws.even_classes:
        return "even"
    titles, ratios = class_rows(draws)
    means = ratios.mean(axis=1)
    least, most = int(means.argmin()), int(means.argmax())
    return f"{means[least]:.2g} ({titles[least]}) to {means[most]:.2g} ({titles[most]})"


def _rows(title: str, draws: DrawCounts) -> list[tuple[Cell, ...]]:
    windows = [draws.window(progress) for progress in MOMENTS.values()]
    percents = {
        s: [*(100 * draws.shares[windows, s]).tolist(), 100 * float(draws.shares[:, s].mean())] for s in _used(draws)
    }
    return [
        (title, draws.source_names[s], *((x, f"{x:.1f}") for x in of_source), _spread(draws))
        for s, of_source in percents.items()
    ]
