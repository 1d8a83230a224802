"""What an experiment found: its runs as a table of arms, and the sentences that follow from the numbers.

Every claim in words is computed from the numbers beside it. Knows nothing of HTML, and reads no run's folder.
"""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jaxmoust.analysis import accuracy
from jaxmoust.report.page import COLUMNS, Arm, Page, number_of

LEVEL = 0.05  # of the family of comparisons, after Holm
MAX_LISTED = 5  # arms that one sentence names; the table has them all
NUM_RESAMPLES = 2000  # of the bootstrap in summary.csv
FEW_SEEDS = 5  # below this the page says that seeds are few
MINUS = "\N{MINUS SIGN}"


@dataclass(frozen=True)
class Line:
    """One arm's line of the table. None is what cannot be said: no run, one seed, or a baseline itself.

    Args: base: the arm that this one is compared with; None for a baseline.
    """

    arm: Arm
    runs: Mapping[int, Mapping[str, Any]]
    base: Arm | None = None
    difference: accuracy.Difference | None = None
    holm_p: float | None = None
    fewer_errors: float | None = None

    def of_seeds(self, column: str) -> dict[int, float]:
        """The column's numbers by seed, without the missing."""
        numbers = {seed: number_of(row[column]) for seed, row in self.runs.items()}
        return {seed: x for seed, x in numbers.items() if x is not None}

    def summary(self, column: str) -> accuracy.Summary | None:
        """Mean and interval of the column over seeds."""
        numbers = self.of_seeds(column)
        return accuracy.summary(list(numbers.values())) if numbers else None

    def setting(self, column: str, form: str = "") -> str:
        """The column's value when all seeds share it, else all values; as numbers in a form of `str.format`, if any."""
        if form:
            return " / ".join(form.format(number) for number in dict.fromkeys(self.of_seeds(column).values()))
        return " / ".join(dict.fromkeys(str(row[column]) for row in self.runs.values() if row[column] is not None))

    @property
    def verdict(self) -> str:
        """'better', 'worse', or 'open' when chance may be all there is."""
        if self.holm_p is None or self.holm_p >= LEVEL:
            return "open"
        return "better" if self.difference.mean > 0 else "worse"


def tabulate(page: Page) -> list[Line]:
    """Returns one line per arm, in the page's order, each compared with its baseline.

    The comparison is paired over the seeds that both arms have; p values are Holm's over the arms that have one.
    """
    runs = {arm.name: {} for arm in page.arms}
    for row in page.rows:
        runs[row["arm"]][int(row["seed"])] = row
    lines = [Line(arm, dict(sorted(runs[arm.name].items()))) for arm in page.arms]
    lines = [_compared(page, line, line_of(page.baseline_of(line.arm.name), lines)) for line in lines]
    tested = [i for i, line in enumerate(lines) if line.difference and line.difference.p is not None]
    for i, p in zip(tested, accuracy.holm([lines[i].difference.p for i in tested]), strict=True):
        lines[i] = replace(lines[i], holm_p=p)
    return lines


def _compared(page: Page, line: Line, reference: Line) -> Line:
    if line is reference:
        return line
    line = replace(line, base=reference.arm)
    ours, theirs = line.of_seeds("top1"), reference.of_seeds("top1")
    seeds = [seed for seed in ours if seed in theirs]
    if not seeds:
        return line
    if both := _shared_ranks(page, line, seeds):
        difference = accuracy.paired_difference(*both)
    else:
        num_images = number_of(line.runs[seeds[0]].get("n_test"))
        values = ([of[seed] for seed in seeds] for of in (ours, theirs))
        difference = accuracy.seed_difference(*values, num_images=num_images and int(num_images))
    base = float(np.mean([theirs[s] for s in seeds]))
    fewer = accuracy.relative_error_reduction(base + difference.mean, base)
    return replace(line, difference=difference, fewer_errors=fewer)


def _shared_ranks(page: Page, line: Line, seeds: Sequence[int]) -> list[list[NDArray]] | None:
    """The ranks of an arm and of its baseline at these seeds, or None where some were not kept."""
    kept = [page.ranks.get(name, {}) for name in (line.arm.name, line.base.name)]
    if not all(seed in ranks for ranks in kept for seed in seeds):
        return None
    return [[ranks[seed] for seed in seeds] for ranks in kept]


def summary_rows(page: Page, lines: Sequence[Line]) -> list[dict[str, Any]]:
    """Returns summary.csv: for each arm its means with deviation and intervals, and its comparison; "" for nothing.

    top1_low and top1_high are Student's t interval over seeds, difference_low and difference_high that of seeds and
    images crossed: what the page claims by. Those called bootstrap are percentiles of NUM_RESAMPLES resamples, of seeds
    for the mean, too short for few seeds, and of seeds and images for the difference, which may be either.
    """
    found = []
    for line in lines:
        ours, d = line.of_seeds("top1"), line.difference
        theirs = line_of(line.base.name, lines).of_seeds("top1") if line.base else {}
        row: dict[str, Any] = {"arm": line.arm.name, "seeds": len(ours)}
        for column in ("top1", "top5"):
            said = line.summary(column)
            row |= {f"{column}_mean": said and said.mean, f"{column}_sd": said and said.sd}
            row |= _ends(column, said and said.interval)
        drawn = (
            accuracy.summary(list(ours.values()), "bootstrap", num_resamples=NUM_RESAMPLES).interval if ours else None
        )
        row |= _ends("top1_bootstrap", drawn)
        row |= {"baseline": line.base and line.base.name, "paired_seeds": d and d.num_seeds}
        row |= {"difference": d and d.mean, **_ends("difference", d and d.interval)}
        row |= {"p": d and d.p, "p_holm": line.holm_p, "fewer_errors_percent": line.fewer_errors}
        resampled = None
        if d and d.num_seeds > 1 and (both := _shared_ranks(page, line, [seed for seed in ours if seed in theirs])):
            resampled = accuracy.paired_difference(*both, method="bootstrap", num_resamples=NUM_RESAMPLES)
        row |= _ends("difference_bootstrap", resampled and resampled.interval)
        row["p_bootstrap"] = resampled and resampled.p
        found.append({name: _cell(x) for name, x in row.items()})
    return found


def _cell(x: Any) -> Any:
    """What summary.csv says of a value; eight digits, however small: no p is 0."""
    return "" if x is None else float(f"{x:.8g}") if isinstance(x, float) else x


def _ends(name: str, interval: tuple[float, float] | None) -> dict[str, float | None]:
    return dict(zip((f"{name}_low", f"{name}_high"), interval or (None, None), strict=True))


def line_of(name: str, lines: Sequence[Line]) -> Line:
    """The line of the arm of that name."""
    return next(line for line in lines if line.arm.name == name)


def base_words(page: Page, line: Line | None = None) -> str:
    """What arms are compared with: a line's baseline, or that of all of them; "its baseline" for one of several."""
    titles = [line.base.title] if line else [arm.title for arm in page.arms if arm.name in page.baselines]
    return titles[0] if len(titles) == 1 else "its baseline"


def contenders(lines: Sequence[Line]) -> list[Line]:
    """Returns the compared arms that the question is about, by their gain: controls are not where others are.

    A control has no synthetic images; a study of such arms alone is about them.
    """
    compared = sorted((x for x in lines if x.difference), key=lambda x: -x.difference.mean)
    return [x for x in compared if any(x.of_seeds("n_synthetic").values())] or compared


def section_answers(page: Page) -> list[str]:
    """Returns what the page's sections say to its question, with their titles where several do."""
    known = [section for section in page.sections if section.answer]
    return [section.answer if len(known) == 1 else f"{section.title}: {section.answer}" for section in known]


def answer(page: Page, lines: Sequence[Line]) -> list[str]:
    """Returns the answer in sentences: that of the page's sections, then that of its arms, computed from the lines.

    Of arms: who beats the baseline, by how much, how surely. A claim is made only for p < 0.05 after Holm; what the
    seeds cannot show is said as well, and of controls only what is significant.
    """
    return [*section_answers(page), *_arms_answer(page, lines)]


def _arms_answer(page: Page, lines: Sequence[Line]) -> list[str]:
    base, compared = base_words(page), contenders(lines)
    tested = [x for x in compared if x.holm_p is not None]
    family = sum(x.holm_p is not None for x in lines)
    if not any(line_of(name, lines).of_seeds("top1") for name in page.baselines):
        return [f"No run of {base} has finished, so there is nothing to compare with yet."]
    if not compared:
        return [f"No other arm has finished a seed that {base} has, so no difference can be given yet."]
    if not tested:
        return [
            f"Nothing can be claimed from one seed. The largest difference from {base_words(page, compared[0])} is "
            f"{points(compared[0].difference.mean)} points of Top-1 ({compared[0].arm.title}); "
            "only more seeds can tell how much of it is chance."
        ]
    better = [x for x in tested if x.verdict == "better"]
    worse = [x for x in reversed(tested) if x.verdict == "worse"]
    alone = [x for x in tested if x.verdict == "open" and x.difference.p < LEVEL]
    said = []
    if better:
        best, *others = better
        gain = f"{best.difference.mean:.2f} points of Top-1{_errors(best)}"
        said += [f"{best.arm.title} beats {base_words(page, best)} by {gain}."]
        said += [f"{_evidence(best, family)}."]
        said += [f"So {'do' if others[1:] else 'does'} {_listed(others)}."] if others else []
    else:
        all_worse = len(worse) == len(tested)
        said += [f"{_every(lines)} loses to {base}." if all_worse else f"{_none(lines)} beats {base} significantly."]
        what = "largest gain" if tested[0].difference.mean > 0 else "smallest loss"
        said += [
            f"The {what} is {tested[0].arm.title}'s, {points(tested[0].difference.mean)} points of Top-1"
            f"{_errors(tested[0])}. {_evidence(tested[0], family)}."
        ]
    said += [f"Significantly worse than {base}: {_listed(worse)}."] if worse else []
    said += [f"Significant alone but not after the correction, so not claimed: {_listed(alone)}."] if alone else []
    return said + _of_controls(lines, base) + _caution(tested)


def _has_controls(lines: Sequence[Line]) -> bool:
    return len(contenders(lines)) < sum(x.difference is not None for x in lines)


def _none(lines: Sequence[Line]) -> str:
    return "No arm with synthetic images" if _has_controls(lines) else "No arm"


def _every(lines: Sequence[Line]) -> str:
    return "Every arm with synthetic images" if _has_controls(lines) else "Every other arm"


def _of_controls(lines: Sequence[Line], base: str) -> list[str]:
    """What is significant of the arms that are no contenders."""
    asked = {x.arm.name for x in contenders(lines)}
    others = [x for x in lines if x.difference and x.arm.name not in asked]
    by_verdict = {verdict: [x for x in others if x.verdict == verdict] for verdict in ("better", "worse")}
    return [
        f"Without synthetic images, significantly {verdict} than {base}: {_listed(found)}."
        for verdict, found in by_verdict.items()
        if found
    ]


def headline(page: Page, lines: Sequence[Line]) -> str:
    """Returns the arms' answer in one sentence: the best beside the baseline, with its interval, p and seeds."""
    base = base_words(page)
    tested = [x for x in contenders(lines) if x.holm_p is not None]
    if not tested:
        return _arms_answer(page, lines)[0]
    first, d = tested[0], tested[0].difference
    num_tested = sum(x.holm_p is not None for x in lines)
    family = f" after Holm over {num_tested} comparisons" if num_tested > 1 else ""
    evidence = f"(95 % interval; {_p_equals(first.holm_p)}{family}, n = {d.num_seeds})"
    if first.verdict == "better":
        gain = f"{plus_minus(d).lstrip('+')} points of Top-1 over {base_words(page, first)}"
        return f"{first.arm.title} gains {gain} {evidence}."
    if all(x.verdict == "worse" for x in tested):
        loss = f"{plus_minus(d).lstrip(MINUS)} points of Top-1 {evidence}"
        if len(tested) == 1:
            return f"{first.arm.title} loses to {base_words(page, first)}: {loss}."
        return f"{_every(lines)} loses to {base}: {first.arm.title} the least, {loss}."
    what = "largest gain" if d.mean > 0 else "smallest loss"
    most = f"the {what} is {first.arm.title}'s, {plus_minus(d)} points of Top-1 {evidence}"
    return f"{_none(lines)} beats {base} significantly; {most}."


def plus_minus(d: accuracy.Difference) -> str:
    """Returns "+1.30 ± 0.40", the mean difference and half of its interval; both ends where they are not as far."""
    low, high = d.interval
    if abs((d.mean - low) - (high - d.mean)) > 0.01:
        return interval_text(d.mean, d.interval, signed=True)
    return f"{points(d.mean)} ± {(high - low) / 2:.2f}"


def _errors(line: Line) -> str:
    fewer = line.fewer_errors
    if fewer is None or abs(fewer) < 0.5:
        return ""
    return f", {abs(fewer):.0f} % {'fewer' if fewer > 0 else 'more'} errors"


def _evidence(line: Line, family: int) -> str:
    d = line.difference
    low, high = (points(x) for x in d.interval)
    after = f" after Holm over {family} comparisons" if family > 1 else ""
    images = f", {d.num_images:,} test images" if d.num_images else ""
    return f"95 % interval {low} to {high}; {_p_equals(line.holm_p)}{after}; n = {d.num_seeds} seeds{images}"


def _listed(lines: Sequence[Line]) -> str:
    items = [
        f"{x.arm.title} ({points(x.difference.mean)}, {points(x.difference.interval[0])} to "
        f"{points(x.difference.interval[1])}, {_p_equals(x.holm_p)})"
        for x in lines[:MAX_LISTED]
    ]
    items += [f"{len(lines) - MAX_LISTED} more"] if len(lines) > MAX_LISTED else []
    return " and ".join([", ".join(items[:-1]), items[-1]] if len(items) > 1 else items)


def _caution(tested: Sequence[Line]) -> list[str]:
    """What few seeds cannot see: half an interval is the smallest difference that stands out of it."""
    counts = [x.difference.num_seeds for x in tested]
    fewest, few = min(counts), f"{'As few as ' if min(counts) < max(counts) else ''}{min(counts)} seeds are few"
    if fewest >= FEW_SEEDS:
        return []
    if all(x.verdict != "open" for x in tested):
        return [f"{few}: the sizes of these differences are rough."]
    halves = [(high - low) / 2 for low, high in (x.difference.interval for x in tested)]
    where = "here" if len(halves) == 1 else "for half of the arms"
    return [
        f"{few}: {where}, differences of less than about {np.median(halves):.1f} points cannot be told from chance, "
        "so “not significant” does not mean “no effect”."
    ]


def gaps(page: Page, lines: Sequence[Line]) -> list[str]:
    """Returns what is missing or unequal, in words: seeds, arms, ranks, work, files. Empty when nothing is."""
    said = list(page.unread)
    every = set(page.seeds)
    for line in lines:
        title, have = line.arm.title, set(line.runs)
        if not have:
            said.append(f"{title}: no finished run.")
            continue
        if absent := sorted(every - have):
            said.append(f"{title}: no run of seed {', '.join(map(str, absent))}; the seeds it has are compared.")
        if blank := [seed for seed, row in line.runs.items() if number_of(row["top1"]) is None]:
            said.append(f"{title}: seed {', '.join(map(str, blank))} has no Top-1.")
        if no_ranks := sorted(have - set(page.ranks.get(line.arm.name, ()))):
            said.append(
                f"{title}: the answers to single images were not kept for seed {', '.join(map(str, no_ranks))}; "
                "its difference is tested over seeds alone, for this test set, and it has no accuracy per class."
            )
        reference = line_of(page.baseline_of(line.arm.name), lines)
        if reference.runs and line.setting("steps") != reference.setting("steps"):
            said.append(
                f"{title}: {line.setting('steps')} steps beside {reference.setting('steps')} of "
                f"{reference.arm.title}; its difference is not at equal work."
            )
    return said


def table_text(page: Page) -> str:
    """Returns the table for a terminal: aligned plain text, a star where the difference is significant."""
    lines = tabulate(page)
    cells = [("arm", "Top-1 %", f"points v {base_words(page)}", "p (Holm)", "Top-5 %", "seeds")]
    for line in lines:
        d, star = line.difference, "" if line.verdict == "open" else " *"
        p = "" if line.holm_p is None else p_text(line.holm_p) + star
        points_v = "" if d is None else interval_text(d.mean, d.interval, signed=True)
        tops = [interval_text(s.mean, s.interval) if (s := line.summary(c)) else "-" for c in ("top1", "top5")]
        cells.append((line.arm.title, tops[0], points_v, p, tops[1], str(len(line.runs))))
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


def points(value: float) -> str:
    """Returns a difference with its sign and two decimals; what rounds to nothing has no sign."""
    text = f"{value:+.2f}"
    return "0.00" if text in ("+0.00", "-0.00") else text.replace("-", MINUS)


def p_text(p: float) -> str:
    """Returns a p value to two digits or so: 0.31, 0.012, < 0.001."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def _p_equals(p: float) -> str:
    return f"p {p_text(p)}" if p < 0.001 else f"p = {p_text(p)}"


def interval_text(mean: float, interval: tuple[float, float] | None, signed: bool = False) -> str:
    """Returns "91.30 [90.12, 92.48]"; the mean alone without an interval; percents are cut at 0 and 100."""
    show = points if signed else lambda x: f"{min(max(x, 0.0), 100.0):.2f}"
    return show(mean) if interval is None else f"{show(mean)} [{show(interval[0])}, {show(interval[1])}]"


def seconds_text(seconds: float) -> str:
    """Returns 0.4 s, 38 s, 4 min 05 s or 2 h 07 min."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
