"""The findings of an experiment in sentences: every claim in words is computed from the numbers of the arms.

Knows nothing of HTML, and reads no run's folder.
"""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from jaxmoust.analysis import accuracy
from jaxmoust.analysis.decisions import Decision
from jaxmoust.analysis.metrics import METRICS
from jaxmoust.report.arms import ArmSummary, shared_ranks
from jaxmoust.report.numbers import MINUS, interval_text, p_equals, p_text, seconds_text
from jaxmoust.report.page import COLUMNS, Page
from jaxmoust.runtime.paths import visible

FORMULA = ("=", "+", "-", "@", "\t", "\r")  # how a formula may begin
MAX_LISTED = 5  # arms that one sentence names; the table has them all
NUM_RESAMPLES = 2000  # of the bootstrap in summary.csv


def summary_rows(page: Page) -> list[dict[str, Any]]:
    """Returns summary.csv: for each arm its means with deviation and intervals, and its comparison; "" for nothing.

    top1_low and top1_high are Student's t interval over seeds; difference_low and difference_high are simultaneous over
    the arms, and p is adjusted for them: what the page claims by. Those called bootstrap are percentiles of
    NUM_RESAMPLES resamples, of seeds for the mean, too short for few seeds, and of seeds and images for the difference,
    which may be either. hours_per_seed is of all stages that an arm stands on, see `Page.spent`.
    """
    rows = []
    for arm in page.summaries:
        ours, d = arm.by_seed("top1"), arm.decision
        row: dict[str, Any] = {"arm": arm.info.name, "seeds": len(ours)}
        for column in ("top1", "top5"):
            mean = arm.over_seeds(column)
            row |= {f"{column}_mean": mean and mean.mean, f"{column}_sd": mean and mean.sd, **_ends(column, mean)}
        resampled = accuracy.summary(list(ours.values()), "bootstrap", num_resamples=NUM_RESAMPLES) if ours else None
        row |= _ends("top1_bootstrap", resampled)
        row |= {"baseline": arm.base and arm.base.name, "paired_seeds": d and d.seeds}
        row |= {"difference": d and d.difference, **_ends("difference", d)}
        estimate = d if d and d.interval else None
        row |= {"p": estimate and estimate.p, "fewer_errors_percent": arm.fewer_errors}
        row |= {name: d and getattr(d, name) for name in ("verdict", "family", "rule", "more_seeds", "same_as")}
        row |= {"spread": estimate and estimate.spread, "image_error": estimate and estimate.image_error}
        paired = None
        if len(arm.gains) > 1 and (both := shared_ranks(arm, page.ranks)):
            paired = accuracy.paired_difference(*both, method="bootstrap", num_resamples=NUM_RESAMPLES)
        row |= {**_ends("difference_bootstrap", paired), "p_bootstrap": paired and paired.p}
        spent = page.spent.get(arm.info.name)
        row |= {"hours_per_seed": spent and sum(spent.values()) / 3600}
        rows.append({name: _cell(x) for name, x in row.items()})
    return rows


def _cell(x: Any) -> Any:
    """What summary.csv says of a value; eight digits, however small: no p is 0."""
    return "" if x is None else float(f"{x:.8g}") if isinstance(x, float) else x


def _ends(name: str, estimate: accuracy.Summary | accuracy.Difference | Decision | None) -> dict[str, float | None]:
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
    compared = [(_good(page, arm.decision.difference), arm) for arm in page.summaries if arm.decision]
    by_gain = [arm for _, arm in sorted(compared, key=lambda pair: -pair[0])]
    return [arm for arm in by_gain if arm.has_synthetic] or by_gain


def _good(page: Page, difference: float) -> float:
    """A difference with the sign of an improvement."""
    return difference if METRICS[page.terms.metric].higher_is_better else -difference


def section_answers(page: Page) -> list[str]:
    """Returns what the page's sections say to its question, with their titles where several do."""
    answers = [section for section in page.sections if section.answer]
    return [section.answer if len(answers) == 1 else f"{section.title}: {section.answer}" for section in answers]


def answer(page: Page) -> list[str]:
    """Returns the answer in sentences: that of the page's sections, the headline, then every other arm's verdict.

    What is undecided is said, with the seeds that would decide it; of controls only what is significant.
    """
    base, tested, within = base_words(page), _tested(page), f"within {page.terms.margin_words}"
    asked = [arm.info.name for arm in contenders(page)]
    controls = [arm for arm in page.summaries if arm.decision and arm.info.name not in asked]
    others = tested if len(tested) > 1 else []  # of one arm the headline says it all
    lists = {
        "Significantly better as well": [arm for arm in others[1:] if arm.verdict == "better"],
        f"Equivalent to {base} {within}": [arm for arm in others if arm.verdict == "equivalent"],
        f"Significantly worse than {base}": [arm for arm in reversed(others) if arm.verdict == "worse"],
        "Undecided, in brackets what would decide it": [arm for arm in others if arm.verdict == "undecided"],
    }
    for verdict in ("better", "worse"):
        of_controls = [arm for arm in controls if arm.verdict == verdict]
        lists[f"Without synthetic images, significantly {verdict} than {base}"] = of_controls
    listed = [f"{what}: {_listed(arms, page)}." for what, arms in lists.items() if arms]
    return [*section_answers(page), headline(page), *listed]


def headline(page: Page) -> str:
    """Returns the arms' answer: the verdict on the best beside its baseline, with its interval, p and seeds."""
    base, compared, tested = base_words(page), contenders(page), _tested(page)
    if not any(page.summary_of(info.name).by_seed(page.terms.metric) for info in page.baselines):
        return f"No run of {base} has finished, so there is nothing to compare with yet."
    if not compared:
        return f"No other arm has finished a seed that {base} has, so no difference can be given yet."
    first = tested[0] if tested else compared[0]
    gain = f"{first.title}, {_gain(page, first)}"
    if not tested:
        return (
            f"Nothing can be claimed from one seed. The largest difference from {base_words(page, first)} is that of "
            f"{gain}; it takes more seeds to know how much of it is chance."
        )
    numbers, of_first = f"{_gain(page, first)} {_evidence(first, page)}", base_words(page, first)
    if first.verdict == "better":
        small = abs(first.decision.difference) < page.terms.margin if first.decision else False
        by_little = f", by less than the margin of {page.terms.margin_words}" if small else ""
        return f"{first.title} is significantly better than {of_first}{by_little}: {numbers}."
    num_decisions = sum(arm.decision is not None for arm in page.summaries)
    of_synthetic = " with synthetic images" if len(compared) < num_decisions else ""
    if len(tested) == 1:
        what = {
            "worse": f"is significantly worse than {of_first}",
            "equivalent": f"is equivalent to {of_first} within {page.terms.margin_words}",
            "undecided": f"and {of_first}: undecided, {_more(first, page)}",
        }[first.verdict]
        return f"{first.title} {what}: {numbers}."
    if all(arm.verdict == "worse" for arm in tested):
        every = f"Every arm{of_synthetic}" if of_synthetic else "Every other arm"
        return f"{every} is significantly worse than {base}; {first.title} the least: {numbers}."
    what = "largest gain" if first.decision and _good(page, first.decision.difference) > 0 else "smallest loss"
    none = f"No arm{of_synthetic} is significantly better than {base}: {_counts(page, tested)}"
    return f"{none}. The {what} is that of {first.title}: {numbers}."


def _counts(page: Page, arms: Sequence[ArmSummary]) -> str:
    words = {
        "worse": "worse",
        "equivalent": f"equivalent within {page.terms.margin_words}",
        "undecided": "undecided",
    }
    counts = {verdict: sum(arm.verdict == verdict for arm in arms) for verdict in words}
    if len(arms) in counts.values():
        return f"{'both' if len(arms) == 2 else f'all {len(arms)}'} are {words[arms[0].verdict]}"
    return f"of {len(arms)}, {_and([f'{n} {words[verdict]}' for verdict, n in counts.items() if n])}"


def _tested(page: Page) -> list[ArmSummary]:
    return [arm for arm in contenders(page) if arm.decision and arm.decision.interval]


def _gain(page: Page, arm: ArmSummary) -> str:
    """The difference with its interval, and the errors."""
    assert arm.decision is not None
    fewer = arm.fewer_errors or 0.0
    errors = f", {abs(fewer):.0f} % {'fewer' if fewer > 0 else 'more'} errors" if abs(fewer) >= 0.5 else ""
    return f"{interval_text(arm.decision.difference, arm.decision.interval, signed=True)} {page.terms.unit}{errors}"


def _evidence(arm: ArmSummary, page: Page) -> str:
    d, family = arm.decision, page.num_tests
    assert d is not None
    of_all = f", adjusted for {family} comparisons" if family > 1 else ""
    images = f", {len(page.labels):,} test images" if len(page.labels) else ""
    return f"(95 % interval; {p_equals(d.p)}{of_all}; n = {d.seeds} seeds{images})"


def _more(arm: ArmSummary, page: Page) -> str:
    """What it would take to decide an arm."""
    if arm.decision is None or not (more := arm.decision.more_seeds):
        return "more seeds are unlikely to decide it"
    base = page.summary_of(arm.base.name if arm.base else page.baseline)
    time = f", {seconds_text(more * (arm.seconds + base.seconds))} here," if arm.seconds else ""
    return f"{_more_seeds(arm.decision)}{time} would decide it"


def _more_seeds(decision: Decision) -> str:
    """How many more seeds would decide an arm, as short as a list needs it."""
    more = decision.more_seeds
    return f"about {more} more seed{'s' if more > 1 else ''}" if more else "hardly by more seeds"


def to_decide(page: Page) -> str:
    """Says what it would take to decide the arms that are undecided; "" where none is, or none can be."""
    undecided = [arm for arm in page.summaries if arm.decision and arm.verdict == "undecided"]
    more = {arm.info.name: arm.decision.more_seeds for arm in undecided if arm.decision and arm.decision.more_seeds}
    if not more:
        return ""
    base = page.summary_of(page.baseline).seconds * max(more.values())
    seconds = base + sum(number * page.summary_of(name).seconds for name, number in more.items())
    return f"{len(more)} of {len(undecided)} undecided arms, about {seconds_text(seconds)} of runs here"


def verdict_words(arm: ArmSummary, page: Page) -> str:
    """The verdict on an arm, in a few words; "" for one that is compared with nothing."""
    if arm.decision is None:
        return ""
    same = next((one.title for one in page.arms if one.name == arm.decision.same_as), "")
    words = arm.verdict
    if words == "equivalent":
        words += f" within {page.terms.margin_words}"
    elif words == "undecided":
        words += f": {_more(arm, page)}" if arm.decision.interval else ": one seed"
    return f"{words}; its runs are those of {same}" if same else words


def _listed(arms: Sequence[ArmSummary], page: Page) -> str:
    items = [
        f"{arm.title} ({interval_text(d.difference, d.interval, signed=True)}, "
        f"{_more_seeds(d) if arm.verdict == 'undecided' else p_equals(d.p)})"
        for arm in arms[:MAX_LISTED]
        if (d := arm.decision)
    ]
    return _and(items + ([f"{len(arms) - MAX_LISTED} more"] if len(arms) > MAX_LISTED else []))


def _and(items: Sequence[str]) -> str:
    return " and ".join([", ".join(items[:-1]), items[-1]] if len(items) > 1 else items)


def method(page: Page) -> str:
    """Says how the spreads over seeds were estimated, family by family, and what they were."""
    rules = {
        "moderated": "of each arm, shrunk towards those of the others",
        "pooled": "pooled over the family and its baseline",
        "crossed": "of each arm alone, by its own differences",
    }
    families: dict[tuple[str, str], list[float]] = {}
    for arm in _tested(page) + [arm for arm in page.summaries if arm not in contenders(page)]:
        if (d := arm.decision) and d.interval and d.rule in rules:
            families.setdefault((d.family.replace("_", " "), d.rule), []).append(d.spread)
    spreads = [
        f"{family}: {min(of):.2f}" + (f" to {max(of):.2f}" if max(of) > min(of) else "") + f", {rules[rule]}"
        for (family, rule), of in families.items()
    ]
    return f"Spreads over seeds (standard deviation): {'; '.join(spreads)}." if spreads else ""


def gaps(page: Page) -> list[str]:
    """Returns what is missing or unequal, in words: seeds, arms, ranks, work, files. Empty when nothing is."""
    sentences = list(page.unread)
    every = set(page.seeds)
    for arm in page.summaries:
        have, of_arm = set(arm.runs), []
        if not have:
            sentences.append(f"{arm.title}: no finished run.")
            continue
        if (absent := every - have) and not page.paths:
            of_arm.append(f"no run of seed {_numbers(absent)}; the seeds it has are compared.")
        if blank := have - set(arm.by_seed("top1")):
            of_arm.append(f"seed {_numbers(blank)} has no Top-1.")
        if no_ranks := have - set(page.ranks.get(arm.info.name, ())):
            of_arm.append(
                f"the predictions for single images were not kept for seed {_numbers(no_ranks)}; their part of the "
                "uncertainty is taken from the other arms, and the arm has no accuracy per class."
            )
        steps, base = arm.setting("steps"), page.summary_of(page.baseline_of[arm.info.name])
        if base.runs and steps != base.setting("steps"):
            of_arm.append(
                f"{steps} steps beside {base.setting('steps')} of {base.title}; its difference is not at equal work."
            )
        sentences += [f"{arm.title}: {words}" for words in of_arm]
    return sentences


def _numbers(seeds: set[int]) -> str:
    return ", ".join(map(str, sorted(seeds)))


def has_top5(page: Page) -> bool:
    """Whether any run has a Top-5; of five classes or fewer, none has."""
    return any(arm.by_seed("top5") for arm in page.summaries)


def table_text(page: Page) -> str:
    """Returns the table for a terminal: aligned plain text that begins with the verdicts."""
    columns = ("top1", "top5") if has_top5(page) else ("top1",)
    unit = page.terms.unit if page.terms.metric != "top1" else "points"
    names = ("arm", "verdict", f"{unit} v {base_words(page)}", "p", "Top-1 %", *(["Top-5 %"] * has_top5(page)), "seeds")
    cells: list[tuple[str, ...]] = [names]
    for arm in page.summaries:
        d = arm.decision
        p = p_text(d.p) if d and d.interval else ""
        points_v = "" if d is None else interval_text(d.difference, d.interval, signed=True)
        tops = [interval_text(s.mean, s.interval) if (s := arm.over_seeds(c)) else "-" for c in columns]
        verdict = verdict_words(arm, page) or ("baseline" if arm.base is None else "-")
        cells.append((arm.title, verdict, points_v, p, *tops, str(len(arm.runs))))
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    cells.insert(1, tuple("-" * width for width in widths))
    table = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
    note = f"[95 % interval]; differences and p hold for all {page.num_tests} comparisons together"
    return "\n".join([*table, note]).replace(MINUS, "-") + "\n"


def columns_of(rows: Sequence[Mapping[str, Any]], columns: Sequence[str] = COLUMNS) -> list[str]:
    """These columns, then whatever else the rows have."""
    return [*columns, *dict.fromkeys(c for row in rows for c in row if c not in columns)]


def csv_text(rows: Sequence[Mapping[str, Any]], columns: Sequence[str] = COLUMNS) -> str:
    """Returns rows as CSV: these columns first, by default those of results.csv, then whatever else the rows have."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns_of(rows, columns), lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: inert(value) for name, value in row.items()} for row in rows)
    return visible(text.getvalue())


def inert(value: Any) -> Any:
    """Returns what a CSV file may hold: a text that a spreadsheet would run as a formula has ' before it."""
    if not isinstance(value, str) or not value.startswith(FORMULA):
        return value
    try:
        float(value)  # -1.5 is none
    except ValueError:
        return f"'{value}"
    return value
