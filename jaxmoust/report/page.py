"""The contents of an experiment's page: arms, runs, predictions for single images, curves, pictures, records, draws.

Checked on construction, so that the page cannot contradict itself. Knows nothing of HTML, and reads no run's folder.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from jaxmoust.analysis import accuracy
from jaxmoust.analysis.looks import Path
from jaxmoust.analysis.metrics import METRICS
from jaxmoust.report.arms import ArmInfo, ArmSummary, Terms, compare, number_of, summarise
from jaxmoust.report.charts.base import Picture
from jaxmoust.report.draw_counts import DrawCounts
from jaxmoust.report.numbers import MINUS

COLUMNS = (
    *("experiment", "arm", "seed", "generator", "fine_tuning", "sampler", "n_base", "n_synthetic", "share"),
    *("steps", "top1", "top5", "n_test", "seconds", "device", "commit"),
)
# What comes after them in a results.csv, empty where a run kept too little to measure it; rows of before have none.
METRIC_COLUMNS = tuple(name for name in METRICS if name not in COLUMNS)
TEXT_COLUMNS = (
    *("experiment", "arm", "generator", "fine_tuning", "sampler", "device", "commit", "baseline"),
    *("verdict", "family", "rule", "same_as", "run"),
)

Cell = str | float | None | tuple[float | None, str]


@dataclass(frozen=True)
class Gallery:
    """Images of one source by class: uint8 [n, H, W, C], C 1 or 3. Galleries stand side by side."""

    title: str
    caption: str
    images: Mapping[str, NDArray[np.uint8]]


@dataclass(frozen=True)
class Figure:
    """A picture with its title, and a sentence on how to read it; markup is what the chart files return.

    Args: group: what it is of: the name of an arm, with which it is switched off, or the title of a set.
    """

    title: str
    caption: str
    markup: Picture | Markup
    group: str = ""


@dataclass(frozen=True)
class Table:
    """A table that can be sorted by every column.

    Args:
        rows: a cell under each column: text, a number, None for nothing, or (the number to sort by, the text to show).
        note: how to read it, in small print. folded: shown only where the reader opens it.
    Raises: ValueError: a row that has not a cell for each column.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    note: str = ""
    folded: bool = False

    def __post_init__(self):
        if wrong := [len(row) for row in self.rows if len(row) != len(self.columns)]:
            raise ValueError(
                f"table {self.title!r}: got a row of {wrong[0]} cells, expected {len(self.columns)}, one for each of "
                f"{list(self.columns)}; None where there is nothing."
            )

    @property
    def cells(self) -> list[list[tuple[str | float, str]]]:
        """The rows as the page shows them: (what it is sorted by, text)."""
        return [[_cell(cell) for cell in row] for row in self.rows]

    @property
    def numeric(self) -> list[bool]:
        """Which columns are sorted as numbers."""
        columns = zip(*self.cells, strict=True) if self.rows else [()] * len(self.columns)
        return [all(not isinstance(key, str) or not key for key, _ in column) for column in columns]


def _cell(cell: Cell) -> tuple[str | float, str]:
    if isinstance(cell, tuple):
        return ("" if cell[0] is None else cell[0]), cell[1]
    if isinstance(cell, str):
        return cell, cell
    if cell is None or not math.isfinite(cell):
        return "", "\N{EN DASH}"
    return cell, (f"{cell:,}" if isinstance(cell, int) else f"{cell:.4g}").replace("-", MINUS)


@dataclass(frozen=True)
class Section:
    """A further section of the page: paragraphs, pictures side by side, tables, and small print.

    Args:
        answer: what it says to the study's question, for the box at the top of the page and for the index; "" where
            it was not asked that.
        legend: how to read its figures, above them.
        columns: figures a row, where as many belong together; 0 or 1 for as many as there is room for.
        small: whether its figures are small multiples, with their captions beside their titles.
        by_group: whether the figures of one group are a row, below the group's name.
        folded: whether it is shown only where the reader opens it. of_images: whether it belongs below the images.
    """

    title: str
    words: Sequence[str] = ()
    figures: Sequence[Figure] = ()
    tables: Sequence[Table] = ()
    notes: Sequence[str] = ()
    answer: str = ""
    legend: str = ""
    columns: int = 0
    small: bool = False
    by_group: bool = False
    folded: bool = False
    of_images: bool = False

    @property
    def anchor(self) -> str:
        """The title as a link's target."""
        return slug(self.title)

    @property
    def groups(self) -> dict[str, list[Figure]]:
        """Its figures by what they are of, in one group where they are no rows."""
        groups: dict[str, list[Figure]] = {}
        for figure in self.figures:
            groups.setdefault(figure.group if self.by_group else "", []).append(figure)
        return groups


def slug(text: str) -> str:
    """Returns the text as a part of a link or of a file's name."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


@dataclass(frozen=True)
class StageRecord:
    """Where some of the numbers come from: one stage that the study computed, or found.

    Args: name: its digest. what: what it did, in words. dirty: whether its tree had changes that were not committed.
        needs: the names of the stages that it was computed from.
    """

    kind: str
    name: str
    what: str = ""
    found: bool = False
    seconds: float | None = None
    device: str = ""
    commit: str = ""
    dirty: bool = False
    versions: Mapping[str, str] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    needs: Sequence[str] = ()


@dataclass(frozen=True, eq=False)
class Page:
    """Everything an experiment's page shows.

    Missing runs are allowed, and said on the page; contradictions are not.

    Args:
        title, question: what the page is called and answers.
        command: the line that makes it again.
        baseline: name of the arm that others are compared with, unless they name another.
        arms: in the order of the table.
        rows: results.csv, one dict a run with the keys COLUMNS; numbers may be text, as csv gives them.
        ranks: {arm: {seed: integers [N]}}, the number of classes scored above the true one, per test image;
            an arm whose ranks were not kept is compared by its Top-1 per seed.
        labels: integers [N]; class_names: K names.
        curves: {arm: {seed: [(step, {metric: value})]}}.
        galleries: shown side by side, a row per class.
        provenance: the stages, in their order.
        environment: what ran it.
        draws: {arm: what its sampler drew}, all seeds added up; arms without a record are left out.
        sections: what else was found, shown after the arms.
        config: the experiment's whole configuration, so that the page alone is enough to run it again.
        terms: what is decided on, within which margin and at which level.
        contributions: {arm: {seed: [N]}} of a metric that ranks do not give, whose mean is a run's number.
        unread: in words, the files that are missing or damaged, and of which the page therefore shows nothing.
        claim: in words, what varies with the seed, and for what a claim therefore holds.
        data: in words, which images the base set is and where they lie. folder: where the study's files lie.
        progress: in words, what is still to come of a study that runs; "" of one that has ended.
        paths: the looks of a study until it is decided, a family each, whose last word on an arm counts; its arms may
            have unequally many seeds.
    Raises: ValueError: unknown baseline, two arms or two rows of one name, a row without a column, ranks and
        labels of different lengths, labels outside the classes, a row whose accuracy is not that of its ranks, draws
        of an arm or of classes that the page has not.
    """

    title: str
    question: str
    command: str
    baseline: str
    arms: Sequence[ArmInfo]
    rows: Sequence[Mapping[str, Any]]
    ranks: Mapping[str, Mapping[int, NDArray]]
    labels: NDArray
    class_names: Sequence[str]
    curves: Mapping[str, Mapping[int, Sequence[tuple[int, Mapping[str, float]]]]] = field(default_factory=dict)
    galleries: Sequence[Gallery] = ()
    provenance: Sequence[StageRecord] = ()
    environment: Mapping[str, Any] = field(default_factory=dict)
    draws: Mapping[str, DrawCounts] = field(default_factory=dict)
    sections: Sequence[Section] = ()
    config: Mapping[str, Any] = field(default_factory=dict)
    unread: Sequence[str] = ()
    claim: str = ""
    data: str = ""
    folder: str = ""
    progress: str = ""
    paths: Sequence[Path] = ()
    terms: Terms = Terms()
    contributions: Mapping[str, Mapping[int, NDArray]] = field(default_factory=dict)

    def __post_init__(self):
        names = [arm.name for arm in self.arms]
        if len(set(names)) < len(names):
            raise ValueError(f"arms: got {names}, expected each name once.")
        for baseline in (self.baseline, *self.baseline_of.values()):
            if baseline not in names or self.baseline_of[baseline] != baseline:
                raise ValueError(
                    f"baseline: got {baseline!r}, expected {names}. Name one of the arms, and one that is not itself "
                    "compared with another."
                )
        labels = np.asarray(self.labels)
        if labels.ndim != 1 or (labels.size and not 0 <= labels.min() <= labels.max() < len(self.class_names)):
            raise ValueError(f"labels: got shape {labels.shape}, expected [N], inside 0..{len(self.class_names) - 1}")
        for arm, draws in self.draws.items():
            if arm not in names or list(draws.class_names) != list(self.class_names):
                raise ValueError(
                    f"draws: got arm {arm!r} with classes {list(draws.class_names)}, expected arms {names} with the "
                    f"page's classes {list(self.class_names)}. Name arms and classes as the page does."
                )
        runs: dict[tuple[str, int], Mapping[str, Any]] = {}
        for row in self.rows:
            if missing := [c for c in COLUMNS if c not in row]:
                raise ValueError(f"rows: got a row without {missing}, expected rows with {list(COLUMNS)}")
            if row["arm"] not in names:
                raise ValueError(f"rows: got arm {row['arm']!r}, expected {names}. Describe it by an ArmInfo.")
            if runs.setdefault((row["arm"], int(row["seed"])), row) is not row:
                raise ValueError(f"rows: got arm {row['arm']!r} seed {row['seed']} twice, expected one row a run.")
        for arm, of_seeds in self.ranks.items():
            for seed, ranks in of_seeds.items():
                check_ranks(f"ranks[{arm!r}][{seed}]", np.asarray(ranks), labels, runs.get((arm, seed)))

    @cached_property
    def summaries(self) -> list[ArmSummary]:
        """The arms in their order, each compared with its baseline; all of them are decided here, once."""
        # Of a study of looks these alone decide: an arm that none was made of yet is undecided.
        decided = {arm: path.decisions.get(arm) for path in self.paths for arm in path.arms}
        arms = summarise(self.arms, self.rows)
        return compare(arms, self.baseline_of, self.ranks, self.terms, self.contributions, decided)

    @cached_property
    def spent(self) -> dict[str, dict[str, float]]:
        """The seconds of a seed of each arm by kind of stage: of every stage that its runs stand on, each once.

        What serves several seeds is shared equally among them; arms with a stage whose time nobody knows are left out.
        """
        records, spent = {record.name: record for record in self.provenance}, {}
        for arm in self.summaries:
            names, left = set[str](), [str(row.get("run")) for row in arm.runs.values()]
            while left:
                if (name := left.pop()) not in names:
                    names.add(name)
                    left += records[name].needs if name in records else ()
            stages = [records.get(name) for name in sorted(names)]
            if stages and all(stage and stage.seconds is not None for stage in stages):
                of_arm = spent[arm.info.name] = dict[str, float]()
                for stage in filter(None, stages):
                    of_arm[stage.kind] = of_arm.get(stage.kind, 0.0) + (stage.seconds or 0.0) / len(arm.runs)
        return spent

    @property
    def is_quick(self) -> bool:
        """Whether its command ran the quick variant of an experiment, which trains for seconds."""
        return bool(re.search(r"--config[= ]\S+:(\S*,)?quick(,|\s|$)", self.command))

    @property
    def num_tests(self) -> int:
        """How many comparisons p is adjusted for: arms of the same runs are one."""
        decisions = [arm.decision for arm in self.summaries if arm.decision]
        return sum(one.interval is not None and not one.same_as for one in decisions)

    def summary_of(self, name: str) -> ArmSummary:
        """The summary of the arm of that name."""
        return next(arm for arm in self.summaries if arm.info.name == name)

    @cached_property
    def baseline_of(self) -> dict[str, str]:
        """The arm that each arm is compared with; a baseline's is itself."""
        return {arm.name: arm.baseline or self.baseline for arm in self.arms}

    @property
    def baselines(self) -> list[ArmInfo]:
        """The arms that others are compared with, each once, in the order of the arms."""
        return [arm for arm in self.arms if arm.name in self.baseline_of.values()]

    @property
    def seeds(self) -> list[int]:
        """Every seed that some arm has."""
        return sorted({int(row["seed"]) for row in self.rows})


def check_ranks(name: str, ranks: NDArray, labels: NDArray, row: Mapping[str, Any] | None) -> None:
    """Checks that a run's ranks are of these test images and, where there is a row, that their accuracy is its.

    Raises: ValueError: they are not; it begins with the name.
    """
    if ranks.shape != np.shape(labels):
        raise ValueError(
            f"{name}: got shape {ranks.shape}, expected {np.shape(labels)}, one rank per label. "
            "Pass the whole test set, in the source's order."
        )
    for k, column in ((1, "top1"), (5, "top5")):
        in_row, of_ranks = number_of(row[column]) if row else None, accuracy.top_k(ranks, k)
        # Rows may be rounded to one decimal, hence half of that.
        if in_row is not None and abs(in_row - of_ranks) > 0.051:
            raise ValueError(
                f"{name}: got Top-{k} {of_ranks:.2f} from the ranks and {in_row:.2f} in the row, expected the same "
                "run's. Write the page from the runs that wrote results.csv."
            )
