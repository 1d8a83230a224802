"""From the rows of results.csv to cells: which runs are the real learning curve, and which are the mixed runs.

Arms are chosen by name. A run without synthetic images is not therefore a run on real images and nothing else: the
controls (duplicated, more augmentation) have none either.
"""

import csv
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np

from jaxmoust.analysis.equivalence.learning_curve import Cells

NEEDED = ("n_base", "n_synthetic", "seed", "top1")
REAL = ("real", "real_[0-9]*")  # of one size, and real_250, real_1000, ... of several
SETTINGS = ("generator", "fine_tuning", "sampler")
MOST = 10**12  # images; a larger number is a slip
STILL = "the accuracies of the arms can still be compared (in report/index.html and report/summary.csv of the study)"
PLAIN = "written like 95.3 or 1000: a decimal point, no %, no thousands separators"
AT = "(at)"  # in a row that was read: (its file, its line)
MOST_LISTED = 4  # arms or cells that a sentence names
Row = Mapping[str, Any]
Size = tuple[int, int]  # n_base, n_synthetic


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


def read_rows(paths: Sequence[str | Path]) -> list[dict[str, Any]]:
    """Reads the rows of some results.csv, all fields as text, and where each stands as AT; blank rows are none.

    Raises: ValueError: a file that is not there, is not text, has no rows, is not separated by commas, or has a row of
        more values than columns.
    """
    rows = []
    for path in map(str, paths):
        try:
            with open(path, newline="", encoding="utf-8-sig") as file:  # spreadsheets write a byte order mark
                reader = csv.DictReader(file, strict=True)
                columns = reader.fieldnames or ()
                of_file = [{**row, AT: (path, reader.line_num)} for row in reader if _filled(row.values())]
        except (OSError, UnicodeDecodeError, csv.Error) as e:
            raise ValueError(f"results: {path!r} cannot be read: {e}; give the results.csv of a study") from e
        if len(columns) == 1 and (separator := next((mark for mark in ";\t|" if mark in columns[0]), "")):
            raise ValueError(
                f"results: got {path!r} with the one column {columns[0]!r}, as if separated by {separator!r}; allowed "
                "commas between columns and points in numbers; save it so"
            )
        if not of_file:
            raise ValueError(f"results: {path!r} has no rows; give the results.csv of a study that has run")
        for row in of_file:
            if _filled(surplus := row.pop(None, [])):
                raise ValueError(
                    f"results: got {surplus} beyond the {len(columns)} columns of the header ({_place(row)}); allowed "
                    f"one value a column, numbers {PLAIN}; correct the row"
                )
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
        or no mixed run, mixed runs of several kinds without a choice between them, several test sets, two different
        results of one cell and seed.
    """
    if unknown := [name for name in settings if name not in SETTINGS]:
        raise ValueError(f"results: got a choice by {unknown}; allowed {list(SETTINGS)}")
    if not rows:
        raise ValueError("results: got no rows; allowed one row a run; run a study first")
    _check_columns(rows)
    every = _with_arms(rows)
    done = [row for row in every if _has_result(row)]
    if not done:
        raise ValueError(f"results: none of the {len(rows)} runs has a result (top1); run the study to its end")
    wanted = {name: value for name, value in settings.items() if value}

    def is_chosen(row: Row) -> bool:
        return _is_mixed(row) and (not mixed or _named(row, mixed)) and all(_text(row, k) == wanted[k] for k in wanted)

    curve, chosen = real_only(rows, real), [row for row in done if is_chosen(row)]
    if not curve:
        raise ValueError(_no_real(rows, done, real))
    if not chosen:
        made = [row for row in done if _is_mixed(row)]
        raise ValueError(_no_mixed(rows, done, made, _described(wanted, mixed)))
    several = len({tuple(_text(row, name) for name in SETTINGS) for row in chosen}) > 1
    if several and not mixed:
        raise ValueError(
            f"mixed runs: got several kinds, {_kinds(chosen)}; allowed one, for each has an exchange rate of its own; "
            "choose by --generator, --fine_tuning, --sampler or --mixed=ARM[,ARM]"
        )
    _check_percent(done, {"real images alone": curve, "mixtures": chosen})
    _check_test_set([*curve, *chosen])
    notes = []
    if without := len(every) - len(done):
        gone = _without_result([row for row in every if _is_real(row, real) or is_chosen(row)])
        notes.append(
            f"{without} run{' without a result is' if without == 1 else 's without a result are'} left out"
            f"{f', among them every run of {gone}' if gone else ''}."
        )
    if several:
        notes.append(f"Mixed runs of several kinds are taken together: {_kinds(chosen)}.")
    if lacking := _lacking_seeds([*curve, *chosen]):
        notes.append(f"Seeds are missing: {lacking}. The cells count with the seeds that they have.")
    experiments = dict.fromkeys(name for row in (*curve, *chosen) if (name := _text(row, "experiment")))
    if len(experiments) > 1:
        notes.append(f"The runs are of several experiments: {_listed(list(experiments))}.")
    steps = {str(row["steps"]) for row in (*curve, *chosen) if row.get("steps") not in (None, "")}
    if len(steps) > 1:
        notes.append(
            f"The runs differ in their steps ({', '.join(sorted(steps, key=_size))}), not in their data alone."
        )
    shared = {name: " / ".join(dict.fromkeys(_text(row, name) for row in chosen)) for name in SETTINGS}
    arms = [tuple(_arm_names(some)) for some in (curve, chosen)]
    return Chosen(_cells(curve), _cells(chosen), *arms, shared, tuple(notes))


def real_only(rows: Sequence[Row], real: Sequence[str] = REAL) -> list[Row]:
    """Returns the finished runs of the arms that are real images and nothing else."""
    return [row for row in _finished(rows) if _is_real(row, real)]


def kinds(rows: Sequence[Row]) -> list[dict[str, str]]:
    """Returns the kinds of finished mixed runs, each as the settings that `choose` takes."""
    found = dict.fromkeys(tuple(_text(row, name) for name in SETTINGS) for row in _finished(rows) if _is_mixed(row))
    return [dict(zip(SETTINGS, kind, strict=True)) for kind in found]


def _no_real(rows: Sequence[Row], done: Sequence[Row], real: Sequence[str]) -> str:
    called = " or ".join(real).replace("[0-9]*", "NUMBER")
    finished = {str(row["arm"]) for row in done}
    if lacking := _arms([r for r in _with_arms(rows) if _named(r, real) and str(r["arm"]) not in finished]):
        return (
            f"real runs: of {lacking} no run has a result (top1); run them to their end; until then there is no "
            f"exchange rate, but {STILL}"
        )
    alone = _arms([row for row in done if _images(row, "n_synthetic", 0) == 0])
    there = f"without synthetic images are {alone}" if alone else "every run has synthetic images"
    return (
        f"real runs: no arm is called {called}; {there}; name the arms of real images alone by --real=ARM[,ARM]; "
        f"without such arms there is no exchange rate, but {STILL}"
    )


def _no_mixed(rows: Sequence[Row], done: Sequence[Row], made: Sequence[Row], described: str) -> str:
    only = _arms([row for row in done if _images(row, "n_synthetic", 0) > 0 and _synthetic_only(row)])
    mixed = {str(row["arm"]) for row in _with_arms(rows) if _images(row, "n_synthetic", 0) > 0}
    unfinished = sorted(mixed - {str(row["arm"]) for row in done})
    said = "mixed runs: none has both real and synthetic images"
    if made:
        said = f"mixed runs: none is {described}; with real and synthetic images there are {_kinds(made)}"
    said += f"; on synthetic images alone are {only}, whose worth beside real ones is not measured" if only else ""
    said += f"; without a result (top1) are {', '.join(unfinished)}" if unfinished else ""
    if made:
        return f"{said}; choose by --mixed=ARM[,ARM], --generator, --fine_tuning or --sampler"
    return f"{said}; run some; without them there is no exchange rate, but {STILL}"


def _check_columns(rows: Sequence[Row]) -> None:
    for column in NEEDED:
        if lacking := [row for row in rows if column not in row or (row[column] is None and column != "top1")]:
            there = [name for name, value in lacking[0].items() if name != AT and value is not None]
            raise ValueError(
                f"results: {len(lacking)} of {len(rows)} rows have no column {column!r}, got {there}"
                f"{_place(lacking[0], ' in ')}; allowed rows with {list(NEEDED)}, spelt so, and arm, share, generator, "
                "fine_tuning, sampler where there are several kinds of runs; add or rename the column"
            )


def _check_percent(done: Sequence[Row], parts: Mapping[str, Sequence[Row]]) -> None:
    """Refuses a top1 that is no percent, and a part of the runs in fractions, be the other in percent or not."""
    for row in done:
        if not 0 <= _number(row, "top1") <= 100:
            raise ValueError(
                f"results: got top1 {row['top1']!r} ({_whose(row)}); allowed percent, 0 to 100; correct the row or "
                "leave it out"
            )
    for name, part in parts.items():
        if max(_number(row, "top1") for row in part) <= 1:
            raise ValueError(
                f"results: got top1 of at most 1 in all runs of {name}, such as {part[0]['top1']!r} "
                f"({_whose(part[0])}); allowed percent, 0 to 100; multiply it by 100"
            )


def _check_test_set(rows: Sequence[Row]) -> None:
    """Refuses runs that were tested on different numbers of images, where these are known."""
    of_set: dict[int, list[Row]] = {}
    for row in rows:
        if row.get("n_test") not in (None, ""):
            of_set.setdefault(_images(row, "n_test", 1), []).append(row)
    if len(of_set) > 1:
        got = []
        for n_test, of in of_set.items():
            files = dict.fromkeys(row[AT][0] for row in of if AT in row)
            got.append(f"n_test {n_test} (arms {_listed(_arm_names(of))}{'; ' if files else ''}{_listed(list(files))})")
        raise ValueError(
            f"results: got runs of several test sets: {_listed(got)}; allowed one test set, for errors on two do not "
            "compare; give its files alone, or choose arms by --real=ARM[,ARM] and --mixed=ARM[,ARM]"
        )


def _finished(rows: Sequence[Row]) -> list[Row]:
    """The runs that have a result."""
    return [row for row in _with_arms(rows) if _has_result(row)]


def _has_result(row: Row) -> bool:
    return row["top1"] not in ("", None) and not math.isnan(_number(row, "top1"))


def _with_arms(rows: Sequence[Row]) -> list[Row]:
    """The rows, where they name no arms those without synthetic images as the arm "real"."""
    return [{**row, "arm": row.get("arm") or ("mixed" if _number(row, "n_synthetic") else REAL[0])} for row in rows]


def _filled(values: Iterable[Any]) -> bool:
    """Whether any of these fields, or lists of fields, says something."""
    return any(_filled(value) if isinstance(value, list) else (value or "").strip() for value in values)


def _text(row: Row, column: str) -> str:
    return str(row.get(column) or "")


def _place(row: Row, before: str = "") -> str:
    """Where a row stands, if it was read from a file."""
    return f"{before}row {row[AT][1]} of {row[AT][0]!r}" if AT in row else ""


def _whose(row: Row) -> str:
    return f"arm {row.get('arm')!r}, seed {row.get('seed')!r}{_place(row, ', ')}"


def _listed(items: Sequence[str], separator: str = ", ") -> str:
    more = [f"and {len(items) - MOST_LISTED} more"] if len(items) > MOST_LISTED else []
    return separator.join([*items[:MOST_LISTED], *more])


def _is_real(row: Row, real: Sequence[str]) -> bool:
    return _images(row, "n_synthetic", 0) == 0 and _named(row, real)


def _is_mixed(row: Row) -> bool:
    return _images(row, "n_synthetic", 0) > 0 and not _synthetic_only(row)


def _synthetic_only(row: Row) -> bool:
    return row.get("share") not in (None, "") and _number(row, "share") >= 1


def _size_of(row: Row) -> Size:
    return _images(row, "n_base", 1), _images(row, "n_synthetic", 0)


def _size_words(size: Size) -> str:
    return f"{size[0]:,} real" + (f" + {size[1]:,} synthetic" if size[1] else "")


def _number(row: Row, column: str) -> float:
    try:
        return float(row[column])
    except (TypeError, ValueError):
        raise ValueError(
            f"results: got {column} {row[column]!r} ({_whose(row)}); allowed a number, {PLAIN}; correct the row or "
            "leave it out"
        ) from None


def _images(row: Row, column: str, least: int) -> int:
    """A number of images, or a seed."""
    number = _number(row, column)
    if not least <= number <= MOST or number != int(number):
        raise ValueError(
            f"results: got {column} {row[column]!r} ({_whose(row)}); allowed whole numbers from {least} to "
            f"{MOST:.0e}; correct the row or leave it out"
        )
    return int(number)


def _size(text: str) -> tuple[int, str]:
    return len(text), text


def _named(row: Row, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(str(row["arm"]), pattern) for pattern in patterns)


def _arm_names(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(str(row["arm"]) for row in rows))


def _arms(rows: Sequence[Row]) -> str:
    return ", ".join(_arm_names(rows))


def _without_result(rows: Sequence[Row]) -> str:
    """Which arms, or cells of one, have no result at all: "edm_250, edm_mixed (500 real + 500 synthetic)"."""
    finished = [row for row in rows if _has_result(row)]
    arms, cells = {row["arm"] for row in finished}, {(row["arm"], _size_of(row)) for row in finished}
    every = dict.fromkeys((row["arm"], _size_of(row)) for row in rows)
    lost = dict.fromkeys(arm for arm, _ in every if arm not in arms)
    return _listed(
        [*lost, *(f"{arm} ({_size_words(size)})" for arm, size in every if arm in arms and (arm, size) not in cells)]
    )


def _lacking_seeds(rows: Sequence[Row]) -> str:
    """Which cells lack seeds that at least half of the cells have: "edm_250 has no 1, 2; 500 real has no 2"."""
    of_cell: dict[Size, set[int]] = {}
    arms: dict[Size, set[str]] = {}
    for row in rows:
        of_cell.setdefault(_size_of(row), set()).add(_images(row, "seed", 0))
        arms.setdefault(_size_of(row), set()).add(str(row["arm"]))
    cells_of = Counter(arm for of in arms.values() for arm in of)
    held = Counter(seed for seeds in of_cell.values() for seed in seeds)
    usual = {seed for seed, cells in held.items() if 2 * cells >= len(of_cell)}

    def name(size: Size) -> str:
        own, *others = arms[size]
        return own if not others and cells_of[own] == 1 else _size_words(size)

    lacking = {size: ", ".join(map(str, sorted(usual - seeds))) for size, seeds in of_cell.items() if usual - seeds}
    return _listed([f"{name(size)} has no {seeds}" for size, seeds in lacking.items()], "; ")


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
    found: dict[Size, dict[int, Row]] = {}
    for row in rows:
        size, seed, top1 = _size_of(row), _images(row, "seed", 0), _number(row, "top1")
        other = found.setdefault(size, {}).setdefault(seed, row)
        if _number(other, "top1") != top1:
            raise ValueError(
                f"results: got two results of n_base {size[0]}, n_synthetic {size[1]}, seed {seed}: {top1:g} "
                f"({_whose(row)}) and {_number(other, 'top1'):g} ({_whose(other)}); allowed one; {_apart(row, other)}"
            )
    sizes = sorted(found)
    n_base, n_synthetic = (np.array([size[i] for size in sizes], np.int64) for i in (0, 1))
    errors = [np.array([100.0 - _number(row, "top1") for row in found[size].values()]) for size in sizes]
    return Cells(n_base, n_synthetic, errors)


def _apart(row: Row, other: Row) -> str:
    """How to choose between two results of one run."""
    if row["arm"] != other["arm"]:
        return "choose arms by --real=ARM or --mixed=ARM[,ARM]"
    if AT in row and AT in other and row[AT][0] != other[AT][0]:
        return "give one of the two files"
    return "leave one of the two rows out"
