"""Checkpoints of a run: written by Orbax while training goes on, whole or not at all, and checked when read.

    FOLDER/README.md     how to open one with Orbax alone
    FOLDER/STEP/state    {"params": {...}, "opt_state": {...}, ...}: nested dicts of arrays             (Orbax PyTree)
    FOLDER/STEP/record   leaves {name: [type, shape, crc32]}, best, metrics, extra                      (JSON)

The state is one logical copy, so the first process writes it all. Knows nothing of what is in the state.
"""

import contextlib
import functools
import json
import logging
import math
import os
import warnings
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging as absl_logging

from jaxmoust.runtime.paths import atomic_write, sync

BEST = "@best"
"""Behind the folder of a run in a configuration: the checkpoint that was best by its metric, not the newest."""

# Of the newest; two, so that one may turn out to be damaged.
NUM_KEPT = 2

README = """Each folder with a number is a checkpoint after so many updates. Orbax alone opens the newest, from this folder:

    import pathlib, orbax.checkpoint as ocp
    state = ocp.CheckpointManager(pathlib.Path.cwd()).restore(None, args=ocp.args.Composite(state=ocp.args.PyTreeRestore())).state

`state` holds nested dicts of arrays: `params`, `ema` (averages), `opt_state`. `record` has their check sums and metrics.
"""  # noqa: E501


# What a save may take. Orbax reads the wall clock: one that is set while it waits must not end a run, and what truly
# never comes is the end of another process, which JAX finds by itself.
_NEVER_SECS = 100 * 365 * 86400


class _Synced(ocp.path.atomicity.AtomicRenameTemporaryPath):
    """A checkpoint's folder that gets its name once all of it is on the disk, and whose name is there to stay."""

    async def finalize(self) -> None:
        """Forces the files to the disk, renames the folder, and forces that too: only then do older ones go."""
        _sync_tree(Path(self.get()))
        await super().finalize()
        _sync_tree(Path(self.get_final()))
        sync(Path(self.get_final()).parent)


def _sync_tree(folder: Path) -> None:
    for path in (*folder.rglob("*"), folder):
        sync(path)


class BrokenCheckpoint(ValueError):
    """Checkpoints exist and none that was asked for is whole."""


class Checkpoints:
    """The checkpoints of one run. Keeps the newest ones and the best.

    Of several processes every one makes the same calls at the same steps. Close it, or use it as a context
    manager: the last checkpoint is only sure to be there after `wait` or `close`.

    Args:
        folder: where they lie; made by the first `save`.
        best: the metric that says which checkpoint is best, a loss when it is lowest, others when they are highest;
            "": none is.
        primary: whether this process writes the README.
    """

    def __init__(self, folder: str | os.PathLike, best: str = "", primary: bool = True):
        self._folder, self._best, self._primary = Path(folder).absolute(), best, primary
        self._scores = _scores(self._folder, best) if best else {}
        self._broken: set[int] = set()  # found by `restore`; they go when a new checkpoint is there

    @property
    def steps(self) -> list[int]:
        """The steps of the checkpoints that are there, ascending."""
        return _steps(self._folder)

    @property
    def best_step(self) -> int | None:
        """The step of the best checkpoint, the newest of equals; None while no checkpoint has the metric."""
        return _best_step(self._scores)

    def save(
        self,
        step: int,
        state: Any,
        extra: Mapping[str, Any] | None = None,
        metrics: Mapping[str, float] | None = None,
    ) -> None:
        """Starts to write a checkpoint; the state may be donated or changed as soon as this returns.

        Waits for the checkpoint before it, and raises what went wrong with that. Takes the place of a checkpoint of
        this step.

        Args:
            step: completed updates.
            state: pytree of arrays, each fully replicated or on this process's devices alone.
            extra: what else a resumed run needs, in plain JSON values.
            metrics: numbers; the one named `best` decides how long the checkpoint is kept.
        Raises: ValueError: an array spread over processes; `extra` or `metrics` that JSON cannot hold.
        """
        leaves = _fetch(state)
        record = {
            "step": int(step),
            "leaves": {name: [leaf.dtype.name, list(leaf.shape), _crc32(leaf)] for name, leaf in leaves.items()},
            "best": self._best,
            "metrics": {name: float(value) for name, value in (metrics or {}).items()},
            "extra": dict(extra or {}),
        }
        try:
            record = json.loads(json.dumps(record, allow_nan=False))  # as it will be read
        except (TypeError, ValueError) as error:
            raise ValueError(f"extra or metrics cannot be kept as JSON: {error}.") from error
        self.wait()
        if step in self._manager.all_steps():
            self._manager.delete(step)
        self._broken.discard(step)
        if self._best in record["metrics"]:
            self._scores[step] = _score(self._best, record["metrics"])
        self._manager.save(
            step,
            force=True,  # a run that starts anew saves steps before those of its broken checkpoints
            args=ocp.args.Composite(
                state=ocp.args.PyTreeSave(_nested({name: leaf for name, leaf in leaves.items() if leaf.size})),
                record=ocp.args.JsonSave({**record, "sum": _sum(record)}),
            ),
        )

    def restore(self, template: Any) -> tuple[Any, dict[str, Any]] | None:
        """Restores the newest checkpoint that is whole, bit for bit, and warns of each that was skipped.

        Args: template: a state of the same structure, whose leaves have a shape and a dtype.
        Returns: (state of NumPy arrays, extra), or None when there is no checkpoint, or (with a warning) none that is
            whole: then the run starts at step 0.
        Raises: ValueError: the checkpoint has other leaves, shapes or types than the template; each is named.
        """
        self.wait()
        if not (steps := self.steps):
            return None
        try:
            leaves, record, self._broken = _newest_whole(self._folder, steps)
        except BrokenCheckpoint as error:
            self._broken = set(steps)
            warnings.warn(f"Starting anew, at step 0: {error}", RuntimeWarning, stacklevel=2)
            return None
        wanted = _named(template)
        _check_fit(self._folder / str(record["step"]), leaves, wanted)
        structure = jax.tree.structure(template)
        return jax.tree.unflatten(structure, [leaves[name] for name in wanted]), record["extra"]

    def wait(self) -> None:
        """Waits until the checkpoint that was started is there. Raises what went wrong with writing it."""
        if "_manager" in self.__dict__:
            self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits, and lets go of the threads; a second call does nothing."""
        if "_manager" in self.__dict__:
            self.__dict__.pop("_manager").close()

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any = None) -> list[bool]:
        """Which checkpoints stay when the last of them is there: the newest whole ones, and the best. For Orbax."""
        whole = sorted(info.step for info in checkpoints if info.step not in self._broken)
        kept = {*whole[-NUM_KEPT:], self.best_step}
        return [info.step in kept for info in checkpoints]

    @functools.cached_property
    def _manager(self) -> ocp.CheckpointManager:
        """Opens the folder for writing; what killed processes left half written goes."""
        _quiet_orbax()
        handlers = ocp.handlers.DefaultCheckpointHandlerRegistry()
        # Trained weights barely compress, and the time is taken from the training.
        handlers.add("state", ocp.args.PyTreeSave, ocp.PyTreeCheckpointHandler(use_compression=False))
        options = ocp.CheckpointManagerOptions(
            preservation_policy=self,
            cleanup_tmp_directories=True,
            temporary_path_class=_Synced,
            # A folder that cannot be made should be an error of `save` itself, not of a thread that waits for it.
            async_options=ocp.options.AsyncOptions(create_directories_asynchronously=False, timeout_secs=_NEVER_SECS),
        )
        manager = ocp.CheckpointManager(self._folder, options=options, handler_registry=handlers)
        if self._primary:
            atomic_write(self._folder / "README.md", README)
        return manager


def restore_tree(folder: str | os.PathLike, field: str = "", which: str = "newest") -> tuple[Any, dict[str, Any]]:
    """Reads a checkpoint, or one field of it, without a template: nested dicts of NumPy arrays, and `extra`.

    Args:
        folder: where the checkpoints lie.
        field: a field of the state, such as "ema": the others are not read. "": the whole state.
        which: "newest", the newest that is whole; or "best", by the metric that the run kept the best of.
    Raises: ValueError: no checkpoint, no best one, or no such field. BrokenCheckpoint: none is whole.
    """
    if which not in ("newest", "best"):
        raise ValueError(f'checkpoint {which!r}. Allowed: "newest" and "best".')
    folder = Path(folder).absolute()
    steps = _steps(folder)
    if not steps:
        raise ValueError(f"{folder} has no checkpoint. Train first, or give the folder of a run that was trained.")
    if which == "best":
        best = _best_step(_scores(folder))
        if best is None:
            raise ValueError(f"{folder} has no best checkpoint. Ask for the newest, or train with train.best_metric.")
        steps = [best]
    try:
        leaves, record, _ = _newest_whole(folder, steps, field)
    except BrokenCheckpoint as error:
        remedy = "Remove the run's result.json, if it has one, and run the same `fit` or `train` command again."
        raise BrokenCheckpoint(f"{error}\n{remedy if which == 'newest' else 'Ask for the newest.'}") from error
    tree = _nested(leaves)
    if field and field not in tree:
        fields = sorted({name.split("/")[0] for name in record["leaves"]})
        raise ValueError(f"{folder / str(record['step'])} has no field {field!r}. There are: {', '.join(fields)}.")
    return tree[field] if field else tree, record["extra"]


def _newest_whole(
    folder: Path, steps: Sequence[int], field: str = ""
) -> tuple[dict[str, np.ndarray], dict[str, Any], set[int]]:
    """Finds the newest of some checkpoints that reads back as it was written.

    Returns: (leaves, record, steps skipped as broken).
    Raises: BrokenCheckpoint: none does.
    """
    broken: dict[int, str] = {}
    for step in reversed(steps):
        try:
            record = _read_record(folder / str(step))
            leaves = _read_leaves(folder / str(step), record, field)
        except Exception as error:  # whatever a damaged file makes a parser do
            text = str(error).strip() or "no message"
            broken[step] = f"{type(error).__name__}: {text.splitlines()[0][:200]}"
            continue
        for skipped, reason in broken.items():
            warnings.warn(
                f"skipped the checkpoint {folder / str(skipped)}, which is damaged ({reason}); going on from step "
                f"{step}.",
                RuntimeWarning,
                stacklevel=3,
            )
        return leaves, record, set(broken)
    reasons = "\n  ".join(f"step {step}: {reason}" for step, reason in broken.items())
    raise BrokenCheckpoint(f"no checkpoint asked for in {folder} is whole:\n  {reasons}")


def _scores(folder: Path, metric: str = "") -> dict[int, float]:
    """The metric of each checkpoint that has it, where lower is better with its sign changed: the best is the highest.

    Args: metric: "": the one that the newest checkpoint was written for.
    """
    records = {}
    for step in _steps(folder):
        with contextlib.suppress(Exception):  # damaged, which is for `restore` to say
            records[step] = _read_record(folder / str(step))
    metric = metric or next((record["best"] for record in reversed(records.values())), "")
    return {step: _score(metric, record["metrics"]) for step, record in records.items() if metric in record["metrics"]}


def _score(metric: str, metrics: Mapping[str, float]) -> float:
    return -metrics[metric] if metric.startswith("loss") else metrics[metric]


def _best_step(scores: Mapping[int, float]) -> int | None:
    """The step of the highest score, the newest of equals; None of no scores."""
    return max(scores, key=lambda step: (scores[step], step), default=None)


def _check_fit(path: Path, saved: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Refuses a checkpoint of another structure than what it is to be restored to, naming the leaves that differ."""
    saved, wanted = (
        {name: f"{np.dtype(leaf.dtype).name}{list(leaf.shape)}" for name, leaf in leaves.items()}
        for leaves in (saved, wanted)
    )
    lines = [
        f"{name}: {saved.get(name, 'nothing')} in the checkpoint, {wanted.get(name, 'nothing')} expected"
        for name in sorted(saved.keys() | wanted.keys())
        if saved.get(name) != wanted.get(name)
    ]
    if lines:
        shown = "\n  ".join(lines[:20] + ([f"and {len(lines) - 20} more"] if len(lines) > 20 else []))
        raise ValueError(
            f"{path} does not fit the state it is to be restored to:\n  {shown}\n"
            "Use the config that the checkpoint was trained with."
        )


def _fetch(state: Any) -> dict[str, np.ndarray]:
    """Fetches every leaf to the host, by name."""
    named = _named(state)
    for name, leaf in named.items():
        if isinstance(leaf, jax.Array) and not (leaf.is_fully_addressable or leaf.is_fully_replicated):
            raise ValueError(f"{name} is spread over processes. Allowed: arrays that each process has whole.")
    if len(named) < len(jax.tree.leaves(state)):
        raise ValueError("two leaves of the state have the same name: a key of a dict must not contain '/'.")
    return {name: np.asarray(leaf, order="C") for name, leaf in jax.device_get(named).items()}


def _named(tree: Any) -> dict[str, Any]:
    """The leaves of a tree by name, "params/dense/kernel", in the tree's order."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def _nested(leaves: Mapping[str, Any]) -> dict[str, Any]:
    """Nested dicts of leaves by name."""
    tree: dict[str, Any] = {}
    for name, leaf in leaves.items():
        *parents, last = name.split("/")
        functools.reduce(lambda node, key: node.setdefault(key, {}), parents, tree)[last] = leaf
    return tree


def _read_record(path: Path) -> dict[str, Any]:
    """Reads a checkpoint's record, checked against the sum in it."""
    record = ocp.JsonCheckpointHandler().restore(path / "record")
    if record.pop("sum") != _sum(record):
        raise ValueError("its record does not have the check sum it was written with")
    return record


def _sum(record: dict[str, Any]) -> int:
    return zlib.crc32(json.dumps(record, sort_keys=True).encode())


def _crc32(leaf: np.ndarray) -> int:
    return zlib.crc32(leaf.reshape(-1).view(np.uint8).data)


def _read_leaves(path: Path, record: dict[str, Any], field: str) -> dict[str, np.ndarray]:
    """Reads the leaves of a field ("": of all), checked against the sums in the record.

    Straight through Orbax's handler, which unlike its checkpointer does not wait for the other processes: each
    reads the same files and comes to the same end.
    """
    _quiet_orbax()
    specs = {n: spec for n, spec in record["leaves"].items() if not field or n.split("/")[0] == field}
    # Orbax has no arrays without a number.
    leaves = {name: np.zeros(shape, dtype) for name, (dtype, shape, _) in specs.items() if not math.prod(shape)}
    if wanted := _nested({name: 0 for name in specs.keys() - leaves}):
        as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), wanted)
        request = ocp.args.PyTreeRestore(item=wanted, restore_args=as_numpy, partial_restore=True)
        leaves |= _named(ocp.PyTreeCheckpointHandler().restore(path / "state", args=request))
    for name, (dtype, shape, crc32) in specs.items():
        if [leaves[name].dtype.name, list(leaves[name].shape), _crc32(leaves[name])] != [dtype, shape, crc32]:
            raise ValueError(f"{name} does not have the check sum it was written with")
    return leaves


def _steps(folder: Path) -> list[int]:
    if not folder.is_dir():
        return []
    return sorted(int(path.name) for path in folder.iterdir() if path.name.isdecimal() and path.is_dir())


@functools.cache
def _quiet_orbax() -> None:
    """Keeps Orbax's info logs out of the log, and the tracebacks of what it raises besides; warnings stay."""

    def is_said(entry: logging.LogRecord) -> bool:
        orbax = f"{os.sep}orbax{os.sep}" in entry.pathname
        return not orbax or (entry.levelno >= logging.WARNING and not entry.exc_info)

    absl_logging.get_absl_logger().addFilter(is_said)
