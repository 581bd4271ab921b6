"""The scripts in examples/ run, and print what their docstrings promise."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


def example(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_example_is_run_here() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.py")} == {"drop_in", "stream", "explain"}


def test_drop_in_reports_both_networks(capsys: pytest.CaptureFixture[str]) -> None:
    example("drop_in").main(["--quick"])
    table = capsys.readouterr().out.splitlines()[-2:]
    assert [line.split()[0] for line in table] == ["nn.LSTM", "SAB"]


def test_stream_bounds_its_state_and_credits_earlier_chunks(capsys: pytest.CaptureFixture[str]) -> None:
    example("stream").main(["--quick"])
    printed = capsys.readouterr().out
    sizes: list[str] = re.findall(r"state ([\d,]+) bytes", printed)
    assert sizes[-1] == sizes[-2] == sizes[-3]
    shares: list[str] = re.findall(r"(\d+)% of the credit", printed)
    assert max(map(int, shares)) > 0
    assert "saved, loaded, and continued" in printed


def test_stream_reads_a_table_of_the_users(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = tmp_path / "mine.csv"
    table.write_text("a,b,c\n" + "".join(f"{i % 7},{i % 5},0\n" for i in range(1300)))
    example("stream").main(["--data", str(table), "--quick"])
    assert "saved, loaded" in capsys.readouterr().out


def test_stream_refuses_a_table_that_is_too_short_to_show_anything(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table, line = tmp_path / "mine.csv", "1,2,3\n"
    table.write_text("a,b,c\n" + 655 * line)
    with pytest.raises(SystemExit, match=r"mine\.csv has 655 rows, expected at least 656$"):
        example("stream").main(["--data", str(table), "--quick"])
    table.write_text("a,b,c\n" + 656 * line)
    example("stream").main(["--data", str(table), "--quick"])
    assert "chunk     2: error" in capsys.readouterr().out


def test_explain_shows_a_digit_beside_recall_and_credit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    example("explain").main(["--quick", "--out", str(tmp_path / "figures")])
    rows = [line for line in capsys.readouterr().out.splitlines() if re.search(r"\d\s+[+-]\d+\.\d\d$", line)]
    assert len(rows) == 8
    assert sum(float(row.split()[-3]) for row in rows) == pytest.approx(1, abs=0.05)
