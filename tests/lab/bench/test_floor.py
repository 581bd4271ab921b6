"""The lower bound on a GPU's time, worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from reminding.lab.bench.floor import Work, floor, lstm_work, memories_scored, sab_work
from reminding.lab.bench.options import GpuOptions, Size
from tests.lab.bench.gpu_sizes import CEILINGS


@pytest.mark.parametrize("capacity", [None, 3])
def test_memories_are_those_stored_before_a_step(capacity: int | None) -> None:
    stored, seen = 0, 0
    for step in range(1, 30):
        seen += stored
        stored = min(stored + (step % 4 == 0), capacity or 99)
    assert memories_scored(29, 4, capacity) == pytest.approx(seen / 29)


@pytest.mark.parametrize(("H", "kilobytes"), [(128, 344 + 344), (256, 1376 + 1376), (512, 5505 + 5505)])
def test_weights_are_read_as_often_as_the_documentation_says(H: int, kilobytes: int) -> None:
    """As in docs/cuda.md: W_hh, W2, and W1 at every fourth step, both passes; the keys of 128 memories, forward."""
    size, options = Size(1024, 64, 128, H), GpuOptions()
    keys = 4 * H * memories_scored(1024, 4, None)
    assert keys == pytest.approx(4 * H * 128, rel=0.01)
    read = sab_work(size, options).l2_bytes / (1024 * 64)
    assert (read - keys) / 1000 == pytest.approx(kilobytes, rel=0.001)
    half = sab_work(size, replace(options, dtype="bfloat16")).l2_bytes / (1024 * 64)
    assert (half - keys) / 1000 == pytest.approx(kilobytes / 2, rel=0.001)


def test_the_work_of_nn_lstm_is_its_products() -> None:
    work = lstm_work(Size(T=3, B=2, I=5, H=7), "float16")
    forward = 2 * 4 * 7 * (5 + 7)
    assert work.flops == 3 * 2 * (2 * forward + 2 * 4 * 7 * 7)
    assert (work.kind, work.l2_bytes) == ("float16", 0)
    assert work.dram_bytes == 3 * 2 * 2 * (2 * 5 + 2 * 6 * 7 + 7)


def test_a_bounded_memory_makes_the_work_grow_with_the_length_alone() -> None:
    bounded = replace(GpuOptions(), capacity=16)
    short, long = (sab_work(Size(T, 64, 128, 128), bounded) for T in (4096, 65_536))
    assert long.flops / short.flops == pytest.approx(16, rel=0.001)
    free = [sab_work(Size(T, 64, 128, 128), GpuOptions()) for T in (4096, 65_536)]
    assert free[1].flops / free[0].flops > 50


def test_the_floor_is_the_slowest_part_and_few_rows_get_their_share_of_l2() -> None:
    work = Work(flops=1e9, kind="float32", dram_bytes=5e8, l2_bytes=8e9)
    least = floor(work, CEILINGS, rows=66)
    assert (least.flops_ms, least.dram_ms, least.l2_ms) == (1.0, 5.0, 16.0)
    assert (least.ms, least.bound) == (16.0, "L2")
    assert floor(work, CEILINGS, rows=1000).l2_ms == 8.0
