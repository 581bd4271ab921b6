"""Random numbers drawn once more: what a replay needs of cells, scorers and encoders that draw any."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import torch
from torch import Tensor

GeneratorStates = tuple[Tensor, ...]
"""The state of the host's generator, and of the device's where that is another."""


def generator_states(device: torch.device) -> GeneratorStates:
    """The state of the random number generators that a module on this device may draw from."""
    host = torch.get_rng_state()
    return (host,) if device.type == "cpu" else (host, torch.get_device_module(device).get_rng_state(device))


@contextmanager
def drawing_as(states: GeneratorStates | None, device: torch.device) -> Generator[None]:
    """Random numbers as they were drawn from these states; the generators go on undisturbed after it.

    Args:
        states: None: nothing was drawn.
    """
    if states is None:
        yield
        return
    present = generator_states(device)
    _set(states, device)
    try:
        yield
    finally:
        _set(present, device)


def _set(states: GeneratorStates, device: torch.device) -> None:
    torch.set_rng_state(states[0])
    if device.type != "cpu":
        torch.get_device_module(device).set_rng_state(states[1], device)
