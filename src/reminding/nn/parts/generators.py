"""Random numbers drawn once more: what a replay needs of cells, scorers and encoders that draw any."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import torch
from torch import Tensor

Random = tuple[Tensor, ...]
"""The state of the host's generator, and of the device's where that is another."""


def random_state(device: torch.device) -> Random:
    """The state of the random number generators that a module on this device may draw from."""
    host = torch.get_rng_state()
    return (host,) if device.type == "cpu" else (host, torch.get_device_module(device).get_rng_state(device))


@contextmanager
def drawing_as(random: Random | None, device: torch.device) -> Generator[None]:
    """Random numbers as they were drawn from these states; the generators go on undisturbed after it.

    Args:
        random: None: nothing was drawn.
    """
    if random is None:
        yield
        return
    present = random_state(device)
    _set(random, device)
    try:
        yield
    finally:
        _set(present, device)


def _set(random: Random, device: torch.device) -> None:
    torch.set_rng_state(random[0])
    if device.type != "cpu":
        torch.get_device_module(device).set_rng_state(random[1], device)
