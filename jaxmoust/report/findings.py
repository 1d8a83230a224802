"""What an experiment found, in sentences: every claim in words is computed from the numbers of the arms.

Knows nothing of HTML, and reads no run's folder.
"""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxmoust.analysis import accuracy
from jaxmoust.report.arms import LEVEL, ArmSummary, shared_ranks
from jaxmoust.report.numbers import MINUS, interval_text, p_equals, p_text
from jaxmoust.report.page import COLUMNS, Page

MAX_LISTED = 5  # arms that one sentence names; the table has them all
NUM_RESAMPLES = 2000  # of the bootstrap in summary.csv
FEW_SEEDS = 5  # below this the page says that seeds are few


def summary_rows(page: Page) -> list[dict[str, Any]]:
    """Returns summary.csv: for each arm its means with deviation and intervals, and its comparison; "" for nothing.

    top1_low and top1_high are Student's t interval over seeds, difference_low and difference_high that of seeds and
    images crossed: what the page claims by. Those called bootstrap are percentiles of NUM_RESAMPLES resamples, of seeds
    for the mean, too short for few seeds, and of seeds and images for the difference, which may be either.
    """
    found = []
    for arm in page.summaries:
        ours, d = arm.by_seed("top1"), arm.difference
        row: dict[str, Any] = {"arm": arm.info.name, "seeds": len(ours)}
        for column in ("top1", "top5"):
            mean = arm.over_seeds(column)
            row |= {f"{column}_mean": mean and mean.mean, f"{column}_sd": mean and mean.sd, **_ends(column, mean)}
        resampled = accuracy.summary(list(ours.values()), "bootstrap", num_resamples=NUM_RESAMPLES) if ours else None
        row |= _ends("top1_bootstrap", resampled)
        row |= {"baseline": arm.base and arm.base.name, "paired_seeds": d and d.num_seeds}
        row |= {"difference": d and d.mean, **_ends("difference", d)}
        row |= {"p": d and d.p, "p_holm": arm.holm_p, "fewer_errors_percent": arm.fewer_errors}
        paired = None
        if len(arm.gains) > 1 and (both := shared_ranks(arm, page.ranks)):
            paired = accuracy.paired_difference(*both, method="bootstrap", num_resamples=NUM_RESAMPLES)
        row |= {**_ends("difference_bootstrap", paired), "p_bootstrap": paired and paired.p}
        found.append({name: _cell(x) for name, x in row.items()})
    return found


def _cell(x: Any) -> Any:
    """What summary.csv says of a value; eight digits, however small: no p is 0."""
    return "" if x is None else float(f"{x:.8g}") if isinstance(x, float) else x


def _ends(name: str, estimate: accuracy.Summary | accuracy.Difference | None) -> dict[str, float | None]:
    low, high = (estimate and estimate.interval) or (None, None)
    return {f"{name}_low": low, f"{name}_high": high}


def base_words(page: Page, arm: ArmSummary | None = None) -> str:
    """What arms are compared with: an arm's baseline, or that of all of them; "its baseline" for one of several."""
    titles = [arm.base.title] if arm and arm.base else [base.title for base in page.baselines]
    return titles[0] if len(titles) == 1 else "its baseline"


def contenders(page: Page) -> list[ArmSummary]:
    """Returns the compared arms that the question is about, by their gain: controls are not where others are.

    A control has no synthetic images; a study of such arms alone is about them.
    """
    compared = [(arm.difference.mean, arm) for arm in page.summaries if arm.difference]
    by_gain = [arm for _, arm in sorted(compared, key=lambda pair: -pair[0])]
    return [arm for arm in by_gain if arm.has_synthetic] or by_gain


def section_answers(page: Page) -> list[str]:
    """Returns what the page's sections say to its question, with their titles where several do."""
    known = [section for section in page.sections if section.answer]
    return [section.answer if len(known) == 1 else f"{section.title}: {section.answer}" for section in known]


def answer(page: Page) -> list[str]:
    """Returns the answer in sentences: that of the page's sections, the headline, then what else the arms show.

    A claim is made only for p < 0.05 after Holm; what the seeds cannot show is said as well, and of controls only what
    is significant.
    """
    base, tested = base_words(page), _tested(page)
    asked = [arm.info.name for arm in contenders(page)]
    undecided = [(arm, d.p) for arm in tested if arm.verdict == "undecided" and (d := arm.difference)]
    alone = [arm for arm, p in undecided if p is not None and p < LEVEL]
    controls = [arm for arm in page.summaries if arm.difference and arm.info.name not in asked]
    lists = {
        "Significantly better as well": [arm for arm in tested[1:] if arm.verdict == "better"],
        f"Significantly worse than {base}": [arm for arm in reversed(tested) if arm.verdict == "worse"],
        "Significant alone but not after the correction, so not claimed": alone,
    }
    for verdict in ("better", "worse"):
        of_controls = [arm for arm in controls if arm.verdict == verdict]
        lists[f"Without synthetic images, significantly {verdict} than {base}"] = of_controls
    listed = [f"{what}: {_listed(arms)}." for what, arms in lists.items() if arms]
    return [*section_answers(page), headline(page), *listed, *_caution(tested)]


def headline(page: Page) -> str:
    """Returns the arms' answer in one sentence: the best beside its baseline, with its interval, p and seeds."""
    base, compared, tested = base_words(page), contenders(page), _tested(page)
    if not any(page.summary_of(info.name).by_seed("top1") for info in page.baselines):
        return f"No run of {base} has finished, so there is nothing to compare with yet."
    if not compared:
        return f"No other arm has finished a seed that {base} has, so no difference can be given yet."
    first = tested[0] if tested else compared[0]
    gain = f"{first.title}, {_gain(first)}"
    if not tested:
        return (
            f"Nothing can be claimed from one seed. The largest difference from {base_words(page, first)} is that of "
            f"{gain}; only more seeds can tell how much of it is chance."
        )
    numbers = f"{_gain(first)} {_evidence(first, page)}"
    if first.verdict == "better":
        return f"{first.title} is significantly better than {base_words(page, first)}: {numbers}."
    of_synthetic = (
        " with synthetic images" if len(compared) < sum(x.difference is not None for x in page.summaries) else ""
    )
    if all(arm.verdict == "worse" for arm in tested):
        if len(tested) == 1:
            return f"{first.title} is significantly worse than {base_words(page, first)}: {numbers}."
        every = f"Every arm{of_synthetic}" if of_synthetic else "Every other arm"
        return f"{every} is significantly worse than {base}; {first.title} the least: {numbers}."
    what = "largest gain" if first.difference and first.difference.mean > 0 else "smallest loss"
    none = f"No arm{of_synthetic} is significantly better than {base}"
    return f"{none}. The {what} is that of {first.title}: {numbers}."


def _tested(page: Page) -> list[ArmSummary]:
    return [arm for arm in contenders(page) if arm.holm_p is not None]


def _gain(arm: ArmSummary) -> str:
    """The difference with its interval, and the errors."""
    assert arm.difference is not None
    fewer = arm.fewer_errors or 0.0
    errors = f", {abs(fewer):.0f} % {'fewer' if fewer > 0 else 'more'} errors" if abs(fewer) >= 0.5 else ""
    return f"{interval_text(arm.difference.mean, arm.difference.interval, signed=True)} points of Top-1{errors}"


def _evidence(arm: ArmSummary, page: Page) -> str:
    d, family = arm.difference, page.num_tests
    assert d is not None and arm.holm_p is not None
    after = f" after Holm over {family} comparisons" if family > 1 else ""
    images = f", {d.num_images:,} test images" if d.num_images else ""
    return f"(95 % interval; {p_equals(arm.holm_p)}{after}; n = {d.num_seeds} seeds{images})"


def _listed(arms: Sequence[ArmSummary]) -> str:
    items = [
        f"{arm.title} ({interval_text(d.mean, d.interval, signed=True)}, {p_equals(arm.holm_p)})"
        for arm in arms[:MAX_LISTED]
        if (d := arm.difference) and arm.holm_p is not None
    ]
    items += [f"{len(arms) - MAX_LISTED} more"] if len(arms) > MAX_LISTED else []
    return " and ".join([", ".join(items[:-1]), items[-1]] if len(items) > 1 else items)


def _caution(tested: Sequence[ArmSummary]) -> list[str]:
    """What few seeds cannot see: half an interval is the smallest difference that stands out of it."""
    differences = [arm.difference for arm in tested if arm.difference]
    counts = [d.num_seeds for d in differences]
    if min(counts, default=FEW_SEEDS) >= FEW_SEEDS:
        return []
    few = f"{'As few as ' if min(counts) < max(counts) else ''}{min(counts)} seeds are few"
    if all(arm.verdict != "undecided" for arm in tested):
        return [f"{few}: the sizes of these differences are rough."]
    halves = [(d.interval[1] - d.interval[0]) / 2 for d in differences if d.interval]
    where = "here" if len(halves) == 1 else "for half of the arms"
    return [
        f"{few}: {where}, differences of less than about {np.median(halves):.1f} points cannot be distinguished from "
        "chance, so “not significant” does not mean “no effect”."
    ]


def gaps(page: Page) -> list[str]:
    """Returns what is missing or unequal, in words: seeds, arms, ranks, work, files. Empty when nothing is."""
    said = list(page.unread)
    every = set(page.seeds)
    for arm in page.summaries:
        have, of_arm = set(arm.runs), []
        if not have:
            said.append(f"{arm.title}: no finished run.")
            continue
        if (absent := every - have) and not page.paths:
            of_arm.append(f"no run of seed {_numbers(absent)}; the seeds it has are compared.")
        if blank := have - set(arm.by_seed("top1")):
            of_arm.append(f"seed {_numbers(blank)} has no Top-1.")
        if no_ranks := have - set(page.ranks.get(arm.info.name, ())):
            of_arm.append(
                f"the answers to single images were not kept for seed {_numbers(no_ranks)}; its difference is tested "
                "over seeds alone, for this test set, and it has no accuracy per class."
            )
        steps, base = arm.setting("steps"), page.summary_of(page.baseline_of[arm.info.name])
        if base.runs and steps != base.setting("steps"):
            of_arm.append(
                f"{steps} steps beside {base.setting('steps')} of {base.title}; its difference is not at equal work."
            )
        said += [f"{arm.title}: {words}" for words in of_arm]
    return said


def _numbers(seeds: set[int]) -> str:
    return ", ".join(map(str, sorted(seeds)))


def has_top5(page: Page) -> bool:
    """Whether any run has a Top-5; of five classes or fewer, none has."""
    return any(arm.by_seed("top5") for arm in page.summaries)


def table_text(page: Page) -> str:
    """Returns the table for a terminal: aligned plain text, a star where the difference is significant."""
    columns = ("top1", "top5") if has_top5(page) else ("top1",)
    names = ("arm", "Top-1 %", f"points v {base_words(page)}", "p (Holm)", *(["Top-5 %"] * has_top5(page)), "seeds")
    cells: list[tuple[str, ...]] = [names]
    for arm in page.summaries:
        d, star = arm.difference, "" if arm.verdict == "undecided" else " *"
        p = "" if arm.holm_p is None else p_text(arm.holm_p) + star
        points_v = "" if d is None else interval_text(d.mean, d.interval, signed=True)
        tops = [interval_text(s.mean, s.interval) if (s := arm.over_seeds(c)) else "-" for c in columns]
        cells.append((arm.title, tops[0], points_v, p, *tops[1:], str(len(arm.runs))))
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    cells.insert(1, tuple("-" * width for width in widths))
    table = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
    note = "[95 % interval]; * significant at 5 % after Holm's correction"
    return "\n".join([*table, note]).replace(MINUS, "-") + "\n"


def columns_of(rows: Sequence[Mapping[str, Any]], columns: Sequence[str] = COLUMNS) -> list[str]:
    """These columns, then whatever else the rows have."""
    return [*columns, *dict.fromkeys(c for row in rows for c in row if c not in columns)]


def csv_text(rows: Sequence[Mapping[str, Any]], columns: Sequence[str] = COLUMNS) -> str:
    """Returns rows as CSV: these columns first, by default those of results.csv, then whatever else the rows have."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns_of(rows, columns), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
