"""Pure tensor functions: the oracle, the compiled ops beside it, and which backend runs."""

from __future__ import annotations

import functools
import logging
from collections.abc import Mapping

logger = logging.getLogger("reminding")

BACKENDS = ("cuda", "cpu", "reference")
"""Ways to compute the recurrence, the fastest first; "reference" serves everything."""


def choose_backend(requested: str, obstacles: Mapping[str, str | None]) -> str:
    """The backend that will run: the one asked for, or under "auto" the fastest that can.

    Args:
        requested: "auto", "reference", "cpu" or "cuda".
        obstacles: why each of the others cannot run what is to be run; None where it can.

    Raises:
        ValueError: the name is unknown, or the backend asked for cannot run here; the message says why.
    """
    if requested not in ("auto", *BACKENDS):
        raise ValueError(f"backend must be one of {['auto', *BACKENDS]}, got {requested!r}")
    if requested == "auto":
        able = next(name for name in BACKENDS if obstacles.get(name) is None)
        passed = BACKENDS[: BACKENDS.index(able)]
        _log_choice(able, "; ".join(f"{name}: {obstacles[name]}" for name in passed))
        return able
    reason = obstacles.get(requested)
    if reason is not None:
        raise ValueError(f"backend={requested!r} cannot run: {reason}; backend='auto' takes what can")
    return requested


@functools.cache
def _log_choice(name: str, reasons: str) -> None:
    """Say which backend "auto" took, and why not a faster one: once for each different answer."""
    logger.info("backend 'auto' takes %r (%s)", name, reasons or "the fastest there is")
