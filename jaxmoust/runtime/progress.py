"""The output of a run while it runs: metrics to a file and to TensorBoard, progress to a terminal or a log.

Knows nothing of what is measured, except that a number that is not finite is never written.
"""

import contextlib
import json
import math
import os
import sys
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from tqdm import tqdm

from jaxmoust.runtime.paths import atomic_write

FLUSH_SECS = 30.0  # between two moments at which TensorBoard sees what is new
LINE_SECS = 10.0  # between two lines where there is no terminal
LINE = "{desc}{n_fmt}/{total_fmt}{unit} ({percentage:.0f}%) in {elapsed}, {rate_noinv_fmt}, {remaining} left"


class NonFiniteError(RuntimeError):
    """A metric is NaN or infinite: the run has diverged and must not go on.

    Args:
        step, name, value: where, what, and the value found.
    """

    def __init__(self, step: int, name: str, value: float):
        super().__init__(step, name, value)
        self.step, self.name, self.value = step, name, value

    def __str__(self) -> str:
        """Says what happened and what to do."""
        return (
            f"step {self.step}: {self.name} is {self.value}. The run was stopped; checkpoints from before this "
            "step are kept. Lower the learning rate, clip the gradients or compute in float32, in a new folder."
        )


def check_finite(step: int, metrics: Mapping[str, Any]) -> dict[str, int | float]:
    """Returns the metrics as plain numbers.

    Args:
        step: the step they belong to.
        metrics: {name: Python, NumPy or JAX scalar}.
    Raises: NonFiniteError: one is NaN or infinite. ValueError: one is not a single number.
    """
    numbers = {}
    for name, value in metrics.items():
        array = np.asarray(value)
        number = array.item() if array.size == 1 else None
        if not isinstance(number, int | float):
            raise ValueError(f"metric {name} has shape {array.shape} and type {array.dtype}. Allowed: one number.")
        if not math.isfinite(number):
            raise NonFiniteError(step, name, number)
        numbers[name] = number
    return numbers


class MetricWriter:
    """Writes metrics to FOLDER/metrics.jsonl, one `{"step": n, name: value, ...}` a line, and to TensorBoard.

    A line is in the file when `write` returns. Write a step's metrics before its checkpoint: then a run that is
    killed and resumed at step n has every line up to n once. Nothing is written beside the caller's own thread: what
    goes wrong, such as a full disk, is an error of `write` or `close`.

    Args:
        folder: the run's folder, which exists.
        start_step: the step that the run resumes at; lines of later steps, which it will write again, are dropped.
    """

    def __init__(self, folder: str | os.PathLike, start_step: int = 0):
        from tensorboardX.event_file_writer import EventsWriter  # slow to import
        from tensorboardX.proto.event_pb2 import SessionLog

        path, tensorboard = Path(folder) / "metrics.jsonl", Path(folder) / "tensorboard"
        _drop_after(path, start_step)
        tensorboard.mkdir(exist_ok=True)
        self._file = path.open("a", buffering=1, encoding="utf-8")
        self._events = EventsWriter(os.fspath(tensorboard / "events"), f".{os.getpid()}")
        self._flushed = time.monotonic()
        # Events of later steps stay in the files of the killed run; TensorBoard hides them from this step on.
        self._write_event(start_step + 1, session_log=SessionLog(status=SessionLog.START))

    def write(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Writes one line. Raises NonFiniteError, and writes nothing, when a value is not finite."""
        from tensorboardX.proto.summary_pb2 import Summary

        numbers = check_finite(step, metrics)
        self._file.write(json.dumps({"step": int(step), **numbers}) + "\n")
        values = [Summary.Value(tag=name, simple_value=value) for name, value in numbers.items()]
        self._write_event(int(step), summary=Summary(value=values))

    def sync(self) -> None:
        """Forces the lines to the disk: a checkpoint must not outlive those of before it when the power fails."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Closes the files; a second call does nothing."""
        if not self._file.closed:
            with contextlib.closing(self._events):
                self._file.close()

    def __enter__(self) -> "MetricWriter":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _write_event(self, step: int, **content: Any) -> None:
        from tensorboardX.proto.event_pb2 import Event

        self._events.write_event(Event(wall_time=time.time(), step=step, **content))
        if time.monotonic() - self._flushed >= FLUSH_SECS:  # it waits for the disk
            self._events.flush()
            self._flushed = time.monotonic()


def progress(
    total: int,
    unit: str = "images",
    title: str = "",
    *,
    initial: int = 0,
    enabled: bool = True,
    stream: TextIO | None = None,
) -> tqdm:
    """Shows how far a task is, its rate and the time left: a bar on a terminal, now and then a line elsewhere.

    Never stops the task: an error of the stream is passed over.

    Args:
        total: how many units there are.
        unit: what is counted, in the plural.
        title: what is being done.
        initial: how many units were done before, in an earlier process.
        enabled: False in the processes that keep silent.
        stream: where to write; standard error by default.
    Returns: a context manager, with `update(n)`.
    """
    output = _Output(sys.stderr if stream is None else stream)
    # Rates are those since the line before: the first one alone pays for compilation.
    lines = {"bar_format": LINE, "mininterval": LINE_SECS, "smoothing": 1.0, "miniters": 1}
    how = {"dynamic_ncols": True} if output.isatty() else lines
    desc = title and f"{title}: "
    return tqdm(total=total, initial=initial, unit=f" {unit}", desc=desc, file=output, disable=not enabled, **how)


class _Output:
    """The stream of a `tqdm`, as lines where it is no terminal; its errors are ignored."""

    def __init__(self, stream: TextIO):
        self._stream, self.encoding, self._terminal = stream, getattr(stream, "encoding", None), False
        with contextlib.suppress(OSError, ValueError):  # a broken pipe; a file that somebody closed
            self._terminal = stream.isatty()

    def isatty(self) -> bool:
        return self._terminal

    def fileno(self) -> int:
        return self._stream.fileno()

    def write(self, text: str) -> None:
        if not self._terminal:
            text = " ".join(text.split())
            text += "\n" if text else ""
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()


def read_metrics(path: str | os.PathLike) -> tuple[list[dict[str, float]], int]:
    """Reads the whole lines of a metrics.jsonl: {"step": n, name: number, ...} each, and how many others there are.

    Raises: OSError: there is none, or it cannot be read.
    """
    rows = [row for _, row in _lines(Path(path))]
    whole = [row for row in rows if row is not None]
    return whole, len(rows) - len(whole)


def _lines(path: Path) -> list[tuple[str, dict[str, float] | None]]:
    """The lines of a file and what each says; None of one that is torn or damaged."""
    return [(line, _row(line)) for line in path.read_text("utf-8", "replace").splitlines(keepends=True)]


def _row(line: str) -> dict[str, float] | None:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not (line.endswith("\n") and isinstance(row, dict) and type(row.get("step")) is int):
        return None
    return row if all(type(x) in (int, float) and abs(x) <= sys.float_info.max for x in row.values()) else None


def _drop_after(path: Path, step: int) -> None:
    """Drops the lines of later steps, and the one that a killed process left torn, in one atomic replacement."""
    if not path.exists():
        return
    lines = _lines(path)
    for line, row in lines[:-1]:
        if row is None:
            warnings.warn(f"{path}: dropped a damaged line: {line.strip()[:80]!r}", RuntimeWarning, stacklevel=3)
    kept = [line for line, row in lines if row is not None and row["step"] <= step]
    if len(kept) < len(lines):
        atomic_write(path, "".join(kept))
