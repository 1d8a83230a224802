"""A run's folder: what was asked for, what it was made of, on what machine, and what came out.

A folder's identity is its complete configuration (config.json) and the digests of everything it read (contents.json):
it is only ever opened again with the same. What lies where does not count: a field that names something whose content
is known is compared by that content. Every file appears whole or not at all. Knows nothing of what the run does.
"""

import contextlib
import errno
import functools
import hashlib
import importlib.metadata
import json
import math
import os
import platform
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jaxmoust.runtime.paths import atomic_write, file_digest, read_json, sweep

DIGESTS = "digests.json"
"""The SHA-256 of each file that a finished run left. Written before result.json, which is last: a run that was killed
between the two is not finished, and the same command goes on."""

# What the digests cover besides the files of the folder itself; and files that change, or that no run can make again.
_FOLDERS = ("checkpoints", "pipeline", "tokens")
LOG = "log.txt"  # what a run said, where that is no terminal
_CHANGING, CURVES = ("environment.json", DIGESTS, LOG), "metrics.jsonl"

# The packages whose version can change a number that a run reports.
_PACKAGES = [
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "orbax-checkpoint",
    "grain",
    "array-record",
    "tensorflow-datasets",
    "numpy",
    "scipy",
    "scikit-learn",
    "pillow",
    "tokenizers",
]
_REFUSALS = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.ENOENT}
_ABSENT = object()


class DamagedRun(ValueError):
    """A finished run's folder has files that are not as they were written."""

    def __init__(self, path: Path, files: list[str]):
        more = f" and {len(files) - 3} more" if len(files) > 3 else ""
        super().__init__(
            f"{path} is damaged: {', '.join(files[:3])}{more} not as its run left it. Run the command that made it "
            "again in this folder: it mends what is damaged."
        )


def damaged(path: str | os.PathLike, deep: bool = True) -> list[str]:
    """The files of a finished run that are missing or other than it left them, by its digests.

    metrics.jsonl is not among them: what a curve has lost no run can measure again, and no result depends on it. Of a
    run without digests, as old ones are, nothing is known.

    Args: deep: also the checkpoints and pipelines, which whoever reads them wants to be whole.
    """
    digests = _digests(Path(path))
    if digests is None:
        return [DIGESTS]
    return [
        name
        for name, digest in digests.items()
        if name != CURVES and (deep or "/" not in name) and file_digest(Path(path) / name) != digest
    ]


def refuse_damaged(path: str | os.PathLike, deep: bool = True) -> None:
    """Refuses a finished run that is not as it was left. Raises: DamagedRun."""
    if files := damaged(path, deep):
        raise DamagedRun(Path(path), files)


def curves_are_whole(path: str | os.PathLike) -> bool:
    """Whether metrics.jsonl of a finished run is as it was left, as far as that is known."""
    digest = (_digests(Path(path)) or {}).get(CURVES)
    return digest is None or file_digest(Path(path) / CURVES) == digest


def _digests(path: Path) -> dict[str, str] | None:
    """The digests of a run; {} where there are none, or no run, None where they are damaged."""
    if not any((path / name).exists() for name in ("config.json", "result.json")):
        return {}
    try:
        stored = read_json(path / DIGESTS)
    except ValueError:
        return None
    return {} if stored is None else stored if isinstance(stored, dict) and "result.json" in stored else None


def _files_left(path: Path) -> Iterator[str]:
    """The files that a run has left, but for those of other runs in it, of synthetic sets and of TensorBoard."""
    inside = (file for folder in _FOLDERS for file in sorted((path / folder).rglob("*")))
    for file in (*sorted(path.iterdir()), *inside):
        name = file.relative_to(path).as_posix()
        if file.is_file() and name not in _CHANGING and not file.name.startswith(".") and ".array_record" not in name:
            yield name


class FolderMismatch(ValueError):
    """The folder was made of something else. `differences` has one line a differing field."""

    def __init__(self, path: Path, differences: list[str]):
        self.path, self.differences = path, differences
        super().__init__(
            f"{path} holds a run of another configuration, or of other data:\n  "
            + "\n  ".join(differences)
            + "\nGive the folder's own configuration and data, or another folder."
        )


def identity(config: Mapping[str, Any], contents: Mapping[str, str], places: tuple[str, ...] = ()) -> dict[str, Any]:
    """What tells one run from another: its configuration, with the content of what it names in the place of names.

    Args:
        config: complete.
        contents: content address of what each field, dotted, names; a name that is no field adds to the identity.
        places: further fields that only say where something lies.
    """
    hidden = {*contents, *places}

    def visible(node: Mapping[str, Any], at: str) -> dict[str, Any]:
        inside = {name: f"{at}.{name}" if at else name for name in node}
        return {
            name: visible(value, inside[name]) if isinstance(value, Mapping) else value
            for name, value in node.items()
            if inside[name] not in hidden
        }

    return {**visible(config, ""), "contents": dict(contents)}


def canonical_json(obj: Any) -> str:
    """Writes an object so that equal objects give equal text: the form that is compared and digested.

    Keys are sorted, tuples are lists, and a number is its value (`1.0` is `1`; `True` is not).
    Raises: ValueError: something JSON cannot hold, or NaN or an infinity, with the field's name.
    """
    return json.dumps(_plain(obj, exact=False), sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest(obj: Any) -> str:
    """The SHA-256 of `canonical_json(obj)`, as 64 hexadecimal digits."""
    return hashlib.sha256(canonical_json(obj).encode()).hexdigest()


def differences(stored: Mapping[str, Any], given: Mapping[str, Any]) -> list[str]:
    """Names every field in which two nested configs differ, one line each, in the order of the names."""
    old, new = dict(_fields(_plain(stored))), dict(_fields(_plain(given)))
    lines = []
    for path in sorted(old.keys() | new.keys()):
        a, b = old.get(path, _ABSENT), new.get(path, _ABSENT)
        if a is _ABSENT or b is _ABSENT or canonical_json(a) != canonical_json(b):
            lines.append(f"{'.'.join(path)}: folder has {_show(a)}, given {_show(b)}")
    return lines


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run, opened with the config it belongs to.

    Args:
        path: the folder.
        config: the configuration that the folder was made with.
        primary: whether this process writes; the others of the run only read.
    """

    path: Path
    config: dict[str, Any]
    primary: bool = True

    @classmethod
    def open(
        cls,
        path: str | os.PathLike,
        config: Mapping[str, Any],
        environment: Mapping[str, Any],
        primary: bool = True,
        contents: Mapping[str, str] | None = None,
        places: tuple[str, ...] = (),
    ) -> "RunFolder":
        """Makes the folder, or opens it again for the same run; writes config.json, contents.json, environment.json.

        environment.json describes the process that opened the folder last; unlike ones from before are kept
        in its list `earlier`.

        Args:
            path: the folder; its parents are made too.
            config: nested dict of plain values (numbers, text, lists).
            environment: what `environment` gave.
            primary: whether this process writes. Every process compares, so all of them refuse.
            contents, places: see `identity`.
        Raises:
            FolderMismatch: the folder was made with another configuration, or of other data.
            ValueError: config.json is damaged or missing from a folder that holds a run; the folder cannot be
                written; the config has a value JSON cannot hold.
        """
        path, plain, here = Path(path), _plain(config), _plain(environment)
        stored = cls.check(path, plain, contents, places)
        if primary:
            with _writable(path):
                path.mkdir(parents=True, exist_ok=True)
                for part in (path, *(inside for inside in path.iterdir() if inside.is_dir())):
                    if part.name != "scores":  # which are other runs, that may be at work
                        sweep(part)
                for name, content in (("contents.json", contents or {}), ("config.json", plain)):
                    if not stored or _is_lost(path, name, content):
                        atomic_write(path / name, _pretty(content))
                atomic_write(path / "environment.json", _pretty(_with_earlier(path, here)))
        return cls(path, plain, primary)

    @staticmethod
    def check(
        path: str | os.PathLike,
        config: Mapping[str, Any],
        contents: Mapping[str, str] | None = None,
        places: tuple[str, ...] = (),
    ) -> bool:
        """Whether a folder was made before, with this configuration and of these contents; touches nothing.

        Raises: FolderMismatch, ValueError: as `open`.
        """
        path, now = Path(path), contents or {}
        stored = _plain(config) if _is_lost(path, "config.json", config) else _stored_config(path)
        if stored is None:
            return False
        before = now if _is_lost(path, "contents.json", now) else _object(path / "contents.json") or {}
        hidden = (*places, *before, *now)
        lines = differences(identity(stored, {}, hidden), identity(_plain(config), {}, hidden))
        lines += [
            f"{name}: folder has content {before.get(name, 'of none')}, given {now.get(name, 'none')}"
            for name in sorted({*before, *now})
            if before.get(name) != now.get(name)
        ]
        if lines:
            raise FolderMismatch(path, lines)
        return True

    @property
    def checkpoints(self) -> Path:
        """Where the run's checkpoints lie."""
        return self.path / "checkpoints"

    @property
    def devices(self) -> str:
        """The devices that the run has had, in words: "4 x NVIDIA H200 (gpu)"; of one that moved on, all in turn."""
        now: Any = read_json(self.path / "environment.json")
        given = [one.get("device") for one in (*now.get("earlier", ()), now)]
        return ", then ".join(dict.fromkeys(filter(None, given)))

    def write_result(self, result: Mapping[str, Any]) -> None:
        """Writes the digests of all that the run has left, then result.json, the sign that it is done.

        Does nothing in a process that is not primary.

        Raises: ValueError: a value JSON cannot hold, NaN and the infinities among them.
        """
        if self.primary:
            content = _pretty(result)
            digests = {name: file_digest(self.path / name) for name in _files_left(self.path)}
            digests["result.json"] = hashlib.sha256(content.encode()).hexdigest()
            atomic_write(self.path / DIGESTS, _pretty(digests))
            atomic_write(self.path / "result.json", content)


def environment(device: str = "") -> dict[str, Any]:
    """Describes what a run's numbers depend on besides its config.

    Args:
        device: the devices in words.
    Returns: jaxmoust (version), python, platform, cpus, device, packages {name: version} of those installed,
        and commit (of the source tree, "" if it is no git checkout) with dirty (whether tracked files differ).
    """
    commit, dirty = _commit()
    return {
        "jaxmoust": _version("jaxmoust") or "not installed",
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "device": device,
        "packages": {name: version for name in _PACKAGES if (version := _version(name))},
        "commit": commit,
        "dirty": dirty,
    }


def _plain(value: Any, name: str = "", exact: bool = True) -> Any:
    """Rebuilds a value from what JSON knows; `exact=False` also writes whole floats as integers."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, (str, bool, int)):  # a union would be made anew each time
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{name or 'the value'} is {value}. Allowed: finite numbers.")
        # Past 2**53 a float names a whole number that nobody wrote.
        return int(value) if not exact and value.is_integer() and abs(value) < 2**53 else value
    if isinstance(value, (list, tuple)):
        return [_plain(v, f"{name}[{i}]", exact) for i, v in enumerate(value)]
    if isinstance(value, (dict, Mapping)):  # the second takes long to ask
        for key in value:
            if not isinstance(key, str):
                raise ValueError(f"{name or 'the value'} has the key {key!r}. Allowed: text keys.")
        return {key: _plain(v, f"{name}.{key}" if name else key, exact) for key, v in value.items()}
    raise ValueError(
        f"{name or 'the value'} is a {type(value).__name__} ({value!r:.80}). "
        "Allowed: None, bool, int, float, str, and lists and dicts of these."
    )


def _fields(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yields (keys, value) of every leaf of nested dicts; a list and an empty dict are leaves."""
    if isinstance(value, dict) and (value or not path):
        for key, child in value.items():
            yield from _fields(child, (*path, key))
    else:
        yield path, value


def _show(value: Any) -> str:
    return "nothing" if value is _ABSENT else json.dumps(value)


def _pretty(obj: Any) -> str:
    return json.dumps(_plain(obj), indent=2, allow_nan=False) + "\n"


def _is_lost(path: Path, name: str, content: Any) -> bool:
    """Whether a finished run's file is damaged, and is known by its digest to have had this content."""
    digest = (_digests(path) or {}).get(name)
    if digest is None or file_digest(path / name) == digest:
        return False
    return hashlib.sha256(_pretty(content).encode()).hexdigest() == digest


def _stored_config(path: Path) -> dict[str, Any] | None:
    """Reads a folder's config; None for a folder that is new."""
    if (stored := _object(path / "config.json")) is not None:
        return stored
    for name in ("checkpoints", "metrics.jsonl", "result.json"):
        if (path / name).exists():
            raise ValueError(
                f"{path} has {name} but no config.json, so it cannot be told whose run it holds. "
                "Put config.json back, or give another folder."
            )
    return None


def _object(path: Path) -> dict[str, Any] | None:
    """Reads a JSON object; None where there is no such file."""
    if not path.exists():
        return None
    if not isinstance(stored := read_json(path), dict):
        raise ValueError(f"{path} is damaged: not a JSON object. Put back a whole copy.")
    return stored


def _with_earlier(path: Path, environment: dict[str, Any]) -> dict[str, Any]:
    """Adds to an environment the unlike ones that the folder was opened in before."""
    try:
        stored = dict(read_json(path / "environment.json") or {})
        earlier = list(stored.pop("earlier", []))
    except (TypeError, ValueError):
        stored, earlier = {}, []  # damaged: a record of the past, not worth stopping a run for
    if stored and stored not in (environment, *earlier):
        earlier.append(stored)
    earlier = [e for e in earlier if e != environment]
    return {**environment, "earlier": earlier} if earlier else environment


@contextlib.contextmanager
def _writable(path: Path) -> Iterator[None]:
    """Turns the ways in which a folder refuses to be written into one clear error."""
    try:
        yield
    except OSError as error:
        if error.errno not in _REFUSALS:  # a full or a failing disk is no bad input
            raise
        raise ValueError(
            f"cannot write in {path}: {error.strerror} ({error.filename}). "
            "Give a folder that can be made and written by this user."
        ) from error


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


@functools.cache
def _commit() -> tuple[str, bool]:
    """The commit of the source tree that this file belongs to, and whether its tracked files were changed."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():  # an installed package: a repository further up is somebody else's
        return "", False
    command = ["git", "-C", os.fspath(root), "status", "--porcelain=v2", "--branch", "--untracked-files=no"]
    try:
        run = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=5,
            check=True,
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},
        )
    except (OSError, subprocess.SubprocessError):
        return "", False
    lines = run.stdout.splitlines()
    commit = next((line.split()[2] for line in lines if line.startswith("# branch.oid")), "")
    return ("", False) if commit == "(initial)" else (commit, any(not line.startswith("#") for line in lines))
