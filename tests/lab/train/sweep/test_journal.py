"""A journal that a killed process, a loss of power or a full disk has left unfinished serves again."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from reminding.disk import operations
from reminding.disk.errors import CannotWriteError
from reminding.lab.train.sweep import journal
from reminding.lab.train.sweep.storage import Study


def study(path: Path | str) -> Study:
    return Study(str(path), "study", maximize=True)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A journal with two attempts."""
    path = tmp_path / "journal.log"
    with study(path) as made:
        made.agree({"train.lr": 0.1})
        made.begin("a", "one", {}, None)
        made.begin("b", "two", {}, None)
    return path


def jobs(path: Path | str) -> list[str]:
    with study(path) as again:
        return [each.job for each in again.attempts()]


@pytest.mark.parametrize("lost", [1, 20, 10_000])
def test_an_unfinished_last_line_is_cut_off_and_the_study_goes_on(
    path: Path, lost: int, capsys: pytest.CaptureFixture[str]
) -> None:
    *whole, last = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(whole) + last[: max(1, len(last) - lost)])
    with study(path) as again:
        assert f"the last line of {path} was not written to its end, and is cut off" in capsys.readouterr().out
        again.begin("c", "three", {}, None)
        assert [each.job for each in again.attempts()] == ["a", "c"]
    assert jobs(path) == ["a", "c"]


def test_the_zeros_of_a_lost_page_are_cut_off(path: Path) -> None:
    with path.open("ab") as file:
        file.write(bytes(5_000))
    assert jobs(path) == ["a", "b"]
    assert b"\0" not in path.read_bytes()


def test_a_worker_that_is_open_goes_on_after_the_half_line_of_another(path: Path) -> None:
    with study(path) as living:
        living.attempts()
        with path.open("ab") as file:
            file.write(b'{"op_code":4,"worker_id":"x')
        assert [each.job for each in living.attempts()] == ["a", "b"]
        living.begin("c", "three", {}, None)
        assert [each.job for each in living.attempts()] == ["a", "b", "c"]


@pytest.mark.parametrize("garbage", [b'{"op_code":5,"w{"op_code":5}\n', b"17\n", b"\0\0\n", b'{"a": 1}\n'])
def test_a_garbage_line_is_an_error_that_names_the_journal_and_the_line(path: Path, garbage: bytes) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    for place in (1, len(lines)):
        damaged = b"".join([*lines[:place], garbage, *lines[place:]])
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=rf"storage: {path} .*: line {place + 1} is no record"):
            study(path)
        assert path.read_bytes() == damaged


def test_garbage_that_comes_while_a_study_is_open_is_named(path: Path) -> None:
    with study(path) as living:
        count = len(path.read_bytes().splitlines())
        with path.open("ab") as file:
            file.write(b"garbage\n")
        with pytest.raises(ValueError, match=rf"{path} .*: line {count + 1} is no record"):
            living.begin("c", "three", {}, None)


def test_a_record_without_its_fields_is_no_journal(path: Path) -> None:
    path.write_text('{"op_code":0,"worker_id":"x"}\n')
    with pytest.raises(ValueError, match=f"storage: {path} is no journal of a study"):
        study(path)


@pytest.mark.parametrize("content", [b"a note of mine", b"time,value\n1,2"])
def test_another_file_is_left_as_it_is(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "notes.csv"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"storage: {path} is damaged, or no journal of a study: line 1"):
        study(path)
    with pytest.raises(ValueError, match="its last line is no record"):
        journal.cut_unfinished(path)
    assert path.read_bytes() == content


def test_a_full_disk_names_the_journal(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with study(path) as living:
        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(CannotWriteError, match=f"could not write {path}: No space left on device"):
            living.begin("c", "three", {}, None)


@pytest.mark.parametrize("relative", [False, True])
def test_the_line_is_cut_under_the_lock_of_those_who_append(
    path: Path, relative: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The link that locks leads to the file: where it leads nowhere, Optuna waits for ever for a killed process."""
    cut: list[bool] = []
    truncate: Callable[[int, int], None] = operations.truncate
    lock = path.with_name("journal.log.lock")

    def watched(descriptor: int, size: int) -> None:
        cut.append(lock.is_symlink() and lock.exists())
        truncate(descriptor, size)

    monkeypatch.setattr(operations, "truncate", watched)
    monkeypatch.chdir(path.parent.parent)
    path.write_bytes(path.read_bytes()[:-5])
    assert jobs(path.relative_to(Path.cwd()) if relative else path) == ["a"]
    assert cut == [True]
    assert not lock.is_symlink()
