"""The command line as a person uses it."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from reminding.cli import VERBS, main
from reminding.disk import operations
from reminding.version import __version__
from tests.forked import reminding

TINY = ["--T", "4", "--symbols", "2", "--hidden-size", "8", "--batch-size", "4", "--steps", "4", "--eval-every", "2"]


@pytest.mark.parametrize("module", ["reminding", "reminding.cli"])
def test_the_package_and_its_command_line_are_started_by_name(module: str) -> None:
    ran = subprocess.run([sys.executable, "-m", module, "eval"], capture_output=True, text=True, check=False)
    assert ran.returncode == 1
    assert "which run" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_help_names_every_verb_and_task(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--help"])
    shown = capsys.readouterr().out
    assert all(verb in shown for verb in ("train", "eval", "report", "data", "bench"))
    main(["train"])
    shown = capsys.readouterr().out
    assert all(task in shown for task in ("copying", "adding", "digits", "mnist", "pmnist"))


@pytest.mark.parametrize("word", ["-V", "--version"])
def test_the_version_is_told(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    main([word])
    assert capsys.readouterr().out == f"reminding {__version__}\n"


def test_the_overview_imports_nothing_of_the_lab() -> None:
    script = "import sys; from reminding.cli import main; main(['--help']); print(*sys.modules)"
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert "reminding.cli.training" in shown
    assert "reminding.lab" not in shown
    assert "tyro" not in shown


def test_help_on_a_terminal_of_one_column_ends(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "1")
    with pytest.raises(SystemExit):
        main(["check", "--help"])
    assert "usage: reminding check" in capsys.readouterr().out


@pytest.mark.parametrize("verb", ["eval", "explain"])
def test_help_without_a_run_is_no_error(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([verb, "--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert f"usage: reminding {verb} RUN" in shown
    assert {"eval": "--sequences", "explain": "--occlude"}[verb] in shown


def test_the_help_of_a_task_shows_options_with_their_defaults() -> None:
    shown = reminding("train", "copying", "--help").stdout
    for option in ("--T", "--model", "--k-top", "--k-att", "--k-trunc", "--steps", "--lr", "--seed", "--out"):
        assert option in shown
    assert "default: 100" in shown


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["trian"], "did you mean train"),
        (["train", "copyng"], "did you mean copying"),
        (["train", "xyzzy"], "there are copying, selective, adding"),
        (["eval"], "which run"),
    ],
)
def test_unknown_names_fail_with_the_nearest(arguments: list[str], hint: str) -> None:
    result = reminding(*arguments)
    assert result.returncode == 1
    assert hint in result.stderr
    assert "Traceback" not in result.stderr


def test_an_unknown_option_fails_with_the_nearest() -> None:
    result = reminding("train", "copying", "--k-tpo", "3")
    assert result.returncode == 2
    assert "--k-top" in result.stdout + result.stderr


def test_a_bad_value_is_a_message_not_a_traceback(tmp_path: Path) -> None:
    result = reminding("train", "copying", "--k-att", "0", "--out", str(tmp_path / "run"))
    assert result.returncode == 1
    assert "k_att must be an integer of at least 1, got 0" in result.stderr
    assert "Traceback" not in result.stderr


def test_train_eval_and_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "run"
    main(["train", "copying", *TINY, "--k-top", "2", "--k-att", "None", "--k-trunc", "3", "--out", str(folder)])
    assert "accuracy" in capsys.readouterr().out
    assert json.loads((folder / "config.json").read_text())["model"]["k_top"] == 2

    main(["eval", str(folder), "--T", "9", "--sequences", "5"])
    assert "T=9" in capsys.readouterr().out
    record = json.loads((folder / "eval.jsonl").read_text())
    assert record["task"] == {"name": "copying", "T": 9, "symbols": 2, "alphabet": 8, "balanced": False}
    assert record["sequences"] == 5

    main(["report", str(folder), "--out", str(tmp_path / "report")])
    shown = capsys.readouterr().out
    for name in ("index.html", "report.md", "curves-copying.png", "recall-run.png"):
        assert (tmp_path / "report" / name).stat().st_size > 0
        assert name in shown


def test_a_second_run_into_the_same_folder_is_refused(finished: Path) -> None:
    result = reminding("train", "copying", *TINY, "--out", str(finished))
    assert result.returncode == 1
    assert "--resume" in result.stderr


def test_eval_of_what_is_no_run_says_so(tmp_path: Path) -> None:
    result = reminding("eval", str(tmp_path))
    assert result.returncode == 1
    assert "is not a run" in result.stderr


def test_data_shows_each_file_and_its_state(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(b"not it")
    main(["data", "--data-dir", str(tmp_path)])
    shown = capsys.readouterr().out
    assert "mnist" in shown
    assert "damaged" in shown
    assert "missing" in shown


def test_a_run_on_a_file_named_from_its_folder_is_read_from_any_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "book.txt").write_bytes(b"a book of no words " * 200)
    monkeypatch.chdir(tmp_path)
    small = ["--hidden-size", "4", "--steps", "2", "--chunk", "20", "--batch-size", "2", "--eval-every", "2"]
    main(["train", "stream", "--data", "book.txt", *small, "--out", "run"])
    monkeypatch.chdir(tmp_path.parent)
    main(["eval", str(tmp_path / "run"), "--sequences", "1"])
    assert (tmp_path / "run" / "eval.jsonl").is_file()


def test_ctrl_c_is_a_line_and_not_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(_: list[str]) -> None:
        raise KeyboardInterrupt

    monkeypatch.setitem(VERBS, "data", interrupted)
    with pytest.raises(SystemExit) as ended:
        main(["data"])
    assert ended.value.code == 130
    assert capsys.readouterr().err == "reminding: interrupted\n"


def test_a_reader_that_has_enough_ends_the_program_in_silence(tmp_path: Path) -> None:
    command = f"{sys.executable} -m reminding train ptb --help"
    ran = subprocess.run(
        f"({command}; echo status $? >&2) | head -n 1", shell=True, capture_output=True, text=True, cwd=tmp_path
    )
    assert ran.stdout.startswith("usage: reminding train ptb")
    assert ran.stderr in ("status 141\n", "status 0\n")  # 0: everything was written before `head` had ended


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp] . DefaultCPUAllocator: can't allocate memory: you tried to"),
        RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError('torch_call_dispatcher("aten::new_empty", "", stack.data(), 2) API call failed at ops.h'),
        RuntimeError("std::bad_alloc"),
    ],
    ids=["numpy", "PyTorch", "GPU", "a tensor of the op", "the op"],
)
def test_too_little_memory_is_a_line_and_not_a_traceback(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_: list[str]) -> None:
        raise error

    monkeypatch.setitem(VERBS, "data", fails)
    with pytest.raises(
        SystemExit, match=r"^reminding: there is not enough memory.*; smaller sizes or batches need less"
    ):
        main(["data"])


def test_a_fault_of_the_program_shows_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_: list[str]) -> None:
        raise RuntimeError("shapes do not fit")

    monkeypatch.setitem(VERBS, "data", fails)
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        main(["data"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("train adding --target nan", "target must be a finite number, or None, got nan"),
        ("train adding --target inf", "target must be a finite number, or None, got inf"),
        ("train adding --embedding-size -1", "embedding_size must be an integer of at least 1, or None, got -1"),
        ("train adding --embedding-size 0", "embedding_size must be an integer of at least 1, or None, got 0"),
        ("train adding --T 10000000000000000000000000", "T must be at most 2,305,843,009,213,693,952"),
        ("train adding --threads 10000000000000000000000000", "threads must be at most 1,024, or None, got 1"),
        ("train adding --threads 1025", "threads must be at most 1,024, or None, got 1025"),
        ("train adding --lr inf", "lr must be at most 1e+30, got inf"),
        ("train adding --lr 1e38", "lr must be at most 1e+30, got 1e+38"),
        ("bench --threads 1025", "threads must be at most 1,024, got 1025"),
        ("bench --kind serve --threads 1025", "threads must be at most 1,024, got 1025"),
        ("bench --kind stream --threads 1025", "threads must be at most 1,024, got 1025"),
        ("reproduce kiln --dry --budget inf", "budget must be at most 1,000,000, got inf"),
        ("reproduce kiln --dry --budget 1e300", "budget must be at most 1,000,000, got 1e+300"),
        ("reproduce kiln --dry --storage j --grace inf", "grace must be at most 10,000,000, got inf"),
        ("sweep adding --space s --grace inf", "grace must be at most 10,000,000, got inf"),
        ("sweep adding --space s --grace 1e300", "grace must be at most 10,000,000, got 1e+300"),
    ],
)
def test_numbers_out_of_range_are_refused_by_name(
    words: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*words.split(), "--out", str(tmp_path / "run")])
    shown = " ".join(capsys.readouterr().err.replace("│", "").split())
    assert message in f"{shown} {ended.value.code}"
    assert not (tmp_path / "run").exists()


def test_the_metrics_of_a_run_that_cannot_be_written_are_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A test may take hours, of a run that is another user's."""
    run = tmp_path / "run"
    main(["train", "copying", *TINY, "--out", str(run)])
    capsys.readouterr()

    def full(path: Path) -> int:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(operations, "open_to_append", full)
    with pytest.raises(SystemExit, match=r"eval\.jsonl: Read-only file system; the metrics above are in no file"):
        main(["eval", str(run), "--sequences", "4"])
    assert "accuracy" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("size", "told"), [("2", "got 2: reminding check runs in one"), ("0", "got '0'"), ("a", "'a'")]
)
def test_what_is_done_once_is_refused_in_several_processes(
    size: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", size)
    with pytest.raises(SystemExit, match=f"WORLD_SIZE must be .*{told}"):
        main(["check", str(tmp_path)])


def test_a_further_test_takes_the_place_of_a_damaged_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As `check` advises: the line stayed, and no report could be made."""
    small = ["--T", "10", "--hidden-size", "4", "--steps", "2", "--eval-every", "2", "--eval-sequences", "4"]
    run = tmp_path / "run"
    main(["train", "adding", *small, "--test-sequences", "4", "--out", str(run)])
    for _ in range(2):
        main(["eval", str(run), "--sequences", "4"])
    lines = run / "eval.jsonl"
    lines.write_bytes(lines.read_bytes().replace(b"4", b"5", 1))
    with pytest.raises(SystemExit):
        main(["check", str(run)])
    capsys.readouterr()
    main(["eval", str(run), "--sequences", "4"])
    assert "1 damaged line of eval.jsonl left out" in capsys.readouterr().out
    main(["check", str(run)])
    assert len(lines.read_bytes().splitlines()) == 2
