import io
import json
import os
import pickle
import re
import threading

import jax.numpy as jnp
import numpy as np
import pytest

from jaxmoust.runtime import progress as progress_module
from jaxmoust.runtime.progress import MetricWriter, NonFiniteError, check_finite, progress, read_metrics


def lines(folder) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def write_steps(folder, *steps, **kwargs) -> None:
    with MetricWriter(folder, **kwargs) as writer:
        for step in steps:
            writer.write(step, {"loss": step / 2})


def test_check_finite_gives_plain_numbers():
    numbers = check_finite(
        1, {"a": np.float32(0.5), "b": jnp.asarray(2), "c": 3, "d": jnp.bfloat16(1.5), "e": np.ones(1)}
    )
    assert numbers == {"a": 0.5, "b": 2, "c": 3, "d": 1.5, "e": 1.0}
    assert {type(value) for value in numbers.values()} == {int, float}


@pytest.mark.parametrize("value", [float("nan"), np.float32("inf"), jnp.asarray(-jnp.inf), jnp.bfloat16(jnp.nan)])
def test_check_finite_says_the_step_the_metric_and_the_remedy(value):
    with pytest.raises(NonFiniteError, match=r"step 12: train/loss is (nan|inf|-inf)\..*learning rate") as error:
        check_finite(12, {"fine": 1.0, "train/loss": value})
    assert (error.value.step, error.value.name) == (12, "train/loss")
    assert str(pickle.loads(pickle.dumps(error.value))) == str(error.value)


@pytest.mark.parametrize("value", [np.zeros(2), "1.0", 1j, None])
def test_check_finite_refuses_what_is_not_one_number(value):
    with pytest.raises(ValueError, match=r"metric loss .* Allowed: one number"):
        check_finite(0, {"loss": value})


def test_a_line_is_in_the_file_when_write_returns(tmp_path):
    writer = MetricWriter(tmp_path)
    writer.write(np.int64(3), {"loss": np.float32(0.25), "rate": 2})
    assert lines(tmp_path) == [{"step": 3, "loss": 0.25, "rate": 2}]
    writer.close()
    writer.close()


def test_a_non_finite_value_is_never_written(tmp_path):
    with MetricWriter(tmp_path) as writer, pytest.raises(NonFiniteError):
        writer.write(1, {"fine": 1.0, "loss": float("nan")})
    assert lines(tmp_path) == []


def test_a_resumed_run_repeats_no_line(tmp_path):
    write_steps(tmp_path, 1, 2, 3, 4)
    write_steps(tmp_path, 3, 4, 5, start_step=2)
    assert [line["step"] for line in lines(tmp_path)] == [1, 2, 3, 4, 5]


def test_a_run_started_anew_begins_with_an_empty_file(tmp_path):
    write_steps(tmp_path, 1, 2)
    write_steps(tmp_path, 1)
    assert [line["step"] for line in lines(tmp_path)] == [1]


@pytest.mark.parametrize("torn", ['{"step": 3, "lo', '{"step": 3}', "{", "\x00\x00"])
def test_a_torn_last_line_is_dropped(tmp_path, torn):
    write_steps(tmp_path, 1, 2)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write(torn)
    write_steps(tmp_path, 4, start_step=3)
    assert [line["step"] for line in lines(tmp_path)] == [1, 2, 4]


def test_a_damaged_line_is_dropped_aloud(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\nrubbish\n[2]\n{"step": 2}\n')
    with pytest.warns(RuntimeWarning, match="dropped a damaged line: "):
        write_steps(tmp_path, start_step=9)
    assert [line["step"] for line in lines(tmp_path)] == [1, 2]


@pytest.mark.parametrize(
    "line", ['{"step": "x"}', "[2]", '{"step": 2, "loss": NaN}', '{"loss": 1}', "\x00", '{"step": true}']
)
def test_a_line_that_is_none_costs_its_reader_that_line_alone(tmp_path, line):
    (tmp_path / "metrics.jsonl").write_text(f'{{"step": 1, "loss": 0.5}}\n{line}\n{{"step": 3}}\n{{"step": 4, "lo')
    assert read_metrics(tmp_path / "metrics.jsonl") == ([{"step": 1, "loss": 0.5}, {"step": 3}], 2)


def test_tensorboard_gets_the_same_numbers(tmp_path):
    from tensorboardX.proto import event_pb2

    with MetricWriter(tmp_path, start_step=4) as writer:
        writer.write(5, {"train/loss": 0.5})
        writer.write(6, {"train/loss": 0.25})
    (path,) = (tmp_path / "tensorboard").iterdir()
    data, events = path.read_bytes(), []
    while data:  # a record: length, its check sum, the event, its check sum
        size = int.from_bytes(data[:8], "little")
        events.append(event_pb2.Event.FromString(data[12 : 12 + size]))
        data = data[16 + size :]
    assert [(e.step, v.tag, v.simple_value) for e in events for v in e.summary.value] == [
        (5, "train/loss", 0.5),
        (6, "train/loss", 0.25),
    ]
    assert [e.step for e in events if e.session_log.status] == [5]  # what TensorBoard hides a killed run from


def test_a_disk_that_is_full_ends_the_run_with_its_reason(tmp_path, monkeypatch):
    """Every record of TensorBoard's and every line goes through the caller's own hands."""
    monkeypatch.setattr(progress_module, "FLUSH_SECS", 0.0)
    writer = MetricWriter(tmp_path)
    threads = threading.active_count()
    os.dup2(os.open("/dev/full", os.O_WRONLY), writer._events._py_recordio_writer._writer.fileno())
    with pytest.raises(OSError, match="No space left"):
        writer.write(1, {"loss": 1.0})
    assert threading.active_count() == threads


@pytest.fixture
def clock(monkeypatch):
    """A clock for `tqdm`, set by hand."""

    class Clock:
        seconds = 0.0

    monkeypatch.setattr("tqdm.std.time", lambda: Clock.seconds)
    return Clock


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_writes_a_line_an_interval_where_there_is_no_terminal(clock):
    stream = io.StringIO()
    with progress(1000, title="train", stream=stream) as bar:
        for second in range(1, 26):
            clock.seconds = second
            bar.update(40)
    assert stream.getvalue().splitlines() == [
        "train: 0/1000 images (0%) in 00:00, ? images/s, ? left",
        "train: 400/1000 images (40%) in 00:10, 40.00 images/s, 00:15 left",
        "train: 800/1000 images (80%) in 00:20, 40.00 images/s, 00:05 left",
        "train: 1000/1000 images (100%) in 00:25, 40.00 images/s, 00:00 left",
    ]


def test_progress_does_not_count_what_an_earlier_process_did_as_its_rate(clock):
    stream = io.StringIO()
    with progress(100, unit="steps", stream=stream, initial=60) as bar:
        clock.seconds = 10.0
        bar.update(20)
        clock.seconds = 3600.0
    assert stream.getvalue().splitlines()[1:] == [
        "80/100 steps (80%) in 00:10, 2.00 steps/s, 00:10 left",
        "80/100 steps (80%) in 1:00:00, 0.01 steps/s, 1:00:00 left",
    ]


def test_progress_says_where_an_error_stopped_it():
    stream = io.StringIO()
    with pytest.raises(KeyError), progress(4, title="sample", stream=stream) as bar:
        bar.update(3)
        raise KeyError
    assert stream.getvalue().splitlines()[-1].startswith("sample: 3/4 images (75%) in 00:00")


def test_progress_without_progress_divides_by_nothing(clock):
    stream = io.StringIO()
    with progress(0, stream=stream) as bar:
        clock.seconds = 11.0
        bar.update(0)
    assert stream.getvalue().splitlines()[-1].startswith("0/0 images (0%) in 00:11")


def test_progress_is_a_bar_on_a_terminal():
    stream = Terminal()
    with progress(50, title="train", stream=stream) as bar:
        for _ in range(5):
            bar.update(10)
    last = stream.getvalue().rstrip().split("\r")[-1]
    assert re.search(r"train: 100%.*50/50 \[00:00<00:00, .*images/s\]", last), last


@pytest.mark.parametrize("kind", [io.StringIO, Terminal])
@pytest.mark.parametrize("error", [ValueError("I/O operation on closed file"), BrokenPipeError(32, "Broken pipe")])
def test_progress_never_raises_what_its_stream_does(kind, error, clock):
    stream = kind()

    def write(*text):
        raise error

    with progress(10, stream=stream) as bar:
        bar.update(1)
        stream.write = stream.flush = stream.isatty = write
        clock.seconds = 11.0
        bar.update(2)
        assert bar.n == 3
    with progress(1, stream=stream) as bar:
        bar.update(1)


def test_progress_that_is_not_enabled_is_silent(capsys):
    with progress(2, enabled=False) as bar:
        bar.update(2)
    assert capsys.readouterr() == ("", "")


def test_number_that_no_float_holds_is_a_damaged_line(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "loss": 2}\n{"step": 2, "loss": 1' + "0" * 400 + "}\n")
    rows, lost = read_metrics(tmp_path / "metrics.jsonl")
    assert lost == 1 and [row["step"] for row in rows] == [1]
