"""Tables of results in files: every column is found again by its name.

Shapes: N rows, C columns.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest

from reminding.lab.predict.frames import (
    frame_of,
    index_after,
    labels_frame,
    names_index,
    row_numbers,
    times_after,
    write_frame,
)
from reminding.lab.predict.given import numbers_of, row_of, series_of, table_values
from reminding.tasks.data.tables.database import connect, write_parquet


def written(frame: Any, path: Path) -> tuple[list[str], list[tuple[Any, ...]]]:
    """The names and the rows of a table, as they stand in the file that it is written to."""
    write_frame(frame, path)
    if path.suffix == ".csv":
        head, *rows = (line.split(",") for line in path.read_text().splitlines())
        return head, [tuple(row) for row in rows]
    found = connect().execute(f"SELECT * FROM read_parquet('{path}')")
    return [each[0] for each in found.description], [tuple(map(str, row)) for row in found.fetchall()]


@pytest.mark.parametrize("name", ["a.csv", "a.parquet"])
def test_the_index_gives_way_to_a_column_of_its_name(tmp_path: Path, name: str) -> None:
    for columns, index in (
        (["x", "y"], "row"),
        (["row", "y"], "row.1"),
        (["y", "Row"], "row.1"),
        (["row", "row.1"], "row.2"),
    ):
        frame = frame_of(columns, np.array([[1.5, 2.5], [3.5, 4.5]]), row_numbers(7, 2))
        found = written(frame, tmp_path / name)
        assert found == ([index, *columns], [("7", "1.5", "2.5"), ("8", "3.5", "4.5")])
        assert frame.index.name == "row", "the table itself is as it was"


@pytest.mark.parametrize("name", ["a.csv", "a.parquet"])
def test_classes_may_be_called_as_the_columns_beside_them(tmp_path: Path, name: str) -> None:
    found = labels_frame(["series", "label"], np.array([[0.25, 0.75]]), row_numbers(0, 1, "series"))
    expected = (["series.1", "label.1", "series", "label"], [("0", "label", "0.25", "0.75")])
    assert written(found, tmp_path / name) == expected
    found = labels_frame(["file", "b"], np.array([[0.75, 0.25]]), names_index(["x.wav"], "file"))
    assert written(found, tmp_path / name) == (["file.1", "label", "file", "b"], [("x.wav", "file", "0.75", "0.25")])


def test_an_index_of_times_keeps_its_name(tmp_path: Path) -> None:
    frame = frame_of(["x"], np.array([[1.5]]), pd.DatetimeIndex(["2024-01-01"], name="hour"))
    assert written(frame, tmp_path / "a.csv") == (["hour", "x"], [("2024-01-01", "1.5")])


DAYS = pd.date_range("2024-01-01", periods=3)


@pytest.mark.parametrize(
    "times",
    [
        DAYS,
        DAYS.tz_localize("Europe/Berlin"),
        DAYS - DAYS[0],
        pd.Index([None, *DAYS[1:].to_pydatetime()], dtype=object),
        pd.Index(DAYS.date, dtype=object),
        pd.Index(DAYS.time, dtype=object),
        pd.Index([1.0, 2.0, DAYS[0]], dtype=object),
        pd.Index([*(DAYS - DAYS[0])], dtype=object),
        pd.Index([np.datetime64("2024-01-01")] * 3, dtype=object),
    ],
)
def test_times_in_memory_are_no_numbers(times: Any) -> None:
    """They are refused as those of a file; as numbers they would be nanoseconds since 1970."""
    tables: list[Any] = [pd.DataFrame({"x": times})]
    if not any(isinstance(each, np.datetime64 | float) for each in times):
        polars = pl.DataFrame({"x": [*times]})
        tables += [polars, polars.to_arrow()] if importlib.util.find_spec("pyarrow") else [polars]
    for table in tables:
        with pytest.raises(ValueError, match="data: the column 'x' is not numeric: it holds times, expected numbers"):
            table_values(table, ["x"], missing=True)
        with pytest.raises(ValueError, match=r"data must be .* numbers: it holds times"):
            series_of(table, missing=True)
    with pytest.raises(ValueError, match=r"data must be .* numbers: it holds times"):
        table_values(np.asarray(times), ["x"])
    with pytest.raises(ValueError, match="value: the column 'x' is not numeric: it holds times"):
        row_of({"x": times[2]}, ["x"], "value")
    with pytest.raises(ValueError, match="value must be numbers: it holds times"):
        numbers_of([times[2]], "value")


def test_numbers_among_objects_are_read() -> None:
    found = table_values(pd.DataFrame({"x": [1, None, 2.5, "3", True]}, dtype=object), ["x"], missing=True)
    np.testing.assert_array_equal(found, [[1], [np.nan], [2.5], [3], [1]])


def test_true_and_false_are_numbers_as_in_files() -> None:
    for table in (pd.DataFrame({"on": ["true", " False", "2"]}), pl.DataFrame({"on": ["true", " False", "2"]})):
        np.testing.assert_array_equal(table_values(table, ["on"]), [[1], [0], [2]])
    message = "data: the column 'on' is not numeric: it holds 'off', expected numbers, or true and false$"
    for table in (pd.DataFrame({"on": ["true", "off"]}), pl.DataFrame({"on": ["true", "off"]})):
        with pytest.raises(ValueError, match=message):
            table_values(table, ["on"])


def test_periods_are_times() -> None:
    frame = pd.DataFrame({"x": np.zeros(3)}, index=pd.period_range("2024-01", periods=3, freq="M"))
    assert list(index_after(frame, range(3), 2)) == [pd.Timestamp("2024-04-01"), pd.Timestamp("2024-05-01")]


WORKING = [str(day) for day in np.arange("2024-01-01", "2024-03-02", dtype="datetime64[D]") if np.is_busday(day)]
WORKING.remove("2024-01-15")
"""Working days with a holiday, to Friday."""
CALENDAR = {
    "working days": (
        WORKING,
        ["2024-03-04", "2024-03-05", "2024-03-06", "2024-03-07", "2024-03-08", "2024-03-11"],
        None,
    ),
    "late shifts": (
        [f"2024-01-0{day} {hour}:00" for day in (1, 2, 3) for hour in range(13, 21)],
        ["2024-01-03 21:00", "2024-01-03 22:00"],
        None,
    ),
    "working days in a zone": (WORKING, ["2024-03-04", "2024-03-05"], "Europe/Berlin"),
    "the 15th": (["2024-11-15", "2024-12-15", "2025-01-15", "2025-02-15"], ["2025-03-15", "2025-04-15"], None),
    "the 30th": (["2024-11-30", "2024-12-30", "2025-01-30"], ["2025-02-28", "2025-03-30"], None),
    "the 31st": (["2024-04-30", "2024-05-31", "2024-07-31", "2024-08-31"], ["2024-09-30", "2024-10-31"], None),
    "quarters": (["2024-02-15 06:30", "2024-05-15 06:30", "2024-08-15 06:30"], ["2024-11-15 06:30"], None),
    "years": (["2019-03-10", "2020-03-10", "2021-03-10", "2022-03-10"], ["2023-03-10", "2024-03-10"], None),
    "months in a zone": (["2024-01-15", "2024-02-15", "2024-03-15"], ["2024-04-15"], "America/New_York"),
    "days in a zone": (["2024-03-07", "2024-03-08", "2024-03-09"], ["2024-03-10", "2024-03-11"], "America/New_York"),
    "days over a change": (["2024-11-02", "2024-11-03", "2024-11-05"], ["2024-11-07"], "America/New_York"),
    "hours in a zone": (["2024-03-09 22:00", "2024-03-10 00:00"], ["2024-03-10 03:00"], "America/New_York"),
    "two times of the day": (["2024-01-15", "2024-02-15 12:00", "2024-03-15"], ["2024-04-14"], None),
}


@pytest.mark.parametrize(("given", "wanted", "zone"), CALENDAR.values(), ids=CALENDAR)
def test_times_go_on_by_the_calendar(given: list[str], wanted: list[str], zone: str | None) -> None:
    index, following = (pd.DatetimeIndex(each, tz=zone, name="when") for each in (given, wanted))
    steps = len(wanted)
    pd.testing.assert_index_equal(times_after(index, "when", steps), following, exact=False)
    frame = pd.DataFrame({"x": np.zeros(len(index))}, index=index)
    pd.testing.assert_index_equal(index_after(frame, range(len(index)), steps), following, exact=False)


def test_office_hours_go_on_the_next_working_day() -> None:
    hours = pd.DatetimeIndex([f"2024-01-0{day} {hour}:00" for day in range(1, 6) for hour in range(9, 17)])
    assert list(times_after(hours, "when", 2)) == [*pd.DatetimeIndex(["2024-01-08 09:00", "2024-01-08 10:00"])]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a file without room, as Linux has one")
def test_a_full_disk_under_a_parquet_file_is_an_error_of_the_system() -> None:
    with pytest.raises(OSError, match=r"^No space left on device$"):
        write_parquet(pd.DataFrame({"v": [1.0]}), Path("/dev/full"))
