"""Text files of labelled series: .ts in all its forms, and UCR files; labels are texts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from reminding.tasks.data.labelled.files import label_order, plain_label, read_series

HEAD = "# about\n% also about\n@problemName a\n@timeStamps false\n"


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_ts_with_several_dimensions_missing_values_and_comments(tmp_path: Path) -> None:
    text = HEAD + "@univariate false\n@dimensions 2\n@classLabel true up down\n@data\n"
    text += "1,2,?:4,5,6:up\n% a comment\n\n7,NaN:9,10:down\n"
    first, second = read_series(write(tmp_path / "a.TS", text))
    assert (first.label, second.label) == ("up", "down")
    np.testing.assert_array_equal(first.values, [[1, 4], [2, 5], [np.nan, 6]])
    np.testing.assert_array_equal(second.values, [[7, 9], [np.nan, 10]])
    assert second.where.endswith("line 12")


def test_a_keyword_of_a_ts_header_without_its_value_is_not_true(tmp_path: Path) -> None:
    text = HEAD + "@timeStamps\n@univariate\n@targetLabel\n@classLabel true a\n@data\n1,2:3,4:a\n"
    (one,) = read_series(write(tmp_path / "a.ts", text))
    assert (one.label, one.values.shape) == ("a", (2, 2))


def test_ts_without_labels(tmp_path: Path) -> None:
    (one,) = read_series(write(tmp_path / "a.ts", HEAD + "@classLabel false\n@data\n1,2,3\n"))
    assert (one.label, one.values.shape) == ("", (3, 1))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("@timeStamps true\n@data\n(0,1):a\n", r"has timestamps \(@timeStamps true\), which are not read; write"),
        ("@data\n(0,1),(1,2):a\n", "line 2: values with timestamps"),
        ("@targetLabel true\n@data\n1,2:0.5\n", r"a number to predict for each series \(@targetLabel true\)"),
        ("@classLabel true a b\n@data\n1,2:c\n", "line 3: the label 'c' is not among those of @classLabel: a, b"),
        ("@dimensions 2\n@data\n1,2:a\n", "line 3: 1 dimensions and a label, expected 2 by the header"),
        ("@univariate true\n@data\n1,2:3,4:a\n", "line 3: 2 dimensions and a label, expected 1 by the header"),
        ("@dimensions two\n@data\n1,2:a\n", "@dimensions is followed by two, expected a number"),
        ("@dimensions\n@data\n1,2:a\n", "@dimensions is followed by nothing, expected a number"),
        ("@data\n1,2:3:a\n", "line 2: dimensions of 1 and of 2 values"),
        ("@data\n1,2,3\n", "line 2: 0 colons"),
        ("@data\n1,2:\n", "line 2: the label is empty; training and eval need labels, and `reminding predict RUN"),
        ("@classLabel true a b\n@data\n1,2:?\n", "line 3: the label is [?]; training and eval need labels"),
        ("@data\n1,x:a\n", "line 2: value 2 is 'x', expected a number"),
        ("@data\n1,1_0:a\n", "line 2: value 2 is '1_0', expected a number"),
        ("@data\n", "holds no series"),
    ],
)
def test_ts_that_cannot_be_read_says_why(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_series(write(tmp_path / "a.ts", text))


def test_empty_cells_of_rows_are_missing_and_shift_nothing(tmp_path: Path) -> None:
    first, second = read_series(write(tmp_path / "a.csv", "a,1,,3\nb,4,5,,\n"))
    np.testing.assert_array_equal(first.values[:, 0], [1, np.nan, 3])
    np.testing.assert_array_equal(second.values[:, 0], [4, 5])
    with pytest.raises(ValueError, match=r"a\.csv, line 2: the label, which is the first cell, is empty"):
        read_series(write(tmp_path / "a.csv", "a,1,2\n,1,2\n"))
    with pytest.raises(ValueError, match=r"a\.csv, line 1: .* first cell, is \?; training and eval need labels, and"):
        read_series(write(tmp_path / "a.csv", "?,1,2\n"))


@pytest.mark.parametrize(
    ("written", "label"),
    [
        ("1.0000000e+00", "1"),
        ("-1.0", "-1"),
        ("1234567", "1234567"),
        ("12345678901234567890", "12345678901234567890"),
        ("007", "007"),
        ("1.5", "1.5"),
        ("nan", "nan"),
        ("cat", "cat"),
    ],
)
def test_labels_stay_apart(written: str, label: str) -> None:
    assert plain_label(written) == label


def test_labels_have_one_order() -> None:
    labels = ["nan", "10", "9", "-1", "b", "inf", "a"]
    assert sorted(labels, key=label_order) == ["-1", "9", "10", "a", "b", "inf", "nan"]
