"""Users' sequences, read in the way in which a task reads its data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from reminding.tasks import MNIST, Copying, Digits, FileStream, Series
from reminding.tasks.own import numbers_of_file, read_own
from tests.reliability.memory import measured


def test_own_series_is_standardised_as_in_training(tmp_path: Path) -> None:
    rows = ["\t".join([label, *(str(i * scale) for i in range(5))]) for label in "ab" for scale in (1, 2, 3, 4, 5)]
    (tmp_path / "all.txt").write_text("\n".join(rows))
    task = Series(tmp_path / "all.txt", frame=2)
    (tmp_path / "mine.txt").write_text("0 2 4 6 8")  # like the second of each class, which is in the training split
    own = read_own(task, tmp_path / "mine.txt")
    assert own.target is None
    torch.testing.assert_close(own.input, task.examples("train").batch(torch.tensor([1])).input)


def test_a_file_of_labelled_series_is_not_one_series(tmp_path: Path) -> None:
    path = tmp_path / "all.tsv"
    path.write_text("".join(f"{label}\t{i}\t2\t3\n" for i in range(5) for label in "12"))
    with pytest.raises(
        ValueError, match=r"holds 10 series; choose by --sequence, 0 to 9; a file of one has one step a line"
    ):
        read_own(Series(path), path)
    (tmp_path / "one.txt").write_text("1\n2\n3\n")
    assert read_own(Series(path), tmp_path / "one.txt").input.shape == (3, 1, 1)


@pytest.mark.parametrize(
    ("line", "label"),
    [("2\t5\t6\t7", 1), ("1.0 5 6 7", 0), ("?,5,6,7", None), ("# one series\n\n2;5;6;7", 1), ("5\n6\n7\n", None)],
)
def test_one_line_has_its_label_first_as_in_the_files_of_training(
    line: str, label: int | None, tmp_path: Path
) -> None:
    path = tmp_path / "all.tsv"
    path.write_text("".join(f"{label}\t{i}\t2\t3\t4\n" for i in range(5) for label in "12"))
    task = Series(path)
    (tmp_path / "one.txt").write_text(line)
    own = read_own(task, tmp_path / "one.txt")
    assert own.padding == 1  # the training data have four steps
    torch.testing.assert_close(own.input[:, 0, 0].numpy(), task.form.prepared(np.array([5.0, 6.0, 7.0]))[:, 0])
    assert own.target is None if label is None else own.target is not None and own.target.tolist() == [label]


def test_a_first_number_that_is_no_label_is_refused_where_labels_are_numbers(tmp_path: Path) -> None:
    path = tmp_path / "all.tsv"
    path.write_text("".join(f"{label}\t{i}\t2\t3\n" for i in range(5) for label in "12"))
    for line in ("0.5 1 2 3", "3 1 2 3", "cat 1 2 3"):
        (tmp_path / "one.txt").write_text(line)
        with pytest.raises(ValueError, match=r"one\.txt, line 1 has the label '.*', expected one of 1, 2, or \? if"):
            read_own(Series(path), tmp_path / "one.txt")


def test_own_table_has_the_columns_of_training_by_name_on_its_scale(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(400, 2)).round(3)
    (tmp_path / "a.csv").write_text("a,b\n" + "\n".join(f"{a},{b}" for a, b in values.tolist()))
    (tmp_path / "b.csv").write_text("b;x;a\n" + "\n".join(f"{b};t;{a}" for a, b in values.tolist()))
    task = FileStream(tmp_path / "a.csv", target=("b",))
    first, second = (read_own(task, tmp_path / name, 3, 10) for name in ("a.csv", "b.csv"))
    assert torch.equal(first.input, second.input)
    assert first.target is not None
    assert first.target.shape == (10, 1, 1)
    assert torch.equal(first.target[:-1, 0, 0], first.input[1:, 0, 1])


def test_an_array_is_read_as_numbers(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    for values in (np.arange(6.0).reshape(3, 2), np.asfortranarray(np.ones((2, 3))), np.arange(3, dtype=">i2")):
        np.save(path, values)
        np.testing.assert_array_equal(numbers_of_file(path), values)
    for values in (np.array(["a"]), np.ones(2, complex)):
        np.save(path, values)
        with pytest.raises(ValueError, match=r"a\.npy holds no array of numbers"):
            numbers_of_file(path)


def test_a_text_with_an_underscore_is_no_number(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("1\n1_0\n")
    with pytest.raises(ValueError, match=r"a\.txt, line 2: '1_0' is no number; expected numbers alone"):
        numbers_of_file(tmp_path / "a.txt")


@pytest.mark.parametrize("name", ["a.png", "a.JPG"])
def test_a_picture_is_told_what_is_expected_of_it(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"\x89PNG\r\n\x1a\n")
    expected = "is a picture, expected its pixels as numbers from 0 to 1, {} steps of 1: text, or an .npy file"
    for task, steps in ((Digits(), 64), (MNIST(), 784)):
        with pytest.raises(ValueError, match=rf"^input: .*{name} {expected.format(steps)}"):
            read_own(task, tmp_path / name)
    with pytest.raises(ValueError, match=r"is not text, expected numbers as text or in an \.npy file: 'utf-8'"):
        read_own(Copying(), tmp_path / name)


@pytest.mark.parametrize("claim", [b"(99999999999,)", b"(-2,)", b"(3,", b"[]+"])
def test_a_damaged_header_of_an_array_asks_for_no_memory(tmp_path: Path, claim: bytes) -> None:
    path = tmp_path / "a.npy"
    np.save(path, np.ones(3))
    raw = path.read_bytes()
    path.write_bytes(raw.replace(b"(3,), }" + b" " * (len(claim) - 4), claim + b", }"))
    _, error, memory = measured(lambda: numbers_of_file(path))
    assert isinstance(error, ValueError)
    assert "a.npy holds no array of numbers" in str(error)
    assert memory.traced < 1 << 20


def test_a_blank_line_of_one_step_a_line_is_a_missing_value(tmp_path: Path) -> None:
    path = tmp_path / "all.tsv"
    path.write_text("".join(f"{label}\t{i}\t2\t3\n" for i in range(5) for label in "12"))
    (tmp_path / "one.txt").write_text("\n# volts\n\n5\n\n7\n\n")
    with pytest.raises(ValueError, match="missing"):
        read_own(Series(path), tmp_path / "one.txt")
    carried = read_own(Series(path, missing="carry"), tmp_path / "one.txt").input[:, 0, 0]
    assert len(carried) == 3
    assert carried[0] == carried[1] != carried[2]
