"""Two studies side by side on one page, from what each left in its folder: nothing is computed again."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxmoust.analysis.equivalence.results_csv import read_rows
from jaxmoust.report import html as report
from jaxmoust.report.arms import number_of
from jaxmoust.report.charts import intervals
from jaxmoust.report.index import SUMMARY
from jaxmoust.report.numbers import interval_text
from jaxmoust.report.page import Cell, Figure, Section, Table
from jaxmoust.runtime.paths import atomic_write, read_json

MOST_CHARS = 200  # of a field's value


def write_comparison(first: str | Path, second: str | Path) -> Path:
    """Writes FIRST/report/beside_SECOND.html and returns that path.

    Raises: ValueError: one of the folders holds no finished study.
    """
    folders = [Path(first), Path(second)]
    path = folders[0] / "report" / f"beside_{folders[1].resolve().name}.html"
    names = [folder.resolve().name for folder in folders]
    names = [str(folder) for folder in folders] if names[0] == names[1] else names
    links = [os.path.relpath(folder / "report" / "index.html", path.parent) for folder in folders]
    configs: list[Any] = [read_json(folder / "config.json") for folder in folders]
    summaries = [read_json(folder / "report" / SUMMARY) for folder in folders]
    for folder, read in zip(folders * 2, configs + summaries, strict=True):
        if not isinstance(read, dict):
            raise ValueError(f"{folder} holds no finished study: give the --workdir of two that have ended.")
    arms = [{row["arm"]: row for row in read_rows([folder / "report" / "summary.csv"])} for folder in folders]
    sections = [_of_arms(names, configs, arms), _of_fields(names, [_fields(config) for config in configs])]
    studies = list(zip(names, links, summaries, strict=True))
    atomic_write(path, report.render("compare.html", {"studies": studies, "sections": sections}))
    return path


def _of_arms(names: list[str], configs: list[Any], studies: list[dict[str, dict[str, Any]]]) -> Section:
    titles = {arm["name"]: arm["title"] for config in reversed(configs) for arm in config["arms"]}
    rows: dict[str, list[Cell]] = {}
    shown = []
    for arm, (name, of_study) in ((arm, one) for arm in titles for one in zip(names, studies, strict=True)):
        row, cells = of_study.get(arm, {}), rows.setdefault(arm, [titles[arm]])
        cells.append(row.get("verdict"))
        for column, signed in (("difference", True), ("top1", False)):
            mean, low, high = map(number_of, (row.get(f"{column}{end}") for end in ("_mean", "_low", "_high")))
            mean = number_of(row.get(column)) if mean is None else mean
            ends = None if low is None or high is None else (low, high)
            cells.append(None if mean is None else (mean, interval_text(mean, ends, signed)))
            if signed and mean is not None:
                shown.append(
                    intervals.Interval(f"{arm} {name}", f"{titles[arm]} · {name}", (), mean, ends, row["verdict"])
                )
    figures = (
        [Figure("Differences", "", intervals.figure(shown, 0.0, "to the own baseline", signed=True))] if shown else []
    )
    columns = [f"{what}, {name}" for name in names for what in ("verdict", "difference", "Top-1, %")]
    return Section(
        "The arms of both", figures=figures, tables=[Table("Every arm", ("Arm", *columns), [*rows.values()])]
    )


def _of_fields(names: list[str], studies: list[dict[str, Any]]) -> Section:
    differing = [
        [field, *(str(of.get(field, "\N{EN DASH}"))[:MOST_CHARS] for of in studies)]
        for field in sorted({*studies[0], *studies[1]})
        if studies[0].get(field) != studies[1].get(field)
    ]
    return Section("What was set otherwise", tables=[Table("Fields", ("Field", *names), differing)])


def _fields(config: Mapping[str, Any], at: str = "") -> dict[str, Any]:
    """A configuration's fields by their whole names; of arms, each by its own."""
    fields: dict[str, Any] = {}
    for name, value in config.items():
        value = {arm["name"]: arm for arm in value} if name == "arms" else value
        fields |= _fields(value, f"{at}{name}.") if isinstance(value, dict) and value else {f"{at}{name}": value}
    return fields
