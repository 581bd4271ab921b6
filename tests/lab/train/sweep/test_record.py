"""The folder of a sweep is not given to another one, and its own workers go on in it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from reminding.cli import main
from reminding.disk.records import read_json, write_json
from reminding.lab.train.sweep.record import RECORD_NAME, SweepRecord, check_folder
from tests.lab.train.sweep.conftest import FIXED


@pytest.fixture
def out(space_file: Path, tmp_path: Path) -> Path:
    """The folder of a finished sweep."""
    sweep(space_file, tmp_path / "out")
    return tmp_path / "out"


def sweep(space: Path, out: Path, *more: str, trials: int = 1) -> None:
    main(["sweep", "copying", "--space", str(space), "--out", str(out), "--trials", str(trials), *FIXED, *more])


def test_a_second_sweep_in_the_folder_is_refused_before_anything_is_written(
    space_file: Path, out: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.log"
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    with pytest.raises(
        SystemExit, match=rf"out: {out} holds another sweep \(storage: {out}/journal.log there, {other}"
    ):
        sweep(space_file, out, "--storage", str(other), "--sampler-seed", "5")
    with pytest.raises(SystemExit, match=rf"out: {out} holds another sweep \(study: copying-sab there, mine here\)"):
        sweep(space_file, out, "--study", "mine")
    assert not other.exists()
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


def test_a_storage_that_was_made_anew_is_not_that_of_the_folder(space_file: Path, out: Path) -> None:
    (out / "journal.log").unlink()
    with pytest.raises(SystemExit, match=rf"out: {out} holds another sweep .* has none of the attempts"):
        sweep(space_file, out)
    assert len(SweepRecord.load(out).attempts) == 1


def test_a_folder_that_was_moved_and_a_relative_path_to_it_go_on(
    space_file: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved = out.rename(out.with_name("moved"))
    sweep(space_file, moved, trials=2)
    monkeypatch.chdir(moved.parent)
    sweep(space_file, Path("moved"), trials=3)
    assert len(SweepRecord.load(moved).attempts) == 3


@pytest.mark.parametrize("kept", [("format",), ("format", "name")])
def test_an_older_or_damaged_record_stops_no_sweep(space_file: Path, out: Path, kept: tuple[str, ...]) -> None:
    content = read_json(out / RECORD_NAME)
    write_json(out / RECORD_NAME, {name: content[name] for name in kept})
    sweep(space_file, out, trials=2)
    (out / RECORD_NAME).write_text("{")
    sweep(space_file, out, trials=3)
    assert len(SweepRecord.load(out).attempts) == 3


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("postgresql://me@one/studies", "postgres://me@two:5432/studies", True),
        ("postgresql://me@one/studies", "postgresql+psycopg://me@one/studies", True),
        ("postgresql://me@one/studies", "postgresql://me@one/others", False),
        ("postgresql://me@one/studies", "sqlite:///studies", False),
        ("/there/journal.log", "here/journal.log", True),
        ("/there/journal.log", "here/other.log", False),
        ("sqlite:////there/studies.db", "sqlite:///studies.db", True),
        ("sqlite:////there/studies.db", "studies.db", False),
    ],
)
def test_an_address_may_differ_where_the_storage_may_be_the_same(
    one: str, other: str, same: bool, tmp_path: Path
) -> None:
    (tmp_path / RECORD_NAME).write_text(json.dumps({"name": "a", "storage": one}))
    if same:
        check_folder(tmp_path, "a", other)
    else:
        with pytest.raises(ValueError, match="holds another sweep"):
            check_folder(tmp_path, "a", other)
