"""The device and the machine that a run is made on."""

from __future__ import annotations

import pytest

from reminding.lab.runs import machine


def test_a_device_that_is_not_there_is_named() -> None:
    with pytest.raises(ValueError, match="device 'nonsense' cannot be used"):
        machine.choose_device("nonsense")
