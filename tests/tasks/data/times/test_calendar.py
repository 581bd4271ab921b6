"""Times that go on by months."""

from __future__ import annotations

import numpy as np
import pytest

from reminding.tasks.data.times.calendar import Monthly, monthly, months_after

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
