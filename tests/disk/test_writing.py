"""A file is the old one or the new one, whatever happens while it is written."""

from __future__ import annotations

import ast
import os
import platform
import stat
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest

from reminding.disk.commits import Commits
from reminding.disk.errors import CannotWriteError, DamagedFileError
from reminding.disk.writing import (
    check_folder,
    check_name,
    check_place,
    make_folder,
    remove_leftovers,
    replacing,
    temporary,
    write_file,
)
from tests.places import ROOT
from tests.reliability.faults import Fault, faulty

OLD = {"a": b"old", "b": b"old too"}
NEW = {"a": b"new" * 100, "b": b"new too"}


def calls_of(action: Callable[[], object]) -> list[str]:
    with faulty() as system:
        action()
    return system.calls


def test_a_file_is_replaced_with_the_users_mode(tmp_path: Path) -> None:
    path = tmp_path / "file"
    before = os.umask(0o027)
    try:
        write_file(path, b"one")
        write_file(path, b"two")
    finally:
        os.umask(before)
    assert path.read_bytes() == b"two"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_is_on_the_disk_before_it_gets_its_name_and_the_name_before_the_call_returns(tmp_path: Path) -> None:
    write_file(tmp_path / "file", b"one")
    assert calls_of(lambda: write_file(tmp_path / "file", b"two")) == [
        *("open", "write", "fsync"),
        "replace",
        *("open", "fsync"),
    ]


def test_what_is_unchanged_is_not_written(tmp_path: Path) -> None:
    write_file(tmp_path / "file", b"one")
    assert calls_of(lambda: write_file(tmp_path / "file", b"one")) == []


@pytest.mark.parametrize("fault", ["no space", "read-only", "interrupt"])
def test_after_a_fault_at_any_call_the_file_is_the_old_or_the_new_one(tmp_path: Path, fault: Fault) -> None:
    path = tmp_path / "file"
    write_file(path, b"old")
    calls = len(calls_of(lambda: write_file(tmp_path / "other", b"new")))
    for at in range(1, calls + 1):
        path.write_bytes(b"old")
        with faulty(fault, at), pytest.raises((CannotWriteError, KeyboardInterrupt)):
            write_file(path, b"new")
        assert path.read_bytes() == (b"old" if at <= 4 else b"new"), "the fourth call renames"
        assert {each.name for each in tmp_path.iterdir()} == {"file", "other"}, "nothing else is left behind"


def test_an_error_names_the_file_and_the_reason(tmp_path: Path) -> None:
    with faulty("no space", 2), pytest.raises(CannotWriteError) as raised:
        write_file(tmp_path / "file", b"new")
    assert str(raised.value) == f"could not write {tmp_path / 'file'}: No space left on device"


def test_what_is_in_the_way_of_a_folder_is_named(tmp_path: Path) -> None:
    make_folder(tmp_path / "a" / "b")
    make_folder(tmp_path / "a" / "b")
    (tmp_path / "a" / "c").write_text("")
    with pytest.raises(CannotWriteError, match=r"could not write .*c: it is a file, and a folder is needed"):
        make_folder(tmp_path / "a" / "c")
    with pytest.raises(CannotWriteError, match=r"could not write .*d: "):
        make_folder(tmp_path / "a" / "c" / "d")


def test_leftovers_of_dead_processes_are_removed_and_those_of_living_ones_stay(tmp_path: Path) -> None:
    host, dead = platform.node().replace(".", "_"), 2**22 + 1  # above the largest number of a process
    names = {
        "dead": f".file.{host}-{dead}-0.part",
        "alive": f".file.{host}-1-0.part",
        "this process, before": f".file.{host}-{os.getpid()}-999.part",
        "elsewhere": ".file.another_host-1-0.part",
        "no leftover": ".file.part",
    }
    for name in names.values():
        (tmp_path / name).touch()
    write_file(tmp_path / "file", b"new")
    left = {"alive", "elsewhere", "no leftover"}
    assert {path.name for path in tmp_path.iterdir()} == {"file", *(names[each] for each in left)}
    remove_leftovers(tmp_path, everywhere=True)
    assert {path.name for path in tmp_path.iterdir()} == {"file", names["alive"], names["no leftover"]}


@pytest.mark.parametrize("name", ["n" * 251 + ".csv", "ж" * 125 + ".csv"])
def test_a_file_may_have_the_longest_name_that_there_is(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    check_place(path)
    write_file(path, b"old")
    with temporary(path) as unfinished:
        path.with_name(unfinished.name.replace(f"-{os.getpid()}-", f"-{2**22 + 1}-")).touch()  # of a dead process
    _by_a_library(path, b"new")
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_path_at_which_no_file_can_be_is_refused(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(tmp_path)
    for path, what in (
        (tmp_path, "it is a folder, and a file is needed"),
        (link, "it is a folder, and a file is needed"),
        (tmp_path / ("n" * 256), "File name too long"),
    ):
        with pytest.raises(CannotWriteError, match=f"could not write {path}: {what}"):
            check_place(path)


def content(commits: Commits, number: int) -> dict[str, bytes]:
    return {name: commits.verified(number, name).read_bytes() for name in commits.manifest(number)}


@pytest.mark.parametrize("fault", ["no space", "read-only", "interrupt"])
def test_a_commit_is_whole_or_absent_after_a_fault_at_any_call(tmp_path: Path, fault: Fault) -> None:
    calls = calls_of(lambda: Commits(tmp_path / "trial").write(2, NEW))
    renamed = calls.index("replace") + 1
    for at in range(1, len(calls) + 1):
        commits = Commits(tmp_path / str(at) / "commits")
        commits.folder.parent.mkdir()
        commits.write(1, OLD)
        with faulty(fault, at - 3):  # the folder of all commits is there already
            try:
                commits.write(2, NEW)
            except (CannotWriteError, KeyboardInterrupt):
                assert at > 3
        found = {number: content(commits, number) for number in commits.numbers()}
        assert found == ({1: OLD} if 3 < at <= renamed else {1: OLD, 2: NEW})
        assert {path.name for path in commits.folder.iterdir()} == {str(number) for number in found}
        commits.write(2, NEW)
        assert content(commits, 2) == NEW


def test_only_some_commits_are_kept(tmp_path: Path) -> None:
    commits = Commits(tmp_path)
    for number in (3, 20, 100):
        commits.write(number, OLD)
    assert commits.numbers() == [100, 20, 3]
    commits.keep_only(100, 20)
    assert commits.numbers() == [100, 20]
    commits.keep_only()
    assert list(tmp_path.iterdir()) == []


def test_every_damaged_byte_of_a_commit_is_found_and_its_file_named(tmp_path: Path) -> None:
    commits = Commits(tmp_path)
    commits.write(1, {"a": b"some bytes"})
    for path in (tmp_path / "1" / "a", tmp_path / "1" / "manifest.json"):
        whole = path.read_bytes()
        for at in range(len(whole)):
            path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
            wrong = commits.check(1)
            if path.name == "a":
                assert [each.path for each in wrong] == [path]
            elif wrong:  # else a space became another character that JSON passes over
                assert wrong[0].path == path
            else:
                assert chr(whole[at]).isspace()
        path.write_bytes(whole)
    assert commits.check(1) == []
    (tmp_path / "1" / "a").unlink()
    with pytest.raises(DamagedFileError, match=r"1/a is damaged: it is missing"):
        commits.verified(1, "a")


def _by_a_library(path: Path, data: bytes) -> None:
    with replacing(path) as unfinished:
        unfinished.write_bytes(data)


@pytest.mark.parametrize("fault", ["no space", "read-only", "interrupt"])
def test_a_file_that_a_library_writes_is_the_old_or_the_new_one(tmp_path: Path, fault: Fault) -> None:
    path = tmp_path / "file"
    _by_a_library(path, b"old")
    calls = len(calls_of(lambda: _by_a_library(tmp_path / "other", b"new")))
    (tmp_path / "other").unlink()
    for at in range(1, calls + 1):
        with pytest.raises((CannotWriteError, KeyboardInterrupt)), faulty(fault, at):
            _by_a_library(path, b"new")
        assert path.read_bytes() in (b"old", b"new")
        assert list(tmp_path.iterdir()) == [path]
        _by_a_library(path, b"old")
    with pytest.raises(TypeError, match="a bytes-like object"), replacing(path) as unfinished:
        unfinished.write_bytes(cast("bytes", 1))
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


WRITES_ITSELF = {
    "lab/bench/meter.py": "the system's own file that resets a peak",
    "lab/paper/jobs.py": "what a process prints, as it comes",
    "tasks/data/download.py": "a download that goes on where it was interrupted, renamed when it is whole",
    "tasks/data/tables/store.py": "a cache in a temporary folder",
    "tasks/data/text.py": "a copy in a temporary folder",
}


def _writes(call: ast.Call) -> bool:
    """Whether a call writes a file without this room: by pathlib, open, savefig, or pandas."""
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    given = [*call.args, *(keyword.value for keyword in call.keywords)]
    texts = [each.value for each in given if isinstance(each, ast.Constant) and isinstance(each.value, str)]
    if name == "open":
        return any(set(text) <= set("rwxabt+") and set(text) & set("wxa+") for text in texts)
    if name in ("savefig", "to_csv"):
        return bool(call.args) and not any(keyword.arg == "format" for keyword in call.keywords)
    return name in ("write_text", "write_bytes") and isinstance(call.func, ast.Attribute)


def test_no_other_room_writes_files_itself() -> None:
    """So that a killed process or a full disk leaves the old file or the new one, whatever was being written."""
    package = ROOT / "src" / "reminding"
    found = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and _writes(node)
    }
    assert found == set(WRITES_ITSELF)


@pytest.mark.skipif(os.name == "nt", reason="names are no bytes on Windows")
def test_a_name_that_is_no_text_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    """TensorBoard's writer cannot take it, and what reads safetensors takes the file for a damaged one."""
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/b\xff"))
    for refused in (check_name, check_folder):
        with pytest.raises(ValueError, match="is no UTF-8 text, or no text in this locale"):
            refused(path / "run")
    check_name(tmp_path / "ü")
    assert not path.exists()


def test_a_path_at_which_no_folder_can_be_is_refused_before_it_is_made(tmp_path: Path) -> None:
    file, link = tmp_path / "file", tmp_path / "link"
    file.write_text("")
    link.symlink_to(tmp_path / "nowhere")
    for path, what in (
        (file, "it is a file"),
        (file / "a" / "b", f"{file} is a file"),
        (link, "it is a link to nothing"),
        (link / "a", f"{link} is a link to nothing"),
    ):
        for check in (check_folder, make_folder):
            with pytest.raises(CannotWriteError, match=f"could not write {path}: {what}, and a folder is needed"):
                check(path)
    check_folder(tmp_path / "a" / "b")
    assert sorted(tmp_path.iterdir()) == [file, link]
