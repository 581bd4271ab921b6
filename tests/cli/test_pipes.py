"""Output whose reader goes away, as `head` does after its lines."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from reminding.lab.runs.records import Run

RUN = [
    *("train", "copying", "--T", "4", "--symbols", "2", "--hidden-size", "8", "--steps", "30", "--eval-every", "1"),
    *("--batch-size", "4", "--eval-sequences", "4", "--test-sequences", "4", "--device", "cpu"),
]


def unread(*words: str, errors: bool = False) -> tuple[int, str]:
    """The status and the standard error of a command that writes to a pipe without a reader.

    Args:
        errors: whether standard error goes to the same pipe, as with 2>&1.
    """
    ours, theirs = os.pipe()
    os.close(ours)
    try:
        ran = subprocess.run(
            [sys.executable, "-m", "reminding", *words],
            stdout=theirs,
            stderr=theirs if errors else subprocess.PIPE,
            text=True,
            check=False,
        )
    finally:
        os.close(theirs)
    return ran.returncode, ran.stderr or ""


@pytest.mark.parametrize("errors", [False, True])
def test_a_run_that_nobody_watches_is_trained_to_its_end(errors: bool, tmp_path: Path) -> None:
    assert unread(*RUN, "--out", str(tmp_path / "run"), errors=errors) == (0, "")
    run = Run.read(tmp_path / "run")
    assert (run.valid[-1].step, run.summary["stopped"]) == (30, "steps")
    assert run.test is not None


@pytest.mark.skipif(os.name == "nt", reason="a shell of Unix closes them")
def test_a_run_without_standard_output_and_error_is_trained(tmp_path: Path) -> None:
    """As a scheduler starts programs, or `>&- 2>&-`."""
    command = [sys.executable, "-m", "reminding", *RUN, "--out", str(tmp_path / "run")]
    assert subprocess.run(["sh", "-c", '"$@" >&- 2>&-', "sh", *command], check=False).returncode == 0
    assert Run.read(tmp_path / "run").test is not None


def test_the_first_line_of_a_run_can_be_taken(tmp_path: Path) -> None:
    """As a shell does: `reminding train ... | head -1`."""
    command = [sys.executable, "-m", "reminding", *RUN, "--out", str(tmp_path / "run")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert "sab on copying  1/30" in process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 0
    assert (tmp_path / "run" / "summary.json").is_file()


@pytest.mark.skipif(os.name != "posix", reason="needs the terminals of POSIX")
def test_a_run_whose_terminal_is_closed_ends_as_at_ctrl_c(tmp_path: Path) -> None:
    """The terminal sends SIGHUP, and writing to it fails from then on: with EIO, which is no broken pipe."""
    import pty

    words = [sys.executable, "-m", "reminding", *RUN, "--steps", "1000000", "--out", str(tmp_path / "run")]
    process, terminal = pty.fork()
    if not process:
        os.execv(sys.executable, words)
    while not (tmp_path / "run" / "checkpoints").is_dir():
        os.read(terminal, 1 << 16)
    os.close(terminal)
    ended, status = 0, 1
    for _ in range(600):
        ended, status = os.waitpid(process, os.WNOHANG)
        if ended:
            break
        time.sleep(0.1)
    assert ended
    assert os.waitstatus_to_exitcode(status) == 128 + signal.SIGHUP
    run = Run.read(tmp_path / "run")
    assert run.summary["stopped"] == "interrupted"
    newest = max(int(path.name) for path in (tmp_path / "run" / "checkpoints").iterdir())
    assert newest == run.summary["steps"] > 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a file without room, as Linux has one")
@pytest.mark.parametrize(("words", "status"), [(RUN, 0), (["check", "RUN"], 141)])
def test_a_full_disk_behind_the_output_is_named_and_costs_no_work(
    words: list[str], status: int, finished: Path, tmp_path: Path
) -> None:
    """What is written to files is worth its end; what only prints says that it has not."""
    words = [str(finished) if word == "RUN" else word for word in words]
    out = ["--out", str(tmp_path / "run")] if words == RUN else []
    with open("/dev/full", "w") as full:
        ran = subprocess.run(
            [sys.executable, "-m", "reminding", *words, *out],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert ran.returncode == status
    assert ran.stderr.startswith("reminding: standard output is lost from here on: ")
    assert "No space left on device" in ran.stderr
    assert ran.stderr.count("\n") == 1
    assert not out or Run.read(tmp_path / "run").summary["stopped"] == "steps"


def test_files_are_written_without_a_reader_of_the_output(finished: Path, tmp_path: Path) -> None:
    assert unread("report", str(finished), "--out", str(tmp_path / "report")) == (0, "")
    assert (tmp_path / "report" / "index.html").is_file()
    assert unread("explain", str(finished), "--out", str(tmp_path / "explain"), "--occlude", "2") == (0, "")
    assert (tmp_path / "explain" / "index.html").is_file()


@pytest.mark.parametrize("words", [["--help"], ["train"], ["train", "copying", "--help"], ["check", "RUN"]])
def test_what_only_prints_ends_as_a_closed_pipe_ends_it(words: list[str], finished: Path) -> None:
    assert unread(*(str(finished) if word == "RUN" else word for word in words)) == (141, "")


def test_an_error_stays_an_error(tmp_path: Path) -> None:
    status, errors = unread("check", str(tmp_path))
    assert status == 1
    assert errors.startswith("reminding: ")
