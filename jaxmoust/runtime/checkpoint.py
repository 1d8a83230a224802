"""Checkpoints of a run: written by Orbax while training goes on, whole or not at all, and checked when read.

A network has hundreds of small arrays, and an array costs Orbax about a millisecond whatever its size. So the
arrays of one field of the state and one type lie end to end in one vector, and `record` says which is where:

    FOLDER/STEP/state    {"params.float32": [n], "opt_state.float32": [n], ...}      (Orbax PyTree)
    FOLDER/STEP/record   leaves {name: [type, shape]} in order, crc32 of each vector, metrics, extra   (JSON)

The state is one logical copy, so the first process writes it all. Knows nothing of what is in the state.
"""

import functools
import json
import logging
import math
import os
import shutil
import warnings
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging as absl_logging

_DISCARDED = ".discarded"


class BrokenCheckpoint(ValueError):
    """Checkpoints exist and none that was asked for is whole."""


class Checkpoints:
    """The checkpoints of one run. Keeps the newest ones and the best.

    Of several processes every one makes the same calls at the same steps. Close it, or use it as a context
    manager: the last checkpoint is only sure to be there after `wait` or `close`.

    Args:
        folder: where they lie; made by the first `save`.
        best: the metric that says which checkpoint is best; "": none is.
        mode: "max" or "min": whether more or less of it is better.
        keep: how many of the newest to keep; two, so that one may turn out to be damaged.
        primary: whether this process removes what is no longer kept.
    Raises: ValueError: another mode; keep < 1.
    """

    def __init__(
        self, folder: str | os.PathLike, best: str = "", mode: str = "max", keep: int = 2, primary: bool = True
    ):
        if mode not in ("max", "min"):
            raise ValueError(f'mode {mode!r}. Allowed: "max" and "min".')
        if keep < 1:
            raise ValueError(f"keep {keep}. Allowed: 1 or more.")
        self._folder, self._best, self._mode = Path(folder).absolute(), best, mode
        self._keep, self._primary = keep, primary
        self._orbax: ocp.AsyncCheckpointer | None = None
        self._scores: dict[int, float | None] = {}  # of the checkpoints there are, read when first needed
        self._whole: set[int] = set()  # saved or restored here
        self._broken: list[int] = []  # found by restore, and in the way of the steps to come

    @property
    def steps(self) -> list[int]:
        """The steps of the checkpoints that are there, ascending."""
        return _steps(self._folder)

    @property
    def best_step(self) -> int | None:
        """The step of the best checkpoint, the newest of equals; None while no checkpoint has the metric."""
        scores = {step: self._score(step) for step in self.steps} if self._best else {}
        sign = 1 if self._mode == "max" else -1
        return max(
            (step for step in scores if scores[step] is not None),
            key=lambda step: (sign * scores[step], step),
            default=None,
        )

    def save(
        self,
        step: int,
        state: Any,
        extra: Mapping[str, Any] | None = None,
        metrics: Mapping[str, float] | None = None,
    ) -> None:
        """Starts to write a checkpoint; the state may be donated or changed as soon as this returns.

        Waits for the checkpoint before it, and raises what went wrong with that. A step that was saved or
        restored here already is left as it is: a state is a function of its step.

        Args:
            step: completed updates.
            state: pytree of arrays, each fully replicated or on this process's devices alone.
            extra: what else a resumed run needs, in plain JSON values.
            metrics: numbers; the one named `best` decides how long the checkpoint is kept.
        Raises: ValueError: an array spread over processes; `extra` or `metrics` that JSON cannot hold.
        """
        leaves = _fetch(state)
        vectors = _pack(leaves)
        record = {
            "step": int(step),
            "leaves": {name: [leaf.dtype.name, list(leaf.shape)] for name, leaf in leaves.items()},
            "crc32": {group: zlib.crc32(vector) for group, vector in vectors.items()},
            "metrics": {name: float(value) for name, value in (metrics or {}).items()},
            "extra": dict(extra or {}),
        }
        try:
            record = json.loads(json.dumps(record, allow_nan=False))  # as it will be read
        except (TypeError, ValueError) as error:
            raise ValueError(f"extra or metrics cannot be kept as JSON: {error}.") from error
        self.wait()
        if self._orbax is None:
            self._open()
        if step in self._whole:
            return
        if self._primary:  # the others wait for this one in Orbax's save
            _remove(self._folder, [s for s in self.steps if s == step])
        self._orbax.save(
            self._folder / str(step),
            args=ocp.args.Composite(
                state=ocp.args.PyTreeSave(vectors), record=ocp.args.JsonSave({**record, "sum": _sum(record)})
            ),
        )
        self._whole.add(step)

    def restore(self, template: Any, step: int | None = None) -> tuple[Any, dict[str, Any]] | None:
        """Restores the newest checkpoint that is whole, bit for bit, and warns of each that was skipped.

        Args:
            template: a state of the same structure. An array of JAX, or a jax.ShapeDtypeStruct with a sharding,
                is restored to the same place; anything else becomes a NumPy array.
            step: this step's checkpoint and no other, such as `best_step`.
        Returns: (state, extra), or None when there is no checkpoint yet.
        Raises:
            ValueError: the checkpoint has other leaves, shapes or types than the template; each is named.
            BrokenCheckpoint: there are checkpoints, and none is whole.
        """
        self.wait()
        flat, treedef = jax.tree_util.tree_flatten_with_path(template)
        likes = {_name(path): leaf if hasattr(leaf, "dtype") else np.asarray(leaf) for path, leaf in flat}
        found = _newest_whole(self._folder, step, likes=likes)
        if found is None:
            return None
        leaves, record, self._broken = found
        self._whole.add(record["step"])
        state = treedef.unflatten([_place(leaves[name], like) for name, like in likes.items()])
        return state, record["extra"]

    def wait(self) -> None:
        """Waits until the checkpoint that was started is there. Raises what went wrong with writing it."""
        if self._orbax is not None:
            self._orbax.wait_until_finished()
            if self._primary:
                kept = {*self.steps[-self._keep :], self.best_step}
                _remove(self._folder, [step for step in self.steps if step not in kept])

    def close(self) -> None:
        """Waits, and lets go of the threads; a second call does nothing."""
        if self._orbax is not None:
            try:
                self.wait()
            finally:
                self._orbax.close()
                self._orbax = None

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _open(self) -> None:
        """Makes the folder fit for writing: what killed processes left, and what is broken, goes away."""
        if self._primary:
            self._folder.mkdir(parents=True, exist_ok=True)
            _remove(self._folder, self._broken)
            for path in self._folder.iterdir():
                if path.name.endswith((_DISCARDED, ocp.utils.TMP_DIR_SUFFIX)):
                    shutil.rmtree(path, ignore_errors=True)
        # A folder that cannot be made should be an error of `save` itself, not of a thread that waits for it.
        options = ocp.options.AsyncOptions(create_directories_asynchronously=False)
        items = ocp.CompositeCheckpointHandler(state=_pytree_handler(), record=ocp.JsonCheckpointHandler())
        self._orbax = ocp.AsyncCheckpointer(items, async_options=options)

    def _score(self, step: int) -> float | None:
        """The metric `best` of a checkpoint; None where it has none, or is broken."""
        if step not in self._scores:
            try:
                self._scores[step] = _read_record(self._folder / str(step))["metrics"].get(self._best)
            except Exception:  # damaged, which is for `restore` to say
                self._scores[step] = None
        return self._scores[step]


def restore_tree(folder: str | os.PathLike, field: str = "", step: int | None = None) -> tuple[Any, dict[str, Any]]:
    """Reads a checkpoint, or one field of it, without a template: nested dicts of NumPy arrays, and `extra`.

    Args:
        folder: where the checkpoints lie.
        field: a field of the state, such as "ema": the others are not read. "": the whole state.
        step: this step's checkpoint; None: the newest that is whole.
    Raises: ValueError: no checkpoint, or no such field. BrokenCheckpoint: none is whole.
    """
    found = _newest_whole(Path(folder).absolute(), step, field=field)
    if found is None:
        raise ValueError(f"{folder} has no checkpoint. Train first, or give the folder of a run that was trained.")
    leaves, record, _ = found
    tree: dict[str, Any] = {}
    for name, leaf in leaves.items():
        *parents, last = name.split("/")[1 if field else 0 :] or [""]
        functools.reduce(lambda node, key: node.setdefault(key, {}), parents, tree)[last] = leaf
    return tree.get("", tree), record["extra"]


def _newest_whole(
    folder: Path, step: int | None = None, *, likes: dict[str, Any] | None = None, field: str = ""
) -> tuple[dict[str, np.ndarray], dict[str, Any], list[int]] | None:
    """Finds the newest checkpoint (or the one of `step`) that reads back as it was written.

    Returns: (leaves, record, steps skipped as broken); None when there is no checkpoint.
    """
    steps = _steps(folder)
    if step is not None and step not in steps:
        raise ValueError(f"{folder} has no checkpoint of step {step}. There are: {steps}.")
    broken: dict[int, str] = {}
    for candidate in reversed(steps) if step is None else [step]:
        path = folder / str(candidate)
        try:
            record = _read_record(path)
        except Exception as error:  # whatever a damaged file makes a parser do
            broken[candidate] = _reason(error)
            continue
        _check_leaves(path, record["leaves"], likes, field)
        try:
            leaves = _read_leaves(path, record, field)
        except Exception as error:
            broken[candidate] = _reason(error)
            continue
        for skipped, reason in broken.items():
            warnings.warn(
                f"skipped the checkpoint {folder / str(skipped)}, which is damaged ({reason}); going on from step "
                f"{candidate}.",
                RuntimeWarning,
                stacklevel=3,
            )
        return leaves, record, list(broken)
    if not broken:
        return None
    raise BrokenCheckpoint(
        f"no checkpoint in {folder} is whole:\n  "
        + "\n  ".join(f"step {s}: {reason}" for s, reason in broken.items())
        + "\nPut back a whole copy, or remove that folder to start from step 0."
    )


def _check_leaves(path: Path, saved: dict[str, list], likes: dict[str, Any] | None, field: str) -> None:
    """Refuses a checkpoint of another structure, naming every leaf that differs."""
    if field and not any(name.split("/")[0] == field for name in saved):
        fields = sorted({name.split("/")[0] for name in saved})
        raise ValueError(f"{path} has no field {field!r}. There are: {', '.join(fields)}.")
    if likes is None:
        return
    wanted = {name: [np.dtype(like.dtype).name, list(like.shape)] for name, like in likes.items()}
    lines = [f"{name}: not in the checkpoint" for name in wanted.keys() - saved.keys()]
    lines += [f"{name}: only in the checkpoint" for name in saved.keys() - wanted.keys()]
    for name in wanted.keys() & saved.keys():
        if wanted[name] != saved[name]:
            (old_type, old_shape), (dtype, shape) = saved[name], wanted[name]
            lines.append(f"{name}: {old_type}{old_shape} in the checkpoint, {dtype}{shape} expected")
    if lines:
        shown = sorted(lines)[:20] + ([f"and {len(lines) - 20} more"] if len(lines) > 20 else [])
        raise ValueError(
            f"{path} does not fit the state it is to be restored to:\n  "
            + "\n  ".join(shown)
            + "\nUse the config that the checkpoint was trained with."
        )


def _fetch(state: Any) -> dict[str, np.ndarray]:
    """Fetches every leaf to the host, by name, in the order of the tree."""
    named = [(_name(path), leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(state)]
    for name, leaf in named:
        if isinstance(leaf, jax.Array) and not (leaf.is_fully_addressable or leaf.is_fully_replicated):
            raise ValueError(f"{name} is spread over processes. Allowed: arrays that each process has whole.")
    leaves = dict(zip((name for name, _ in named), jax.device_get([leaf for _, leaf in named]), strict=True))
    if len(leaves) < len(named):
        raise ValueError("two leaves of the state have the same name: a key of a dict must not contain '/'.")
    return {name: np.asarray(leaf) for name, leaf in leaves.items()}


def _pack(leaves: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Copies the leaves of each group end to end into one vector. Groups without a number are left out."""
    groups: dict[str, list[np.ndarray]] = {}
    for name, leaf in leaves.items():
        groups.setdefault(_group(name, leaf.dtype.name), []).append(leaf.ravel())
    vectors = {group: np.concatenate(parts) for group, parts in groups.items()}
    return {group: vector for group, vector in vectors.items() if vector.size}


def _group(name: str, dtype: str) -> str:
    """The vector that a leaf is in: the state's field it belongs to, and its type."""
    return f"{name.split('/')[0]}.{dtype}"


def _read_record(path: Path) -> dict[str, Any]:
    """Reads a checkpoint's record, checked against the sum in it."""
    record = ocp.JsonCheckpointHandler().restore(path / "record")
    if record.pop("sum") != _sum(record):
        raise ValueError("its record does not have the check sum it was written with")
    return record


def _sum(record: dict[str, Any]) -> int:
    return zlib.crc32(json.dumps(record, sort_keys=True).encode())


def _read_leaves(path: Path, record: dict[str, Any], field: str) -> dict[str, np.ndarray]:
    """Reads the leaves of a field ("": of all), checked against the sums in the record."""
    specs = {n: spec for n, spec in record["leaves"].items() if not field or n.split("/")[0] == field}
    groups = {_group(name, dtype) for name, (dtype, _) in specs.items()} & record["crc32"].keys()
    vectors = {group: _read_vector(path / "state", group) for group in groups}
    for group, vector in vectors.items():
        if zlib.crc32(vector) != record["crc32"][group]:
            raise ValueError(f"{group} does not have the check sum it was written with")
    leaves, ends = {}, dict.fromkeys(groups, 0)
    for name, (dtype, shape) in specs.items():
        group, size = _group(name, dtype), math.prod(shape)
        if size:
            start, ends[group] = ends[group], ends[group] + size
            leaves[name] = vectors[group][start : ends[group]].reshape(shape)
        else:
            leaves[name] = np.zeros(shape, dtype)
    return leaves


def _read_vector(path: Path, group: str) -> np.ndarray:
    """Reads one vector: by itself, as reads that still run when another one fails complain about it later.

    Straight through Orbax's handler, which unlike its checkpointer does not wait for the other processes: each
    reads the same files and comes to the same end.
    """
    request = ocp.args.PyTreeRestore(
        item={group: 0}, restore_args={group: ocp.RestoreArgs(restore_type=np.ndarray)}, partial_restore=True
    )
    return _pytree_handler().restore(path, args=request)[group]


def _place(value: np.ndarray, like: Any) -> Any:
    """Puts an array where another one is; a replicated one on every device it names in this process."""
    if isinstance(like, jax.Array) and not like.committed:
        return jax.device_put(value)  # on the default device, free to follow what it is used with
    sharding = getattr(like, "sharding", None)
    if sharding is None:
        return value
    return jax.make_array_from_callback(value.shape, sharding, lambda index: value[index])


def _name(path: tuple) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")


def _steps(folder: Path) -> list[int]:
    if not folder.is_dir():
        return []
    return sorted(int(path.name) for path in folder.iterdir() if path.name.isdecimal() and path.is_dir())


def _remove(folder: Path, steps: list[int]) -> None:
    """Removes checkpoints. Renamed first: one that is half removed must not look like one that is there."""
    for step in steps:
        discarded = folder / f"{step}{_DISCARDED}"
        shutil.rmtree(discarded, ignore_errors=True)
        (folder / str(step)).rename(discarded)
        shutil.rmtree(discarded, ignore_errors=True)


def _reason(error: Exception) -> str:
    text = str(error).strip() or "no further word"
    return f"{type(error).__name__}: {text.splitlines()[0][:200]}"


def _pytree_handler() -> ocp.PyTreeCheckpointHandler:
    _quiet_orbax()
    # Trained weights barely compress, and the time is taken from the training.
    return ocp.PyTreeCheckpointHandler(use_compression=False)


@functools.cache
def _quiet_orbax() -> None:
    """Keeps Orbax's running commentary out of the log; its warnings and errors stay."""
    absl_logging.get_absl_logger().addFilter(
        lambda entry: entry.levelno >= logging.WARNING or f"{os.sep}orbax{os.sep}" not in entry.pathname
    )
