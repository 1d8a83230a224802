"""No name of a class or a file steers the terminal."""

import os
import sys

import pytest
from PIL import Image

from jaxmoust.cli import terminal

ODD = "\x1b]0;owned\x07\x1b[31mred\x1b[0m"


def test_inspect_writes_controls_in_a_name_as_what_they_are_called(cli, tmp_path):
    for name in (ODD, "naïve ☃ 猫", "tur\u202eed"):
        (tmp_path / name).mkdir()
        for i in range(2):
            Image.new("L", (4, 4)).save(tmp_path / name / f"{i}.png")
    done = cli("data inspect --source=folder --path={path}", path=tmp_path)
    assert done.code == 0 and done.err == ""
    assert r"\x1b]0;owned\x07\x1b[31mred\x1b[0m" in done.out and r"tur\u202eed" in done.out
    assert "naïve ☃ 猫" in done.out and "\x1b" not in done.out


def test_an_error_writes_bytes_that_are_no_text_as_what_they_are_called(cli, tmp_path):
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / os.fsdecode(b"caf\xe9\x1b[2J.png")).write_bytes(b"")
    Image.new("L", (4, 4)).save(tmp_path / "cat" / "a.png")
    done = cli("data inspect --source=folder --path={path} --split=all", path=tmp_path)
    assert done.code == 2 and r"caf\udce9\x1b[2J.png" in done.err and "Traceback" not in done.err
    assert "\x1b" not in done.err


@pytest.mark.parametrize("text", ["a\tb\r\n", "100 %|██████| é ☃ \N{FAMILY}", "", "👩\u200d👩\u200d👧"])
def test_text_is_written_as_it_is(capsys, text):
    with terminal.plain_streams():
        print(text, end="")
        print(text, end="", file=sys.stderr)
        assert sys.stdout.encoding.lower() == "utf-8" and not sys.stdout.isatty()
    out = capsys.readouterr()
    assert (out.out, out.err) == (text, text)
