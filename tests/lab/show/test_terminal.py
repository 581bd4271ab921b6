"""The display while training: on a terminal, without one, and in ASCII."""

from __future__ import annotations

import io
import os
import pty
import re
import subprocess
import sys

import pytest

from reminding.lab.show.terminal import ASCII, LiveDisplay, say, show_table, sparkline

RUN = """
from reminding.lab.show.terminal import LiveDisplay
with LiveDisplay("a run", 40) as display:
    for step in range(1, 41):
        display.update(step, 1 / step)
        if step % 10 == 0:
            display.evaluated(step, "accuracy", step / 40, 2.5)
    display.warn(40, "something is wrong")
"""


def on_a_terminal(script: str, **environment: str) -> str:
    """What a script writes to a terminal of 80 columns, with all control sequences."""
    ours, theirs = pty.openpty()
    surroundings = {**os.environ, "TERM": "xterm", "COLUMNS": "80", **environment}
    with subprocess.Popen([sys.executable, "-c", script], stdout=theirs, stderr=theirs, env=surroundings) as process:
        os.close(theirs)
        with io.FileIO(ours) as file:
            written = b""
            try:
                while part := file.read(65536):
                    written += part
            except OSError:  # Linux signals the end this way
                pass
    assert process.returncode == 0, written.decode()
    return written.decode()


def test_a_terminal_shows_the_course_of_each_number() -> None:
    text = on_a_terminal(RUN, PYTHONIOENCODING="utf-8")
    lines = [line for line in text.splitlines() if "valid accuracy" in line]
    assert re.search(r"▁▃▆█ +1 *$", lines[-1])  # the columns are as wide as the sparkline of the loss
    assert any("norm of h" in line and "2.5" in line for line in text.splitlines())
    assert "warning: something is wrong" in text


def test_a_terminal_without_blocks_gets_ascii() -> None:
    text = on_a_terminal(RUN, PYTHONIOENCODING="ascii")
    assert text.isascii()
    assert sparkline([0.25, 0.5, 0.75, 1.0], ASCII) in text


def test_without_a_terminal_there_are_plain_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with LiveDisplay("a run", 2) as display:
        display.update(1, 0.5)
        display.evaluated(1, "accuracy", 0.25, 2.0)
        display.warn(1, "something is wrong")
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("a run  1/2")
    assert "valid accuracy 0.2500" in first
    assert second == "a run  1/2  warning: something is wrong"


def test_what_takes_long_is_said_on_a_terminal_alone() -> None:
    script = "from reminding.lab.show.terminal import doing\nwith doing('reading a file'): pass"
    assert "reading a file" in on_a_terminal(script)
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert (found.stdout.strip(), found.stderr) == ("", "")


WIDE = """
from reminding.lab.show.terminal import show_table
columns = [f"a_name_of_a_column_{number:02d}" for number in range(12)]
show_table("a forecast", ["time", *columns], [["2024-01-01 00:00", *(f"{number}.25" for number in range(12))]])
"""


def test_a_table_of_many_columns_is_shown_in_parts_on_a_terminal() -> None:
    text = re.sub(r"\x1b\[[\d;]*m", "", on_a_terminal(WIDE, PYTHONIOENCODING="utf-8"))
    assert "…" not in text
    assert re.findall(r"a_name_of_a_column_(\d\d)", text) == [f"{number:02d}" for number in range(12)]
    assert re.findall(r"(\d+)\.25", text) == list(map(str, range(12)))
    assert text.count("00:00") == text.count("time") > 1
    assert text.count("a forecast") == 1


NARROW = """
from reminding.lab.show.terminal import show_table
columns = ["method", "ms/update", "peak MB", "parameters", "backward steps", "from last step", "task"]
show_table("T" * 70, columns, [["r", "28", "473", "505", "2", "2", "stream a.csv, time=when, chunk=20"]])
"""


def test_no_word_is_broken_where_there_is_room_for_it() -> None:
    text = re.sub(r"\x1b\[[\d;]*m", "", on_a_terminal(NARROW, PYTHONIOENCODING="utf-8"))
    words = {"ms/update", "parameters", "backward", "a.csv,", "time=when,", "chunk=20", "T" * 70}
    assert words <= set(text.split())
    assert max(map(len, text.splitlines())) <= 80


def test_a_terminal_that_says_it_has_no_columns_shows_all_the_same(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "0")
    say("seen")
    show_table("table", ["a"], [["1"]])
    shown = capsys.readouterr().out
    assert all(each in shown for each in ("seen", "table", "1")), shown


def test_a_table_has_a_line_for_each_row_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    columns = [f"a_name_of_a_column_{number:02d}" for number in range(40)]
    show_table("", ["row", *columns], [[str(row), *(f"{row}.{number}" for number in range(40))] for row in range(3)])
    head, _, *rows = [line.split() for line in capsys.readouterr().out.splitlines() if line.strip()]
    assert head == ["row", *columns]
    assert rows == [[str(row), *(f"{row}.{number}" for number in range(40))] for row in range(3)]
