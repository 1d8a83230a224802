import io
import json
import pickle
import re
import sys

import jax.numpy as jnp
import numpy as np
import pytest

from jaxmoust.runtime.progress import MetricWriter, NonFiniteError, Progress, check_finite


def lines(folder) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def write_steps(folder, *steps, **kwargs) -> None:
    with MetricWriter(folder, tensorboard=False, **kwargs) as writer:
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
    writer = MetricWriter(tmp_path, tensorboard=False)
    writer.write(np.int64(3), {"loss": np.float32(0.25), "rate": 2})
    assert lines(tmp_path) == [{"step": 3, "loss": 0.25, "rate": 2}]
    writer.close()
    writer.close()


def test_a_non_finite_value_is_never_written(tmp_path):
    with MetricWriter(tmp_path, tensorboard=False) as writer, pytest.raises(NonFiniteError):
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


def test_tensorboard_is_not_imported_unless_wanted(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    write_steps(tmp_path, 1)
    assert not (tmp_path / "tensorboard").exists()


def test_only_the_primary_writes_and_all_check(tmp_path):
    writer = MetricWriter(tmp_path, primary=False)
    writer.write(1, {"loss": 1.0})
    with pytest.raises(NonFiniteError):
        writer.write(2, {"loss": float("inf")})
    assert list(tmp_path.iterdir()) == []


class Clock:
    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_writes_a_line_an_interval_where_there_is_no_terminal():
    stream, clock = io.StringIO(), Clock()
    with Progress(1000, title="train", stream=stream, interval=10, clock=clock) as progress:
        for second in range(1, 26):
            clock.seconds = second
            progress.update(40, "loss 0.5")
    assert stream.getvalue().splitlines() == [
        "train: 400/1,000 images (40%), 40 images/s, 0:00:15 left, loss 0.5",
        "train: 800/1,000 images (80%), 40 images/s, 0:00:05 left, loss 0.5",
        "train: 1,000/1,000 images (100%) in 0:00:25, 40 images/s",
    ]


def test_progress_does_not_count_what_an_earlier_process_did_as_its_rate():
    stream, clock = io.StringIO(), Clock()
    with Progress(100, unit="steps", stream=stream, initial=60, clock=clock) as progress:
        clock.seconds = 10.0
        progress.update(20)
        clock.seconds = 3600.0
    first, last = stream.getvalue().splitlines()
    assert first == "80/100 steps (80%), 2 steps/s, 0:00:10 left"
    assert last == "80/100 steps (80%) in 1:00:00, 0.00556 steps/s"


def test_progress_says_where_an_error_stopped_it():
    stream = io.StringIO()
    with pytest.raises(KeyError), Progress(4, title="sample", stream=stream) as progress:
        progress.update(3)
        raise KeyError
    assert stream.getvalue().startswith("sample: stopped at 3/4 images (75%) in 0:00:00")


def test_progress_without_progress_divides_by_nothing():
    stream, clock = io.StringIO(), Clock()
    with Progress(0, stream=stream, clock=clock, interval=0.5) as progress:
        clock.seconds = 1.0
        progress.update(0)
    assert stream.getvalue().splitlines() == ["0/0 images, 0 images/s", "0/0 images in 0:00:01, 0 images/s"]


def test_progress_is_a_bar_on_a_terminal():
    stream = Terminal()
    with Progress(50, title="train", stream=stream) as progress:
        for _ in range(5):
            progress.update(10, "loss 0.5")
    last = stream.getvalue().rstrip().split("\r")[-1]
    assert re.search(r"train: 100%.*50/50 \[00:00<00:00, .*images/s, loss 0\.5\]", last), last


@pytest.mark.parametrize("kind", [io.StringIO, Terminal])
def test_progress_never_raises_on_a_closed_stream(kind):
    stream = kind()
    progress = Progress(10, stream=stream, interval=0)
    progress.update(1)
    stream.close()
    with progress:
        progress.update(2)
        progress.update(3)
    assert progress.done == 6
    with Progress(1, stream=stream) as progress:
        progress.update(1)


def test_progress_that_is_not_enabled_is_silent(capsys):
    with Progress(2, enabled=False, interval=0) as progress:
        progress.update(2)
    assert progress.done == 2
    assert capsys.readouterr() == ("", "")
