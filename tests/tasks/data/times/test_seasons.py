"""Two years that follow each other, such as 2000-01, are not taken for months."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from reminding.tasks.data.tables import TableSource, Wanted
from reminding.tasks.data.tables.clock import text_times
from reminding.tasks.data.times.seasons import is_season


def table(path: Path, times: list[str]) -> TableSource:
    path.write_text("t,v\n" + "".join(f"{time},{i}\n" for i, time in enumerate(times)))
    return TableSource(path, Wanted(time="t"))


@pytest.mark.parametrize("sign", ["-", "/"])
@pytest.mark.parametrize(("first", "count"), [(2000, 8), (2000, 15), (2009, 2), (1990, 20)])
def test_seasons_are_refused(tmp_path: Path, sign: str, first: int, count: int) -> None:
    seasons = [f"{year}{sign}{(year + 1) % 100:02d}" for year in range(first, first + count)]
    with pytest.raises(ValueError, match=r"^time: .*if it stands for two years, write the first one alone"):
        table(tmp_path / "a.csv", seasons)
    with pytest.raises(ValueError, match="if it stands for two years"):
        text_times(np.array(seasons), "t")


@pytest.mark.parametrize("times", [["2009-10", "2009-11"], ["2009-10", "2010-10"], ["2001-02-01", "2002-03-01"]])
def test_months_and_days_are_read(tmp_path: Path, times: list[str]) -> None:
    found = table(tmp_path / "a.csv", times).times(0, 9)
    assert found is not None
    assert [str(time)[: len(text)] for time, text in zip(found, times, strict=True)] == times


def test_a_month_alone_is_read(tmp_path: Path) -> None:
    assert table(tmp_path / "a.csv", ["2009-10"]).steps() == 1


@pytest.mark.parametrize("text", ["2000-01", "'1999/2000'", "2024/25", "1999-00", "2024\u201325"])
def test_two_years_that_follow_each_other_are_a_season(text: str) -> None:
    assert is_season(text)


@pytest.mark.parametrize("text", ["2000-02", "2024/2026", "2024", "2024-25-01", "no time"])
def test_others_are_none(text: str) -> None:
    assert not is_season(text)
