"""A command line's configuration: what the file says, completed by its task's schema, overridden by words."""

from typing import Any

from jaxmoust.config import Config, Field, Schema, complete, merge, read_config, typed
from jaxmoust.jobs.parts.registry import BadInput, Entry, entries, entry_of, schema_of

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
            return entry, config, module.schema(config)
        schema = {**TASK, **schema_of(raw["task"])}
        return entry, complete(merge(raw, changes, schema), schema), schema
    except ValueError as e:
        raise BadInput(str(e)) from e


def as_config(config: Config) -> Config:
    """A complete configuration of a job from a partial one, for programs: `as_config(dict(task="classify", ...))`."""
    schema = {**TASK, **schema_of(config["task"])}
    return complete(config, schema)
