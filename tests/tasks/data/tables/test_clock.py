"""Columns of times: order, gaps and forms."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from reminding.tasks.data.reading import TimeRange
from reminding.tasks.data.tables import TableSource, Wanted


def table(path: Path, times: list[str], missing: str = "error", values: list[str] | None = None) -> TableSource:
    cells = values or [str(i) for i in range(len(times))]
    path.write_text("when;v\n" + "".join(f"{time};{cell}\n" for time, cell in zip(times, cells, strict=True)))
    return TableSource(path, Wanted(time="when", missing=missing))  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("times", "first", "step"),
    [
        (["2020-01-01 00:00", "2020-01-01 01:00", "2020-01-01 02:00"], "2020-01-01 00:00:00", "1 h"),
        (["2020-01-01T00:00:00Z", "2020-01-01T00:00:30Z"], "2020-01-01 00:00:00", "30 s"),
        (["31/12/2020", "01/01/2021", "02/01/2021"], "2020-12-31 00:00:00", "1 d"),
        (["01/02/2020 23:00", "02/02/2020 00:00", "02/02/2020 01:00"], "2020-02-01 23:00:00", "1 h"),
        (["12/31/2020 23:00", "01/01/2021 00:00"], "2020-12-31 23:00:00", "1 h"),
        (["31.12.2020 10:00", "31.12.2020 10:05"], "2020-12-31 10:00:00", "5 min"),
        (["0.5", "1.0", "1.5"], "0.5", "0.5"),
        (["9:59", "10:00", "10:01"], "35940", "60"),
        (["00:00:59.5", "00:01:00.0", "00:01:00.5"], "59.5", "0.5"),
        (["0 days 23:59:50", "1 day, 0:00:00", "1 days 00:00:10"], "86390", "10"),
        (["0 days", "1 days"], "0", "86400"),
    ],
)
def test_times_are_read(tmp_path: Path, times: list[str], first: str, step: str) -> None:
    source = table(tmp_path / "a.csv", times)
    assert source.columns == ("v",), "the time is no input"
    found = source.reading().times[0]
    assert (found.first, found.step, found.gaps, found.irregular) == (first, step, 0, 0)


def test_gaps_are_counted(tmp_path: Path) -> None:
    days = [1, 2, 3, 4, 9, 10, 11, 12, 20, 21]
    source = table(tmp_path / "a.csv", [f"2020-01-{day:02}" for day in days])
    found = source.reading().times[0]
    assert (found.step, found.gaps, found.largest_gap) == ("1 d", 2, "8 d")
    times = source.times(4, 6)
    assert times is not None
    assert times.tolist() == np.array(["2020-01-09", "2020-01-10"], "datetime64[us]").tolist()


def test_rows_that_are_dropped_have_no_time(tmp_path: Path) -> None:
    source = table(tmp_path / "a.csv", ["1", "2", "3"], "drop", ["5", "", "6"])
    times = source.times(0, 9)
    assert times is not None
    assert times.tolist() == [1, 3]


@pytest.mark.parametrize(
    ("times", "message"),
    [
        (["2020-01-01", "2020-01-02", "2020-01-02"], r"a\.csv, line 4, column 'when': the time is not later"),
        (["3", "1"], "line 3, column 'when': the time is not later"),
        (["23:59:50", "00:00:00"], "line 3, column 'when': the time is not later .* write the date where"),
        (["0:00", "0:01,5"], "line 3, column 'when': the cell holds no time"),
        (["31/12/2020", "01/01/2021", "?"], "line 4, column 'when': the cell holds no time"),
        (["2020-01-01", "soon"], "line 3, column 'when': the cell holds no time"),
        (["02/01/2020", "03/01/2020", "04/01/2020"], "day and month may stand in either order"),
    ],
)
def test_times_that_cannot_be_used_are_refused(tmp_path: Path, times: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        table(tmp_path / "a.csv", times)


@pytest.mark.parametrize(
    ("gaps", "said"), [(0, "no gaps"), (1, "1 gap of 5 h"), (1200, "1,200 gaps, the largest 5 h")]
)
def test_gaps_are_said_in_words(gaps: int, said: str) -> None:
    assert TimeRange("t", "a", "b", "1 h", gaps, "5 h", 0).line() == f"time: t, a to b, every 1 h, {said}"
