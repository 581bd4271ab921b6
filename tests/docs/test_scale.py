"""The commands of docs/howto/scale.md run on this machine, with two processes each, at tiny sizes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from reminding.lab.runs import checkpoint
from reminding.lab.runs.runlog import read_log
from reminding.lab.train.sweep.record import SweepRecord
from tests.docs.pages import BLOCKS, ROOT, command_lines
from tests.forked import Forked, reminding

PAGE = [block for block in BLOCKS if block.page == "docs/howto/scale.md"]
COMMANDS = [words for block in PAGE if block.kind == "sh" for words in command_lines(block)]
SIZES = ["--T", "4", "--hidden-size", "4", "--steps", "4", "--eval-every", "2", "--eval-sequences", "4"]
TINY = [*SIZES, "--batch-size", "4", "--test-sequences", "4", "--device", "cpu"]

KILLED_ONCE = """
import os, signal, threading, time
from pathlib import Path

def end():
    while not any(Path("runs").rglob("training.safetensors")):
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGKILL)

if os.environ.get("RANK") == "1" and os.environ.get("TORCHELASTIC_RESTART_COUNT") == "0":
    threading.Thread(target=end, daemon=True).start()
"""


def launched(
    words: list[str], folder: Path, variables: Mapping[str, str] | None = None
) -> tuple[subprocess.CompletedProcess[str], Path]:
    """What torchrun does with a command in a folder, and the folder of its run."""
    paths = os.pathsep.join([str(folder), str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", **(variables or {})}
    command = [sys.executable, "-m", "torch.distributed.run", *words]
    ran = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=600
    )
    return ran, folder / words[words.index("--out") + 1]


def test_a_run_is_launched_in_two_processes(tmp_path: Path) -> None:
    pytest.importorskip("accelerate")
    (typed,) = (words for words in COMMANDS if words[0] == "torchrun")
    ran, out = launched(["--standalone", *typed[1:], *TINY], tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.count("written to") == 1
    assert checkpoint.read_summary(out)["processes"] == 2
    assert [record["step"] for record in read_log(out) if record["kind"] == "valid"] == [2, 4]


def test_processes_are_started_again_and_go_on(tmp_path: Path) -> None:
    """The second process is killed once, after the first checkpoint, by the file that each Python begins with."""
    pytest.importorskip("accelerate")
    (typed,) = (words for words in COMMANDS if words[1] == "torchrun")
    variable, value = typed[0].split("=")
    (tmp_path / "sitecustomize.py").write_text(KILLED_ONCE)
    further = ["--eval-every", "50", "--steps", "300"]
    ran, out = launched([*typed[2:], *TINY, *further], tmp_path, {variable: value})
    assert ran.returncode == 0, ran.stderr
    assert "the run is saved up to update" in ran.stdout
    assert [record["step"] for record in read_log(out) if record["kind"] == "valid"] == list(range(50, 301, 50))
    alone = tmp_path / "alone"
    options = typed[typed.index("copying") : typed.index("--out")]
    assert reminding("train", *options, "--out", str(alone), *TINY, *further).returncode == 0
    summaries = [checkpoint.read_summary(folder) for folder in (out, alone)]
    assert summaries[0]["cross_entropy"] == pytest.approx(summaries[1]["cross_entropy"], rel=1e-5)


def test_a_sweep_is_shared_by_the_same_command_typed_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (space,) = (block.text for block in PAGE if block.text.startswith("[lr]"))
    (typed,) = (words for words in COMMANDS if words[:2] == ["reminding", "sweep"])
    (report,) = (words for words in COMMANDS if words[:2] == ["reminding", "report"])
    (tmp_path / "space.toml").write_text(space)
    monkeypatch.chdir(tmp_path)
    command = [sys.executable, "-m", "reminding", *typed[1:], *TINY, "--trials", "4"]
    workers = [Forked(command) for _ in range(2)]
    assert [worker.wait() for worker in workers] == [0, 0]
    record = SweepRecord.load(Path(report[2]))
    assert sorted(each.job for each in record.ranked()) == ["0000", "0001", "0002", "0003"]
    assert {each.name for each in record.space.dimensions} == {"lr", "score_size", "k_trunc"}
    assert reminding(*report[1:]).returncode == 0
    assert (Path(report[2]) / "report" / "index.html").is_file()
