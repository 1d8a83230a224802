"""Runs an experiment: finds or computes every stage, writes results.csv and the page."""

import contextlib
import statistics
import time
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from jaxmoust.analysis import looks, metrics
from jaxmoust.data.loading.transforms import Resize
from jaxmoust.data.real import RealData
from jaxmoust.data.source import Source
from jaxmoust.data.synthetic.store import open_synthetic
from jaxmoust.report import draw_counts, findings, index
from jaxmoust.report import html as report
from jaxmoust.report.arms import TOP_K, ArmInfo, Terms, summarise
from jaxmoust.report.numbers import seconds_text
from jaxmoust.report.page import COLUMNS, METRIC_COLUMNS, Gallery, Page, Section, StageRecord, check_ranks
from jaxmoust.report.sections import diagnostics, predictions, weight_and_number
from jaxmoust.report.sections import looks as looks_section
from jaxmoust.report.sections.diagnostic import Diagnostic
from jaxmoust.runtime.folder import CURVES, curves_are_whole, environment
from jaxmoust.runtime.paths import atomic_write, read_json
from jaxmoust.runtime.progress import read_metrics
from jaxmoust.study.engines.loop import Engine, compute_all
from jaxmoust.study.experiment import Experiment, Run
from jaxmoust.study.store import BrokenResult, Stage, Store, in_order
from jaxmoust.study.until import ENDLESS, Budget, follow_all, lost_arms, next_looks, path_words, reached

NUM_GALLERY_IMAGES = 8
# Of a study's time what its page may take while it runs, and what the first one is taken to.
PAGE_SHARE, FIRST_PAGE_SECS = 0.05, 3.0
MOST_NAMED = 20  # folders that one sentence names

# What a row of results.csv takes from a run's result.json.
RESULT_FIELDS = ("n_base", "n_synthetic", "share", "steps", "top1", "n", "seconds")

# What reading a file raises that is missing or damaged.
DAMAGED = (OSError, ValueError, LookupError, TypeError, EOFError, zipfile.BadZipFile, zlib.error)

T = TypeVar("T")


def conduct(
    experiment: Experiment,
    store: Store,
    folder: Path,
    real: RealData,
    command: str,
    config: Mapping[str, Any],
    say: Callable[[str], object] = print,
    budget: Budget = ENDLESS,
    seconds_of: Callable[[Sequence[Stage]], float] = len,
    engine: Engine | None = None,
) -> tuple[Page, list[str]]:
    """Runs every arm at every seed, or each until it is decided, skipping what the store holds.

    Leaves results.csv and report/ in the folder; both are written again as it goes on, the page so rarely that it costs
    no more than PAGE_SHARE of the time. The index of the studies beside this one is written again at the end, unless
    somebody else's index.html stands there.

    Args:
        real: the base set and the test set, for pictures and per-class numbers.
        command: how to run the study again. config: the experiment's whole configuration.
        say: receives a line of text for each stage.
        budget: after which a study until it is decided ends. seconds_of: what stages are expected to take.
        engine: where stages are computed; by default in this process.
    Returns: (the page, of each stage that failed or needs one that did a line that says which and why).
    Raises:
        stop.Stopped: asked to stop; finished stages stay, the interrupted one left a checkpoint.
        BrokenResult: a finished stage has a result.json that is no result.
    """

    def draw(left: Sequence[Stage] = ()) -> Page:
        """Writes the page of what there is; `left`: the stages that are still to come."""
        seconds = seconds_of(left)
        to_go = f"{len(left)} stages to go{f', about {seconds_text(seconds)}' if seconds else ''}." if left else ""
        page = make_page(work, real, folder, command, config, to_go)
        if store.primary:
            report.write_report(page, folder / "report", with_figures=not left)
            index.write_summary(page, folder)
        return page

    # One process of a run draws it meanwhile, by its own clock, so nothing in a page may ask the others.
    seldom = Seldom(draw, say) if store.primary else lambda left: None
    work = Work(experiment, store, folder, say, seldom, engine)
    if experiment.rule.until_decided:
        work.until_decided(real.test, budget, seconds_of)
    else:
        work.compute(experiment.stages)
    if store.primary:
        write_results(work.reached, store, folder)
    page = draw()
    for words in page.unread:
        say(words)
    if store.primary and index.may_write(folder.parent):
        index.write_index(folder.parent)
    return page, [*work.failures.values()]


class Seldom:
    """Writes the page of a study that runs, so rarely that this takes no more than PAGE_SHARE of the time."""

    def __init__(self, draw: Callable[[Sequence[Stage]], object], say: Callable[[str], object]):
        self._draw, self._say = draw, say
        self._last, self._seconds = time.monotonic(), FIRST_PAGE_SECS

    def __call__(self, left: Sequence[Stage]) -> None:
        """Draws it if it is time. Args: left: the stages that are still to come."""
        started = time.monotonic()
        if not left or started - self._last < self._seconds / PAGE_SHARE:
            return
        try:
            self._draw(left)
        except Exception as error:  # what was computed is kept, and what is to come may be whole
            self._say(f"The page could not be written before the end: {type(error).__name__}: {error}")
        self._last = time.monotonic()
        self._seconds = self._last - started


class Work:
    """The stages of an experiment as they are computed: which were, and why others were not.

    Args:
        experiment, store, folder, say, engine: as `conduct` has them.
        draw: called after each stage with those that are still to come.
    """

    def __init__(
        self,
        experiment: Experiment,
        store: Store,
        folder: Path,
        say: Callable[[str], object],
        draw: Callable[[Sequence[Stage]], object],
        engine: Engine | None = None,
    ):
        self.experiment, self.store, self.folder, self.say, self._draw = experiment, store, folder, say, draw
        self._engine, self._write_after = engine, 0.0
        self.paths: list[looks.Path] = []
        self.reached = experiment  # as far as its looks have come
        self.computed: set[str] = set()
        self.failures: dict[str, str] = {}  # stage -> which it is, and why it has no result
        self._reader, self._read = Reader(store), dict[str, np.ndarray | None]()

    def compute(self, stages: Sequence[Stage], over: Callable[[], bool] = lambda: False) -> None:
        """Computes what the store does not hold, and writes results.csv as it grows. Args: over: whether to end now."""
        experiment, store = self.experiment, self.store
        todo = store.unfinished(stages)
        self.say(f"{experiment.name}: {len(stages)} stages, {len(stages) - len(todo)} found, {len(todo)} to compute")
        left = {stage.name: stage for stage in todo}
        with contextlib.closing(compute_all(todo, store, self.say, self._engine)) as computed:
            for i, done in enumerate(computed, 1):
                what, top1 = experiment.describe(done.stage), ""
                del left[done.stage.name]
                if done.result is None:
                    self.failures[done.stage.name] = f"{what}: {done.error}"
                    how = f"failed: {done.error}" if done.here else f"not done: {done.error}"
                else:
                    if done.here:
                        self.computed.add(done.stage.name)
                    how = f"{done.seconds:.1f} s" if done.here else "found, another process computed it"
                    top1 = f"  top1 {done.result['top1']:.2f}" if "top1" in done.result else ""
                self._write_results()
                self.say(f"[{i}/{len(todo)}] {what}: {how}{top1}")
                self._draw([*left.values()])
                if over():
                    break
        self._write_after = 0.0
        self._write_results()

    def _write_results(self) -> None:
        """Writes results.csv of what has been read, so rarely that this takes no more than PAGE_SHARE of the time."""
        started = time.monotonic()
        if self.store.primary and started >= self._write_after:
            write_results(self.reached, self.store, self.folder, self.store.knows)
            ended = time.monotonic()
            self._write_after = ended + (ended - started) / PAGE_SHARE

    def until_decided(self, test: Source, budget: Budget, seconds_of: Callable[[Sequence[Stage]], float]) -> None:
        """Computes look after look, until each arm is decided or has all seeds it may have, or the budget is spent."""
        experiment, said = self.experiment, set[str]()
        while True:
            values, unread = self._values(test)
            paths = self.paths = follow_all(experiment, values, lost_arms(experiment, {*self.failures, *unread}))
            self.reached = reached(experiment, paths)
            for words in [one for path in paths for one in path_words(path)]:
                if words not in said:
                    said.add(words)
                    self.say(words)
            plans = next_looks(experiment, paths, lambda stages: seconds_of(self._missing(stages)))
            if not plans:
                return
            plan = next((one for one in plans if budget.allows(seconds_of(self._missing(one.stages)))), None)
            if plan is None:
                self.say("The budget does not last until the next look; what is undecided stays undecided.")
                return
            self.compute(self._possible(plan.stages), lambda: not budget.allows(0.0))

    def _missing(self, stages: Sequence[Stage]) -> list[Stage]:
        return [stage for stage in stages if not self.store.has(stage)]

    def _possible(self, stages: Sequence[Stage]) -> list[Stage]:
        """Those of which nothing has failed that they stand on."""
        return [stage for stage in stages if {one.name for one in in_order([stage])}.isdisjoint(self.failures)]

    def _values(self, test: Source) -> tuple[dict[str, dict[int, np.ndarray]], set[str]]:
        """What each test image adds to the metric of the finished runs, by arm and seed; and the stages without it."""
        values: dict[str, dict[int, np.ndarray]] = {}
        unread: set[str] = set()
        for run in self.experiment.runs:
            if not self.store.has(run.stage):
                continue
            if run.stage.name not in self._read:
                given = (self.experiment.rule.metric, test.labels, len(test.class_names))
                self._read[run.stage.name] = self._reader.read(run.stage, "", metrics.read_contributions, *given)
            if (of_run := self._read[run.stage.name]) is None:
                unread.add(run.stage.name)
            else:
                values.setdefault(run.arm.name, {})[run.seed] = of_run
        return values, unread


def write_results(
    experiment: Experiment, store: Store, folder: Path, wanted: Callable[[Stage], bool] = lambda stage: True
) -> None:
    """Writes results.csv: one row for each finished run, in the experiment's order; of stages that are wanted."""
    rows = [row for run in experiment.runs if wanted(run.stage) and (row := make_row(experiment, run, store))]
    atomic_write(folder / "results.csv", findings.csv_text(rows, (*COLUMNS, *METRIC_COLUMNS)))


def make_row(experiment: Experiment, run: Run, store: Store) -> dict | None:
    """The row of a finished run, None for one that is not finished. Raises: BrokenResult: it lacks a number."""
    result = store.find(run.stage)
    if result is None:
        return None
    if lacking := [name for name in RESULT_FIELDS if not isinstance(result.get(name), int | float)]:
        raise BrokenResult(store.small(run.stage), f"no number for {lacking}", f"one for each of {RESULT_FIELDS}")
    machine = store.environment(run.stage)

    def number(metric: str) -> float | str:
        return round(result[metric], 6) if metric in result else ""

    return {
        "experiment": experiment.name,
        "arm": run.arm.name,
        "seed": run.seed,
        "generator": "+".join(run.arm.generators or run.arm.sets) or "none",
        "fine_tuning": run.fine_tuning,
        "sampler": run.stage.config["sampler"]["name"],
        "n_base": result["n_base"],
        "n_synthetic": result["n_synthetic"],
        "share": round(result["share"], 6),
        "weight": _weight(run.stage.config["method"]),
        "steps": result["steps"],
        "top1": round(result["top1"], 6),
        "top5": number("top5"),
        "n_test": result["n"],
        "seconds": round(result["seconds"], 2),
        "device": machine.get("device", ""),
        "commit": machine.get("commit", ""),
        **{name: number(name) for name in METRIC_COLUMNS},
        "run": run.stage.name,
    }


def _weight(method: Mapping[str, Any]) -> float | str:
    """What a synthetic image's loss counts beside a real one's; "" where real ones count nothing."""
    real, synthetic = method.get("lambda_real", 1.0), method.get("lambda_syn", 1.0)
    return round(synthetic / real, 6) if real else ""


def make_page(
    work: Work, real: RealData, folder: Path, command: str, config: Mapping[str, Any], progress: str = ""
) -> Page:
    """Gathers everything the page shows from the store.

    Files that are missing or damaged cost the page what it would show of them, which it says, and no more.
    """
    data = work.experiment.data
    experiment, store, paths = work.reached, work.store, work.paths
    base, test, shape = real.base, real.test, real.shape
    labels = {run.stage.name: run for run in experiment.runs}
    rule = experiment.rule
    finished = [(run, row) for run in experiment.runs if (row := make_row(experiment, run, store))]
    reader = Reader(store)
    ranks: dict[str, dict[int, np.ndarray]] = {}
    curves: dict[str, dict[int, list]] = {}
    contributions: dict[str, dict[int, np.ndarray]] = {}
    of_metric = (rule.metric, test.labels, len(test.class_names))
    said: dict[str, dict[int, predictions.Predictions]] = {}
    for run, row in finished:
        of_tests = reader.read(run.stage, "", predictions.read, test.labels, len(test.class_names))
        if of_tests is not None:
            said.setdefault(run.arm.name, {})[run.seed] = of_tests
        if (of_run := reader.read(run.stage, "ranks.npy", _read_ranks, test.labels, row)) is not None:
            ranks.setdefault(run.arm.name, {})[run.seed] = of_run
        if (curve := reader.read(run.stage, CURVES, _read_curve)) is not None:
            curves.setdefault(run.arm.name, {})[run.seed] = curve[0]
            if curve[1]:
                reader.torn.append(run.stage.name)
        if rule.metric in TOP_K:
            continue
        if (of_images := reader.read(run.stage, "", metrics.read_contributions, *of_metric)) is not None:
            contributions.setdefault(run.arm.name, {})[run.seed] = of_images
    set_titles = {name: one.get("title") or name for name, one in config.get("sets", {}).items()}
    galleries = [Gallery("Real", f"The base set: {len(base):,} images.", _pictures(base, shape))]
    for name, stage in experiment.sets.items():
        of_set = stage.config["name"]
        title = name.replace(of_set, set_titles.get(of_set, of_set), 1)
        if (gallery := reader.read(stage, "", _gallery, title, stage.config, shape)) is not None:
            galleries.append(gallery)
    arms = [ArmInfo(arm.name, arm.title, arm.description, arm.baseline, arm.family) for arm in experiment.arms]
    rows = [row for _, row in finished]
    draws = _read_draws(experiment, reader, set_titles)
    titles = {arm.name: arm.title for arm in arms}
    resize = Resize(shape[0], shape[2])
    tested = (test.labels, test.class_names, lambda i: (resize.map(test.read(i)), test.file(i)))
    sections = [
        *looks_section.sections(titles, paths, rule.margin, len(rows), len(arms) * rule.most_seeds),
        *_sections(arms, experiment.baseline, rows, _diagnostics(experiment, store, set_titles), reader),
        *weight_and_number.sections(summarise(arms, rows), experiment.baseline, ranks),
        *predictions.sections(_mistaken_arms(titles, experiment.baseline, rows), said, *tested),
    ]
    return Page(
        title=experiment.name,
        question=experiment.question,
        command=command,
        baseline=experiment.baseline,
        arms=arms,
        rows=rows,
        ranks=ranks,
        labels=test.labels,
        class_names=test.class_names,
        curves=curves,
        galleries=galleries,
        draws=draws,
        provenance=[
            _provenance(stage, store, stage.name in work.computed, labels)
            for stage in experiment.stages
            if store.find(stage) is not None
        ],
        environment=environment(),
        config=config,
        sections=sections,
        terms=Terms(rule.metric, rule.margin, rule.level),
        contributions=contributions,
        unread=[*work.failures.values(), *reader.words],
        claim=experiment.claim,
        data=f"{len(base):,} real images of {' in '.join(filter(None, (data['source'], data.get('path'))))}",
        folder=str(folder.resolve()),
        progress=progress,
        paths=paths,
    )


class Reader:
    """Reads files of finished stages, and records which could not be read."""

    def __init__(self, store: Store):
        self.store = store
        self.torn: list[str] = []  # stages of whose curves a part is lost
        self._lost: dict[str, list[str]] = {}

    def read(self, stage: Stage, file: str, read: Callable[..., T], *given: Any) -> T | None:
        """What `read(path, *given)` makes of a finished stage's file ("": of its folder); None if that is damaged."""
        if self.store.find(stage) is None:
            return None
        try:
            return read(self.store.small(stage) / file if file else self.store.folder(stage), *given)
        except DAMAGED:
            self.miss(stage.name, file)
            return None

    def miss(self, folder: str, file: str = "") -> None:
        """Records that a file of a stage's folder ("": one of them) is missing or damaged."""
        self._lost.setdefault(file, []).append(folder)

    @property
    def words(self) -> list[str]:
        """What could not be read, a sentence for each kind of file."""
        return [
            f"{file or 'A file'} is missing or damaged in {_some(folders)} of {self.store.path}, so the page shows "
            f"nothing of it. Put back a whole copy, or remove {'the folder' if len(folders) == 1 else 'these folders'} "
            "and run the command again."
            for file, folders in self._lost.items()
        ] + [
            f"Lines of {CURVES} are lost or damaged in {_some(self.torn)} of {self.store.path}: the curves show the "
            "rest. No result depends on them."
            for _ in self.torn[:1]
        ]


def _some(folders: Sequence[str]) -> str:
    more = f" and {len(folders) - MOST_NAMED} more" if len(folders) > MOST_NAMED else ""
    return ", ".join(folders[:MOST_NAMED]) + more


def _gallery(path: Path, name: str, config: Mapping[str, Any], shape: tuple[int, int, int]) -> Gallery:
    images = open_synthetic(path)
    drawn = f"seed {config['seed']}" if "seed" in config else "imported"
    caption = f"{len(images):,} images, {drawn}."
    return Gallery(name, caption, _pictures(images, shape))


def _sections(
    arms: Sequence[ArmInfo],
    baseline: str,
    rows: Sequence[Mapping[str, Any]],
    found: Mapping[str, Sequence[Diagnostic]],
    reader: Reader,
) -> list[Section]:
    """The page's further sections, without the diagnostics whose files cannot be read."""
    try:
        return diagnostics.collect(arms, baseline, rows, found)
    except DAMAGED:
        whole: dict[str, list[Diagnostic]] = {}
        for table, one in ((table, one) for table, of_table in found.items() for one in of_table):
            try:
                diagnostics.of_sets({table: [one]})
                whole.setdefault(table, []).append(one)
            except DAMAGED:
                reader.miss(one.folder.name)
        if sum(map(len, whole.values())) == sum(map(len, found.values())):  # no file is to blame
            raise
        return diagnostics.collect(arms, baseline, rows, whole)


def _mistaken_arms(titles: Mapping[str, str], baseline: str, rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """The arms whose mistakes are shown, with their titles: the baseline, and the best of the others by Top-1."""
    top1: dict[str, list[float]] = {}
    for row in rows:
        top1.setdefault(row["arm"], []).append(row["top1"])
    others = [name for name in titles if name in top1 and name != baseline]
    best = max(others, key=lambda name: statistics.mean(top1[name]), default=baseline)
    return {name: titles[name] for name in dict.fromkeys((baseline, best))}


def _diagnostics(experiment: Experiment, store: Store, set_titles: Mapping[str, str]) -> dict[str, list[Diagnostic]]:
    """What the experiment's diagnostics found, table by table."""
    found: dict[str, list[Diagnostic]] = {}
    for run in experiment.diagnostics:
        if (result := store.find(run.stage)) is not None:
            top1_alone = _only(experiment, store, run.set)
            folder, title = store.small(run.stage), set_titles.get(run.set, "")
            one = Diagnostic(run.name, run.set, run.seed, result, folder, top1_alone, title)
            found.setdefault(run.table, []).append(one)
    return found


def _only(experiment: Experiment, store: Store, name: str) -> tuple[float, ...]:
    """Top-1 of the runs that trained on one set and nothing else, in order of seeds; of the first arm that did."""
    top1: dict[str, list[float]] = {}
    for run in experiment.runs:
        if run.arm.sets == (name,) and (result := store.find(run.stage)) and result["share"] == 1:
            top1.setdefault(run.arm.name, []).append(result["top1"])
    return tuple(next(iter(top1.values()), ()))


def _read_ranks(path: Path, labels: np.ndarray, row: Mapping[str, Any] | None) -> np.ndarray:
    """The answers of a run to single images. Raises: one of DAMAGED: they are not there, or not those of its row."""
    ranks = np.load(path)
    check_ranks(str(path), ranks, labels, row)
    return ranks


def _read_curve(path: Path) -> tuple[list[tuple[int, dict[str, float]]], bool]:
    """The training loss and the test accuracy over the steps of one run, and whether some of it is lost."""
    shown = {"loss": "loss", "eval_top1": "top1"}
    rows, num_damaged = read_metrics(path)
    curve = [(int(row["step"]), {shown[k]: float(v) for k, v in row.items() if k in shown}) for row in rows]
    return curve, num_damaged > 0 or not curves_are_whole(path.parent)


def _read_draws(
    experiment: Experiment, reader: Reader, set_titles: Mapping[str, str]
) -> dict[str, draw_counts.DrawCounts]:
    """What each arm's sampler drew, its seeds added up; arms of which a run kept no record are left out."""
    records: dict[str, list[draw_counts.DrawCounts]] = {}
    for run in experiment.runs:
        if (record := reader.read(run.stage, "draws.json", _read_record)) is not None:
            records.setdefault(run.arm.name, []).append(record)
    num_runs = Counter(run.arm.name for run in experiment.runs)
    pooled = {arm: draw_counts.pooled(of_seeds) for arm, of_seeds in records.items() if len(of_seeds) == num_runs[arm]}
    return {
        arm: replace(of, source_names=[set_titles.get(name, name) for name in of.source_names])
        for arm, of in pooled.items()
    }


def _read_record(path: Path) -> draw_counts.DrawCounts | None:
    """The draws of one run; None of a run that kept no record."""
    record = read_json(path)
    return None if record is None else draw_counts.from_record(record)


def _pictures(source: Source, shape: tuple[int, int, int]) -> dict[str, np.ndarray]:
    """The first images of each class, distinct keys of the source in order, as the networks see them."""
    resize = Resize(shape[0], shape[2])
    chosen = {name: np.flatnonzero(source.labels == k) for k, name in enumerate(source.class_names)}
    return {
        name: np.stack([resize.map(source.read(int(key))) for key in keys[:NUM_GALLERY_IMAGES]])
        for name, keys in chosen.items()
        if len(keys)
    }


def _provenance(stage: Stage, store: Store, computed: bool, labels: dict[str, Run]) -> StageRecord:
    result, machine = store.find(stage) or {}, store.environment(stage)
    run = labels.get(stage.name)
    return StageRecord(
        stage.kind,
        stage.name,
        what=f"train {run.arm.name}, seed {run.seed}" if run else "",
        found=not computed,
        seconds=result.get("seconds"),
        device=machine.get("device", ""),
        commit=machine.get("commit", ""),
        dirty=machine.get("dirty") is True,
        versions=machine.get("packages", {}),
        config=stage.config,
        needs=[need.name for need in stage.needs],
    )
