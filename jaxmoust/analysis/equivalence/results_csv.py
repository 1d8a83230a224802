"""From the rows of results.csv to cells: which runs are the real learning curve, and which are the mixed runs.

Arms are chosen by name. A run without synthetic images is not therefore a run on real images and nothing else: the
controls (duplicated, more augmentation) have none either.
"""

import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from jaxmoust.analysis.equivalence.learning_curve import Cells
from jaxmoust.runtime.paths import read_text

NEEDED = ("n_base", "n_synthetic", "seed", "top1")
REAL = ("real", "real_[0-9]*")  # of one size, and real_250, real_1000, ... of several
SETTINGS = ("generator", "fine_tuning", "sampler")
OTHERS = ("arm", *SETTINGS, "share", "n_test", "experiment", "steps")  # columns that rows may lack
LEAST = {"n_base": 1, "n_synthetic": 0, "seed": 0, "n_test": 1}  # of the columns of whole numbers
MOST_BYTES, MOST_COLUMNS = 1 << 26, 10_000  # of a results.csv
MOST = 10**12  # images; a larger number is a slip
CHOICE = "choose by --mixed=ARM[,ARM], --generator, --fine_tuning or --sampler"
STILL = "the accuracies of the arms can still be compared (in report/index.html and report/summary.csv of the study)"
PLAIN = "written like 95.3 or 1000: a decimal point, no %, no thousands separators"
AT = "(at)"  # in a row that was read: "row 3 of 'results.csv'"
MOST_LISTED = 4  # arms or cells that a sentence names
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


def read_rows(paths: Sequence[str | Path]) -> list[dict[str, Any]]:
    """Reads the rows of some results.csv, all fields as text, and where each stands as AT; blank rows are none.

    Raises: ValueError: a file that is not there, is not text, has no rows, or has a row of more values than columns.
    """
    rows: list[dict[str, Any]] = []
    as_written: Any = {"header": None, "dtype": str, "keep_default_na": False, "skip_blank_lines": False}
    for path in map(str, paths):
        try:
            text = read_text(path, MOST_BYTES).removeprefix("\ufeff")  # a spreadsheet's mark
            if (num_columns := text.partition("\n")[0].count(",")) > MOST_COLUMNS:
                raise ValueError(f"{num_columns:,} columns")
            table = pd.read_csv(io.StringIO(text), **as_written).fillna("")
            table = table.replace(r"^'(?=[=+\-@\t\r])", "", regex=True)  # what keeps a spreadsheet from running it
        except (OSError, ValueError) as e:
            foreign = isinstance(e, UnicodeDecodeError)
            why = "it is a workbook, or not in UTF-8: save it as CSV, UTF-8" if foreign else str(e).strip()
            raise ValueError(
                f"results: {path!r} cannot be read: {why}; give the results.csv of a study, with commas "
                f"between columns and numbers {PLAIN}"
            ) from e
        filled = table[table.map(str.strip).ne("").any(axis=1)]
        if len(filled) < 2:
            raise ValueError(f"results: {path!r} has no rows; give the results.csv of a study that has run")
        names = filled.iloc[0]
        read = filled.iloc[1:].set_axis(names, axis=1).loc[:, (names != "").to_numpy()]
        rows += read.assign(**{AT: [f"row {line + 1} of {path!r}" for line in read.index]}).to_dict("records")
    return rows


def choose(rows: Sequence[Row], real: Sequence[str] = REAL, mixed: Sequence[str] = (), **settings: str) -> Chosen:
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
        raise ValueError(f"results: got a choice by {unknown}, expected {list(SETTINGS)}")
    if not rows:
        raise ValueError("results: got no rows, expected one row a run. Run a study first.")
    runs = _runs(rows)
    done = runs["top1"].notna()
    if not done.any():
        raise ValueError(f"results: none of the {len(rows)} runs has a result (top1); run the study to its end")
    wanted = {name: value for name, value in settings.items() if value}
    is_real = _is_real(runs, real)
    is_mixed = runs["mixed"] & (_named(runs, mixed) if mixed else True)
    for name, value in wanted.items():
        is_mixed &= runs[name] == value
    called = " or ".join(real).replace("[0-9]*", "NUMBER")
    described = [f"with {name} {value!r}" for name, value in wanted.items()]
    described += [f"called {' or '.join(mixed)}"] if mixed else []
    for part, said, remedy in (
        (is_real, f"real runs: no arm called {called}", "name the arms of real images alone by --real=ARM[,ARM]"),
        (is_mixed, f"mixed runs: none {' and '.join(described) or 'of real and synthetic images'}", CHOICE),
    ):
        if not (part & done).any():
            raise ValueError(
                f"{said} has a result (top1); {_inventory(runs)}; run some to their end, or {remedy}; without them "
                f"there is no exchange rate, but {STILL}"
            )
    kind_words = _kind_words(runs[is_mixed & done])
    if len(kind_words) > 1 and not mixed:
        raise ValueError(
            f"mixed runs: got several kinds, {'; '.join(kind_words)}, expected one, for each has an exchange rate of "
            f"its own; {CHOICE}"
        )
    asked = runs[is_real | is_mixed].copy()
    asked["n_base"] = _numbers(asked, "n_base")
    used = asked[asked["top1"].notna()].copy()
    used["seed"] = _numbers(used, "seed")
    _check_test_set(used)
    parts = {"real images alone": used[used["n_synthetic"] == 0], "mixtures": used[used["n_synthetic"] > 0]}
    for name, runs_of in parts.items():
        if runs_of["top1"].max() <= 1:
            row = runs_of.iloc[0]
            raise ValueError(
                f"results: got top1 of at most 1 in all runs of {name}, such as {row['top1']} ({_whose(row)}), "
                "expected percent, 0 to 100. Multiply it by 100."
            )
    curve, mixtures = parts.values()
    notes = _notes(used, kind_words)
    if without := int((~done).sum()):
        lost = _listed(name for name, top1 in asked["top1"].groupby(_cell_words(asked), sort=False) if not top1.count())
        notes.insert(
            0,
            f"{without} run{' without a result is' if without == 1 else 's without a result are'} left out"
            f"{f', among them every run of {lost}' if lost else ''}.",
        )
    shared = {name: " / ".join(mixtures[name].unique()) for name in SETTINGS}
    return Chosen(_cells(curve), _cells(mixtures), _arms(curve), _arms(mixtures), shared, tuple(notes))


def num_real_sizes(rows: Sequence[Row], real: Sequence[str] = REAL) -> int:
    """Returns how many sizes the finished runs of the arms on real images alone have."""
    runs = _runs(rows) if rows else None
    return 0 if runs is None else runs["n_base"][runs["top1"].notna() & _is_real(runs, real)].nunique()


def kinds(rows: Sequence[Row]) -> list[dict[str, str]]:
    """Returns the kinds of finished mixed runs, each as the settings that `choose` takes."""
    runs = _runs(rows)
    settings = runs[list(SETTINGS)][runs["top1"].notna() & runs["mixed"]].drop_duplicates()
    return [{name: str(kind[name]) for name in SETTINGS} for kind in settings.to_dict("records")]


def _runs(rows: Sequence[Row]) -> pd.DataFrame:
    """The rows as a table: n_synthetic, share and top1 as numbers, "" where another column says nothing.

    One more column, mixed, says whether there are real and synthetic images. Where rows name no arms, those without
    synthetic images are of the arm "real".
    """
    table = pd.DataFrame(list(rows), dtype=object)
    columns = [name for name in table.columns if name != AT]
    table = table.reindex(columns=list(dict.fromkeys([*columns, *NEEDED, *OTHERS, AT])))
    for column in NEEDED:
        lacking = int(table[column].isna().sum())
        if lacking and (column != "top1" or column not in columns):
            raise ValueError(
                f"results: {lacking} of {len(rows)} rows have no column {column!r}, got {columns}, expected rows with "
                f"{list(NEEDED)}, spelt so, separated by commas, and {', '.join(OTHERS[:5])} where there are several "
                "kinds of runs. Add or rename the column."
            )
    table = table.astype(object).where(table.notna(), "")
    table["n_synthetic"] = _numbers(table, "n_synthetic")
    unnamed = table["n_synthetic"].gt(0).map({True: "mixed", False: REAL[0]})
    table["arm"] = table["arm"].where(table["arm"] != "", unnamed)
    table = table.astype(dict.fromkeys(("arm", *SETTINGS), str))
    for column in ("top1", "share"):
        stated = ~table[column].astype(str).str.strip().str.lower().isin(["", "nan"])
        table[column] = _numbers(table[stated], column).reindex(table.index)
    table["mixed"] = (table["n_synthetic"] > 0) & ~(table["share"] >= 1)
    return table


def _numbers(runs: pd.DataFrame, column: str) -> pd.Series:
    """A column as numbers.

    Raises: ValueError: what is no number, or none that can stand in this column.
    """
    numbers = pd.to_numeric(runs[column], errors="coerce").astype(float)
    allowed, right = "a number", numbers.notna()
    if column in LEAST:
        allowed = f"whole numbers from {LEAST[column]} to {MOST:.0e}"
        right = numbers.between(LEAST[column], MOST) & (numbers % 1 == 0)
    elif column == "top1":
        allowed, right = "percent, 0 to 100", numbers.between(0, 100)
    if not right.all():
        row = runs[~right].iloc[0]
        raise ValueError(
            f"results: got {column} {row[column]!r} ({_whose(row)}), expected {allowed}, {PLAIN}. Correct the row or "
            "leave it out."
        )
    return numbers.astype(np.int64) if column in LEAST else numbers


def _inventory(runs: pd.DataFrame) -> str:
    """Which arms there are, by what their runs saw."""
    done, synthetic = runs["top1"].notna(), runs["n_synthetic"] > 0
    lists = {
        "without synthetic images are": _arms(runs[done & ~synthetic]),
        "on synthetic images alone are": _arms(runs[done & synthetic & ~runs["mixed"]]),
        "without a result (top1) are": _arms(runs[~runs["arm"].isin(runs["arm"][done])]),
        "with real and synthetic images are": _kind_words(runs[done & runs["mixed"]]),
    }
    return "; ".join(f"{what} {', '.join(names)}" for what, names in lists.items() if names)


def _notes(runs: pd.DataFrame, kind_words: Sequence[str]) -> list[str]:
    """What is worth knowing about the runs that were chosen."""
    notes = []
    if len(kind_words) > 1:
        notes.append(f"Mixed runs of several kinds are taken together: {'; '.join(kind_words)}.")
    seeds = runs.groupby(_cell_words(runs), sort=False)["seed"].agg(set)
    usual = {seed for seed in set().union(*seeds) if 2 * sum(seed in of_cell for of_cell in seeds) >= len(seeds)}
    lacking = {cell: sorted(usual - of_cell) for cell, of_cell in seeds.items() if usual - of_cell}
    if lacking:
        gaps = _listed([f"{cell} has no {', '.join(map(str, missing))}" for cell, missing in lacking.items()], "; ")
        notes.append(f"Seeds are missing: {gaps}. The cells count with the seeds that they have.")
    for column, words in (
        ("experiment", "The runs are of several experiments: {}."),
        ("steps", "The runs differ in their steps ({}), not in their data alone."),
    ):
        values = sorted({str(value) for value in runs[column]} - {""}, key=lambda text: (len(text), text))
        if len(values) > 1:
            notes.append(words.format(_listed(values)))
    return notes


def _check_test_set(runs: pd.DataFrame) -> None:
    """Refuses runs that were tested on different numbers of images, where these are known."""
    tested = runs[runs["n_test"] != ""]
    sets = [f"n_test {n} (arms {_listed(arms)})" for n, arms in tested["arm"].groupby(_numbers(tested, "n_test"))]
    if len(sets) > 1:
        raise ValueError(
            f"results: got runs of several test sets: {_listed(sets)}, expected one test set, for errors on two do not "
            "compare. Give the files of one alone, or choose arms by --real=ARM[,ARM] and --mixed=ARM[,ARM]."
        )


def _whose(row: pd.Series) -> str:
    return f"arm {row['arm']!r}, seed {row['seed']}{row[AT] and f', {row[AT]}'}"


def _listed(items: Iterable[str], separator: str = ", ") -> str:
    """These items, each once, and from MOST_LISTED on their number."""
    items = list(dict.fromkeys(items))
    more = [f"and {len(items) - MOST_LISTED} more"] if len(items) > MOST_LISTED else []
    return separator.join([*items[:MOST_LISTED], *more])


def _named(runs: pd.DataFrame, patterns: Sequence[str]) -> pd.Series:
    return runs["arm"].map(lambda arm: any(fnmatchcase(arm, pattern) for pattern in patterns)).astype(bool)


def _is_real(runs: pd.DataFrame, real: Sequence[str]) -> pd.Series:
    return (runs["n_synthetic"] == 0) & _named(runs, real)


def _cell_words(runs: pd.DataFrame) -> pd.Series:
    """What the cell of each run is called: "250 real", "250 real + 1,000 synthetic"."""
    synthetic = runs["n_synthetic"].map(lambda n: f" + {n:,} synthetic" if n else "")
    return runs["n_base"].map("{:,} real".format) + synthetic


def _arms(runs: pd.DataFrame) -> tuple[str, ...]:
    return tuple(runs["arm"].unique())


def _kind_words(runs: pd.DataFrame) -> list[str]:
    """What kinds of mixed runs there are, as they would be chosen, each with its arms."""
    words = []
    for kind, of in runs.groupby(list(SETTINGS), sort=False):
        choice = [f"--{name}={value}" for name, value in zip(SETTINGS, kind, strict=True) if value]
        words.append(f"{' '.join(choice)} (arms {', '.join(_arms(of))})")
    return words


def _cells(runs: pd.DataFrame) -> Cells:
    """Gathers runs by (n_base, n_synthetic), in that order, one error a seed."""
    run = ["n_base", "n_synthetic", "seed"]
    runs = runs.drop_duplicates([*run, "top1"])
    if (again := runs.duplicated(run, keep=False)).any():
        two = runs[again].sort_values(run, kind="stable")[:2]
        got = " and ".join(f"{row['top1']:g} ({_whose(row)})" for _, row in two.iterrows())
        size = ", ".join(f"{name} {two[name].iloc[0]}" for name in run)
        raise ValueError(
            f"results: got two results of {size}: {got}, expected one. Choose arms by --real=ARM or --mixed=ARM[,ARM], "
            "give one of the files, or leave one of the rows out."
        )
    cells = runs.groupby(run[:2])["top1"]
    n_base, n_synthetic = np.array(list(cells.groups), np.int64).T
    return Cells(n_base, n_synthetic, [100.0 - top1.to_numpy() for _, top1 in cells])
