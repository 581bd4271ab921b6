"""Training on streams from the command line: killed, stopped and resumed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from reminding.cli import main
from reminding.lab.runs import checkpoint
from reminding.tasks import filestream
from tests.lab.stream_runs import assert_same_run, content
from tests.lab.stream_runs import text as text

OPTIONS = ["--hidden-size", "8", "--k-trunc", "3", "--k-top", "2", "--capacity", "4", "--device", "cpu"]
EVALUATION = ["--eval-sequences", "3", "--eval-every", "5"]


def command(task: list[str], out: Path, *further: str) -> list[str]:
    return ["train", *task, *OPTIONS, *EVALUATION, "--out", str(out), *further]


KILLED_AT_AN_UPDATE = """
import os, signal, sys
import torch
from reminding.cli import main

update, begun = torch.optim.Adam.step, []

def update_or_die(self, *arguments):
    begun.append(True)
    if len(begun) == 33:
        os.kill(os.getpid(), signal.SIGKILL)
    return update(self, *arguments)

torch.optim.Adam.step = update_or_die
main(sys.argv[1:])
"""
"""A script that sends itself SIGKILL before the 33rd update, between two checkpoints."""


@pytest.mark.parametrize("kind", ["stream", "cue"])
def test_killed_and_resumed_gives_the_numbers_of_uninterrupted(text: Path, tmp_path: Path, kind: str) -> None:
    data = ["--data", str(text)] if kind == "stream" else ["--lag", "7", "--gap", "3"]
    task = [kind, *data, "--chunk", "10", "--batch-size", "3", "--steps", "60"]
    folder = tmp_path / "killed"
    words = [sys.executable, "-c", KILLED_AT_AN_UPDATE, *command(task, folder)]
    killed = subprocess.run(words, stdout=subprocess.DEVNULL, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert content(folder)["standing"]["step"] in (30, 35), "a chunk of cue that asks for nothing is no update"
    assert not (folder / checkpoint.SUMMARY_NAME).exists()
    main(command(task, folder, "--resume"))
    main(command(task, tmp_path / "whole"))
    assert content(folder)["standing"]["step"] == 60
    assert_same_run(folder, tmp_path / "whole")


@pytest.fixture
def ctrl_c_at_rest(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Press Ctrl-C when the reader of a growing file waits for the third time; returns the waits in seconds."""
    waits: list[float] = []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 3:
            os.kill(os.getpid(), signal.SIGINT)
        assert len(waits) < 100, "Ctrl-C was not heard"

    monkeypatch.setattr(filestream, "time", SimpleNamespace(sleep=wait))
    return waits


def test_ctrl_c_while_waiting_for_a_writer_leaves_a_run_that_goes_on(
    text: Path, tmp_path: Path, ctrl_c_at_rest: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, whole = tmp_path / "run", text.read_bytes()
    text.write_bytes(whole[: 200 + 40 * 20 + 5])  # the held-out part, 40 chunks, and less than another chunk
    data = ["--data", str(text), "--follow", "--held-out", "100", "--eval-rows", "2"]
    task = ["stream", *data, "--chunk", "20", "--batch-size", "1", "--steps", "60"]
    with pytest.raises(SystemExit) as ended:
        main(command(task, folder))
    assert ended.value.code == 128 + signal.SIGINT, "what follows in a script must not take the run for finished"
    assert len(ctrl_c_at_rest) == 3
    assert "--resume continues the run" in capsys.readouterr().out
    assert content(folder)["standing"]["step"] == 40
    with text.open("ab") as file:
        file.write(whole[200 + 40 * 20 + 5 :])
    main(command(task, folder, "--resume"))
    main(command(task, tmp_path / "whole"))
    for name, want in content(tmp_path / "whole")["model"].items():
        assert torch.equal(content(folder)["model"][name], want)


def test_the_command_line_knows_streams(text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["train", "stream", "--help"])
    shown = capsys.readouterr().out
    assert all(option in shown for option in ("--data", "--chunk", "--follow", "--capacity", "default: 128"))
    folder = tmp_path / "run"
    main(command(["stream", "--data", str(text), "--chunk", "50", "--steps", "5"], folder))
    assert "bits_per_byte" in capsys.readouterr().out
    main(["eval", str(folder), "--sequences", "2"])
    assert "bits_per_byte" in capsys.readouterr().out
    main(["report", str(folder), "--out", str(tmp_path / "report")])
    assert (tmp_path / "report" / "recall-run.png").exists()
