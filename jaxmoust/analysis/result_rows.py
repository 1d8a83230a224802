"""From the rows of results.csv to cells: which runs are the real learning curve, and which are the mixed runs.

Arms are chosen by name. A run without synthetic images is not therefore a run on real images and nothing else: the
controls (duplicated, more augmentation) have none either.
"""

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np

from jaxmoust.analysis.learning_curve import Cells

NEEDED = ("n_base", "n_synthetic", "seed", "top1")
REAL = ("real", "real_[0-9]*")  # of one size, and real_250, real_1000, ... of several
SETTINGS = ("generator", "fine_tuning", "sampler")
MOST = 10**12  # images; a larger number is a slip
STILL = "the accuracies of the arms can still be compared"
Row = Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Chosen:
    """The runs that answer, by cell, and what was chosen and left out, in words.

    Args:
        real, mixed: n_synthetic is 0 in the first, above 0 in the second.
        real_arms, mixed_arms: whose runs they are. settings: {setting: what all mixed runs share}.
        notes: what is worth knowing about the choice.
    """

    real: Cells
    mixed: Cells
    real_arms: tuple[str, ...]
    mixed_arms: tuple[str, ...]
    settings: Mapping[str, str]
    notes: tuple[str, ...]


def read_rows(paths: Sequence[str | Path]) -> list[dict[str, str]]:
    """Reads the rows of some results.csv, all fields as text.

    Raises: ValueError: a file that is not there, is not text, or has no rows.
    """
    rows = []
    for path in paths:
        try:
            with open(path, newline="", encoding="utf-8-sig") as file:  # spreadsheets write a byte order mark
                of_file = list(csv.DictReader(file, strict=True))
        except (OSError, UnicodeDecodeError, csv.Error) as e:
            raise ValueError(f"results: {str(path)!r} cannot be read: {e}; give the results.csv of a study") from e
        if not of_file:
            raise ValueError(f"results: {str(path)!r} has no rows; give the results.csv of a study that has run")
        rows += of_file
    return rows


def choose(
    rows: Sequence[Row],
    real: Sequence[str] = REAL,
    mixed: Sequence[str] = (),
    **settings: str,
) -> Chosen:
    """Chooses the runs of the real learning curve and the mixed runs of one kind.

    Args:
        rows: of one results.csv or several together; numbers may be text. The same run found twice counts once.
        real: names of arms, or patterns with * and ?, that are real images and nothing else.
        mixed: the same of the mixed arms; by default every arm with synthetic and real images in its batches. Runs
            on synthetic images alone are never mixtures.
        settings: generator, fine_tuning, sampler: keeps only the mixed runs that have these.
    Raises: ValueError: a column that is missing, no number where one belongs, accuracies that are no percent, no real
        or no mixed run, mixed runs of several kinds without a choice between them, two different results of one cell
        and seed.
    """
    if unknown := [name for name in settings if name not in SETTINGS]:
        raise ValueError(f"results: got a choice by {unknown}; allowed {list(SETTINGS)}")
    if not rows:
        raise ValueError("results: got no rows; allowed one row a run; run a study first")
    for column in NEEDED:
        if missing := sum(column not in row or (row[column] is None and column != "top1") for row in rows):
            raise ValueError(
                f"results: {missing} of {len(rows)} rows have no column {column!r}; allowed rows with {list(NEEDED)}, "
                "and arm, share, generator, fine_tuning, sampler where there are several kinds of runs"
            )
    done = _finished(rows)
    without = len(rows) - len(done)
    notes = [f"{_counted(without)} without a result {'is' if without == 1 else 'are'} left out."] if without else []
    if not done:
        raise ValueError(f"results: none of the {len(rows)} runs has a result (top1); run the study to its end")
    if max(_number(row, "top1") for row in done) <= 1:
        raise ValueError("results: got top1 of at most 1 in all runs; allowed percent, 0 to 100; multiply it by 100")
    curve = real_only(rows, real)
    if not curve:
        raise ValueError(_no_real(rows, done, real))
    made = [row for row in done if _images(row, "n_synthetic", 0) > 0 and not _synthetic_only(row)]
    chosen = [row for row in made if not mixed or _named(row, mixed)]
    wanted = {name: value for name, value in settings.items() if value}
    chosen = [row for row in chosen if all(str(row.get(name, "")) == value for name, value in wanted.items())]
    if not chosen:
        raise ValueError(_no_mixed(rows, done, made, _described(wanted, mixed)))
    several = len({tuple(str(row.get(name, "")) for name in SETTINGS) for row in chosen}) > 1
    if several and not mixed:
        raise ValueError(
            f"mixed runs: got several kinds, {_kinds(chosen)}; allowed one, for each has an exchange rate of its own; "
            "choose by --generator, --fine_tuning, --sampler or --mixed=ARM[,ARM]"
        )
    if several:
        notes.append(f"Mixed runs of several kinds are taken together: {_kinds(chosen)}.")
    if lacking := _lacking_seeds([*curve, *chosen]):
        notes.append(f"Seeds are missing: {lacking}. The cells count with the seeds that they have.")
    steps = {str(row["steps"]) for row in (*curve, *chosen) if row.get("steps") not in (None, "")}
    if len(steps) > 1:
        notes.append(
            f"The runs differ in their steps ({', '.join(sorted(steps, key=_size))}), not in their data alone."
        )
    shared = {name: " / ".join(dict.fromkeys(str(row.get(name, "")) for row in chosen)) for name in SETTINGS}
    arms = [tuple(dict.fromkeys(str(row["arm"]) for row in some)) for some in (curve, chosen)]
    return Chosen(_cells(curve), _cells(chosen), *arms, shared, tuple(notes))


def real_only(rows: Sequence[Row], real: Sequence[str] = REAL) -> list[Row]:
    """Returns the finished runs of the arms that are real images and nothing else."""
    return [row for row in _finished(rows) if _images(row, "n_synthetic", 0) == 0 and _named(row, real)]


def kinds(rows: Sequence[Row]) -> list[dict[str, str]]:
    """Returns the kinds of finished mixed runs, each as the settings that `choose` takes."""
    mixed = [row for row in _finished(rows) if _images(row, "n_synthetic", 0) > 0 and not _synthetic_only(row)]
    found = dict.fromkeys(tuple(str(row.get(name, "")) for name in SETTINGS) for row in mixed)
    return [dict(zip(SETTINGS, kind, strict=True)) for kind in found]


def _no_real(rows: Sequence[Row], done: Sequence[Row], real: Sequence[str]) -> str:
    called = " or ".join(real)
    finished = {str(row["arm"]) for row in done}
    if lacking := _arms([r for r in _with_arms(rows) if _named(r, real) and str(r["arm"]) not in finished]):
        return (
            f"real runs: of {lacking} no run has a result (top1); run them to their end; until then there is no "
            f"exchange rate, but {STILL}"
        )
    alone = _arms([row for row in done if _images(row, "n_synthetic", 0) == 0]) or "none"
    return (
        f"real runs: no arm is called {called}; without synthetic images are {alone}; name the arms of real images "
        f"alone by --real=ARM[,ARM]; without such arms there is no exchange rate, but {STILL}"
    )


def _no_mixed(rows: Sequence[Row], done: Sequence[Row], made: Sequence[Row], described: str) -> str:
    only = _arms([row for row in done if _images(row, "n_synthetic", 0) > 0 and _synthetic_only(row)])
    mixed = {str(row["arm"]) for row in _with_arms(rows) if _images(row, "n_synthetic", 0) > 0}
    unfinished = sorted(mixed - {str(row["arm"]) for row in done})
    said = f"mixed runs: none is {described}; with real and synthetic images there are {_kinds(made) or 'none'}"
    said += f"; on synthetic images alone are {only}, whose worth beside real ones is not measured" if only else ""
    said += f"; without a result (top1) are {', '.join(unfinished)}" if unfinished else ""
    if made:
        return f"{said}; choose by --mixed=ARM[,ARM], --generator, --fine_tuning or --sampler"
    return f"{said}; run some; without them there is no exchange rate, but {STILL}"


def _finished(rows: Sequence[Row]) -> list[Row]:
    """The runs that have a result."""
    return [row for row in _with_arms(rows) if row["top1"] not in ("", None) and math.isfinite(_number(row, "top1"))]


def _with_arms(rows: Sequence[Row]) -> list[Row]:
    """The rows, where they name no arms those without synthetic images as the arm "real"."""
    return [{**row, "arm": row.get("arm") or ("mixed" if _number(row, "n_synthetic") else REAL[0])} for row in rows]


def _counted(runs: int) -> str:
    return f"{runs} run{'' if runs == 1 else 's'}"


def _synthetic_only(row: Row) -> bool:
    return row.get("share") not in (None, "") and _number(row, "share") >= 1


def _number(row: Row, column: str) -> float:
    try:
        return float(row[column])
    except (TypeError, ValueError):
        raise ValueError(
            f"results: got {column} {row[column]!r} (arm {row.get('arm')!r}, seed {row.get('seed')!r}); "
            "allowed a number"
        ) from None


def _images(row: Row, column: str, least: int) -> int:
    """A number of images, or a seed."""
    number = _number(row, column)
    if not least <= number <= MOST or number != int(number):
        raise ValueError(
            f"results: got {column} {row[column]!r} (arm {row['arm']!r}, seed {row['seed']!r}); allowed whole numbers "
            f"from {least} to {MOST:.0e}; leave such runs out"
        )
    return int(number)


def _size(text: str) -> tuple[int, str]:
    return len(text), text


def _named(row: Row, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(str(row["arm"]), pattern) for pattern in patterns)


def _arms(rows: Sequence[Row]) -> str:
    return ", ".join(dict.fromkeys(str(row["arm"]) for row in rows))


def _lacking_seeds(rows: Sequence[Row]) -> str:
    """Which arms lack seeds that others have: "edm_250 has no 1, 2; real_500 has no 2"."""
    of_arm: dict[str, set[int]] = {}
    for row in rows:
        of_arm.setdefault(str(row["arm"]), set()).add(_images(row, "seed", 0))
    every = set().union(*of_arm.values())
    lacking = {arm: ", ".join(map(str, sorted(every - seeds))) for arm, seeds in of_arm.items() if every - seeds}
    return "; ".join(f"{arm} has no {seeds}" for arm, seeds in lacking.items())


def _kinds(rows: Sequence[Row]) -> str:
    """What kinds of mixed runs there are, as they would be chosen, each with its arms."""
    kinds: dict[tuple, list[Row]] = {}
    for row in rows:
        kinds.setdefault(tuple((name, str(row[name])) for name in SETTINGS if row.get(name)), []).append(row)
    return "; ".join(" ".join(f"--{k}={v}" for k, v in kind) + f" (arms {_arms(of)})" for kind, of in kinds.items())


def _described(wanted: Mapping[str, str], mixed: Sequence[str]) -> str:
    words = [f"{name} {value!r}" for name, value in wanted.items()] + (
        [f"called {' or '.join(mixed)}"] if mixed else []
    )
    return " and ".join(words) or "of real and synthetic images"


def _cells(rows: Sequence[Row]) -> Cells:
    """Gathers runs by (n_base, n_synthetic), in that order, one error a seed."""
    found: dict[tuple[int, int], dict[int, tuple[float, str]]] = {}
    for row in rows:
        size = _images(row, "n_base", 1), _images(row, "n_synthetic", 0)
        of_seeds = found.setdefault(size, {})
        seed, top1, arm = _images(row, "seed", 0), _number(row, "top1"), str(row["arm"])
        if of_seeds.setdefault(seed, (top1, arm))[0] != top1:
            raise ValueError(
                f"results: got two results of n_base {size[0]}, n_synthetic {size[1]}, seed {seed}: {top1:g} (arm "
                f"{arm!r}) and {of_seeds[seed][0]:g} (arm {of_seeds[seed][1]!r}); allowed one; choose arms by "
                "--real=ARM or --mixed=ARM[,ARM]"
            )
    sizes = sorted(found)
    n_base, n_synthetic = (np.array([size[i] for size in sizes], np.int64) for i in (0, 1))
    errors = [np.array([100.0 - top1 for top1, _ in found[size].values()]) for size in sizes]
    return Cells(n_base, n_synthetic, errors)
