"""Evaluates a study's arms until they are decided: which runs each look takes, and which look comes next.

The looks and their results are a function of the configuration and of the runs in the store alone, so that a study that
was killed has the same looks. The budget decides only how far it comes.
"""

import dataclasses
import re
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

from jaxmoust.analysis.looks import Compared, Path, Values, follow
from jaxmoust.analysis.metrics import METRICS
from jaxmoust.study.experiment import DiagnosticRun, Experiment, Run
from jaxmoust.study.store import Stage, in_order

_UNITS = {"h": 3600.0, "m": 60.0, "min": 60.0, "s": 1.0}


@dataclass(frozen=True)
class Budget:
    """How long a study may take, from now on.

    Args: seconds: None is without end. agree: tells every process of a run the answer of its primary one.
    """

    seconds: float | None = None
    agree: Callable[[bool], bool] = bool
    started: float = field(default_factory=time.monotonic)

    def allows(self, seconds: float) -> bool:
        """Whether so much is left of it, and anything at all."""
        left = None if self.seconds is None else self.started + self.seconds - time.monotonic()
        return self.agree(left is None or (left > 0 and seconds <= left))


ENDLESS = Budget()


def read_budget(text: str) -> float:
    """Reads "2h", "1h30m", "90s" as seconds. Raises: ValueError: anything else, or nothing at all."""
    parts = re.findall(r"(\d+(?:\.\d+)?)\s*(h|min|m|s)", text)
    seconds = sum(float(number) * _UNITS[unit] for number, unit in parts)
    if not seconds or re.sub(r"\s", "", text) != "".join(number + unit for number, unit in parts):
        raise ValueError(f"--budget={text}: expected hours, minutes or seconds, such as 2h, 1h30m or 90s.")
    return seconds


@dataclass(frozen=True)
class Plan:
    """What a look takes: the runs of a family's open arms and of their baseline, and diagnostics of their sets."""

    path: Path
    runs: tuple[Run, ...]
    diagnostics: tuple[DiagnosticRun, ...]

    @property
    def stages(self) -> list[Stage]:
        """All that it stands on."""
        return in_order([*(run.stage for run in self.runs), *(run.stage for run in self.diagnostics)])


def follow_all(experiment: Experiment, values: Values, lost: Collection[str] = ()) -> list[Path]:
    """The looks that the runs of an experiment allow. Args: lost: arms that get no more runs."""
    arms = {arm.name: Compared(arm.baseline, arm.family) for arm in experiment.arms}
    higher_is_better = METRICS[experiment.rule.metric].higher_is_better
    return follow(experiment.rule, experiment.seeds, values, arms, lost, higher_is_better)


def next_looks(
    experiment: Experiment, paths: Sequence[Path], seconds_of: Callable[[Sequence[Stage]], float]
) -> list[Plan]:
    """The looks that may come next, first the one that is worth most: that decides most arms for a second of its runs.

    An arm that n more seeds are expected to decide counts for the part of n that this look adds, and one of which none
    are expected to, for nothing; before the first look each counts for 1.

    Args: seconds_of: what stages are expected to take.
    """
    plans = _plans(experiment, paths)

    def worth(plan: Plan) -> float:
        return sum(_progress(plan.path, arm) for arm in plan.path.going_on) / max(seconds_of(plan.stages), 1e-3)

    return sorted(plans, key=worth, reverse=True)


def _progress(path: Path, arm: str) -> float:
    before = path.decisions.get(arm)
    if before is None:
        return 1.0
    assert path.next_seeds
    return min((path.next_seeds - before.seeds) / before.more_seeds, 1.0) if before.more_seeds else 0.0


def _plans(experiment: Experiment, paths: Sequence[Path]) -> list[Plan]:
    """The next look of each family that has one; the first is one of all arms."""
    everyone = {arm for path in paths if path.next_seeds for arm in (path.baseline, *path.going_on)}
    plans = []
    for path in paths:
        if path.next_seeds:
            arms = {path.baseline, *path.going_on} if path.looks else everyone
            taken = experiment.seeds[: path.next_seeds]
            runs = tuple(run for run in experiment.runs if run.arm.name in arms and run.seed in taken)
            sets = {one for run in runs for one in run.arm.sets}
            elsewhere = {one for arm in experiment.arms for one in arm.sets} - sets
            diagnostics = (run for run in experiment.diagnostics if run.seed in taken and run.set not in elsewhere)
            plans.append(Plan(path, runs, tuple(diagnostics)))
    return plans


def reached(experiment: Experiment, paths: Sequence[Path]) -> Experiment:
    """The experiment as far as its looks have come: the runs that they took, and those that the next ones would."""
    asked = {(run.arm.name, run.seed) for plan in _plans(experiment, paths) for run in plan.runs}
    for path in paths:
        most = max(path.num_seeds.values(), default=0)
        for arm, num_seeds in {**path.num_seeds, path.baseline: most}.items():
            asked |= {(arm, seed) for seed in experiment.seeds[:num_seeds]}
    seeds = {seed for _, seed in asked}
    return dataclasses.replace(
        experiment,
        seeds=tuple(seed for seed in experiment.seeds if seed in seeds),
        runs=tuple(run for run in experiment.runs if (run.arm.name, run.seed) in asked),
        diagnostics=tuple(run for run in experiment.diagnostics if run.seed in seeds),
    )


def lost_arms(experiment: Experiment, failed: Collection[str]) -> set[str]:
    """The arms that get no more runs, for a stage that one of them stands on has failed, or cannot be read."""
    of = experiment.runs if failed else ()
    return {run.arm.name for run in of if not {stage.name for stage in in_order([run.stage])}.isdisjoint(failed)}


def path_words(path: Path) -> list[str]:
    """Says for a terminal what each look has found, a line a look."""
    lines = []
    for look in path.looks:
        by_verdict: dict[str, list[str]] = {}
        for arm, decision in look.decisions.items():
            by_verdict.setdefault(decision.verdict, []).append(arm)
        found = "; ".join(f"{verdict}: {', '.join(arms)}" for verdict, arms in sorted(by_verdict.items()))
        lines.append(f"look after {look.seeds} seeds, {path.family} beside {path.baseline}: {found}")
    return lines
