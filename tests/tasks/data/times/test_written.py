"""Periods of a year stand for their first day, by the calendar of Python."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reminding.tasks.data.tables.clock import text_times
from reminding.tasks.data.times.written import is_time


def _week(day: date) -> str:
    year, week, weekday = day.isocalendar()
    return f"{year}-W{week:02}-{weekday}"


FORMS: dict[str, Callable[[date], str]] = {
    "of the year": lambda day: f"{day:%Y-%j}",
    "of an ISO week": _week,
    "with the month named": lambda day: f"{day:%d %b %Y}",
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@settings(max_examples=20, deadline=None)
@given(days=st.lists(st.dates(date(1800, 1, 1), date(2199, 12, 31)), min_size=2, max_size=9, unique=True))
def test_a_day_counted_in_a_period_is_that_day(form: Callable[[date], str], days: list[date]) -> None:
    days = sorted(days)
    texts = [form(day) for day in days]
    assert all(map(is_time, texts))
    assert text_times(np.array(texts), "when").astype("datetime64[D]").tolist() == days


@pytest.mark.parametrize(("letter", "months"), [("M", 1), ("Q", 3), ("S", 6), ("H", 6)])
def test_periods_begin_where_the_one_before_ends(letter: str, months: int) -> None:
    texts = [f"{year}-{letter}{place + 1}" for year in range(1999, 2005) for place in range(12 // months)]
    times = text_times(np.array(texts), "when").astype("datetime64[D]")
    first = np.datetime64("1999-01", "M") + months * np.arange(len(texts))
    assert times.tolist() == first.astype("datetime64[D]").tolist()


def test_every_year_has_its_weeks() -> None:
    mondays = [date(1998, 12, 28) + timedelta(weeks=i) for i in range(1500)]
    texts = [f"{year}W{week:02}" for year, week, _ in (day.isocalendar() for day in mondays)]
    assert text_times(np.array(texts), "when").astype("datetime64[D]").tolist() == mondays
