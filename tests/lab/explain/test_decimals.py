"""The decimals that tell values from others like them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reminding.lab.explain.decimals import decimals, decimals_by_channel, in_digits, told_by
from reminding.lab.explain.page import packed
from tests.lab.explain.pages import Shown, made_up, of_a_table, written


@pytest.mark.parametrize(
    ("values", "error", "want"),
    [
        ([101_325.0, 101_380.0, np.nan], 0.0, 1),  # not 1.01e+05 for both
        ([101_325.0, 101_380.0], 0.03, 2),
        ([1e6, 5e6], 0.0, -4),
        ([0.0012, 0.0014], 0.0, 6),
        ([7.0, 7.0], 0.0, 2),
        ([0.0, 0.0], 0.0, 0),
        ([np.nan], float("nan"), 0),
        ([1e-20, 3.1e-20], 0.0, 22),
        ([20.1, 20.4, 20.2, 20.6, 1e30], 0.0, 3),  # not whole numbers for the four
        ([1e200, 3e200], 0.0, -40),
    ],
)
def test_a_hundredth_of_the_deviation_or_a_third_of_the_error_can_be_told(
    values: list[float], error: float, want: int
) -> None:
    assert decimals(np.array(values), error) == want


def test_a_column_of_a_forecast_has_the_decimals_that_tell_its_rows() -> None:
    """Six digits of a pressure in Pa were the same in all rows."""
    told = told_by(np.array([[101_325.00, 3.0], [101_325.07, 5.0]]))
    assert [told(0, 101_325.0349), told(1, 4.0)] == ["101325.0349", "4.00"]


TOLD = [
    (101_325.04, 1, "101325.0"),
    (-0.04, 1, "0.0"),
    (0.0, 22, "0.000000000"),
    (5e6, -4, "5000000"),
    (599_999_993.0, -6, "600000000"),
    (-27.0, -6, "0"),
    (1.05e-20, 22, "1.05e-20"),
    (-3.1e-7, 12, "-3.10000e-7"),
    (1.00000000012, 12, "1.000000000120"),
    (1.25e18, -16, "1.25e+18"),
    (3e-30, 22, "3e-30"),
    (1e30, 3, "1.0000000000000000e+30"),
]


@pytest.mark.parametrize(("value", "decimals", "want"), TOLD)
def test_a_value_is_told_with_its_decimals(value: float, decimals: int, want: str) -> None:
    assert in_digits(value, decimals) == want


def test_the_page_tells_values_as_the_sentence_does(browser: Any, tmp_path: Path) -> None:
    shown = Shown(browser, written(tmp_path, made_up(10)))
    for value, digits, want in TOLD:
        assert shown.ask(f"told({value!r}, {digits})") == want
    assert shown.ask("[told(NaN, 2), told(Infinity, 2)]") == ["missing", "Infinity"]


def test_values_far_from_0_keep_their_differences(browser: Any, tmp_path: Path) -> None:
    """Those of float32 at 1e9 are 64 apart."""
    explanation = of_a_table(1, steps=40)
    assert explanation.forecast is not None
    forecast = replace(
        explanation.forecast,
        **{name: getattr(explanation.forecast, name) + 1e9 for name in ("predicted", "truth", "present", "measured")},
    )
    found = replace(explanation, input=explanation.input + 1e9, forecast=forecast)
    shown = Shown(browser, written(tmp_path, found))
    np.testing.assert_allclose(shown.ask("[...scene.sequence.lanes[0].own]"), found.values[:, 0], rtol=1e-15)
    np.testing.assert_allclose(shown.ask("[...scene.sequence.lanes[0].told]"), forecast.predicted[:, 0], rtol=1e-15)
    assert packed(explanation.input)[0] == "f", "which is half as long"


def test_each_channel_of_the_frames_of_a_step_has_its_own() -> None:
    values = np.array([[1000.0, 0.1, 3000.0, 0.2], [5000.0, 0.4, 8000.0, np.nan]])
    assert decimals_by_channel(values, 2) == [-1, 3]
    assert decimals_by_channel(values[:, :3], 2) == [-1], "values that are no frames of the channels"
