"""Folders of audio files: label, group and split by place and name."""

from __future__ import annotations

from pathlib import Path

import pytest

from reminding.tasks.data.labelled.folders import list_recordings


def make(folder: Path, *places: str) -> Path:
    for place in places:
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        (folder / place).touch()
    return folder


def listed(folder: Path, pattern: str | None = None) -> list[tuple[str, str, str]]:
    return [(each.label, each.group, each.split) for each in list_recordings(folder, pattern)]


def test_every_case_of_a_suffix_counts(tmp_path: Path) -> None:
    make(tmp_path, "dog/1.WAV", "cat/2.wav", "cat/3.Flac", "cat/notes.txt")
    assert listed(tmp_path) == [("cat", "", ""), ("cat", "", ""), ("dog", "", "")]


def test_folders_of_splits_are_no_labels(tmp_path: Path) -> None:
    make(tmp_path, "train/dog/1.wav", "test/dog/1.wav", "Validation/cat/2.wav", "train/cat_7.wav")
    assert sorted(listed(tmp_path)) == [
        ("cat", "", "train"),
        ("cat", "", "valid"),
        ("dog", "", "test"),
        ("dog", "", "train"),
    ]


def test_a_speakers_folder_is_no_label_unless_a_pattern_says_which_is_which(tmp_path: Path) -> None:
    make(tmp_path, "yes/ann/1.wav", "no/bob/2.wav")
    with pytest.raises(ValueError, match=r"2 folders deep in .*; say it by a pattern, such as --pattern"):
        list_recordings(tmp_path)
    assert listed(tmp_path, "{label}/{group}/*") == [("no", "bob", ""), ("yes", "ann", "")]
    assert listed(tmp_path, "{group}/{label}/*.wav") == [("bob", "no", ""), ("ann", "yes", "")]
    with pytest.raises(ValueError, match=r"pattern: no/bob/2.wav in .* does not fit '{label}/x\*'"):
        list_recordings(tmp_path, "{label}/x*")
    with pytest.raises(ValueError, match=r"pattern must have {label} once"):
        list_recordings(tmp_path, "{group}/*")


def test_a_field_at_the_end_of_a_name_has_no_suffix(tmp_path: Path) -> None:
    make(tmp_path, "ann/yes.wav", "bob/yes.flac", "bob/no.v2.wav")
    expected = [("yes", "ann", ""), ("no.v2", "bob", ""), ("yes", "bob", "")]
    assert listed(tmp_path, "{group}/{label}") == expected
    assert listed(tmp_path, "{group}/{label}.*") == [("yes", "ann", ""), ("no", "bob", ""), ("yes", "bob", "")]


def test_hidden_files_and_folders_are_passed_over(tmp_path: Path) -> None:
    """As macOS leaves them beside each file, and as caches and bins have them."""
    folder = make(tmp_path / ".data", "cat/1.wav", "cat/._1.wav", "dog/2.wav", ".Trash/3.wav", "dog/.old/4.wav")
    assert [each.path.name for each in list_recordings(folder)] == ["1.wav", "2.wav"]


def test_fields_in_names(tmp_path: Path) -> None:
    make(tmp_path, "0_george_12.wav", "test_7_theo_1.wav")
    (tmp_path / "test_7_theo_1.wav").unlink()
    assert listed(tmp_path, "{label}_{group}_*") == [("0", "george", "")]
