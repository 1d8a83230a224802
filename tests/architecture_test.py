"""The floors: who may import whom. Read from the source, nothing is imported."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "jaxmoust"
FLOORS = {
    "core": 0,
    "runtime": 0,
    "data": 1,
    "models": 1,
    "train": 2,
    "generate": 2,
    "analysis": 2,
    "study": 3,
    "build": 3,
    "jobs": 3,
    "cli": 3,
}
# Rooms that may not know each other although their floors would let them, or that know one thing below them only.
FORBIDDEN = {("data", "runtime"), ("models", "runtime")}
# Methods of the machine that runtime/parallel.py hands out carry these names too, without a module before them.
DEVICE_MODULES = re.compile(r"\bjax(\.lax)?\.(pmap|psum|pmean|axis_index|process_index|local_device_count)\b")
HUB_PACKAGES = {"diffusers", "transformers"}
HUB_ROOM = PACKAGE / "models" / "stable_diffusion.py"
FILES = sorted(PACKAGE.rglob("*.py"))


def _room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def _imports(path: Path) -> set[str]:
    """Every module a file imports, `from a import b` as a.b."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def _own(path: Path) -> set[str]:
    return {name for name in _imports(path) if name.split(".")[0] == "jaxmoust"}


def _file_of(module: str) -> Path | None:
    for name in (module, module.rpartition(".")[0]):
        base = ROOT / Path(*name.split("."))
        for path in (base.with_suffix(".py"), base / "__init__.py"):
            if path.is_file():
                return path
    return None


def test_rooms_are_those_of_the_house():
    assert {_room(path) for path in FILES} - {"__init__"} == set(FLOORS)
    assert not {p.name for p in FILES} & {"utils.py", "common.py", "helpers.py", "misc.py"}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_down(path):
    room = _room(path)
    for module in _own(path):
        other = module.split(".")[1] if module.count(".") else "__init__"
        if other == room or other not in FLOORS:
            continue
        assert room in FLOORS, f"{path.name} imports {module}"
        assert FLOORS[room] > FLOORS[other] or FLOORS[room] == 3 == FLOORS[other], f"{room} imports {module}"
        assert (room, other) not in FORBIDDEN, f"{room} imports {module}"


def test_study_knows_no_configuration_files():
    for path in FILES:
        if "ml_collections" in {name.split(".")[0] for name in _imports(path)}:
            assert _room(path) in {"build", "cli"}, path
        if "absl" in {name.split(".")[0] for name in _imports(path)} and _room(path) == "study":
            raise AssertionError(path)


@pytest.mark.parametrize("room", ["data"])
def test_data_is_free_of_jax(room):
    for path in FILES:
        if _room(path) == room:
            assert not {name.split(".")[0] for name in _imports(path)} & {"jax", "flax", "optax"}, path


def test_imports_have_no_cycle():
    graph = {path: {_file_of(m) for m in _own(path)} - {None, path} for path in FILES}
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
            assert not DEVICE_MODULES.search(path.read_text()), path
            assert not {name.rpartition(".")[2] for name in _imports(path)} & {"pmap", "psum", "pmean"}, path


def test_hub_packages_are_known_in_one_room():
    for path in FILES:
        if path != HUB_ROOM and HUB_ROOM.with_suffix("") not in path.parents:
            assert not {name.split(".")[0] for name in _imports(path)} & HUB_PACKAGES, path


def test_experiments_and_configs_import_only_ml_collections_and_files_beside_them():
    for folder in ("configs", "experiments"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            if path.parent.name not in ("speed", "assets"):
                beside = {p.stem for p in path.parent.glob("*.py")} - {path.stem}
                assert {name.split(".")[0] for name in _imports(path)} <= {"ml_collections", *beside}, path
