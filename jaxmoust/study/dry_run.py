"""What a study would do and how long it should take, before anything runs and without writing anything.

Times are those that stages of the same kind took in the same store on the same device, scaled by how much there is to
do. Where nothing comparable was measured, the time is unknown, and said to be.
"""

import functools
import heapq
import math
import statistics
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from jaxmoust.analysis.decisions import assumed_spread
from jaxmoust.config import Config
from jaxmoust.report.numbers import seconds_text
from jaxmoust.report.power import family_words
from jaxmoust.runtime.folder import canonical_json
from jaxmoust.runtime.paths import read_json
from jaxmoust.study.engines.loop import NOT_IN_PARTS, in_parts
from jaxmoust.study.experiment import Experiment
from jaxmoust.study.store import Stage, Store, in_order

Traits = frozenset[tuple[str, str]]
# How much work a configuration is: `work(config, size_of)`, where `size_of(name)` is the number of images of a set.
Work = Callable[[Config, Callable[[str], int]], float]

CALIBRATION_SECS = 60.0  # after which no further trial begins,
KINDS_SECS = 180.0  # but of a kind of stage of which nothing is known

# Fields that name another stage: time depends on the network behind it, not on its digest.
REFERENCES = ("generator", "checkpoint", "classifier", "path")
# Fields that say which images and how many draws, what training starts from, or only names: a step takes as long with
# any of them.
FREE = (
    *(
        "seed",
        "order_seed",
        "base_seed",
        "digest",
        "classes",
        "decoded",
        "map_dir",
        "n_base",
        "num_steps",
        "num_images",
        "synthetic",
    ),
    *("scores", "set", "shares", "pretrained"),
)
# What must be equal for a time to say anything.
NETWORK = {
    "task",
    "model",
    "generator",
    "checkpoint",
    "classifier",
    "pipeline",
    "extractor",
    "clip",
    "source",
    "image_px",
}


@dataclass(frozen=True)
class Planned:
    """A stage to compute, in words, with its expected time in seconds (None: unknown) and what that rests on."""

    what: str
    stage: Stage
    seconds: float | None = None
    grounds: str = ""


@dataclass(frozen=True)
class DryRun:
    """What a study would compute, how many stages of each kind it would find, and in words what it can show."""

    experiment: Experiment
    found: Mapping[str, int]
    todo: tuple[Planned, ...]
    power: tuple[str, ...] = ()
    devices: Mapping[str, str] = field(default_factory=dict)  # of a stage, by its kind
    width: int = 1  # how many stages shall run at once
    parts: Mapping[str, int] = field(
        default_factory=dict
    )  # of a kind of stage, among how many tasks its work is shared out
    room: int = 0  # how many devices all stages share; 0: each has its own
    takes: Mapping[str, int] = field(default_factory=dict)  # of a kind of stage, how many of these

    def __str__(self) -> str:
        """For a terminal: a line for each stage to compute, and the sum."""
        num_found, tasks = sum(self.found.values()), list(_in_parts(self.todo, self.parts))
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(self.found.items()))
        found = f"{num_found} found ({kinds})" if num_found else "0 found"
        stages = f"{num_found + len(self.todo)} stages"
        lines = [f"{self.experiment.name}: {stages}, {found}, {len(self.todo)} to compute"]
        width = max((len(planned.what) for planned in self.todo), default=0)
        for planned in self.todo:
            time = "unknown" if planned.seconds is None else seconds_text(planned.seconds)
            lines.append(f"  {planned.what:<{width}}  {time:>12}  {planned.grounds}".rstrip())
        known = [planned.seconds for planned in self.todo if planned.seconds is not None]
        if known:
            unknown = f"; {len(self.todo) - len(known)} more of unknown time" if len(known) < len(self.todo) else ""
            most = "at most " if self.experiment.rule.until_decided else ""
            seconds, _ = at_width(tasks, self.width, self.room, self.takes)
            up_to = "up to " if self.width * max(self.takes.values(), default=0) > self.room else ""
            at_once = f", {seconds_text(seconds)} with {up_to}{self.width} at once"
            lines.append(
                f"expected: {most}{seconds_text(sum(known))} in one process{at_once if self.width > 1 else ''} for "
                f"{len(known)} of them{unknown}"
            )
        elif self.todo:
            lines.append("expected: unknown, for nothing like them was computed on this device in this store")
        if self.todo:
            lines.append(f"at once: up to {at_width(tasks, len(tasks))[1]} of them; {self._by_device()}")
        lines += [self.experiment.claim, *self.power]
        return "\n".join([*lines, "Nothing was written: the same command without --dry-run does it."])

    def _by_device(self) -> str:
        """Which stages have which devices: "2 fit, 6 train on 1 x NVIDIA H200 (gpu)"."""
        kinds: dict[str, Counter[str]] = {}
        for planned in self.todo:
            kind = planned.stage.kind
            kinds.setdefault(self.devices.get(kind, ""), Counter())[kind] += 1
        return "; ".join(
            ", ".join(f"{count} {kind}" for kind, count in sorted(of.items()))
            + (f", each on {device}" if device else "")
            for device, of in kinds.items()
        )


def _in_parts(todo: Sequence[Planned], parts: Mapping[str, int]) -> Iterator[Planned]:
    """What engines start for stages: one in parts takes as long as each of them does."""
    whole = {one.stage.name: one for one in todo}
    for stage in in_parts([one.stage for one in todo], parts):
        one, (_, count) = whole[stage.whole], stage.part or (0, 1)
        in_its_parts = any(need.whole == stage.name for need in stage.needs)
        seconds = 0.0 if in_its_parts else one.seconds and one.seconds / count
        yield replace(one, stage=stage, seconds=seconds)


def at_width(
    todo: Sequence[Planned], width: int, room: int = 0, takes: Mapping[str, int] = NOT_IN_PARTS
) -> tuple[float, int]:
    """How long stages take where so many may run at once, each once all that it needs is there.

    Args: room: how many devices they share, the first that is ready having the first that are free; 0: each has its
        own. takes: how many a stage of a kind has.
    Returns: (seconds, how many run at once at most). A stage of unknown time takes none.
    """
    kinds, taken = {one.stage.name: one.stage.kind for one in todo}, 0
    names = kinds.keys()
    missing = {one.stage.name: len({need.name for need in one.stage.needs} & names) for one in todo}
    ready, now, most = deque(one for one in todo if not missing[one.stage.name]), 0.0, 0
    running: list[tuple[float, str]] = []  # a heap of (when it ends, its name)
    needed_by: dict[str, list[Planned]] = {}
    for one in todo:
        for name in {need.name for need in one.stage.needs} & names:
            needed_by.setdefault(name, []).append(one)
    while ready or running:
        while ready and len(running) < width and taken + takes.get(ready[0].stage.kind, 1) <= (room or math.inf):
            one = ready.popleft()
            taken += takes.get(one.stage.kind, 1)
            heapq.heappush(running, (now + (one.seconds or 0.0), one.stage.name))
        most = max(most, len(running))
        now, name = heapq.heappop(running)
        taken -= takes.get(kinds[name], 1)
        for one in needed_by.get(name, ()):
            missing[one.stage.name] -= 1
            if not missing[one.stage.name]:
                ready.append(one)
    return now, most


def dry_run(
    experiment: Experiment,
    store: Store,
    device: Callable[[str], str],
    work: Work,
    num_images: int,
    calibrate: Callable[[Stage], float | None] = lambda stage: None,
    memory: Sequence[str] = (),
    width: int = 1,
    parts: Mapping[str, int] = NOT_IN_PARTS,
    room: int = 0,
    count_of: Callable[[str], int | None] = lambda kind: None,
) -> DryRun:
    """Returns the stages that an experiment would compute, each with the time it should take on its devices.

    Args:
        device: what a stage of a kind has, in words. width: how many stages shall run at once; parts: of a
            kind, among how many tasks its work is shared out; room: how many devices they share (0: each has its
            own), of which `count_of(kind)` are a stage's.
        num_images: of the test set, from which follows what differences the experiment can show.
        calibrate: the seconds of a stage by a little of it, for those whose like was never computed; it has a minute.
        memory: what stages need of a device, in words.
    """
    stages = experiment.stages
    todo = [stage for stage in stages if not store.has(stage)]
    found = Counter(stage.kind for stage in stages)
    found.subtract(stage.kind for stage in todo)
    planned = tuple(expected(todo, experiment, store, device, work, calibrate))
    power = (*memory, *_power(experiment, planned, num_images))
    devices = {kind: device(kind) for kind in {stage.kind for stage in todo}}
    takes = {kind: count_of(kind) or 1 for kind in devices} if room else {}
    return DryRun(experiment, +found, planned, power, devices, width, parts, room, takes)


def _power(experiment: Experiment, planned: Sequence[Planned], num_images: int) -> Iterator[str]:
    """What each family's seeds can show, of the spreads that arms of its kind have had in other studies."""
    rule, groups = experiment.rule, Counter((a.baseline, a.family) for a in experiment.arms if a.name != a.baseline)
    if rule.metric != "top1" or len(experiment.seeds) < 2:
        return
    seconds, last = {one.stage.name: one.seconds for one in planned}, experiment.seeds[-1]
    titles, several = {arm.name: arm.title for arm in experiment.arms}, len({baseline for baseline, _ in groups}) > 1
    for (baseline, family), num_arms in groups.items():
        arms = {baseline, *(a.name for a in experiment.arms if (a.baseline, a.family) == (baseline, family))}
        runs = [run for run in experiment.runs if run.arm.name in arms]
        before = {stage.name for run in runs if run.seed != last for stage in in_order([run.stage])}
        of_seed = {stage.name for run in runs for stage in in_order([run.stage])} - before
        known = [seconds.get(name) for name in of_seed]
        each = None if None in known else sum(time or 0.0 for time in known)
        yield (f"Beside {titles[baseline]}: " if several else "") + family_words(
            family,
            num_arms,
            groups.total(),
            len(experiment.seeds),
            *assumed_spread(family, num_images),
            rule.margin,
            rule.level,
            "points",
            each,
        )


def expected(
    todo: Sequence[Stage],
    experiment: Experiment,
    store: Store,
    device: Callable[[str], str],
    work: Work,
    calibrate: Callable[[Stage], float | None] = lambda stage: None,
) -> Iterator[Planned]:
    """The time that stages of an experiment should take, by those that the store holds of the same devices.

    Args: device, calibrate: as `dry_run` has it; asked once for stages that are alike, until a minute is over: first
        for one of each kind, for up to three minutes.
    """
    tried: dict[tuple[str, Traits], float | None] = {}
    started = time.monotonic()
    laid_out = {stage.name: stage.config for stage in experiment.stages}

    @functools.cache
    def config_of(name: str) -> Config:
        return laid_out.get(name) or (_object(store.path / name / "config.json") if name else {})

    def work_of(config: Config) -> float:
        return work(config, lambda name: config_of(name).get("num_images", 1))

    def traits_of(config: Config) -> Traits:
        return frozenset(_leaves(config, config_of))

    rates = {kind: _measured(store, device(kind), kind, traits_of, work_of) for kind in {stage.kind for stage in todo}}
    keys = {stage.name: (stage.kind, traits_of(stage.config)) for stage in todo}
    known = {stage.name: _most_alike(rates[stage.kind], keys[stage.name][1]) for stage in todo}
    untried = [stage for stage in todo if not known[stage.name][0]]
    kinds: dict[tuple[str, str], Stage] = {}
    for stage in untried:
        kinds.setdefault((stage.kind, stage.config.get("task", "")), stage)
    for some, secs in ((kinds.values(), KINDS_SECS), (untried, CALIBRATION_SECS)):
        for stage in some:
            key = keys[stage.name]
            if key not in tried and time.monotonic() - started < secs:
                measured = calibrate(stage)
                tried[key] = None if measured is None else measured / work_of(stage.config)
    for stage in todo:
        what, (alike, settings) = experiment.describe(stage), known[stage.name]
        if alike:
            num_stages = f"{len(alike)} stage{'' if len(alike) == 1 else 's'}"
            seconds = statistics.median(alike) * work_of(stage.config)
            yield Planned(what, stage, seconds, f"as {num_stages} of {settings} settings")
            continue
        key = keys[stage.name]
        if (rate := tried.get(key)) is not None:
            yield Planned(what, stage, rate * work_of(stage.config), "by a trial of a moment")
            continue
        others = {traits: [one] for (kind, traits), one in tried.items() if kind == stage.kind and one is not None}
        alike, _ = _most_alike(others, key[1])  # once the minute is over
        if alike:
            seconds = statistics.median(alike) * work_of(stage.config)
            yield Planned(what, stage, seconds, "by a trial of something similar")
        else:
            yield Planned(what, stage)


def _measured(
    store: Store, device: str, kind: str, traits_of: Callable[[Config], Traits], work_of: Callable[[Config], float]
) -> Mapping[Traits, list[float]]:
    """Seconds for a unit of work of the stages of a kind that a device finished, by what the time depends on."""
    rates: dict[Traits, list[float]] = {}
    for path in sorted(store.path.glob(f"{kind}-*/result.json")):
        seconds, config = _object(path).get("seconds"), _object(path.parent / "config.json")
        if config and seconds and _object(path.parent / "environment.json").get("device") == device:
            try:
                rate = float(seconds) / work_of(config)
            except (ValueError, LookupError, TypeError, ZeroDivisionError):  # of before today's tasks and fields
                continue
            rates.setdefault(traits_of(config), []).append(rate)
    return rates


def _object(path: Path) -> Config:
    """What a file of another study's stage holds; {} where it is damaged, from which no time is taken."""
    try:
        content = read_json(path)
    except ValueError:
        return {}
    return content if isinstance(content, Mapping) else {}


def _most_alike(rates: Mapping[Traits, list[float]], wanted: Traits) -> tuple[list[float], str]:
    """The rates of the stages that are most like one, of the same network and images; and how alike these are."""
    distance = {
        traits: len(traits ^ wanted)
        for traits in rates
        if all(NETWORK.isdisjoint(name.split(".")) for name, _ in traits ^ wanted)
    }
    least = min(distance.values(), default=0)
    alike = [rate for traits, far in distance.items() if far == least for rate in rates[traits]]
    return alike, "similar" if least else "the same"


def _leaves(config: Config, config_of: Callable[[str], Config], at: str = "") -> Iterator[tuple[str, str]]:
    """The fields that the time of a unit of work depends on: (dotted name, value as text)."""
    for name, value in config.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, config_of, f"{at}{name}.")
        elif name in REFERENCES:
            behind = config_of(value)
            yield f"{at}{name}", canonical_json([behind.get("model"), behind.get("pipeline")] if behind else value)
        elif name not in FREE and (at or name != "name"):
            yield f"{at}{name}", canonical_json(value)
