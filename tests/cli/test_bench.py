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


@pytest.mark.parametrize("kind", [[], ["--kind", "serve"], ["--kind", "stream"]])
def test_what_is_in_the_way_of_the_folder_is_told_before_measuring(
    kind: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measured(*_: object) -> None:
        raise AssertionError("nothing is to be measured")

    for module in ("verbs.measuring.measure", "bench.kinds.serve.measure", "bench.kinds.stream.measure"):
        monkeypatch.setattr(f"reminding.lab.{module}", measured)
    file = tmp_path / "taken"
    file.write_text("")
    with pytest.raises(SystemExit, match=r"could not write .*taken: it is a file, and a folder is needed"):
        main(["bench", *kind, "--out", str(file)])


@pytest.mark.parametrize(
    "words",
    [
        ["--kind"],
        ["--kind", "serve", "--T", "5"],
        ["--kind", "serve", "--max-seconds", "5"],
        ["--kind", "stream", "--max-seconds", "5"],
    ],
)
def test_an_option_that_would_be_ignored_is_refused(words: list[str], tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["bench", "--out", str(tmp_path / "none"), *words])
    assert stopped.value.code == 2
    assert not (tmp_path / "none").exists()


def test_the_command_line_says_what_is_wrong_and_nothing_is_measured(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["bench", "--T", "4", "8", "--B", "1", "2"])
    assert "only one of them may take several values" in " ".join(capsys.readouterr().err.split())
