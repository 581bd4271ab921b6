"""What is said beside the tables of errors."""

from __future__ import annotations

import pytest

from reminding.lab.show.tables import error_tables, metric_text


def test_the_rows_in_which_a_season_before_is_no_change_are_said() -> None:
    errors = {method: {"rmse": 1.0, "mae": 1.0} for method in ("model", "unchanged", "seasonal")}
    record = {"kind": "columns", "season": 24, "predictions": 100, "columns": {"load": errors}}
    record = {"kind": "columns", "season": 24, "predictions": 100, "columns": {"load": errors}}
    (table,) = error_tables(record)
    assert table.notes[1:] == [
        "A season before predicts the value 24 rows before the next one. In the first 24 rows of each evaluation "
        "row, and where that value is missing, it is no change."
    ]


def test_a_model_is_worse_than_no_change_where_the_digits_show_it() -> None:
    for model, told in ((1.0012, False), (1.0019, True), (0.9, False)):
        errors = {"model": {"rmse": model, "mae": 1.0}, "unchanged": {"rmse": 1.001, "mae": 1.0}}
        record = {"kind": "columns", "season": None, "predictions": 100, "columns": {"load": errors}}
        (table,) = error_tables(record)
        assert any("worse than no change in load" in note for note in table.notes) == told


@pytest.mark.parametrize(
    ("value", "told"),
    [(0.93421, "0.9342"), (12.0, "12.0000"), (0.0, "0.0000"), (0.00123456, "0.00123"), (-4e-9, "-4e-09")],
)
def test_a_small_metric_keeps_three_digits(value: float, told: str) -> None:
    assert metric_text(value) == told


def test_columns_that_are_not_named_are_counted() -> None:
    errors = {"model": {"rmse": 2.0, "mae": 1.0}, "unchanged": {"rmse": 1.0, "mae": 1.0}}
    for number, told in ((12, "in 00, 01, 02, 03, 04, 05, 06, 07, 08, 09, 10, 11;"), (14, "11 and 2 more columns;")):
        columns = {f"{place:02d}": errors for place in range(number)}
        record = {"kind": "columns", "season": None, "predictions": 100, "columns": columns}
        (table,) = error_tables(record)
        assert told in table.notes[-1]
