"""What an experiment's page is made of: arms, runs, answers to single images, curves, pictures, records, draws.

Checked at birth, so that the page cannot contradict itself. Knows nothing of HTML, and reads no run's folder.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jaxmoust.analysis import accuracy
from jaxmoust.report.sections.sampler_mix import Draws

COLUMNS = (
    *("experiment", "arm", "seed", "generator", "fine_tuning", "sampler", "n_base", "n_synthetic", "share"),
    *("steps", "top1", "top5", "n_test", "seconds", "device", "commit"),
)
TEXT_COLUMNS = ("experiment", "arm", "generator", "fine_tuning", "sampler", "device", "commit")


@dataclass(frozen=True)
class Arm:
    """One treatment.

    Args:
        name: as in rows and ranks. title: for people. description: what it does, in a sentence.
        baseline: the arm that it is compared with, where it is not the page's.
    """

    name: str
    title: str
    description: str = ""
    baseline: str = ""


@dataclass(frozen=True)
class Gallery:
    """Images of one source by class: uint8 [n, H, W, C], C 1 or 3. Galleries stand side by side."""

    title: str
    caption: str
    images: Mapping[str, NDArray[np.uint8]]


@dataclass(frozen=True)
class Figure:
    """A picture with its title, and a sentence on how to read it; markup is what the chart files return."""

    title: str
    caption: str
    markup: str


@dataclass(frozen=True)
class Table:
    """A table that can be sorted by every column.

    Args:
        rows: text, numbers, or None for nothing, under the names of the columns.
        values: the numbers that rows of text sort by (None: the text itself); empty when the rows say it themselves.
    Raises: ValueError: a row, or a row of values, that has not a cell for each column.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str | float | None]]
    values: Sequence[Sequence[float | None]] = ()

    def __post_init__(self):
        if wrong := [len(row) for row in (*self.rows, *self.values) if len(row) != len(self.columns)]:
            raise ValueError(
                f"table {self.title!r}: got a row of {wrong[0]} cells; allowed {len(self.columns)}, one for each of "
                f"{list(self.columns)}; None where there is nothing"
            )
        if len(self.values) not in (0, len(self.rows)):
            raise ValueError(
                f"table {self.title!r}: got values of {len(self.values)} rows; allowed {len(self.rows)} or none"
            )


@dataclass(frozen=True)
class Section:
    """A further section of the page: paragraphs, pictures side by side, tables, and small print.

    Args:
        answer: what it says to the study's question, for the box at the top of the page and for the index; "" where
            it was not asked that.
        legend: how to read its figures, above them.
        columns: figures a row, where as many belong together; 0 or 1 for as many as there is room for.
    """

    title: str
    words: Sequence[str] = ()
    figures: Sequence[Figure] = ()
    tables: Sequence[Table] = ()
    notes: Sequence[str] = ()
    answer: str = ""
    legend: str = ""
    columns: int = 0

    @property
    def anchor(self) -> str:
        """The title as a link's target."""
        return re.sub(r"[^a-z0-9]+", "-", self.title.lower()).strip("-")


@dataclass
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
        provenance: one dict a stage with kind, name or digest, config, computed (False when it was found), and,
            at the top or under "environment" or "result", seconds, device, commit and versions or packages;
            "what" may say in words what it did.
        environment: what ran it.
        draws: {arm: what its sampler drew}, all seeds added up; arms without a record are left out.
        sections: what else was found, shown after the arms.
        config: the experiment's whole configuration, so that the page alone is enough to run it again.
        unread: in words, the files that are missing or damaged, and of which the page therefore shows nothing.
    Raises: ValueError: unknown baseline, two arms or two rows of one name, a row without a column, ranks and
        labels of different lengths, labels outside the classes, a row whose accuracy is not that of its ranks, draws
        of an arm or of classes that the page has not.
    """

    title: str
    question: str
    command: str
    baseline: str
    arms: Sequence[Arm]
    rows: Sequence[Mapping[str, Any]]
    ranks: Mapping[str, Mapping[int, NDArray]]
    labels: NDArray
    class_names: Sequence[str]
    curves: Mapping[str, Mapping[int, Sequence[tuple[int, Mapping[str, float]]]]] = field(default_factory=dict)
    galleries: Sequence[Gallery] = ()
    provenance: Sequence[Mapping[str, Any]] = ()
    environment: Mapping[str, Any] = field(default_factory=dict)
    draws: Mapping[str, Draws] = field(default_factory=dict)
    sections: Sequence[Section] = ()
    config: Mapping[str, Any] = field(default_factory=dict)
    unread: Sequence[str] = ()

    def __post_init__(self):
        names = [arm.name for arm in self.arms]
        if len(set(names)) < len(names):
            raise ValueError(f"arms: got {names}; allowed each name once")
        for baseline in (self.baseline, *self.baselines):
            if baseline not in names or self.baseline_of(baseline) != baseline:
                raise ValueError(
                    f"baseline: got {baseline!r}; allowed {names}; name one of the arms, and one that is not itself "
                    "compared with another"
                )
        labels = np.asarray(self.labels)
        if labels.ndim != 1 or (labels.size and not 0 <= labels.min() <= labels.max() < len(self.class_names)):
            raise ValueError(f"labels: got shape {labels.shape}; allowed [N], inside 0..{len(self.class_names) - 1}")
        for arm, draws in self.draws.items():
            if arm not in names or list(draws.class_names) != list(self.class_names):
                raise ValueError(
                    f"draws: got arm {arm!r} with classes {list(draws.class_names)}; allowed arms {names} with the "
                    f"page's classes {list(self.class_names)}; name arms and classes as the page does"
                )
        runs = {}
        for row in self.rows:
            if missing := [c for c in COLUMNS if c not in row]:
                raise ValueError(f"rows: got a row without {missing}; allowed rows with {list(COLUMNS)}")
            if row["arm"] not in names:
                raise ValueError(f"rows: got arm {row['arm']!r}; allowed {names}; describe it by an Arm")
            if runs.setdefault((row["arm"], int(row["seed"])), row) is not row:
                raise ValueError(f"rows: got arm {row['arm']!r} seed {row['seed']} twice; allowed one row a run")
        for arm, of_seeds in self.ranks.items():
            for seed, ranks in of_seeds.items():
                check_ranks(f"ranks[{arm!r}][{seed}]", np.asarray(ranks), labels, runs.get((arm, seed)))

    @property
    def baselines(self) -> list[str]:
        """The arms that others are compared with, each once, in the order of the arms."""
        wanted = {arm.baseline or self.baseline for arm in self.arms}
        return [arm.name for arm in self.arms if arm.name in wanted] + sorted(wanted - {arm.name for arm in self.arms})

    def baseline_of(self, name: str) -> str:
        """The arm that an arm is compared with; a baseline's is itself."""
        return next(arm.baseline or self.baseline for arm in self.arms if arm.name == name)

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
            f"{name}: got shape {ranks.shape}; allowed {np.shape(labels)}, one rank per label; "
            "pass the whole test set, in the source's order"
        )
    for k, column in ((1, "top1"), (5, "top5")):
        said, found = row and number_of(row[column]), accuracy.top_k(ranks, k)
        # Rows may be rounded to one decimal, hence half of that.
        if said is not None and abs(said - found) > 0.051:
            raise ValueError(
                f"{name}: got Top-{k} {found:.2f} from the ranks and {said:.2f} in the row; allowed the same "
                "run's; write the page from the runs that wrote results.csv"
            )


def number_of(value: Any) -> float | None:
    """A row's number, or None where there is none: empty text, None, NaN."""
    if value is None or value == "":
        return None
    number = float(value)
    return number if math.isfinite(number) else None
