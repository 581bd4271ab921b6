"""Scales: exact where float32 and naive sums are not."""

from __future__ import annotations

import numpy as np
import pytest

from reminding.tasks.data.scale import Scale, scale_of


def test_the_scale_of_pieces_is_that_of_the_whole() -> None:
    values = np.random.default_rng(0).normal(size=(1000, 3)) * [1, 1e-3, 1e6] + [0, 5, -7]
    values[::7, 1] = np.nan
    scale = scale_of([values[:10], values[10:10], values[10:]], 3)
    np.testing.assert_allclose(scale.mean, np.nanmean(values, 0), rtol=1e-12)
    np.testing.assert_allclose(scale.deviation, np.nanstd(values, 0), rtol=1e-12)
    np.testing.assert_allclose(scale.undo(scale.apply(values)), values, rtol=1e-12)
    assert Scale.load(scale.record()).mean.tolist() == scale.mean.tolist()


@pytest.mark.parametrize("value", [0.1, 1e9, -3.7, 0.0])
def test_a_constant_column_has_deviation_one(value: float) -> None:
    scale = scale_of([np.full((999, 1), value)], 1)
    assert scale.mean.tolist() == [value]
    assert scale.deviation.tolist() == [1]
    assert scale.constant == (0,)


def test_small_changes_of_large_values_survive() -> None:
    values = 1e9 + np.array([[1.0], [-1.0]] * 500)
    scale = scale_of([values[:1], values[1:]], 1)
    np.testing.assert_allclose([scale.mean[0], scale.deviation[0]], [1e9, 1.0], rtol=1e-12)
    np.testing.assert_allclose(scale.apply(values).astype(np.float32)[:2, 0], [1, -1], atol=1e-6)


def test_a_column_without_values_has_mean_zero() -> None:
    scale = scale_of([np.full((4, 1), np.nan)], 1)
    assert (scale.mean[0], scale.deviation[0]) == (0, 1)
