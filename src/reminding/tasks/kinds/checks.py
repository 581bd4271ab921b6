"""Checks of options: a bad value raises a ValueError that names the option, what was expected and what came.

The wording is the one that the layers have, `name must be ..., got ...`. Any room of `tasks` and `lab` may use it.
"""

from __future__ import annotations

import math
import reprlib
import sys
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any

MOST = 2**61
"""The largest count, as the layers have it: PyTorch's own have 64 bits."""
LARGEST = sys.float_info.max
"""The largest number that is not infinite."""
MOST_THREADS = 1024
"""PyTorch starts as many threads as it is told, and ends the process where the machine has no more."""


def require(holds: bool, name: str, expected: str, value: object) -> None:
    """Raise a ValueError unless a condition on an option holds.

    Args:
        expected: ends the sentence that begins with "NAME must".
    """
    if not holds:
        told = reprlib.repr(value) if isinstance(value, int) else repr(value)  # an integer may have 300 digits
        raise ValueError(f"{name} must {expected}, got {told}")


def at_least(name: str, value: Any, least: int, most: int = MOST) -> None:
    """An integer no smaller than `least`, and no larger than `most`."""
    require(_is_integer(value) and value >= least, name, f"be an integer of at least {least}", value)
    require(value <= most, name, f"be at most {most:,}", value)


def at_least_or_none(name: str, value: Any, least: int, most: int = MOST) -> None:
    """An integer no smaller than `least`, and no larger than `most`, or None."""
    valid = value is None or (_is_integer(value) and value >= least)
    require(valid, name, f"be an integer of at least {least}, or None", value)
    require(value is None or value <= most, name, f"be at most {most:,}, or None", value)


def each_at_least(name: str, values: Sequence[Any], least: int) -> None:
    """Integers no smaller than `least`, any number of them."""
    valid = all(_is_integer(value) and value >= least for value in values)
    require(valid, name, f"be integers of at least {least}", list(values))
    require(all(value <= MOST for value in values), name, f"be at most {MOST:,} each", list(values))


def one_or_more(name: str, values: Sequence[Any]) -> None:
    """Different integers of at least 1, one or more of them."""
    each_at_least(name, values, 1)
    require(bool(values) and len(set(values)) == len(values), name, "be one or more different numbers", list(values))


def seed(name: str, value: Any) -> None:
    """A number that PyTorch takes as a seed: an integer from 0, below 2**64."""
    require(_is_integer(value) and 0 <= value < 2**64, name, "be an integer of at least 0 and below 2**64", value)


def above_zero(name: str, value: Any, most: float = LARGEST) -> None:
    """A number above 0, and no larger than `most`; math.inf for what infinity means something to, such as a limit."""
    require(_is_number(value) and value > 0, name, "be above 0", value)
    _no_larger(name, value, most)


def above_zero_or_none(name: str, value: Any) -> None:
    """A number above 0, or None."""
    require(value is None or (_is_number(value) and value > 0), name, "be above 0, or None", value)


def finite_or_none(name: str, value: Any) -> None:
    """A number that is neither NaN nor infinite, or None."""
    require(value is None or (_is_number(value) and math.isfinite(value)), name, "be a finite number, or None", value)


def at_least_zero(name: str, value: Any, most: float = math.inf) -> None:
    """A number of at least 0, and no larger than `most`."""
    require(_is_number(value) and value >= 0, name, "be at least 0", value)
    _no_larger(name, value, most)


def _no_larger(name: str, value: Any, most: float) -> None:
    if most < LARGEST:
        require(value <= most, name, f"be at most {most:,}", value)
    elif most == LARGEST:  # which a float32 of numpy cannot be compared with
        require(value <= most if isinstance(value, int) else value < math.inf, name, "be finite", value)


def share(name: str, value: Any) -> None:
    """A number from 0 to 1."""
    require(_is_number(value) and 0 <= value <= 1, name, "be between 0 and 1", value)


def one_of(name: str, value: str, known: Sequence[str]) -> None:
    """One of the known names."""
    require(value in known, name, f"be one of {list(known)}", value)


def each_one_of(name: str, values: Sequence[str], known: Sequence[str]) -> None:
    """Known names, any number of them; the message lists the unknown ones."""
    unknown = [value for value in values if value not in known]
    require(not unknown, name, f"be among {list(known)}", unknown)


def _is_integer(value: object) -> bool:
    """Whether a value is an integer: of Python or numpy, and no bool."""
    return not isinstance(value, bool) and isinstance(value, Integral)


def _is_number(value: object) -> bool:
    """Whether a value is a number: of Python or numpy, and no bool."""
    return not isinstance(value, bool) and isinstance(value, Real)
