"""Time and memory of a training step, in a process of its own."""

from __future__ import annotations

import math
import os
import sys
from dataclasses import replace
from typing import Any

import pytest
import torch

from reminding.lab.bench import meter, process
from reminding.lab.bench.meter import Cost, cost_in_own_process, peak_bytes
from reminding.lab.bench.options import BenchOptions, Size
from reminding.lab.bench.process import Refusal
from tests.lab.bench.conftest import SIZE, SMALL

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="the high-water mark can be reset on Linux alone")


@LINUX
def test_the_meter_sees_an_allocation_to_the_megabyte() -> None:
    """The peak includes memory freed before the end, and excludes more memory held and freed earlier."""
    torch.ones(100_000_000)
    megabytes = 200

    def action() -> None:
        torch.ones(megabytes * 250_000)

    peak = peak_bytes(action)
    assert peak == pytest.approx(megabytes * 1e6, abs=4e6)
    assert peak_bytes(lambda: None) == pytest.approx(0, abs=1e6)


@LINUX
def test_a_training_step_in_its_own_process_holds_what_it_must() -> None:
    """A step needs at least its output and gradients. Beyond the limit, memory is refused and nothing is killed."""
    options = BenchOptions(max_gigabytes=1.0)
    size = Size(T=100, B=64, I=32, H=64)
    cost = cost_in_own_process("lstm", size, options)
    assert isinstance(cost, Cost)
    assert cost.peak_bytes is not None
    assert cost.peak_bytes > 4 * size.T * size.B * size.H
    assert isinstance(cost_in_own_process("lstm", SIZE, replace(options, max_gigabytes=math.inf)), Cost)
    refused = cost_in_own_process("lstm", size, replace(options, max_gigabytes=cost.peak_bytes / 4e9))
    assert isinstance(refused, Refusal)
    assert "more than" in refused.reason


def die(*_: Any) -> None:
    """Ends the process as if the system had killed it."""
    os._exit(7)


def test_a_process_that_dies_or_hangs_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meter, "_cost", die)
    dead = cost_in_own_process("lstm", SIZE, SMALL)
    assert dead == Refusal("its process died with exit code 7, perhaps for lack of memory")
    monkeypatch.setattr(process, "START_UP_SECONDS", 0.0)
    hung = cost_in_own_process("lstm", SIZE, replace(SMALL, max_seconds=0.01))
    assert hung == Refusal("stopped: it took more than 0.01 s")
