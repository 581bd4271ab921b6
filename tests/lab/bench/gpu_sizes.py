"""A small GPU benchmark run on the CPU, with invented ceilings and rows."""

from __future__ import annotations

import torch

from reminding.lab.bench.floor import Ceilings
from reminding.lab.bench.gpu import Row
from reminding.lab.bench.options import GpuOptions, Size

SMALL = GpuOptions(T=6, lengths=(9,), B=2, H=(4,), I=3, k_top=2, k_att=2, k_trunc=3, repetitions=2)
SIZE = Size(T=6, B=2, I=3, H=4)
CEILINGS = Ceilings({"float32": 1e12, "bfloat16": 1e13}, dram_bytes=1e11, l2_bytes=1e12, multiprocessors=132)
CPU = torch.device("cpu")
ABOUT = {"name": "a GPU"}


def quiet(text: str) -> None:
    """Shows no progress."""


def rows(skipped: str) -> list[Row]:
    return [
        Row("lstm", SIZE, (1.0, 2.0, 3.0), (1.0, 1.0, 1.0), 2_000_000),
        Row("sab-cuda", SIZE, (2.0, 2.0, 2.0), (4.0, 4.0, 4.0), 3_000_000),
        Row("sab-reference", SIZE, skipped=skipped),
    ]
