"""Counts stay on the host, whatever torch.set_default_device or `with torch.device(...)` says."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import torch
from torch import Tensor


@contextmanager
def counting_on_host() -> Generator[None]:
    """While steps, rows and slots are counted: tensors made without a device are on the host."""
    if torch.empty(0).device.type == "cpu":  # PyTorch 2.6's get_default_device misses contexts
        yield
        return
    with torch.device("cpu"):
        yield


def counts_of(tensor: Tensor) -> list[int]:
    """Counts (B,) as a list. PyTorch 2.6's `tolist` cannot read them under torch.func."""
    return [int(number) for number in tensor]
