"""The pages of the manual that are read off the code, when it is built: nothing of them is kept in the repository.

A page says where: `<!-- commands -->`, `<!-- fields -->`, `<!-- results -->` are replaced by what they name. The pages
of the library, one a room, and those of CONTRIBUTING.md and CHANGELOG.md are made whole.
"""

import argparse
import ast
import csv
import os
import re
import statistics
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "jaxmoust"
sys.path[:0] = [str(ROOT), str(ROOT / "docs")]

from docstrings import in_markdown  # noqa: E402

from jaxmoust.config import REQUIRED, Choice, Field, Schema, fields, read_config  # noqa: E402
from jaxmoust.jobs.parts.registry import Entry, entries, schema_of  # noqa: E402

# Rooms as the library shows them, from what is imported most to what is imported least.
ROOMS = ("data", "core", "models", "train", "generate", "analysis", "report", "study", "jobs", "runtime", "cli")
FILES = ("config", "build")
LIBRARY = "Python library"  # what the navigation calls it


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Lists the library's pages in the navigation, an inner room below its room."""
    of_room = {room: [name for name in _rooms() if name.split(".")[0] == room] for room in (*ROOMS, *FILES)}
    pages = [{room: [f"library/{name}.md" for name in names]} for room, names in of_room.items()]
    next(entry for entry in config.nav or () if LIBRARY in entry)[LIBRARY].extend(pages)
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages that are made whole."""
    for name in ("CONTRIBUTING", "CHANGELOG"):
        text = (ROOT / f"{name}.md").read_text(encoding="utf-8").replace("](docs/", "](")
        files.append(File.generated(config, f"{name.lower()}.md", content=text))
    for name, paths in _rooms().items():
        files.append(File.generated(config, f"library/{name}.md", content=_room(name, paths)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Puts in what a page asks for."""
    makers = {"commands": _commands, "fields": _fields, "results": _results}
    return re.sub(r"<!-- (commands|fields|results) -->", lambda match: makers[match[1]](), markdown)


# --- the library ------------------------------------------------------------------------------------------------------


def _rooms() -> dict[str, list[Path]]:
    """The folders of the package and the files beside them, each with its documented modules."""
    rooms = {}
    for room in ROOMS:
        for folder in sorted({path.parent for path in (PACKAGE / room).rglob("*.py")} | {PACKAGE / room}):
            paths = sorted(folder.glob("*.py"), key=lambda path: (path.name != "__init__.py", path))
            rooms[_name(folder)] = [path for path in paths if ast.get_docstring(ast.parse(path.read_text("utf-8")))]
    return {**rooms, **{name: [PACKAGE / f"{name}.py"] for name in FILES}}


def _name(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")


def _room(name: str, paths: list[Path]) -> str:
    inside = [f"- [jaxmoust.{other}]({other}.md)" for other in _rooms() if other.startswith(f"{name}.")]
    parts = [f"# jaxmoust.{name}", "\n".join(inside), *(f"::: jaxmoust.{_name(path)}" for path in paths)]
    return "\n\n".join(part for part in parts if part)


# --- commands ---------------------------------------------------------------------------------------------------------


def _commands() -> str:
    from jaxmoust.cli.main import parser_of

    overview = [(f"[`{e.verb}`](#{e.verb.replace(' ', '-')})", e.does) for e in entries()]
    parts = [_table(("verb", "does"), overview)]
    for verb in dict.fromkeys(entry.verb for entry in entries()):
        parts.append(f"## {verb}")
        parts += [_of_entry(entry) for entry in entries() if entry.verb == verb]
        rows = [(f"`{one.option_strings[0]}`", f"{one.help or ''}{_default(one)}") for one in parser_of(verb)._actions]
        parts.append(_table(("option", "what it is"), rows))
    return "\n\n".join(parts)


def _of_entry(entry: Entry) -> str:
    takes = ", ".join(f"[`{task}`](fields.md#{task})" for task in entry.tasks)
    head = f"{entry.does[:1].upper()}{entry.does[1:]}." + (f" Takes configurations of task {takes}." if takes else "")
    return f"{head}\n\n{in_markdown(entry.help)}"


def _default(option: argparse.Action) -> str:
    return "" if option.default in (None, "", [], False, 0, -1) else f" (default: `{option.default}`)"


# --- fields of configurations -----------------------------------------------------------------------------------------


def _fields() -> str:
    from jaxmoust.study.expand import ARM, OWN, STUDY

    parts = []
    for task in sorted(task for entry in entries() for task in entry.tasks):
        verb = next(entry.verb for entry in entries() if task in entry.tasks)
        parts += [f"## {task}", f"Run by [`jaxmoust {verb}`](commands.md#{verb.replace(' ', '-')})."]
        if task != "study":
            parts += _of_schema(schema_of(task), f"{task}: ")
            continue
        parts += _of_schema(STUDY, "study: ")
        parts.append("`classifier` is a configuration of task `classify`; these are tables of others, by name:")
        rows = [(f"`{table}`", _own(own)) for table, own in OWN.items() if table != "classifier"]
        parts.append(_table(("table", "what an entry has besides its configuration"), rows))
        parts += ["### study: arms", *_of_schema(ARM, ""), "An arm may also set `sampler`, and fields of any other"]
        parts[-1] += " section of the classifier's configuration."
    return "\n\n".join(parts)


def _own(schema: Schema) -> str:
    return "; ".join(f"`{name}`: {part.doc}" for name, part in schema.items() if isinstance(part, Field)) or "nothing"


def _of_schema(schema: Schema, prefix: str, at: str = "") -> list[str]:
    """Tables of a section's own fields, then those of the sections in it."""
    own = {name: part for name, part in schema.items() if isinstance(part, Field)}
    parts = [_field_table(own, at)] if own else []
    for name, part in schema.items():
        if isinstance(part, Field):
            continue
        parts.append(f"### {prefix}{at}{name}")
        if isinstance(part, Choice):
            chosen = "" if part.default is REQUIRED else f" The default is `{part.default}`."
            parts.append(f"`{at}{name}.name` chooses one of {', '.join(f'`{one}`' for one in part.table)}.{chosen}")
            if part.shared:
                parts.append(_field_table(part.shared, f"{at}{name}."))
            for one, make in part.table.items():
                of_name = {k: v for k, v in fields(make, skip=part.skip).items() if k not in part.shared}
                parts += [f"With the name `{one}`:", _field_table(of_name, f"{at}{name}.")] if of_name else []
        else:
            parts += _of_schema(part, prefix, f"{at}{name}.")
    return parts


def _field_table(schema: Mapping[str, Field], at: str) -> str:
    from jaxmoust.config import _in_words

    defaults = {
        name: "must be given" if one.default is REQUIRED else f"`{one.default!r}`" for name, one in schema.items()
    }
    rows = [(f"`{at}{name}`", defaults[name], _in_words(one.type), one.doc) for name, one in schema.items()]
    return _table(("field", "default", "type", "what it is"), rows)


# --- results ----------------------------------------------------------------------------------------------------------


def _results() -> str:
    os.chdir(ROOT)  # experiments name configuration files from here
    return "\n\n".join(part for path in sorted((ROOT / "experiments" / "results").glob("*.csv")) for part in _of(path))


def _of(path: Path) -> list[str]:
    """A table of one results.csv: mean over seeds of each arm."""
    from jaxmoust.analysis.accuracy import summary

    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    config = _experiment(path.stem)
    file, titles = config["file"], {arm["name"]: arm["title"] for arm in config["arms"]}
    baseline = config["baseline"]
    means, table = {}, []
    for arm in dict.fromkeys(row["arm"] for row in rows):
        of_arm = [row for row in rows if row["arm"] == arm]
        top1 = summary([float(row["top1"]) for row in of_arm])
        means[arm] = top1.mean
        ends = f" [{top1.interval[0]:.2f}, {min(top1.interval[1], 100):.2f}]" if top1.interval else ""
        first, top5 = of_arm[0], [float(row["top5"]) for row in of_arm if row["top5"]]  # none of five classes or fewer
        table.append(
            (
                titles.get(arm, arm),
                f"{top1.mean:.2f}{ends}",
                f"{statistics.fmean(top5):.2f}" if top5 else "",
                f"{top1.n}",
                f"{int(first['n_base']):,}",
                f"{int(first['n_synthetic']):,}",
                f"{float(first['share']):.0%}".replace("%", " %"),
            )
        )
    n_test, steps = rows[0]["n_test"], rows[0]["steps"]
    devices, commits = ({row[name] for row in rows} for name in ("device", "commit"))
    baselines = [baseline] if isinstance(baseline, str) else list(baseline)
    return [
        f"### {path.stem}",
        f"{config['question']}",
        f"`jaxmoust study --config={file}`, {int(n_test):,} test images, {int(steps):,} steps, compared with "
        f"{', '.join(titles.get(one, one) for one in baselines)}. Measured on {', '.join(sorted(devices))}, "
        f"commit {', '.join(sorted(one[:8] for one in commits))}; every run: `experiments/results/{path.name}`.",
        _table(("arm", "Top-1 [95 % CI]", "Top-5", "seeds", "real", "synthetic", "synthetic fraction"), table),
    ]


def _experiment(name: str) -> dict[str, Any]:
    """The experiment that a file of results is of: the longest name of an experiment that it begins with, and words."""
    stem = max((p.stem for p in (ROOT / "experiments").glob("*.py") if name.startswith(p.stem)), key=len)
    words = name.removeprefix(stem).strip("_").replace("_", ",")
    file = f"experiments/{stem}.py" + (f":{words}" if words else "")
    return {**read_config(file), "file": file}


# --- tables -----------------------------------------------------------------------------------------------------------


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    if not rows:
        return ""
    escaped = [[" ".join(cell.split()).replace("|", "\\|") for cell in row] for row in rows]
    lines = [head, ["---"] * len(head), *escaped]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
