"""Configurations: read a file, complete it, override fields, check them. Knows nothing of what is configured."""

import contextlib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import flax.linen as nn
import ml_collections

Config = Mapping[str, Any]


def read_config(path: str) -> ml_collections.ConfigDict:
    """Reads `PATH[:arg]`: runs the file's `get_config(arg)`. As a script may, it may import the files beside it.

    Of a file that has WORDS, arg is some of these by ",", each once: "quick|small" is either, "share=" takes a value.

    Raises: ValueError: no such file, one without `get_config`, or a word that is none of its WORDS.
    """
    file, _, arg = path.partition(":")
    if not Path(file).is_file():
        raise ValueError(f"No configuration file {file!r}. Those of the project lie in configs/ and experiments/.")
    spec = importlib.util.spec_from_file_location("config", file)
    module = importlib.util.module_from_spec(spec)
    with _neighbours(Path(file)):
        spec.loader.exec_module(module)
        if not hasattr(module, "get_config"):
            raise ValueError(f"{file} defines no get_config(arg=''), so it is no configuration file.")
        if hasattr(module, "WORDS"):
            _check_words(file, arg, module.WORDS)
        return module.get_config(arg)


def _check_words(file: str, arg: str, allowed: tuple[str, ...]) -> None:
    given = [name + equals for name, equals, _ in (word.partition("=") for word in arg.split(","))] if arg else []
    meant = [next((words for words in allowed if word in words.split("|")), None) for word in given]
    if None in meant or len(set(meant)) < len(meant):
        said = f"{', '.join(allowed).replace('|', ' or ')}; each once, by ','" if allowed else "nothing"
        raise ValueError(f"{file} got {arg!r} after its ':'; allowed: {said}.")


@contextlib.contextmanager
def _neighbours(file: Path) -> Iterator[None]:
    """Lets the files beside a file be imported, anew each time: they may have changed, or be another folder's."""
    folder, names = str(file.parent.resolve()), {path.stem for path in file.parent.glob("*.py")}
    hidden = {name: sys.modules.pop(name) for name in names & set(sys.modules)}
    sys.path.insert(0, folder)
    importlib.invalidate_caches()  # a file may be newer than what Python remembers of its folder
    try:
        yield
    finally:
        sys.path.remove(folder)
        for name in names & set(sys.modules):
            del sys.modules[name]
        sys.modules.update(hidden)


def load_config(path: str) -> Config:
    """`read_config` as plain dicts and tuples."""
    return plain(read_config(path))


def plain(config: Any) -> Any:
    """Turns a ConfigDict into plain dicts and tuples."""
    if isinstance(config, ml_collections.ConfigDict):
        config = config.to_dict()
    if isinstance(config, Mapping):
        return {k: plain(v) for k, v in config.items()}
    return tuple(plain(v) for v in config) if isinstance(config, list | tuple) else config


def override(config: Config, overrides: Mapping[str, Any], at: str = "config") -> Config:
    """Returns a copy with the leaves of nested `overrides` replaced; a field that does not exist is an error."""
    unknown = sorted(set(overrides) - set(config))
    if unknown:
        raise ValueError(f"{at} has no field {', '.join(unknown)} to override. Allowed: {', '.join(config) or 'none'}.")
    nested = {k: v for k, v in overrides.items() if isinstance(v, Mapping) and isinstance(config[k], Mapping)}
    merged = {k: override(config[k], v, f"{at}.{k}") for k, v in nested.items()}
    return {**config, **plain(overrides), **merged}


def check_sections(config: Config, allowed: tuple[str, ...], task: str) -> None:
    """Refuses a configuration of another task, or whose sections are not exactly this task's."""
    if config.get("task") != task:
        raise ValueError(f"config.task is {config.get('task')!r}, this verb runs {task!r}. Give it such a file.")
    missing, unknown = sorted(set(allowed) - set(config)), sorted(set(config) - set(allowed))
    if missing or unknown:
        raise ValueError(
            f"The configuration lacks {missing or 'nothing'} and has unknown {unknown or 'nothing'}. "
            f"Sections of {task!r}: {', '.join(allowed)}."
        )


def unpack(section: str, make: Callable, fields: Config, **given: Any) -> Any:
    """Calls `make(**fields, **given)`; an unknown or missing field is named with those allowed."""
    parameters = inspect.signature(make).parameters
    base = getattr(make, "func", make)  # a published size is a partial of its network
    hidden = {"parent", "name"} if isinstance(base, type) and issubclass(base, nn.Module) else set()
    allowed = [n for n in parameters if n not in given and n not in hidden]
    unknown = sorted(set(fields) - set(allowed))
    missing = [n for n in allowed if n not in fields and parameters[n].default is inspect.Parameter.empty]
    if unknown or missing:
        raise ValueError(
            f"config.{section} has unknown fields {unknown or 'none'} and lacks {missing or 'none'}. "
            f"Allowed: {', '.join(allowed) or 'none'}."
        )
    return make(**fields, **given)


def choose(section: str, table: Mapping[str, Any], fields: Config) -> tuple[Any, dict]:
    """Splits a section with a `name` into the table's entry of that name and the other fields."""
    fields = dict(fields)
    name = fields.pop("name", None)
    if name not in table:
        raise ValueError(f"config.{section}.name is {name!r}; allowed are {', '.join(sorted(table))}.")
    return table[name], fields
