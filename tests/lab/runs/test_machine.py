"""The device and the machine that a run is made on."""

from __future__ import annotations

import pytest
import torch

from reminding.lab.runs import machine


def test_a_device_that_is_not_there_is_named() -> None:
    with pytest.raises(ValueError, match="device 'nonsense' cannot be used"):
        machine.choose_device("nonsense")


def _tiny() -> float:
    """The half of the least normal number of float32, as the processor computes it."""
    return (torch.tensor(1.2e-38) * 0.5).item()


def test_subnormal_numbers_are_flushed_within_and_not_after() -> None:
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor cannot flush subnormal numbers")
    torch.set_flush_denormal(False)
    assert _tiny() > 0
    with machine.subnormals_flushed():
        assert _tiny() == 0
        with machine.subnormals_flushed():
            assert _tiny() == 0
        assert _tiny() == 0
    assert _tiny() > 0


def test_an_error_ends_the_flushing_too() -> None:
    with pytest.raises(RuntimeError, match="lost"), machine.subnormals_flushed():
        raise RuntimeError("lost")
    assert _tiny() > 0
