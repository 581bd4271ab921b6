"""Counts stay on the host, whatever torch.set_default_device or `with torch.device(...)` says."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import torch


@contextmanager
def counting_on_host() -> Generator[None]:
    """While steps, rows and slots are counted: tensors made without a device are on the host."""
    if torch.get_default_device().type == "cpu":
        yield
        return
    with torch.device("cpu"):
        yield
