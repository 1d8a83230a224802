"""The looks (interim analyses) of a study until it is decided: each arm's interval, and the runs that were saved."""

from collections.abc import Mapping, Sequence
from typing import Any

from jaxmoust.analysis.looks import Path
from jaxmoust.report.charts import looks
from jaxmoust.report.numbers import interval_text
from jaxmoust.report.page import Figure, Section


def sections(
    titles: Mapping[str, str], paths: Sequence[Path], margin: float, num_runs: int, most_runs: int
) -> list[Section]:
    """Returns the section, or none where no look was made.

    Args:
        titles: of the arms. margin: of equivalence. num_runs: those there are; most_runs: those of every arm at every
            seed that it may have.
    """
    rows = {arm: looks.cut(_rows(path, arm), margin) for path in paths for arm in path.decisions}
    if not rows:
        return []
    captions = {arm: _caption(path, arm) for path in paths for arm in path.decisions}
    panels = looks.panels([(f"{titles[arm]}: {captions[arm]}", of_arm) for arm, of_arm in rows.items()], margin)
    figures = [Figure(titles[arm], captions[arm], markup, arm) for arm, markup in zip(rows, panels, strict=True)]
    verdicts = [decision.verdict for path in paths for decision in path.decisions.values()]
    num_open = verdicts.count("undecided")
    words = f"{len(verdicts) - num_open} of {len(verdicts)} arms are decided after {num_runs} runs"
    saved = f"{words}; every arm at all its seeds would have been {most_runs}, so {most_runs - num_runs} were saved."
    legend = (
        "A look evaluates an arm before all its seeds have run. Each panel is an arm: its difference from its baseline "
        "with the simultaneous interval at each look, at that look's part of the level; dashed, the margin of "
        f"{margin:g}. Wider intervals are cut."
    )
    return [Section("Looks at the results", [saved], figures, legend=legend, columns=3, small=True)]


def _rows(path: Path, arm: str) -> list[dict[str, Any]]:
    of_arm = [(look.seeds, look.decisions[arm]) for look in path.looks if arm in look.decisions]
    return [{"seeds": seeds, "mean": d.difference, "low": d.low, "high": d.high} for seeds, d in of_arm]


def _caption(path: Path, arm: str) -> str:
    d = path.decisions[arm]
    return f"{d.verdict} after {path.num_seeds[arm]} seeds: {interval_text(d.difference, d.interval, signed=True)}"
