"""Pure tensor functions: the oracle, and which backend runs.

A backend is a way to compute the recurrence; `BACKENDS` lists them fastest first. Each has a test that
says why it cannot serve a request, or None when it can.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable

import torch

logger = logging.getLogger("reminding")


def _reference_obstacle(device: torch.device) -> str | None:
    return None


def _cpu_obstacle(device: torch.device) -> str | None:
    return "the C++ CPU op is not part of this version"


def _cuda_obstacle(device: torch.device) -> str | None:
    return "the Triton CUDA kernels are not part of this version"


BACKENDS: dict[str, Callable[[torch.device], str | None]] = {
    "cuda": _cuda_obstacle,
    "cpu": _cpu_obstacle,
    "reference": _reference_obstacle,
}


def choose_backend(requested: str, device: torch.device) -> str:
    """The backend that will run: the one asked for, or under "auto" the fastest that can.

    Args:
        requested: "auto", "reference", "cpu" or "cuda".
        device: where the parameters are.

    Raises:
        ValueError: the name is unknown, or the backend asked for cannot run here; the message says why.
    """
    if requested == "auto":
        for name, obstacle in BACKENDS.items():
            if obstacle(device) is None:
                _log_choice(name, device.type)
                return name
    if requested not in BACKENDS:
        raise ValueError(f"backend must be one of {['auto', *BACKENDS]}, got {requested!r}")
    reason = BACKENDS[requested](device)
    if reason is not None:
        raise ValueError(f"backend={requested!r} cannot run: {reason}; backend='auto' takes what can")
    return requested


@functools.cache
def _log_choice(name: str, device_type: str) -> None:
    """Say once per process and kind of device which backend "auto" took, and why not a faster one."""
    reasons = [f"{other}: {why}" for other, test in BACKENDS.items() if (why := test(torch.device(device_type)))]
    logger.info("backend 'auto' takes %r on %s (%s)", name, device_type, "; ".join(reasons) or "the fastest there is")
