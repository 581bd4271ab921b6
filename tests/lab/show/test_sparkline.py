"""A series of numbers drawn in a few characters."""

from __future__ import annotations

import pytest

from reminding.lab.show.terminal import ASCII, BLOCKS, DownsampledSeries, sparkline


def test_a_sparkline_goes_from_the_least_to_the_greatest() -> None:
    assert sparkline([0, 1, 7]) == "▁▂█"
    assert sparkline([3, 3]) == BLOCKS[4] * 2
    assert sparkline([]) == ""
    assert sparkline([1, 0], ASCII) == "#_"


def test_a_trace_keeps_the_whole_course_in_a_few_means() -> None:
    trace = DownsampledSeries(4)
    for value in (1, 2, 3):
        trace.add(value)
    assert trace.means == [1, 2, 3]
    for value in (4, 5, 6, float("nan")):
        trace.add(value)
    assert trace.means == [1.5, 3.5, 5.5]
    assert trace.last == 6
    for value in range(7, 1000):
        trace.add(value)
    assert len(trace.means) <= 4
    with pytest.raises(ValueError, match="width must be an even number"):
        DownsampledSeries(3)
