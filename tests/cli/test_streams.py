"""Training on streams as it is typed: killed, stopped, and gone on with."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from reminding.cli import main
from reminding.lab.runs.runlog import read_log
from tests.lab.stream_runs import assert_same_run, content
from tests.lab.stream_runs import text as text

OPTIONS = ["--hidden-size", "8", "--k-trunc", "3", "--k-top", "2", "--capacity", "4", "--device", "cpu"]
EVALUATION = ["--eval-sequences", "3", "--eval-every", "5"]


def command(task: list[str], out: Path, *further: str) -> list[str]:
    return [sys.executable, "-m", "reminding.cli", "train", *task, *OPTIONS, *EVALUATION, "--out", str(out), *further]


def wait_for(holds: Callable[[], bool], what: str, seconds: float = 120) -> None:
    until = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < until, f"waited {seconds} s for {what}"
        time.sleep(0.005)


@pytest.mark.parametrize("kind", ["stream", "cue"])
def test_killed_and_resumed_gives_the_numbers_of_uninterrupted(text: Path, tmp_path: Path, kind: str) -> None:
    data = ["--data", str(text)] if kind == "stream" else ["--lag", "7", "--gap", "3"]
    task = [kind, *data, "--chunk", "10", "--batch-size", "3", "--steps", "100"]
    folder = tmp_path / "killed"
    process = subprocess.Popen(command(task, folder), stdout=subprocess.DEVNULL)
    wait_for(lambda: len(read_log(folder)) >= 6, "three evaluations")
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    begun = content(folder)["standing"]["step"]
    assert 0 < begun < 100, "it was killed on the way"
    main(command(task, folder, "--resume")[3:])
    main(command(task, tmp_path / "whole")[3:])
    assert content(folder)["standing"]["step"] == 100
    assert_same_run(folder, tmp_path / "whole")


def test_ctrl_c_while_waiting_for_a_writer_leaves_a_run_that_goes_on(text: Path, tmp_path: Path) -> None:
    folder, whole = tmp_path / "run", text.read_bytes()
    text.write_bytes(whole[: 200 + 40 * 20 + 5])  # what is held out, 40 chunks, and too little for another
    data = ["--data", str(text), "--follow", "--held-out", "100", "--eval-rows", "2"]
    task = ["stream", *data, "--chunk", "20", "--batch-size", "1", "--steps", "60"]
    process = subprocess.Popen(command(task, folder), stdout=subprocess.PIPE, text=True)
    wait_for(lambda: any(record["step"] == 40 for record in read_log(folder)), "the end of what is there")
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "--resume goes on" in said
    assert content(folder)["standing"]["step"] == 40
    with text.open("ab") as file:
        file.write(whole[200 + 40 * 20 + 5 :])
    main(command(task, folder, "--resume")[3:])
    main(command(task, tmp_path / "whole")[3:])
    for name, want in content(tmp_path / "whole")["model"].items():
        assert torch.equal(content(folder)["model"][name], want)


def test_the_command_line_knows_streams(text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["train", "stream", "--help"])
    shown = capsys.readouterr().out
    assert all(option in shown for option in ("--data", "--chunk", "--follow", "--capacity", "default: 128"))
    folder = tmp_path / "run"
    main(command(["stream", "--data", str(text), "--chunk", "50", "--steps", "5"], folder)[3:])
    assert "bits_per_byte" in capsys.readouterr().out
    main(["eval", str(folder), "--sequences", "2"])
    assert "bits_per_byte" in capsys.readouterr().out
    main(["report", str(folder), "--out", str(tmp_path / "report")])
    assert (tmp_path / "report" / "recall-run.png").exists()
