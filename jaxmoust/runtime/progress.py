"""What a run says while it runs: metrics to a file and to TensorBoard, progress to a terminal or a log.

Knows nothing of what is measured, except that a number that is not finite is never written.
"""

import json
import math
import os
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from tqdm import tqdm

from jaxmoust.runtime.paths import atomic_write


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
    killed and resumed at step n has every line up to n once.

    Args:
        folder: the run's folder, which exists.
        start_step: the step that the run resumes at; lines of later steps, which it will write again, are dropped.
        tensorboard: whether to write events under FOLDER/tensorboard too.
        primary: whether this process writes at all; the checks are made in every process.
    """

    def __init__(
        self,
        folder: str | os.PathLike,
        start_step: int = 0,
        tensorboard: bool = True,
        primary: bool = True,
    ):
        self._file = self._events = None
        if not primary:
            return
        path = Path(folder) / "metrics.jsonl"
        _drop_after(path, start_step)
        self._file = path.open("a", buffering=1, encoding="utf-8")
        if tensorboard:
            from tensorboardX import SummaryWriter  # slow to import, and not every run wants it

            # Events of later steps stay in the files of the killed run; TensorBoard hides them from purge_step on.
            self._events = SummaryWriter(os.fspath(Path(folder) / "tensorboard"), purge_step=start_step + 1)

    def write(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Writes one line. Raises NonFiniteError, and writes nothing, when a value is not finite."""
        numbers = check_finite(step, metrics)
        if self._file is not None:
            self._file.write(json.dumps({"step": int(step), **numbers}) + "\n")
        if self._events is not None:
            for name, value in numbers.items():
                self._events.add_scalar(name, value, int(step))

    def close(self) -> None:
        """Closes the files; a second call does nothing."""
        for sink in (self._file, self._events):
            if sink is not None:
                sink.close()
        self._file = self._events = None

    def __enter__(self) -> "MetricWriter":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


class Progress:
    """Shows how far a task is, its rate and the time left: a bar on a terminal, now and then a line elsewhere.

    A context manager. Never stops the task: a stream that was closed is no longer written to.

    Args:
        total: how many units there are.
        unit: what is counted, in the plural.
        title: what is being done.
        stream: where to write; standard error by default.
        initial: how many units were done before, in an earlier process.
        interval: seconds between two lines where there is no terminal.
        enabled: False in the processes that keep silent.
        clock: gives the time in seconds.
    """

    def __init__(
        self,
        total: int,
        unit: str = "images",
        title: str = "",
        stream: TextIO | None = None,
        *,
        initial: int = 0,
        interval: float = 10.0,
        enabled: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.total, self.unit, self.title = total, unit, title
        self.done = self._initial = initial
        self._stream = (sys.stderr if stream is None else stream) if enabled else None
        self._interval, self._clock = interval, clock
        self._start = self._last_time = clock()
        self._last_done = initial
        self._bar = None
        if self._stream is not None and _is_terminal(self._stream):
            self._quietly(self._open_bar)

    def update(self, n: int = 1, note: str = "") -> None:
        """Counts n more units; `note`, such as a loss, is shown behind the numbers."""
        self.done += n
        if self._bar is not None:
            self._quietly(lambda: (self._bar.set_postfix_str(note, refresh=False), self._bar.update(n)))
        elif self._stream is not None and (now := self._clock()) - self._last_time >= self._interval:
            # The rate since the last line: the first one alone pays for compilation.
            rate = (self.done - self._last_done) / (now - self._last_time)
            self._last_time, self._last_done = now, self.done
            left = f", {_clock_text((self.total - self.done) / rate)} left" if rate > 0 else ""
            self._line(f"{self._count()}, {_rate_text(rate, self.unit)}{left}{note and ', ' + note}")

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, kind: type | None, *exception: object) -> None:
        """Closes the bar, or writes the last line: how much was done, in what time."""
        if self._bar is not None:
            self._quietly(self._bar.close)
        elif self._stream is not None:
            seconds = self._clock() - self._start
            rate = (self.done - self._initial) / seconds if seconds > 0 else 0.0
            state = "stopped at " if kind is not None else ""
            self._line(f"{state}{self._count()} in {_clock_text(seconds)}, {_rate_text(rate, self.unit)}")
        self._bar = self._stream = None

    def _open_bar(self) -> None:
        self._bar = tqdm(
            total=self.total,
            initial=self._initial,
            unit=f" {self.unit}",
            desc=self.title or None,
            file=self._stream,
            dynamic_ncols=True,
        )

    def _count(self) -> str:
        percent = f" ({100 * self.done // self.total}%)" if self.total else ""
        return f"{self.done:,}/{self.total:,} {self.unit}{percent}"

    def _line(self, text: str) -> None:
        self._quietly(lambda: print(f"{self.title}: {text}".lstrip(": "), file=self._stream, flush=True))

    def _quietly(self, action: Callable[[], object]) -> None:
        try:
            action()
        except (OSError, ValueError):  # a broken pipe; a file that somebody closed
            self._bar = self._stream = None


def _drop_after(path: Path, step: int) -> None:
    """Drops the lines of later steps, and the one that a killed process left torn, in one atomic replacement."""
    if not path.exists():
        return
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
    kept = [line for i, line in enumerate(lines) if _belongs(line, step, path, last=i == len(lines) - 1)]
    if len(kept) < len(lines):
        atomic_write(path, "".join(kept))


def _belongs(line: str, step: int, path: Path, last: bool) -> bool:
    """Whether a line is whole and of a step that is done."""
    try:
        return line.endswith("\n") and json.loads(line)["step"] <= step
    except (ValueError, KeyError, TypeError):
        if not last:
            warnings.warn(f"{path}: dropped a damaged line: {line.strip()[:80]!r}", RuntimeWarning, stacklevel=2)
        return False


def _is_terminal(stream: TextIO) -> bool:
    try:
        return stream.isatty()
    except (AttributeError, ValueError):
        return False


def _rate_text(rate: float, unit: str) -> str:
    return f"{rate:,.0f} {unit}/s" if rate >= 100 else f"{rate:.3g} {unit}/s"


def _clock_text(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}"
