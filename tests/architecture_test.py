"""The floors: who may import whom, and how much code there is. Read from the source, nothing is imported."""

import ast
import io
import re
import tokenize
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "jaxmoust"
# A room imports of lower floors, and of its own floor only itself.
FLOORS = {
    **dict.fromkeys(("core", "runtime", "config"), 0),
    **dict.fromkeys(("data", "models"), 1),
    **dict.fromkeys(("train", "generate", "analysis"), 2),
    "report": 3,
    **dict.fromkeys(("study", "build"), 4),
    "jobs": 5,
    "cli": 6,
    "__main__": 7,
}
# Rooms that know less than all below them: modules, with what is inside them. Files that are free of jax are open to
# all: whole-or-nothing writing, and locks.
LIGHT = ("jaxmoust.runtime.paths", "jaxmoust.runtime.lock")
ONLY = {
    "data": LIGHT,
    "models": ("jaxmoust.core", *LIGHT),
    "report": ("jaxmoust.analysis", "jaxmoust.data", "jaxmoust.runtime.paths"),
}
DEVICE_NAMES = ("pmap", "shard_map", "psum", "pmean", "axis_index", "process_index", "local_device_count")
# Methods of the machine that runtime/parallel.py hands out carry these names too, without a module before them.
DEVICE_CALLS = re.compile(rf"\b(jax|lax)\.({'|'.join(DEVICE_NAMES)})\b")
# Packages -> the one room or file that knows them; "" is none: tests alone.
KNOWN_IN = {
    "diffusers": "",
    "transformers": "",
    "tokenizers": "models/stable_diffusion/tokenizer.py",
    "fsspec": "runtime/bucket.py",
    "ray": "study/engines/ray.py",
    "submitit": "study/engines/slurm.py",
    "altair": "report/charts",
    "vl_convert": "report/charts",
    "ml_collections": "config.py",
}
FILES = sorted(PACKAGE.rglob("*.py"))
# Lines of code, without docstrings, comments and blanks. Raised by hand, and with a reason.
MOST_LINES = 26_600


def _room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def _imports(path: Path, types: bool = True) -> set[str]:
    """Every module a file imports, `from a import b` as a.b; `types`: those, too, that are never run."""
    found, tree = set(), ast.parse(path.read_text())
    if not types:
        tree.body = [node for node in tree.body if not (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node))]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def _packages(path: Path) -> set[str]:
    return {name.split(".")[0] for name in _imports(path)}


def _own(path: Path, types: bool = True) -> set[str]:
    return {name for name in _imports(path, types) if name.split(".")[0] == "jaxmoust"}


def _file_of(module: str) -> Path | None:
    for name in (module, module.rpartition(".")[0]):
        base = ROOT / Path(*name.split("."))
        for path in (base.with_suffix(".py"), base / "__init__.py"):
            if path.is_file():
                return path
    return None


def _inside(module: str, allowed: tuple[str, ...]) -> bool:
    return any(module == one or module.startswith(f"{one}.") for one in allowed)


def _code_lines(text: str) -> int:
    """Lines that hold code: no docstring, no comment, no blank."""
    skipped = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER)
    tokens = [token for token in tokenize.generate_tokens(io.StringIO(text).readline) if token.type not in skipped]
    lines = {line for token in tokens for line in range(token.start[0], token.end[0] + 1)}
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, documented) and ast.get_docstring(node, clean=False) is not None:
            lines -= set(range(node.body[0].lineno, node.body[0].end_lineno + 1))
    return len(lines)


def test_rooms_are_those_of_the_house():
    assert {_room(path) for path in FILES} - {"__init__"} == set(FLOORS)
    assert not {path.name for path in FILES} & {"utils.py", "common.py", "helpers.py", "misc.py"}


def test_first_line_of_every_room_says_what_it_is_for():
    for folder in {path.parent for path in FILES}:
        doc = ast.get_docstring(ast.parse((folder / "__init__.py").read_text()))
        assert doc and doc.splitlines()[0].endswith((".", ":")), folder


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_down(path):
    room = _room(path)
    for module in _own(path):
        other = module.split(".")[1] if "." in module else "__init__"
        if other == room or other not in FLOORS:
            continue
        assert room in FLOORS and FLOORS[room] > FLOORS[other], f"{room} imports {module}"
        assert _inside(module, ONLY.get(room, ("jaxmoust",))), f"{room} imports {module}"


@pytest.mark.parametrize("room", ["data", "config", "report"])
def test_rooms_without_devices_are_free_of_jax(room):
    for path in FILES:
        if _room(path) == room or path in (PACKAGE / "runtime" / "paths.py", PACKAGE / "runtime" / "lock.py"):
            assert not _packages(path) & {"jax", "flax", "optax"}, path


def test_imports_have_no_cycle():
    graph = {path: {_file_of(m) for m in _own(path, types=False)} - {None, path} for path in FILES}
    done: set[Path] = set()

    def visit(path: Path, trail: tuple[Path, ...]) -> None:
        assert path not in trail, " -> ".join(str(p.relative_to(ROOT)) for p in (*trail, path))
        if path in done:
            return
        for other in graph.get(path, ()):
            visit(other, (*trail, path))
        done.add(path)

    for path in FILES:
        visit(path, ())


def test_devices_are_known_in_one_file():
    for path in FILES:
        if path != PACKAGE / "runtime" / "parallel.py":
            assert not DEVICE_CALLS.search(path.read_text()), path
            assert not {name.rpartition(".")[2] for name in _imports(path)} & set(DEVICE_NAMES), path


@pytest.mark.parametrize("package", KNOWN_IN)
def test_package_is_known_in_one_room(package):
    home = KNOWN_IN[package] and PACKAGE / KNOWN_IN[package]
    for path in FILES:
        assert package not in _packages(path) or home in (path, *path.parents), path


def test_experiments_and_configs_import_only_ml_collections_and_files_beside_them():
    for folder in ("configs", "experiments"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            if path.parent.name not in ("speed", "assets"):
                beside = {p.stem for p in path.parent.iterdir() if p.suffix == ".py" or p.is_dir()} - {path.stem}
                assert _packages(path) <= {"ml_collections", *beside}, path


def test_every_verb_has_tests_of_its_own():
    """tests/jobs mirrors jobs; sets by Stable Diffusion are tested where they are generated."""
    files = {path.stem for path in (PACKAGE / "jobs").glob("[a-z]*.py")} - {"text_to_image"}
    assert not files - {path.stem.removesuffix("_test") for path in (ROOT / "tests" / "jobs").glob("*_test.py")}


def test_code_is_no_more_than_was_decided():
    rooms: Counter[str] = Counter()
    for path in FILES:
        rooms[_room(path)] += _code_lines(path.read_text())
    print("\n".join(f"{room:<10} {lines:6,}" for room, lines in rooms.most_common()))
    assert rooms.total() <= MOST_LINES, f"{rooms.total():,} lines of code, {MOST_LINES:,} allowed"
