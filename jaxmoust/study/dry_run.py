"""What a study would do and how long it should take, told before anything runs and without writing anything.

Times are those that stages of the same kind took in the same store on the same device, scaled by how much there is to
do. Where nothing comparable was measured, the time is unknown, and said to be.
"""

import functools
import statistics
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from jaxmoust.config import Config
from jaxmoust.report.numbers import seconds_text
from jaxmoust.runtime.folder import canonical_json
from jaxmoust.runtime.paths import read_json
from jaxmoust.study.experiment import Experiment
from jaxmoust.study.runner import describe
from jaxmoust.study.store import Stage, Store

Traits = frozenset[tuple[str, str]]
Rates = Mapping[Traits, list[float]]
# How much work a configuration is: `work(config, size_of)`, where `size_of(name)` is the number of images of a set.
Work = Callable[[Config, Callable[[str], int]], float]

# Fields that name another stage: time depends on the network behind it, not on its digest.
REFERENCES = ("generator", "checkpoint", "classifier", "path")
# Fields that say which images and how many draws, what training starts from, or only names: a step takes as long with
# any of them.
FREE = (
    "seed",
    "base_seed",
    "digest",
    "classes",
    "decoded",
    "map_dir",
    "n_base",
    "num_steps",
    "num_images",
    "synthetic",
    "scores",
    "set",
    "shares",
    "pretrained",
)
# What must be equal for a time to say anything.
NETWORK = (
    *("task", "model", "generator", "checkpoint", "classifier", "pipeline", "extractor", "clip", "source", "image_px"),
)


@dataclass(frozen=True)
class Rate:
    """How fast stages like one were: seconds for a unit of work, from how many stages, and of what likeness."""

    seconds: float
    num_stages: int
    same: bool


@dataclass(frozen=True)
class Planned:
    """A stage to compute, in words, with its expected time in seconds (None: unknown) and what that rests on."""

    what: str
    stage: Stage
    seconds: float | None
    rate: Rate | None


@dataclass(frozen=True)
class Plan:
    """What a study would compute, and how many stages of each kind it would find."""

    experiment: Experiment
    found: Mapping[str, int]
    todo: tuple[Planned, ...]

    @property
    def seconds(self) -> float:
        """The sum of the times that are known."""
        return sum(planned.seconds or 0.0 for planned in self.todo)

    @property
    def num_unknown(self) -> int:
        """How many stages have no known time."""
        return sum(planned.seconds is None for planned in self.todo)


def make_plan(experiment: Experiment, store: Store, device: str, work: Work) -> Plan:
    """Returns the stages that an experiment would compute, each with the time it should take on a device."""
    stages = experiment.stages
    todo = [stage for stage in stages if not store.has(stage)]
    known = {stage.name: stage.config for stage in stages}

    @functools.cache
    def config_of(name: str) -> Config:
        return known.get(name) or (name and read_json(store.folder(name) / "config.json")) or {}

    def work_of(config: Config) -> float:
        return work(config, lambda name: config_of(name).get("num_images", 1))

    measured = _measured(store, device, {stage.kind for stage in todo}, config_of, work_of)
    planned = []
    for stage in todo:
        rate = _rate(measured.get(stage.kind, {}), _traits(stage.config, config_of))
        seconds = rate and rate.seconds * work_of(stage.config)
        planned.append(Planned(describe(stage, experiment), stage, seconds, rate))
    found = Counter(stage.kind for stage in stages)
    found.subtract(stage.kind for stage in todo)
    return Plan(experiment, +found, tuple(planned))


def plan_text(plan: Plan) -> str:
    """Returns the plan for a terminal: a line for each stage to compute, and the sum."""
    num_found = sum(plan.found.values())
    kinds = f" ({', '.join(f'{count} {kind}' for kind, count in sorted(plan.found.items()))})" if num_found else ""
    total = f"{plan.experiment.name}: {num_found + len(plan.todo)} stages, "
    lines = [f"{total}{num_found} found{kinds}, {len(plan.todo)} to compute"]
    width = max((len(planned.what) for planned in plan.todo), default=0)
    for planned in plan.todo:
        time = "unknown" if planned.seconds is None else seconds_text(planned.seconds)
        lines.append(f"  {planned.what:<{width}}  {time:>12}  {_grounds(planned.rate)}".rstrip())
    known = len(plan.todo) - plan.num_unknown
    if known:
        unknown = f"; {plan.num_unknown} more of unknown time" if plan.num_unknown else ""
        lines.append(f"expected: {seconds_text(plan.seconds)} in one process for {known} of them{unknown}")
    elif plan.todo:
        lines.append("expected: unknown, for nothing like them was computed on this device in this store")
    return "\n".join([*lines, "Nothing was written: the same command without --dry-run does it."])


def _grounds(rate: Rate | None) -> str:
    if rate is None:
        return ""
    stages = f"{rate.num_stages} stage{'' if rate.num_stages == 1 else 's'}"
    return f"as {stages} of the same settings" if rate.same else f"as {stages} of similar settings"


def _measured(
    store: Store,
    device: str,
    kinds: set[str],
    config_of: Callable[[str], Config],
    work_of: Callable[[Config], float],
) -> Mapping[str, Rates]:
    """Seconds for a unit of work of the stages that this device finished, by kind and by what the time depends on."""
    rates: dict[str, dict[Traits, list[float]]] = {kind: {} for kind in kinds}
    for kind, of_kind in rates.items():
        for path in sorted(store.path.glob(f"{kind}-*/result.json")):
            folder = path.parent
            seconds, config = _object(path).get("seconds"), _object(folder / "config.json")
            if config and seconds and _object(folder / "environment.json").get("device") == device:
                try:
                    rate = float(seconds) / work_of(config)
                except (LookupError, TypeError):  # of before today's fields
                    continue
                of_kind.setdefault(_traits(config, config_of), []).append(rate)
    return rates


def _object(path: Path) -> Config:
    """What a file of another study's stage holds; {} where it is damaged, from which no time is taken."""
    try:
        held = read_json(path)
    except ValueError:
        return {}
    return held if isinstance(held, Mapping) else {}


def _rate(rates: Rates, wanted: Traits) -> Rate | None:
    """The median rate of the stages that are most like one; None where none has the same network and images."""
    alike = [traits for traits in rates if _of_network(traits) == _of_network(wanted)]
    if not alike:
        return None
    unlike = {traits: len(traits ^ wanted) for traits in alike}
    best = [rate for traits in alike if unlike[traits] == min(unlike.values()) for rate in rates[traits]]
    return Rate(statistics.median(best), len(best), same=not min(unlike.values()))


def _traits(config: Config, config_of: Callable[[str], Config]) -> Traits:
    """The fields that the time of a unit of work depends on: (dotted name, value as text)."""
    return frozenset(_leaves({k: v for k, v in config.items() if k != "name"}, config_of, ""))


def _leaves(config: Config, config_of: Callable[[str], Config], at: str) -> Iterator[tuple[str, str]]:
    for name, value in config.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, config_of, f"{at}{name}.")
        elif name in REFERENCES:
            behind = config_of(value)
            yield f"{at}{name}", canonical_json([behind.get("model"), behind.get("pipeline")] if behind else value)
        elif name not in FREE:
            yield f"{at}{name}", canonical_json(value)


def _of_network(traits: Traits) -> set[tuple[str, str]]:
    return {(name, value) for name, value in traits if set(name.split(".")) & set(NETWORK)}
