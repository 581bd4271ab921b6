"""Columns of times: order, gaps and forms."""

from __future__ import annotations

import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import numpy as np
import pandas as pd
import pyarrow
import pyarrow.parquet
import pytest

from reminding.tasks.data.reading import TimeRange
from reminding.tasks.data.tables import TableSource, Wanted
from reminding.tasks.data.tables.clock import OpenOrderError, Timing, read_clock, text_times
from reminding.tasks.data.tables.database import QueriedRows
from reminding.tasks.data.times.written import Order
from reminding.tasks.files.sets import open_files

pa: Any = pyarrow
pq: Any = pyarrow.parquet


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
        (["0,5", "1,0", "1,5"], "0.5", "0.5"),
        (["1.000,5", "1.001,0", "1.001,5"], "1000.5", "0.5"),
        (["\xa01", "\xa02", "3\t"], "1", "1"),
        (["1700000000.0001", "1700000000.0002", "1700000000.0003"], "1700000000.0001", "0.0001"),
        (["2024-01-31", "2024-02-29", "2024-03-31", "2024-04-30"], "2024-01-31 00:00:00", "1 month"),
        (["2024-01-01", "2024-04-01", "2024-07-01"], "2024-01-01 00:00:00", "3 months"),
        (["2022-07-01", "2023-07-01", "2024-07-01"], "2022-07-01 00:00:00", "1 year"),
        (["9:59", "10:00", "10:01"], "35940", "60"),
        (["00:00:59.5", "00:01:00.0", "00:01:00.5"], "59.5", "0.5"),
        (["0 days 23:59:50", "1 day, 0:00:00", "1 days 00:00:10"], "86390", "10"),
        (["0 days", "1 days"], "0", "86400"),
        (["2020-01-20 11:30 AM", "2020-01-20 12:00 PM", "2020-01-20 12:30 PM"], "2020-01-20 11:30:00", "30 min"),
        (["01/20/2020 11:59:59 PM", "01/21/2020 12:00:00 am"], "2020-01-20 23:59:59", "1 s"),
        (["20.01.2020 8 p.m.", "20.01.2020 9 p.m."], "2020-01-20 20:00:00", "1 h"),
        (["20.01.24", "21.01.24", "22.01.24"], "2024-01-20 00:00:00", "1 d"),
        (["01/20/20", "01/21/20"], "2020-01-20 00:00:00", "1 d"),
        (["12/31/99 23:00", "01/01/00 00:00"], "1999-12-31 23:00:00", "1 h"),
        (["2020/01/01 00:00:00.000000250", "2020-01-01 00:00:00.0000005"], "2020-01-01 00:00:00.000000250", "250 ns"),
        (["20211230", "20211231", "20220101"], "2021-12-30 00:00:00", "1 d"),
        (["20211230", "20211231", "20211232"], "20211230", "1"),
        (["1700000000123456789", "1700000000123456790"], "1700000000123456789", "1"),
        (["-9007199254740995", "-9007199254740992"], "-9007199254740995", "3"),
        (["24-01-30 10:00", "24-01-31 10:00", "24-02-01 10:00"], "2024-01-30 10:00:00", "1 d"),
        (["31-Jan-2024 23:00", "01-Feb-2024 00:00"], "2024-01-31 23:00:00", "1 h"),
        (["Jan 31 2024 00:00:00.5", "Jan 31 2024 00:00:01.5"], "2024-01-31 00:00:00.500000", "1 s"),
        (["1 Jan 2024", "2 january 2024", "3 JAN. 2024"], "2024-01-01 00:00:00", "1 d"),
        (["September 30, 2024", "October 1, 2024"], "2024-09-30 00:00:00", "1 d"),
        (["01-Dec-99 11:00 PM", "02-Dec-99 11:00 PM"], "1999-12-01 23:00:00", "1 d"),
        (["31DEC2023", "01JAN2024"], "2023-12-31 00:00:00", "1 d"),
        (["2024-May-31", "2024-Jun-01"], "2024-05-31 00:00:00", "1 d"),
        (["Sun, 31 Mar 2024 00:00:00 +0200", "Mon, 01 Apr 2024 00:00:00 +0200"], "2024-03-30 22:00:00", "1 d"),
        (["2000-01", "2000-02", "2000-03"], "2000-01-01 00:00:00", "1 month"),
        (["2000-9", "2000-10", "2000-11"], "2000-09-01 00:00:00", "1 month"),
        (["2000M11", "2000m12", "2001M01"], "2000-11-01 00:00:00", "1 month"),
        (["2000-M11", "2000-M12", "2001-M1"], "2000-11-01 00:00:00", "1 month"),
        (["2000/11", "2000/12", "2001/01"], "2000-11-01 00:00:00", "1 month"),
        (["11/2000", "12/2000", "01/2001"], "2000-11-01 00:00:00", "1 month"),
        (["Nov 2000", "DEC-2000", "january 2001"], "2000-11-01 00:00:00", "1 month"),
        (["2000 NOV", "2000 DEC", "2001 JAN"], "2000-11-01 00:00:00", "1 month"),
        (["2000-Q3", "2000Q4", "2001 q1"], "2000-07-01 00:00:00", "3 months"),
        (["Q3 2000", "Q4-2000", "q1/2001"], "2000-07-01 00:00:00", "3 months"),
        (["2000-S2", "2001-H1", "2001S2"], "2000-07-01 00:00:00", "6 months"),
        (["2004-W53", "2005-W01", "2005W02"], "2004-12-27 00:00:00", "7 d"),
        (["2008-W52-7", "2009-W01-1", "2009-W01-2"], "2008-12-28 00:00:00", "1 d"),
        (["2004-365", "2004-366", "2005-001"], "2004-12-30 00:00:00", "1 d"),
        (["20240229T230000Z", "20240301T000000+0000", "20240301T0200+01"], "2024-02-29 23:00:00", "1 h"),
        (["20240229T2359", "20240301T0000", "20240301 0001"], "2024-02-29 23:59:00", "1 min"),
        (["20240229:2310", "20240301:0010", "20240301:0110"], "2024-02-29 23:10:00", "1 h"),
        (["20240229_235959.5", "20240301_000000.0"], "2024-02-29 23:59:59.500000", "500 ms"),
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
        (["23:59:50", "00:00:00"], "line 3, column 'when': the time is not later .* date and time of day in one"),
        (["0:00", "0:01,5"], "line 3, column 'when': the cell holds '0:01,5', expected a time such as 2024-12-31"),
        (["31/12/2020", "01/01/2021", "?"], r"line 4, column 'when': the cell holds '\?', expected a time"),
        (["1", "2", "inf"], "line 4, column 'when': the cell holds 'inf', expected a time"),
        (["2020-01-01", "soon"], "line 3, column 'when': the cell holds 'soon', expected a time"),
        (["02/01/2020", "03/01/2020", "04/01/2020"], "day and month may stand in either order"),
        (["01/01/2020", "02/01/2020", "04/01/2020"], "day and month may stand in either order"),
        (["08/01/24 10:00", "08/01/24 11:00"], "day and month may stand in either order"),
        (["2020-01-01 00:00 IST", "2020-01-01 01:00 IST"], "line 2, .*the time zone is not known"),
        (["2020-01-01 00:00 UTC", "2020-01-01 01:00 Mars/Base"], "line 3, .*the time zone is not known"),
        (["2020-01-01 00:00Z", "2020-01-01 01:00"], "some times have a zone, and others have none"),
        (
            ["2020-01-01 11:00 PM", "2020-01-01 13:00 PM"],
            "line 3, column 'when': the cell holds '2020-01-01 13:00 PM'",
        ),
        (["2020-01-01", ""], "line 3, column 'when': the cell holds no time, expected a time"),
        (["1 Jan 2024", "1 Foo 2024"], "line 3, column 'when': the cell holds '1 Foo 2024'"),
        (["30 Jan 2024", "30 Feb 2024"], "line 3, column 'when': the cell holds '30 Feb 2024'"),
        (["2000-12", "2000-13"], "line 3, column 'when': the cell holds '2000-13'"),
        (["12/2000", "13/2000"], "line 3, column 'when': the cell holds '13/2000'"),
        (["2000-Q4", "2001-Q0"], "line 3, column 'when': the cell holds '2001-Q0'"),
        (["2000-Q4", "2000-Q5"], "line 3, column 'when': the cell holds '2000-Q5'"),
        (["2000-Q4", "2001-Q1-1"], "line 3, column 'when': the cell holds '2001-Q1-1'"),
        (["2023-W52", "2023-W53"], "line 3, column 'when': the cell holds '2023-W53'"),
        (["2023-365", "2023-366"], "line 3, column 'when': the cell holds '2023-366'"),
        (["2020-01-01 soon", "2020-01-02 late"], "line 2, column 'when'"),
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


@pytest.mark.parametrize(
    ("step", "said"), [("1 month", "every month"), ("3 months", "every 3 months"), ("1 year", "every year")]
)
def test_an_interval_of_the_calendar_is_said_in_words(step: str, said: str) -> None:
    assert TimeRange("t", "a", "b", step, 0, "", 0).line() == f"time: t, a to b, {said}, no gaps"


BERLIN = pd.date_range("2024-10-26 20:00", periods=12, freq="h", tz="UTC").tz_convert("Europe/Berlin")
SPRING = pd.date_range("2024-03-30 20:00", periods=12, freq="h", tz="UTC").tz_convert("Europe/Berlin")


@pytest.mark.parametrize("hours", [BERLIN, SPRING], ids=["autumn", "spring"])
@pytest.mark.parametrize("form", ["%Y-%m-%d %H:%M:%S%z", "%Y-%m-%dT%H:%M %Z", "%d.%m.%Y %H:%M UTC%z", "iso"])
def test_a_zone_is_taken_into_account(tmp_path: Path, form: str, hours: pd.DatetimeIndex) -> None:
    texts = [hour.isoformat() if form == "iso" else hour.strftime(form) for hour in hours]
    source = table(tmp_path / "a.csv", texts)
    found = source.reading().times[0]
    assert (found.step, found.gaps, found.irregular) == ("1 h", 0, 0)
    assert found.first == str(hours[0].tz_convert(None))
    assert source.reading().notes == ("when: times with a zone are read in UTC",)
    assert text_times(np.array(texts), "when").tolist() == hours.tz_convert(None).to_pydatetime().tolist()


def test_the_name_of_a_place_is_a_zone(tmp_path: Path) -> None:
    source = table(tmp_path / "a.csv", [f"2024-07-0{day} 08:00 PM America/New_York" for day in (1, 2)])
    assert source.reading().times[0].first == "2024-07-02 00:00:00"


def test_monthly_us_dates_with_a_month_missing_are_not_read_as_days(tmp_path: Path) -> None:
    months = [f"{month:02}/01/{year}" for year in range(1950, 1960) for month in range(1, 13)]
    assert table(tmp_path / "whole.csv", months).reading().times[0].last == "1959-12-01 00:00:00"
    del months[77]
    with pytest.raises(OpenOrderError, match="day and month may stand in either order"):
        table(tmp_path / "a.csv", months)
    for order, last in (("month first", "1959-12-01"), ("day first", "1959-01-12")):
        wanted = Wanted(time="when", timing=Timing(cast("Order", order)))
        found = TableSource(tmp_path / "a.csv", wanted).reading().times[0]
        assert found.last == f"{last} 00:00:00"


def test_a_known_order_gives_way_where_it_cannot_be(tmp_path: Path) -> None:
    table(tmp_path / "a.csv", ["13/01/2024", "14/01/2024"])
    source = TableSource(tmp_path / "a.csv", Wanted(time="when", timing=Timing("month first")))
    assert source.clock is not None
    assert (source.reading().times[0].first, source.clock.order) == ("2024-01-13 00:00:00", "day first")


def test_what_other_tables_are_read_by() -> None:
    def timing(*texts: str) -> Timing:
        rows = QueriedRows.of_texts(np.array(texts))
        with TemporaryDirectory() as folder:
            return read_clock(Path("data"), rows, 0, "when", Path(folder)).timing()

    assert timing("12/31/2023", "01/31/2024", "02/29/2024") == Timing("month first", True, 30 * 86400, 1, 31)
    assert timing("2023-01-15", "2024-01-15") == Timing(None, True, 365 * 86400, 12, 15)
    assert timing("2024-01-01 00:00", "2024-01-01 00:10") == Timing(None, True, 600, None)
    assert timing("2023-01-01", "2023-01-29", "2023-02-26") == Timing(None, True, 28 * 86400, None)
    assert timing("0.5", "1.0") == Timing(None, False, 0.5, None)
    assert timing("01/01/2024") == Timing(None, True, None, None)


def test_one_file_of_several_tells_the_order(tmp_path: Path) -> None:
    days = {"a.csv": ["01/02/2024 00:00", "01/02/2024 12:00"], "b.csv": ["01/12/2024 12:00", "01/13/2024 00:00"]}
    for name, times in days.items():
        (tmp_path / name).write_text("when;v\n" + "".join(f"{time};{i}\n" for i, time in enumerate(times)))
    paths = [tmp_path / name for name in days]
    for files in (paths, paths[::-1]):
        found = open_files(files, "csv", Wanted(time="when"), follow=False)
        assert {time.first for time in found.reading([]).times} == {"2024-01-02 00:00:00", "2024-01-12 12:00:00"}
        assert [
            source.clock.order for source in found.sources if isinstance(source, TableSource) if source.clock
        ] == [
            "month first",
            "month first",
        ]
    with pytest.raises(OpenOrderError):
        open_files([paths[0], paths[0]], "csv", Wanted(time="when"), follow=False)


PARQUET_TIMES = {
    "timestamp[us, tz]": ("2024-01-01 05:00:00", "1 h", [0, 3600 * 10**6]),
    "timestamp[ns, tz]": ("2024-01-01 05:00:00", "100 ns", [0, 100]),
    "timestamp[ns]": ("2024-01-01 05:00:00", "100 ns", [0, 100]),
    "timestamp[ns] whole": ("2024-01-01 05:00:00", "1 d", [0, 86400 * 10**9]),
}


@pytest.mark.parametrize("kind", PARQUET_TIMES)
@pytest.mark.parametrize("zone", ["America/New_York", "Asia/Tokyo"])
def test_times_of_a_parquet_file_do_not_depend_on_the_zone_of_the_machine(
    tmp_path: Path, kind: str, zone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, step, since = PARQUET_TIMES[kind]
    unit = "us" if "us" in kind else "ns"
    start = np.datetime64("2024-01-01T05:00", unit).astype(np.int64)
    times = pa.array(start + np.array(since), pa.timestamp(unit, "Europe/Paris" if "tz" in kind else None))
    pq.write_table(pa.table({"when": times, "v": [1.0, 2.0]}), tmp_path / "a.parquet")
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        source = TableSource(tmp_path / "a.parquet", Wanted(time="when"))
    finally:
        monkeypatch.undo()
        time.tzset()
    found = source.reading().times[0]
    assert (found.first, found.step) == (first, step)
    values = source.times(0, 2)
    assert values is not None
    assert (values - values[0]).astype(f"timedelta64[{unit}]").astype(np.int64).tolist() == since


@pytest.mark.parametrize("step", [1, 250, 10**6])
def test_whole_numbers_are_exact(tmp_path: Path, step: int) -> None:
    numbers = 1700000000123456789 + step * np.arange(50)
    pq.write_table(pa.table({"when": numbers, "v": np.ones(50)}), tmp_path / "a.parquet")
    texts = table(tmp_path / "a.csv", list(map(str, numbers)))
    for source in (texts, TableSource(tmp_path / "a.parquet", Wanted(time="when"))):
        values = source.times(0, 50)
        assert values is not None
        assert values.tolist() == numbers.tolist()
        assert source.reading().times[0].step == str(step)


def test_rows_that_are_dropped_have_no_exact_time(tmp_path: Path) -> None:
    numbers = [str(1700000000123456789 + i) for i in range(3)]
    times = table(tmp_path / "a.csv", numbers, "drop", ["5", "", "6"]).times(0, 9)
    assert times is not None
    assert times.tolist() == [1700000000123456789, 1700000000123456791]


def test_a_table_with_thousands_of_columns_has_zones(tmp_path: Path) -> None:
    names = ["when", *(f"c{i}" for i in range(2100))]
    rows = [
        [at, *(str(i + row) for i in range(2100))]
        for row, at in enumerate(["2024-01-01 01:00+02", "2024-01-02 01:00+02"])
    ]
    (tmp_path / "a.csv").write_text("\n".join(",".join(row) for row in [names, *rows]) + "\n")
    source = TableSource(tmp_path / "a.csv", Wanted(time="when"))
    assert source.reading().times[0].first == "2023-12-31 23:00:00"
    assert source.read(1, 2)[0, :3].tolist() == [1, 2, 3]
