"""Times that go on by the calendar."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from reminding.tasks.data.times.calendar import Monthly, monthly, months_after, working_days, working_days_after

ON_THE_30TH = ["2023-11-30", "2023-12-30", "2024-01-30", "2024-02-29", "2024-03-30"]


@pytest.mark.parametrize(
    ("times", "found"),
    [
        (ON_THE_30TH, Monthly(1, 30)),
        (["2023-01-31", "2023-02-28", "2023-03-31"], Monthly(1, 31)),
        (["2023-02-28", "2023-04-30"], Monthly(2, 31)),
        (["2023-01-15T12:30", "2023-04-15T12:30", "2023-07-15T12:30"], Monthly(3, 15)),
        (["2020-02-29", "2021-02-28", "2022-02-28"], Monthly(12, 31)),
        (["2023-01-15", "2023-02-16"], None),
        (["2023-01-15T12", "2023-02-15T13"], None),
        (["2023-01-01", "2023-01-02"], None),
        (["2023-01-01"], None),
        ([], None),
    ],
)
def test_what_goes_on_by_months(times: list[str], found: Monthly | None) -> None:
    assert monthly(np.array(times, "datetime64[us]")) == found


@pytest.mark.parametrize("unit", ["s", "us", "ns"])
def test_the_months_that_follow_keep_day_and_time(unit: str) -> None:
    last = np.datetime64("2024-01-30T12:30", unit)
    following = months_after(last, Monthly(1, 30), 3)
    assert following.dtype == last.dtype
    assert (
        following.tolist()
        == np.array(["2024-02-29T12:30", "2024-03-30T12:30", "2024-04-30T12:30"], last.dtype).tolist()
    )


def days(*, without: tuple[int, ...], count: int, holidays: tuple[str, ...] = (), at: str = "00:00") -> NDArray[Any]:
    """Days from Monday, 2024-01-01 on, but for some days of the week."""
    every = np.arange(np.datetime64("2024-01-01"), np.datetime64("2026-01-01"))
    kept = every[~np.isin(np.arange(len(every)) % 7, without) & ~np.isin(every, np.array(holidays, every.dtype))]
    return kept[:count].astype("datetime64[us]") + (np.datetime64(f"2024-01-01T{at}") - np.datetime64("2024-01-01"))


@pytest.mark.parametrize("at", ["00:00", "16:30"])
@pytest.mark.parametrize("without", [(5, 6), (4, 5), (6,)])
def test_daily_times_leave_out_days_of_the_week(without: tuple[int, ...], at: str) -> None:
    times = days(without=without, count=60, holidays=("2024-01-15", "2024-02-19"), at=at)
    given, following = times[:50], times[50:]
    working = working_days(given)
    assert working is not None
    assert np.flatnonzero(~working).tolist() == [*without]
    np.testing.assert_array_equal(working_days_after(given[-1], working, 10), following)


def test_an_exception_on_a_weekend_is_no_rule() -> None:
    times = days(without=(5, 6), count=60)
    saturday = np.datetime64("2024-03-02", "us")
    working = working_days(np.sort(np.append(times, saturday)))
    assert working is not None and working.tolist() == [True] * 5 + [False] * 2
    assert working_days_after(saturday, working, 2).astype(str).tolist() == [
        "2024-03-04T00:00:00.000000",
        "2024-03-05T00:00:00.000000",
    ]


@pytest.mark.parametrize(
    "times",
    [
        days(without=(), count=60),
        days(without=(5, 6), count=19),
        days(without=(6,), count=60)[np.arange(60) % 10 < 8],  # a fifth is missing
        np.arange("2024-01-01", "2024-01-05", 3600, dtype="datetime64[s]"),
        days(without=(0, 1, 2, 3, 4, 5), count=60),  # Sundays
    ],
)
def test_other_times_do_not(times: NDArray[Any]) -> None:
    assert working_days(times) is None
