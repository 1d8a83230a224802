"""A command line's configuration: what the file says, completed by its task's schema, overridden by words."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from jaxmoust.config import Config, Field, Schema, complete, merge, read_config, typed
from jaxmoust.jobs.parts.registry import BadInput, Entry, entries, entry_of, schema_of
from jaxmoust.runtime.bucket import SCHEMES
from jaxmoust.runtime.paths import refuse_url

TASK: Schema = {"task": Field(type=str, doc="what the configuration is of")}


def configuration(path: str, words: list[str], verb: str = "") -> tuple[Entry, dict[str, Any], Schema]:
    """Reads and completes `PATH[:arg]` with the `--config.field=value` words of a command line.

    Args: verb: the one that is to run it; "": any.
    Returns: (the file of jobs/ that it is for, the complete configuration, what each of its fields is).
    Raises: BadInput: whatever is wrong with it.
    """
    try:
        raw, changes = read_config(path), typed(words)
        tasks = [task for entry in entries() if entry.verb == verb for task in entry.tasks]
        if verb and raw.get("task") not in tasks:
            raise ValueError(
                f"{path} is a configuration of task {raw.get('task')!r}; `jaxmoust {verb}` runs those of "
                f"{' or '.join(map(repr, tasks))}."
            )
        entry = entry_of(raw.get("task"))
        module = entry.load()
        if hasattr(module, "complete"):
            config = module.complete(raw, changes)
            schema = module.schema(config)
        else:
            config, schema = as_config(raw, changes), {**TASK, **schema_of(raw["task"])}
        _refuse_urls("config", config)
        return entry, config, schema
    except ValueError as e:
        raise BadInput(str(e)) from e


def _refuse_urls(at: str, value: Any) -> None:
    """Refuses URLs but those of buckets, wherever in a configuration. Raises: ValueError: which field, what to do."""
    if isinstance(value, str):
        refuse_url(at, value, SCHEMES)
    for name, inside in value.items() if isinstance(value, Mapping) else ():
        _refuse_urls(f"{at}.{name}", inside)
    for inside in value if isinstance(value, tuple | list) else ():
        _refuse_urls(at, inside)


def as_config(config: Config | str, changes: Config = MappingProxyType({})) -> dict[str, Any]:
    """A job's complete configuration, for programs: of a file `PATH[:arg]` or of its fields, with nested changes.

    Raises: ValueError: whatever is wrong with it.
    """
    given = read_config(config) if isinstance(config, str) else config
    schema = {**TASK, **schema_of(given.get("task", ""))}
    return complete(merge(given, changes, schema), schema)
