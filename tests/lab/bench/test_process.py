"""An action in a process of its own: its result, or the reason why it has none."""

from __future__ import annotations

import math
import os
import time

import pytest

from reminding.lab.bench import process
from reminding.lab.bench.process import Refusal, in_own_process


def fails() -> None:
    raise RuntimeError("CUDA error: an illegal memory access was encountered\nand more")


def dies() -> None:
    os._exit(7)


def sleeps() -> None:
    time.sleep(60)


def seven() -> int:
    return 7


def test_what_fails_dies_or_hangs_costs_its_row_only(monkeypatch: pytest.MonkeyPatch) -> None:
    assert in_own_process(seven, 60) == in_own_process(seven, math.inf) == 7
    failed = "it failed: RuntimeError: CUDA error: an illegal memory access was encountered"
    assert in_own_process(fails, 60) == Refusal(failed)
    assert in_own_process(dies, 60) == Refusal("its process died with exit code 7, perhaps for lack of memory")
    monkeypatch.setattr(process, "START_UP_SECONDS", 0.0)
    assert in_own_process(sleeps, 0.01) == Refusal("stopped: it took more than 0.01 s")
