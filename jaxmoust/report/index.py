"""One page over the studies of a folder: each with its answer in a sentence, and links to its page and its numbers.

A study leaves a summary beside its page; the index is made of the summaries alone, and can be made again at any time.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jaxmoust.report import html as report
from jaxmoust.report.arms import number_of
from jaxmoust.report.charts import base, intervals
from jaxmoust.report.findings import contenders, headline, section_answers
from jaxmoust.report.page import Page
from jaxmoust.runtime.paths import atomic_write, read_json, sweep

SUMMARY, FORMAT = "summary.json", 2
_DEAD_SECS = 3600.0  # after which nobody is still writing an index: studies of one folder may end together
MARK = '<meta name="generator" content="jaxmoust">'  # distinguishes our index.html from any other


def summarise(page: Page) -> dict[str, Any]:
    """Returns what the index shows of a study: plain values, for JSON."""
    first = next(iter(contenders(page)), None)
    reference = page.summary_of(first.base.name if first and first.base else page.baseline)
    base, best = reference.over_seeds("top1"), None
    if first and (d := first.decision):
        best = {"arm": first.title, "values": list(first.gains.values()), "mean": d.difference, "interval": d.interval}
        best |= {"p": d.p if d.interval else None, "verdict": first.verdict}
    return {
        "format": FORMAT,
        "title": page.title,
        "quick": page.is_quick,
        "question": page.question,
        "sections": section_answers(page),
        "headline": headline(page),
        "baseline": {"arm": reference.title, "top1": base.mean if base else None},
        "best": best,
        "runs": len(page.rows),
        "of_runs": len(page.arms) * len(page.seeds),
        "seeds": page.seeds,
        "test_images": len(page.labels),
        "seconds": sum(number_of(row["seconds"]) or 0.0 for row in page.rows),
        "devices": list(dict.fromkeys(str(row["device"]) for row in page.rows if row["device"])),
    }


def write_summary(page: Page, folder: Path) -> None:
    """Writes report/summary.json of a study's folder."""
    atomic_write(folder / "report" / SUMMARY, json.dumps(summarise(page), indent=2) + "\n")


def write_index(folder: str | Path) -> Path:
    """Writes folder/index.html over the studies folder/*/ and returns that path.

    A study whose summary is missing, damaged or of another version is listed without its answer.

    Raises: ValueError: there is no study; an index.html that is not ours stands there, or none can be written.
    """
    folder, path = Path(folder), Path(folder) / "index.html"
    pages = sorted(folder.glob("*/report/index.html"))
    if not pages:
        raise ValueError(
            f"{folder} holds no study: expected a folder of their --workdir folders, such as runs for "
            "runs/quickstart/report/index.html. Run `jaxmoust study` first, or give that folder."
        )
    if not may_write(folder):
        raise ValueError(f"{path} was not written by jaxmoust, or cannot be written. Move it, or give another folder.")
    studies = [_study(page.parent.parent) for page in pages]
    chart = _chart(studies)
    sweep(folder, path.name, _DEAD_SECS)
    atomic_write(path, _render(folder.resolve().name, studies, chart))
    return path


def _render(folder: str, studies: list[dict[str, Any]], chart: base.Picture | str) -> str:
    known = [study for study in studies if study["summary"]]
    return report.render(
        "index.html", {"folder": folder, "studies": studies, "known": known, "chart": chart, "label": label}
    )


def may_write(folder: Path) -> bool:
    """Whether an index.html can be written in the folder, and none or ours is there."""
    path = folder / "index.html"
    if not os.access(folder, os.W_OK):
        return False
    return not path.exists() or MARK in path.read_text(encoding="utf-8", errors="replace")[:1000]


def _study(folder: Path) -> dict[str, Any]:
    results = (folder / "results.csv").is_file()
    name = quote(folder.name)
    try:
        summary = read_json(folder / "report" / SUMMARY)
    except ValueError:
        summary = None
    study: dict[str, Any] = {
        "name": folder.name,
        "page": f"{name}/report/index.html",
        "results": f"{name}/results.csv" if results else "",
        "summary": summary if isinstance(summary, dict) and summary.get("format") == FORMAT else None,
    }
    try:
        _render("", [study], _chart([study]))
    except Exception:  # whatever odd values do to a page and its chart: no study ends for those of its neighbour
        study["summary"] = None
    return study


def label(study: Mapping[str, Any]) -> str:
    """A study's title, and its folder's name where that is another: several studies may be of one experiment."""
    title = study["summary"]["title"] if study["summary"] else study["name"]
    return title if title == study["name"] else f"{title} \N{MIDDLE DOT} {study['name']}"


def _chart(studies: list[dict[str, Any]]) -> base.Picture | str:
    """The best arm of each study beside its baseline; "" where no study has one."""
    columns = ("values", "mean", "interval", "verdict")
    shown = [
        intervals.Interval(study["name"], label(study), *(best[name] for name in columns))
        for study in studies
        if study["summary"] and (best := study["summary"]["best"])
    ]
    axis = "points of Top-1 of the best arm above the baseline"
    return intervals.figure(shown, 0.0, axis, signed=True) if shown else ""
