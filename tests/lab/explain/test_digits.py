"""The decimals that tell values from others like them."""

from __future__ import annotations

import numpy as np
import pytest

from reminding.lab.explain.digits import decimals, decimals_by_channel


@pytest.mark.parametrize(
    ("values", "error", "want"),
    [
        ([101_325.0, 101_380.0, np.nan], 0.0, 1),  # not 1.01e+05 for both
        ([101_325.0, 101_380.0], 0.03, 2),
        ([1e6, 5e6], 0.0, 0),
        ([0.0012, 0.0014], 0.0, 6),
        ([7.0, 7.0], 0.0, 2),
        ([0.0, 0.0], 0.0, 0),
        ([np.nan], float("nan"), 0),
        ([1e-20, 3e-20], 0.0, 12),
    ],
)
def test_a_hundredth_of_the_deviation_or_a_third_of_the_error_can_be_told(
    values: list[float], error: float, want: int
) -> None:
    assert decimals(np.array(values), error) == want


def test_each_channel_of_the_frames_of_a_step_has_its_own() -> None:
    values = np.array([[1000.0, 0.1, 3000.0, 0.2], [5000.0, 0.4, 8000.0, np.nan]])
    assert decimals_by_channel(values, 2) == [0, 3]
    assert decimals_by_channel(values[:, :3], 2) == [0], "values that are no frames of the channels"
