"""The rows of the benchmark for a GPU, measured on the CPU."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from reminding.lab.bench import gpu
from reminding.lab.bench.gpu import Row, measure, measure_row
from reminding.lab.bench.options import GPU_NAMES
from reminding.lab.bench.process import Refusal
from reminding.ops import cuda_op
from tests.lab.bench.gpu_sizes import CPU, SIZE, SMALL, quiet


@pytest.mark.parametrize("name", GPU_NAMES)
def test_every_contestant_is_timed(name: Any) -> None:
    if name.startswith("sab-cuda") and cuda_op.missing() is not None:
        with pytest.raises(ValueError, match="backend='cuda' cannot run"):
            measure_row(name, SIZE, SMALL, CPU)
        return
    row = measure_row(name, SIZE, SMALL, CPU)
    assert (row.name, row.size, row.peak_bytes, row.skipped) == (name, SIZE, None, None)
    assert len(row.forward_ms) == len(row.backward_ms) == SMALL.repetitions
    assert min(*row.forward_ms, *row.backward_ms) > 0


def test_there_are_no_more_repetitions_than_time_for_them() -> None:
    assert len(measure_row("lstm", SIZE, replace(SMALL, max_seconds=1e-9), CPU).forward_ms) == 1
    assert len(measure_row("lstm", SIZE, replace(SMALL, max_seconds=math.inf), CPU).forward_ms) == SMALL.repetitions


def test_what_a_size_was_too_large_for_is_not_asked_of_a_larger_one(monkeypatch: pytest.MonkeyPatch) -> None:
    reasons = {"sab-reference": "stopped: too slow", "sab-cuda": "it failed: RuntimeError: today"}
    asked: list[tuple[str, int]] = []

    def answer(action: Any, seconds: float) -> Row | Refusal:
        name, size, _ = action.args
        asked.append((name, size.T))
        return Refusal(reasons[name]) if name in reasons else Row(name, size, (1.0,), (2.0,), 1000)

    monkeypatch.setattr(gpu, "in_own_process", answer)
    rows = list(measure(SMALL, quiet))
    assert len(rows) == 2 * len(GPU_NAMES)
    assert [row.skipped for row in rows if row.name == "sab-reference"] == [
        "stopped: too slow",
        f"left out, as at {SIZE}",
    ]
    assert [T for name, T in asked if name == "sab-cuda"] == [6, 9]
