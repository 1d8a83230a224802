"""The room's own law: images and labels need no jax and no other room."""

import ast
from pathlib import Path

import jaxmoust.data

MODULES = sorted(Path(jaxmoust.data.__file__).parent.rglob("*.py"))


def imported(module):
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module


def test_data_imports_no_jax():
    """By reading the code: Grain itself imports jax where it is installed, so sys.modules would not tell."""
    found = {name.split(".")[0] for module in MODULES for name in imported(module)}
    assert len(MODULES) > 6
    assert not found & {"jax", "jaxlib", "flax", "optax", "orbax", "tensorflow", "torch"}


def test_data_imports_no_other_room():
    found = {name for module in MODULES for name in imported(module) if name.startswith("jaxmoust")}
    found -= {"jaxmoust.runtime.paths", "jaxmoust.runtime.lock"}  # free of jax
    assert found and all(f"{name}.".startswith("jaxmoust.data.") for name in found)
