"""The usual interval of times, and the times that follow."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from reminding.tasks.data.times.interval import decimals_of, distance_text, times_following, usual_interval


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (3900, "65 min"),
        (4500, "1.25 h"),
        (90_000, "25 h"),
        (604_800, "7 d"),
        (3661, "1.01694 h"),
        (1 / 3, "333.333 ms"),
    ],
)
def test_a_distance_is_said_in_the_largest_unit_that_takes_few_decimals(seconds: float, said: str) -> None:
    """Rows every five minutes have a gap of 65 minutes where clocks are put forward, not of 1.08333 hours."""
    assert distance_text(seconds, dated=True) == said


@pytest.mark.parametrize(
    ("months", "said"), [(1, "1 month"), (3, "3 months"), (12, "1 year"), (18, "18 months"), (24, "2 years")]
)
def test_a_distance_by_the_calendar_is_said_in_months_or_years(months: int, said: str) -> None:
    assert distance_text(31 * 86400 * months, dated=True, months=months) == said


DECIMALS = {
    "seconds since 1970": (1_700_000_000, 10_000),
    "hundredths": (0, 100),
    "before 0": (-20, 1000),
    "microseconds": (1_700_000_000, 1_000_000),
    "sevenths of no decimals": (0, 7),
}


@pytest.mark.parametrize(("first", "parts"), DECIMALS.values(), ids=DECIMALS)
@pytest.mark.parametrize("written", [True, False])
def test_decimals_go_on_exactly(first: int, parts: int, written: bool) -> None:
    """As written in a file, and as made by arithmetic, whose last digit may be off."""
    decimals = len(str(parts)) - 1 if parts % 10 == 0 else 17
    exact = np.array([float(f"{first + i / parts:.{decimals}f}") for i in range(3000)])
    made = first + np.arange(1000) * (1 / parts)
    times = exact[:1000] if written else made
    interval = usual_interval(times)
    following = times_following(times, interval, 2000, own=True)
    if parts % 10 == 0:
        assert interval == 1 / parts
        np.testing.assert_array_equal(following, exact[1000:])
    np.testing.assert_allclose(following, exact[1000:], rtol=0, atol=2e-3 / parts)


def test_gaps_and_rounded_times_leave_the_interval_exact() -> None:
    times = np.array([0.1, 0.2, 0.3, 0.9, 1.0, 1.1, 5.0, 5.1])
    assert usual_interval(times) == 0.1
    assert times_following(times, 0.1, 3, own=True).tolist() == [5.2, 5.3, 5.4]
    thirds = np.array([round(1_700_000_000 + i / 3, 6) for i in range(1000)])
    found = times_following(thirds, usual_interval(thirds), 3000, own=True)
    np.testing.assert_allclose(found, 1_700_000_000 + np.arange(1000, 4000) / 3, rtol=0, atol=5e-6)


def test_times_finer_than_their_type_go_on_by_the_mean() -> None:
    """Of 400 kHz since 1970: float64 is exact there to 0.24 microseconds."""
    times = np.array([float(f"{1_700_000_000 + i * 0.0000025:.7f}") for i in range(1000)])
    assert usual_interval(times) == 0.0000025
    found = times_following(times, 0.0000025, 1000, own=True)
    np.testing.assert_allclose(found, 1_700_000_000 + np.arange(1000, 2000) * 0.0000025, rtol=0, atol=5e-7)


@pytest.mark.parametrize("scale", [1, 1000, 1_000_000])
def test_rounded_whole_times_go_on_by_the_mean(scale: int) -> None:
    """Of 30 Hz in whole milliseconds, with gaps, also where they are counted in microseconds or nanoseconds."""
    frames = np.delete(np.arange(3000), [5, 6, 7, 900])
    times = np.rint(frames * 1000 / 30).astype(np.int64) * scale
    assert abs(usual_interval(times) / scale - 1000 / 30) < 1e-3


def test_unsteady_times_go_on_by_the_mean() -> None:
    late = np.random.default_rng(0).integers(0, 3, 1000)
    assert abs(usual_interval(300 * np.arange(1000) + late) - 300) < 0.01
    assert abs(usual_interval(300.0 * np.arange(1000) + late / 7) - 300) < 0.01


def test_a_few_times_that_are_late_leave_the_interval_as_it_is() -> None:
    distances = np.full(1000, 300)
    distances[::4] = 350
    assert usual_interval(np.cumsum(distances)) == 300


@pytest.mark.parametrize(
    ("times", "interval"),
    [
        ([1, 2, 4], 1.5),
        ([1.0, 2.0, 4.0], 1.5),
        ([1.5], 0.0),
        ([], 0.0),
        ([1.5, 2.0, 7.25], 2.875),
        ([0.5, 1.0, 2.5, 3.0], 0.5),
    ],
)
def test_the_interval_of_others_is_the_median(times: list[float], interval: float) -> None:
    assert usual_interval(np.array(times)) == interval


def test_another_interval_may_have_more_decimals_than_the_times() -> None:
    assert times_following(np.array([1.0, 1.5]), 0.25, 3, own=False).tolist() == [1.75, 2.0, 2.25]
    assert times_following(np.array([6.02]), 0.01, 2, own=False).tolist() == [6.03, 6.04]
    assert times_following(np.array([2**60 + 1]), 3.0, 1, own=False).tolist() == [2**60 + 4]


@pytest.mark.parametrize(
    ("numbers", "decimals"),
    [
        (np.array([1, 2]), 0),
        (np.array([1.0, 2.0]), 0),
        (np.array([0.5, 0.25]), 2),
        (np.array([0.1, 0.2], np.float32), 1),
        (np.array([0.1 + 0.2]), 1),
        (np.arange(100) / 3, None),
        (np.array([]), 0),
    ],
)
def test_decimals_are_counted(numbers: NDArray[Any], decimals: int | None) -> None:
    assert decimals_of(numbers) == decimals
