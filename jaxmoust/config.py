"""Configurations: a file says what differs, signatures say the rest, the command line has the last word.

Knows nothing of what is configured: a schema comes from who builds the sections, made of the signatures that these are
unpacked into (`fields`, `Choice`). Completing a configuration is what checks it: unknown and missing fields, and values
of another type, are refused in one place.
"""

import ast
import contextlib
import difflib
import importlib
import importlib.util
import inspect
import math
import re
import sys
import traceback
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn, Union

import ml_collections

Config = Mapping[str, Any]

REQUIRED = inspect.Parameter.empty
_NONE = type(None)


class Text(str):
    """A value as it was typed; the type of its field says what it means."""


@dataclass(frozen=True)
class Field:
    """A field of a configuration.

    Args:
        default: what it is where nobody says; REQUIRED: somebody must.
        type: an annotation. Any takes whatever is given.
        doc: a line that says what it is.
    """

    default: Any = REQUIRED
    type: Any = Any
    doc: str = ""


@dataclass(frozen=True)
class Choice:
    """A section whose field `name` chooses what it is unpacked into, and so its other fields.

    Args:
        table: name -> what is called with the other fields.
        default: the name where nobody says one; REQUIRED: somebody must.
        skip: parameters that the code gives itself.
        shared: fields that the section has whatever its name is; they hide parameters of the same name.
    """

    table: Mapping[str, Callable]
    default: Any = REQUIRED
    skip: tuple[str, ...] = ()
    shared: Mapping[str, Field] = field(default_factory=dict)

    def fields(self, name: Any, at: str) -> dict[str, Field]:
        """The fields of a section of this name. Raises: ValueError: the table has no such name."""
        if not isinstance(name, str) or name not in self.table:
            given = "missing" if name is REQUIRED else repr(str(name))
            raise ValueError(f"{at}.name is {given}, expected one of {', '.join(self.table)}.{meant(name, self.table)}")
        doc = f"one of {', '.join(self.table)}"
        return {"name": Field(name, str, doc), **fields(self.table[name], skip=self.skip), **self.shared}


Schema = Mapping[str, Union[Field, Choice, "Schema"]]


def fields(make: Callable, skip: tuple[str, ...] = (), only: tuple[str, ...] = ()) -> dict[str, Field]:
    """The fields of a section that is unpacked as `make(**section)`: names, defaults, types, and what its docs say.

    Args:
        skip: parameters that the code gives itself. only: these and no others.
    """
    parameters = inspect.signature(make).parameters
    chosen = [name for name in only or parameters if name not in skip]
    docs = _docs(make, tuple(parameters))
    return {name: Field(parameters[name].default, parameters[name].annotation, docs.get(name, "")) for name in chosen}


def _docs(make: Callable, names: tuple[str, ...]) -> dict[str, str]:
    """What the Args of a docstring say of each parameter, in one line."""
    text = " ".join((inspect.getdoc(getattr(make, "func", make)) or "").split())
    ends = r"(?:\b(?:Returns|Raises|Yields|Sources?)\b[^:]{0,20}: |$)"
    args = re.search(rf"\b(?:Args|Attributes): (.*?){ends}", text)
    any_name = "|".join(sorted(map(re.escape, names), key=len, reverse=True))
    if not args or not names:
        return {}
    parts = re.split(rf"(?:^|(?<=[.;?)] ))((?:{any_name})(?:, \w+)*): ", args[1])[1:]
    said = zip(parts[::2], parts[1::2], strict=True)
    return {name: what.strip() for of, what in said for name in of.split(", ")}


def read_config(path: str) -> dict[str, Any]:
    """Reads `PATH[:arg]`: what the file's `get_config(arg)` gives. As a script may, it may import the files beside it.

    Of a file that has WORDS, arg is some of these by ",", each once: "quick|small" is either, "share=" takes a value.

    Raises: ValueError: no such file, one without `get_config`, a word that is none of its WORDS, or a mistake in the
        file itself, told with its line.
    """
    file, _, arg = path.partition(":")
    if not Path(file).is_file():
        folders = (Path("configs"), Path("experiments"))
        near = sorted(str(p) for folder in folders for p in folder.rglob("*.py") if p.parent.name != "speed")
        hint = meant(file, near) or f" Here are: {', '.join(near) or 'none in configs/'}."
        raise ValueError(f"No configuration file {file!r}.{hint}")
    spec = importlib.util.spec_from_file_location("config", file)
    if spec is None or spec.loader is None:
        raise ValueError(f"{file} is no Python file, so it is no configuration file.")
    module = importlib.util.module_from_spec(spec)
    try:
        with _neighbours(Path(file)):
            spec.loader.exec_module(module)
            if not hasattr(module, "get_config"):
                raise ValueError(f"{file} defines no get_config(arg=''), so it is no configuration file.")
            if hasattr(module, "WORDS"):
                _check_words(file, arg, module.WORDS)
            config = plain(module.get_config(arg))
            if not isinstance(config, dict):
                raise ValueError(f"{file}: get_config returns {config!r:.80}, expected a ConfigDict, or a dict.")
            return config
    except (Exception, SystemExit) as e:  # a configuration file is a program: it may raise anything
        raise ValueError(_mistake(file, e)) from e


def _mistake(file: str, error: BaseException) -> str:
    """What went wrong in a user's file: the last of its lines that was run, and Python's words; or what it refused."""
    if isinstance(error, SyntaxError):
        where = f"{error.filename or file}, line {error.lineno}" if error.lineno else file
        return f"{where}: {error.msg}: {(error.text or '').strip()}"
    folder = Path(file).parent.resolve()
    here = [frame for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename).parent == folder]
    refused = isinstance(error, ValueError) and (not here or (here[-1].line or "").startswith("raise"))
    if refused:
        return str(error)
    where = f"{here[-1].filename}, line {here[-1].lineno}: {here[-1].line}\n" if here else f"{file}: "
    return f"{where}{type(error).__name__}: {error}"


def _check_words(file: str, arg: str, allowed: tuple[str, ...]) -> None:
    given = [name + equals for name, equals, _ in (word.partition("=") for word in arg.split(","))] if arg else []
    meant_words = [next((words for words in allowed if word in words.split("|")), None) for word in given]
    if None in meant_words or len(set(meant_words)) < len(meant_words):
        said = f"{', '.join(allowed).replace('|', ' or ')}; each once, by ','" if allowed else "nothing"
        names = [name.rstrip("=") for words in allowed for name in words.split("|")]
        hint = meant(given[meant_words.index(None)].rstrip("="), names) if None in meant_words else ""
        raise ValueError(f"{file} got {arg!r} after its ':', expected {said}.{hint}")


@contextlib.contextmanager
def _neighbours(file: Path) -> Iterator[None]:
    """Lets the files beside a file be imported, anew each time: they may have changed, or be another folder's.

    Nothing is written beside them: a user's folder is left as it was.
    """
    written, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    folder, names = str(file.parent.resolve()), {path.stem for path in file.parent.glob("*.py")}
    hidden = {name: sys.modules.pop(name) for name in names & set(sys.modules)}
    sys.path.insert(0, folder)
    importlib.invalidate_caches()  # a file may be newer than what Python remembers of its folder
    try:
        yield
    finally:
        sys.dont_write_bytecode = written
        sys.path.remove(folder)
        for name in names & set(sys.modules):
            del sys.modules[name]
        sys.modules.update(hidden)


def plain(config: Any) -> Any:
    """Turns a ConfigDict into plain dicts and tuples."""
    if isinstance(config, ml_collections.ConfigDict):
        config = config.to_dict()
    if isinstance(config, Mapping):
        return {k: plain(v) for k, v in config.items()}
    return tuple(plain(v) for v in config) if isinstance(config, list | tuple) else config


def typed(words: list[str]) -> dict[str, Any]:
    """Reads `--config.section.field=value` words into nested dicts of `Text`.

    Raises: ValueError: a word without a value, an index in brackets, or two that contradict each other.
    """
    overrides: dict[str, Any] = {}
    for word in words:
        name, equals, value = word.partition("=")
        *parents, last = name.removeprefix("--config.").split(".")
        if "[" in name:
            raise ValueError(f"{name}: one element cannot be set. Give all of them: {name.partition('[')[0]}=A,B,C.")
        if not equals or not last:
            raise ValueError(f"{word} gives no value. Write {name}=VALUE.")
        node = overrides
        for key in parents:
            node = node.setdefault(key, {})
            if not isinstance(node, dict):
                raise ValueError(f"{word}: {key!r} was given a value before. Give one or the other.")
        if isinstance(node.get(last), dict):
            raise ValueError(f"{word}: fields of {last!r} were given before. Give one or the other.")
        node[last] = Text(value)
    return overrides


def merge(config: Config, changes: Config, schema: Schema) -> dict[str, Any]:
    """Returns a configuration with nested fields replaced; nothing is checked before it is completed.

    A section whose `name` changes keeps of what its file said only what it has under any name. A field that holds a
    mapping is replaced, unless `--config.FIELD.KEY=VALUE` sets one of its keys.
    """
    merged = dict(config)
    for key, value in changes.items():
        part, old = schema.get(key, {}), config.get(key)
        if not isinstance(value, Mapping) or not isinstance(old, Mapping):
            merged[key] = value
        elif isinstance(part, Choice):
            before = old.get("name", part.default)
            name = value.get("name", before)
            kept = {k: v for k, v in old.items() if name == before or k in part.shared}
            merged[key] = merge(kept, value, part.fields(name, key) if name in part.table else {})
        elif not isinstance(part, Field) or {*map(type, value.values())} == {Text}:
            merged[key] = merge(old, value, {} if isinstance(part, Field) else part)
        else:
            merged[key] = value
    return merged


def complete(config: Config, schema: Schema, at: str = "config") -> dict[str, Any]:
    """Returns a configuration with every field of a schema, each value of its type.

    Raises: ValueError: an unknown or a missing field, or a value that is none of its type; all of the section's
        unknown fields are named, with those allowed.
    """
    check_names(at, config, schema)
    done = {}
    for name, part in schema.items():
        where, value = f"{at}.{name}", config.get(name, REQUIRED)
        if isinstance(part, Field):
            value = part.default if value is REQUIRED else value
            if value is REQUIRED:
                raise ValueError(f"{where} is missing: {part.doc.rstrip('.') or 'it has no default'}.")
            done[name] = _convert(value, part.type, where)
            continue
        value = {} if value is REQUIRED or value is None else value
        if not isinstance(value, Mapping):
            raise ValueError(f"{where} is {value!r}; it has fields: set {where}.FIELD.")
        of_section = part.fields(value.get("name", part.default), where) if isinstance(part, Choice) else part
        done[name] = complete(value, of_section, where)
    return done


def check_names(at: str, names: Iterable[str], allowed: Iterable[str]) -> None:
    """Refuses fields that a section does not have, and names those it has."""
    allowed = list(allowed)
    if unknown := [name for name in names if name not in allowed]:
        hint = meant(unknown[0], allowed)
        raise ValueError(
            f"{at} has no field {', '.join(map(repr, unknown))}.{hint} Allowed: {', '.join(allowed) or 'none'}."
        )


def meant(name: Any, allowed: Iterable[str]) -> str:
    """A sentence with the name that is closest to one that does not exist; "" where none is close."""
    close = difflib.get_close_matches(str(name), list(allowed), n=1)
    return f" Did you mean {close[0]!r}?" if close else ""


def _convert(value: Any, kind: Any, at: str) -> Any:
    """A value as its type: whole numbers for floats, text that was typed for anything."""
    try:
        return _as(plain(value), kind)
    except _NO_SUCH_VALUE as e:
        shown = str(value) if isinstance(value, Text) else repr(value)
        hint = meant(value, map(str, typing.get_args(kind))) if typing.get_origin(kind) is typing.Literal else ""
        raise ValueError(f"{at} is {shown or 'empty'}, expected {_in_words(kind)}.{hint}") from e


# What `_as` refuses with, and what reading a text may raise.
_NO_SUCH_VALUE = (ValueError, TypeError, SyntaxError, ArithmeticError, RecursionError, MemoryError)


def _as(value: Any, kind: Any) -> Any:
    origin, of = typing.get_origin(kind) or kind, typing.get_args(kind)
    text = value if isinstance(value, Text) else None
    if origin in (Union, types.UnionType):
        one_word = text is not None and str in of and not set(text) & set(",([")
        # Text last: it takes anything that was typed.
        for one in sorted(of, key=lambda t: (t is str, t is float)):
            with contextlib.suppress(*_NO_SUCH_VALUE):
                return _as(value, one) if not (one_word and typing.get_origin(one) is tuple) else _refuse()
        _refuse()
    if origin is typing.Literal:
        return next(one for one in of if str(one) == str(value)) if str(value) in map(str, of) else _refuse()
    if origin in (None, _NONE):
        return None if value is None or (text is not None and text.lower() in ("none", "null")) else _refuse()
    if origin is bool:
        value = _WORDS.get(text.lower()) if text is not None else value
        return value if isinstance(value, bool) else _refuse()
    if origin in (int, float):
        if text is not None:
            value = int(text) if re.fullmatch(r"[-+]?\d+", text) else float(text)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            _refuse()
        return origin(value) if origin(value) == value else _refuse()
    if origin is str:
        return str(value) if isinstance(value, str) else _refuse()
    if origin in (tuple, Sequence):
        value = _listed(text) if text is not None else value
        if not isinstance(value, tuple):
            _refuse()
        each = of if of and of[-1] is not ... and origin is tuple else [of[0] if of else Any] * len(value)
        return tuple(_as(one, inner) for one, inner in zip(value, each, strict=True))
    if isinstance(origin, type) and issubclass(origin, Mapping):
        value = _pairs(text) if text is not None else value
        inner = of[1] if of else Any
        return {str(k): _as(v, inner) for k, v in value.items()} if isinstance(value, Mapping) else _refuse()
    return value if text is None else _guess(text)


_WORDS = {"true": True, "1": True, "false": False, "0": False}


def _refuse() -> NoReturn:
    raise ValueError


def _listed(text: str) -> tuple:
    """Reads "1,2", "(1, 2)" or "['a', 'b, c']"."""
    if set(text) & set("'\"({["):
        with contextlib.suppress(*_NO_SUCH_VALUE):
            value = plain(ast.literal_eval(text))
            return _as_typed(value) if isinstance(value, tuple) else (_as_typed(value),)
    inside = text.strip()
    inside = inside[1:-1] if inside[:1] + inside[-1:] in ("()", "[]") else inside
    return tuple(Text(part.strip()) for part in inside.split(",") if part.strip())


def _as_typed(value: Any) -> Any:
    """Numbers and texts as they could have been typed alone: what they mean is for their field to say."""
    if isinstance(value, tuple):
        return tuple(map(_as_typed, value))
    return {k: _as_typed(v) for k, v in value.items()} if isinstance(value, dict) else Text(value)


def _pairs(text: str) -> dict:
    """Reads "real=0.5,edm=0.5", or a Python dict."""
    if text.strip().startswith("{"):
        return plain(ast.literal_eval(text))
    pairs = [part.partition("=") for part in text.split(",") if part.strip()]
    return {name.strip(): Text(value.strip()) if equals else _refuse() for name, equals, value in pairs}


def _guess(text: str) -> Any:
    """What a text means where no type says: a number, True, None, a tuple; else itself."""
    with contextlib.suppress(*_NO_SUCH_VALUE):
        return plain(ast.literal_eval(text))
    return str(text)


def _in_words(kind: Any) -> str:
    """A type as a message names it."""
    origin, of = typing.get_origin(kind) or kind, typing.get_args(kind)
    if origin in (Union, types.UnionType):
        return " or ".join(map(_in_words, of))
    if origin is typing.Literal:
        return f"one of {', '.join(map(str, of))}"
    if origin in (tuple, Sequence):
        return "a list by commas" + (f", each {_in_words(of[0])}" if of else "")
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return "pairs, such as real=0.5,edm=0.5"
    names = {int: "a whole number", float: "a number", bool: "True or False", str: "a text"}
    return names.get(origin, "None" if origin in (None, _NONE) else str(origin))


def unpack(section: str, make: Callable, values: Config, **given: Any) -> Any:
    """Calls `make(**values, **given)`; an unknown or missing field is named with those allowed."""
    schema = fields(make, skip=tuple(given))
    extra = [name for name in values if name not in schema]
    missing = [name for name, one in schema.items() if one.default is REQUIRED and name not in values]
    if extra or missing:
        raise ValueError(
            f"config.{section} has unknown fields {extra or 'none'} and lacks {missing or 'none'}. "
            f"Allowed: {', '.join(schema) or 'none'}."
        )
    return make(**values, **given)


def choose(section: str, table: Mapping[str, Any], values: Config) -> tuple[Any, dict]:
    """Splits a section with a `name` into the table's entry of that name and the other fields."""
    values = dict(values)
    name = values.pop("name", None)
    if name not in table:
        raise ValueError(f"config.{section}.name is {name!r}, expected one of {', '.join(sorted(table))}.")
    return table[name], values


def python_text(config: Config, schema: Schema, title: str) -> str:
    """A complete configuration as a file that can be saved and run, each field beside its documentation."""
    title = title.replace("\\", "\\\\").replace('"', "'")
    head = [f'"""{title}"""', "", "", 'def get_config(arg: str = ""):', "    return {"]
    return "\n".join([*head, *_lines(config, schema, "config", " " * 8), "    }"])


def _lines(values: Config, schema: Schema, at: str, indent: str) -> Iterator[str]:
    for name, value in values.items():
        part = schema.get(name)
        if isinstance(value, Mapping) and part is not None and not isinstance(part, Field):
            inner = part.fields(value["name"], at) if isinstance(part, Choice) else part
            yield f"{indent}{name!r}: {{"
            yield from _lines(value, inner, f"{at}.{name}", indent + "    ")
            yield f"{indent}}},"
        elif isinstance(value, tuple) and value and isinstance(value[0], Mapping):
            yield f"{indent}{name!r}: ("
            for one in value:
                yield from (
                    f"{indent}    {{",
                    *_lines(one, {}, f"{at}.{name}", indent + "        "),
                    f"{indent}    }},",
                )
            yield f"{indent}),"
        else:
            doc = f"  # {part.doc}" if isinstance(part, Field) and part.doc else ""
            yield f"{indent}{name!r}: {value!r},{doc}"
