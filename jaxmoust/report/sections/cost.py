"""What each arm costs, and what it gains for an hour, as a section of a study's page."""

from jaxmoust.analysis.metrics import METRICS
from jaxmoust.report.numbers import interval_text, seconds_text
from jaxmoust.report.page import Cell, Page, Section, Table

TITLE = "What each arm costs"
PARTS = {"Classifiers": "train", "Generators": "fit", "Synthetic sets": "sample"}  # column -> the kind of its stages
NOTE = (
    "The time of a seed is that of all stages that the arm's runs stand on, as these recorded it: its classifier, its "
    "sets, their generators, scores, and the classifiers that these need. Each counts once, in full for every arm that "
    "needs it; one that serves several seeds is shared equally among them. Diagnostics that no arm needs are left out. "
    "For an hour: the difference, with its interval for all comparisons together, divided by that time, taken as exact."
)


def sections(page: Page) -> list[Section]:
    """Returns the section, or none for a study without synthetic images or whose stages say no time."""
    if not page.spent or not any(arm.has_synthetic for arm in page.summaries):
        return []
    rows: list[tuple[float, list[Cell]]] = []
    hourly: tuple[float | None, str]
    best, sign = ("", -1.0), 1 if METRICS[page.terms.metric].higher_is_better else -1
    for arm in page.summaries:
        if not (spent := page.spent.get(arm.info.name)):
            continue
        total, d, gained, hourly = sum(spent.values()), arm.decision, float("-inf"), (None, "")
        if d and total:
            rate = 3600 / total
            gained = sign * rate * d.difference
            interval = (rate * d.low, rate * d.high) if d.interval else None
            hourly = (rate * d.difference, interval_text(rate * d.difference, interval, signed=True))
            if arm.verdict == "better" and gained > best[1]:
                best = (f"Of the arms that are better, {arm.title} gains most for an hour: {hourly[1]}", gained)
        parts = [spent.get(kind, 0.0) for kind in PARTS.values()]
        times = [total, *parts, total - sum(parts)]
        cells: list[Cell] = [(one, seconds_text(one)) if one > 1e-6 else None for one in times]
        rows.append((-gained, [arm.title, *cells, (d.difference if d else None), hourly]))
    columns = ("Arm", "Time of a seed", *PARTS, "Scores and features", "Difference", "Difference for an hour")
    devices = {one.device for one in page.provenance if one.device}
    mixed = f" Stages ran on {', '.join(sorted(devices))}: an hour of one is not an hour of another."
    words = [f"{best[0]} {page.terms.unit}."] if best[0] else []
    table = Table(TITLE, columns, [cells for _, cells in sorted(rows, key=lambda row: row[0])])
    return [Section(TITLE, words, tables=[table], notes=[NOTE + (mixed if len(devices) > 1 else "")])]
