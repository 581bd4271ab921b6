"""What the Triton kernels can run, and why "auto" does not take them yet."""

from __future__ import annotations

import functools
import importlib.util
import os
from collections.abc import Iterable

import torch
from torch import Tensor

from reminding.ops import cpu_op
from reminding.ops.contract import Demand, common_obstacle
from reminding.ops.cuda_op.packing import padded

WIDEST = 1024
"""Of H and D: a step holds a few vectors of either in registers."""
MOST_READ = 65_536
"""Of K times H or D: a step holds what it recalls in registers."""


def most_recalled(width: int) -> int:
    """The largest k_top at this width, the larger of H and D; one rank more may be needed for the threshold."""
    return MOST_READ // padded(width) - 1


@functools.cache
def _has_triton() -> bool:
    return importlib.util.find_spec("triton") is not None


def missing() -> str | None:
    """Why the kernels cannot be used here, or None where they can."""
    if not _has_triton():
        return "the kernels need Triton, which is not installed"
    if not torch.cuda.is_available() and not interpreted():
        return "there is no CUDA device"
    return None


def interpreted() -> bool:
    """Whether Triton runs its kernels in Python, on any device: slow, for tests."""
    return os.environ.get("TRITON_INTERPRET") == "1"


def obstacle(demand: Demand) -> str | None:
    """Why the kernels cannot run a layer, or None where they can."""
    if (reason := missing()) is not None:
        return reason
    if demand.device.type != "cuda" and not interpreted():
        return f"it computes on CUDA devices, not on {demand.device.type}; device='cuda' builds a layer there"
    if not demand.dtype.is_floating_point or demand.dtype.itemsize == 1:
        return f"it computes float64, float32, bfloat16 and float16, not {demand.dtype}"
    if demand.widest > WIDEST:
        return f"it takes a hidden_size and score_size of at most {WIDEST}, not {demand.widest}"
    most = most_recalled(demand.widest)
    if demand.recalled > most:
        return f"it recalls at most {most} memories a step at this width, not {demand.recalled}"
    if demand.recurrent_dropout:
        return "it does not run recurrent_dropout in training"
    if demand.extras:
        return f"it does not run {', '.join(demand.extras)}"
    return common_obstacle(demand)


def lowers() -> bool:
    """Whether autocast makes the op compute cells in the lower precision: it does."""
    return True


def passed_over() -> str | None:
    """Why "auto" does not take the kernels even where they can run a layer, or None."""
    return "no GPU has run its kernels yet; backend='cuda' asks for them"


def credits_past(k_top: int | None) -> bool:
    """Whether the kernels also send credit into past calls: which steps it reaches is the C++ op's integer search."""
    return cpu_op.credits_past(k_top)


def drops_state() -> bool:
    """Whether the kernels run recurrent dropout: they do not."""
    return False


def takes_lengths(tensors: Iterable[Tensor]) -> bool:
    """Whether rows may have different lengths: no."""
    return False


def in_range(key: Tensor, query: Tensor) -> bool:
    """Whether a clamped score is exact: the kernels clamp none."""
    return True
