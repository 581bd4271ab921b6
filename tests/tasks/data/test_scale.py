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


@pytest.mark.parametrize("size", [1e-300, 1e-200, 1e-120, 1e140])
def test_the_scale_of_small_and_of_large_values_is_as_exact(size: float) -> None:
    values = np.random.default_rng(0).normal([0, 5], size=(1000, 2))
    values[::7, 1] = np.nan
    wanted = scale_of([values], 2)
    values[:, 1] *= size  # beside a column of ordinary values
    for pieces in ([values], [values[:10], values[10:]], [values[:500] * [1, 0], values[:500], values[500:]]):
        scale = scale_of([np.where(piece == 0, np.nan, piece) for piece in pieces], 2)
        assert scale.constant == ()
        np.testing.assert_allclose(scale.mean[1] / size, wanted.mean[1], rtol=1e-12)
        np.testing.assert_allclose(scale.deviation[1] / size, wanted.deviation[1], rtol=1e-12)
        np.testing.assert_allclose(scale.undo(scale.apply(values)), values, rtol=1e-12)


def test_a_value_that_grows_from_piece_to_piece_has_its_deviation() -> None:
    values = np.array([[0.0], [1e-200], [3e-200], [1e-9], [2e-9], [7.0], [8e9]])
    scale = scale_of([values[i : i + 2] for i in range(0, 7, 2)], 1)
    np.testing.assert_allclose([scale.mean[0], scale.deviation[0]], [values.mean(), values.std()], rtol=1e-12)


def test_changes_below_the_smallest_normal_number_are_none() -> None:
    scale = scale_of([np.array([[1e-310], [2e-310]])], 1)
    assert (scale.deviation[0], scale.constant) == (1, (0,))


def test_a_column_without_values_has_mean_zero() -> None:
    scale = scale_of([np.full((4, 1), np.nan)], 1)
    assert (scale.mean[0], scale.deviation[0]) == (0, 1)
