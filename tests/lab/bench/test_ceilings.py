"""Measurements of the highest speeds that a device reaches."""

from __future__ import annotations

from reminding.lab.bench.floor import measure_ceilings
from tests.lab.bench.gpu_sizes import CPU


def test_ceilings_are_what_was_moved_and_done_in_a_second() -> None:
    found = measure_ceilings(CPU, "bfloat16", scale=0.005)
    assert set(found.flops) == {"bfloat16", "float32"}
    assert min(*found.flops.values(), found.dram_bytes, found.l2_bytes) > 0
