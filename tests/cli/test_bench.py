"""The command `reminding bench` on the CPU."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from reminding.cli import main


def test_the_command_measures_shows_and_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sizes = ["--T", "4", "--B", "2", "--H", "8", "--I", "3", "--repetitions", "1"]
    main(["bench", *sizes, "--models", "lstm", "--out", str(tmp_path)])
    shown = capsys.readouterr().out
    assert "1 of 1 contestants" in shown
    assert "nn.LSTM" in shown
    content = json.loads((tmp_path / "measured.json").read_text())
    assert list(content["results"][0]["measured"]) == ["lstm"]


def test_the_command_line_says_what_is_wrong_and_nothing_is_measured(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["bench", "--T", "4", "8", "--B", "1", "2"])
    assert "only one of them may take several values" in " ".join(capsys.readouterr().err.split())
