"""Gradient clipping, and the bound that follows the norms."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from reminding.lab.train.clip import DECAY, GradientClipper


def parameter(norm: float) -> nn.Parameter:
    held = nn.Parameter(torch.zeros(4))
    held.grad = torch.full((4,), norm / 2)
    return held


def norm_after(clipper: GradientClipper, norm: float) -> float:
    held = parameter(norm)
    assert clipper([held]) == pytest.approx(norm, rel=1e-5)
    assert held.grad is not None
    return float(held.grad.pow(2).sum().sqrt())


def test_a_spike_after_small_norms_is_held_to_twice_their_mean() -> None:
    clipper = GradientClipper(1.0)
    for _ in range(50):
        assert norm_after(clipper, 0.03) == pytest.approx(0.03, rel=1e-5)
    assert norm_after(clipper, 1e6) == pytest.approx(0.06, rel=1e-4)


def test_the_mean_is_of_the_clipped_norms() -> None:
    clipper = GradientClipper(1.0)
    norm_after(clipper, 0.1)
    norm_after(clipper, 100.0)
    assert clipper.mean == pytest.approx(DECAY * 0.1 + (1 - DECAY) * 0.2, rel=1e-5)


def test_the_bound_never_passes_clip() -> None:
    clipper = GradientClipper(1.0)
    for _ in range(500):
        assert norm_after(clipper, 10.0) <= 1.0001
    assert clipper.bound == 1.0


def test_fixed_clipping_keeps_its_bound() -> None:
    clipper = GradientClipper(1.0, adaptive=False)
    norm_after(clipper, 0.01)
    assert norm_after(clipper, 5.0) == pytest.approx(1.0, rel=1e-4)


def test_zero_means_no_clipping() -> None:
    assert norm_after(GradientClipper(0.0), 50.0) == pytest.approx(50.0, rel=1e-5)


def test_a_norm_that_is_not_finite_is_told_and_changes_nothing() -> None:
    clipper = GradientClipper(1.0)
    norm_after(clipper, 0.5)
    held = parameter(1.0)
    assert held.grad is not None
    held.grad[0] = math.nan
    assert math.isnan(clipper([held]))
    assert clipper.mean == pytest.approx(0.5, rel=1e-5)
    assert held.grad[1] == 0.5


@pytest.mark.parametrize(
    ("size", "dtype"), [(1e25, torch.float32), (3e38, torch.float32), (1e200, torch.float64)], ids=str
)
def test_a_gradient_whose_squares_overflow_is_clipped_as_any_other(size: float, dtype: torch.dtype) -> None:
    clipper = GradientClipper(1.0)
    norm_after(clipper, 0.25)
    weight, bias = nn.Parameter(torch.zeros(2, dtype=dtype)), nn.Parameter(torch.zeros(1))
    weight.grad, bias.grad = torch.tensor([size, -size / 2], dtype=dtype), torch.ones(1)
    assert clipper([weight, bias]) == pytest.approx(math.hypot(size, size / 2), rel=1e-5)
    assert weight.grad.tolist() == pytest.approx([0.5 / math.sqrt(1.25), -0.25 / math.sqrt(1.25)], rel=1e-5)
    assert float(bias.grad) < 1e-20
    assert clipper.mean == pytest.approx(DECAY * 0.25 + (1 - DECAY) * 0.5, rel=1e-5)


def test_a_huge_gradient_within_a_huge_bound_is_left_alone() -> None:
    held = parameter(2e25)
    assert GradientClipper(1e30)([held]) == pytest.approx(2e25, rel=1e-5)
    assert held.grad is not None
    assert held.grad.tolist() == pytest.approx([1e25] * 4, rel=1e-6)


@pytest.mark.parametrize("value", [math.inf, -math.inf])
def test_an_infinite_gradient_is_told_and_changes_nothing(value: float) -> None:
    held = parameter(2.0)
    assert held.grad is not None
    held.grad[2] = value
    assert math.isinf(GradientClipper(1.0)([held]))
    assert held.grad.tolist() == [1, 1, value, 1]


def test_without_clipping_a_gradient_too_large_for_the_optimizers_squares_is_told() -> None:
    assert math.isinf(GradientClipper(0.0)([parameter(1e25)]))


def test_a_gradient_of_zero_says_nothing_of_the_usual_norm() -> None:
    """As of a first batch without targets: the bound was 0 from then on, and nothing was learned."""
    clipper = GradientClipper(1.0)
    for size in (0.0, 0.0, 2.0, 0.0, 2.0):
        assert norm_after(clipper, size) == pytest.approx(min(1.0, size), rel=1e-3)
