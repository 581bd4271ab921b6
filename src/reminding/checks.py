"""Checks of arguments and options: a bad value raises a ValueError that names it, what was expected and what came.

The wording is the same everywhere: `name must be ..., got ...`. Any room may use them; what only a layer has is in
`nn.parts.settings`. The checks of one value that a layer keeps return it as Python's own type.
"""

from __future__ import annotations

import math
import reprlib
import sys
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any, TypeVar

Name = TypeVar("Name", bound=str)
MOST = 2**61
"""The most steps of a stream, and the largest setting that counts: sums of two fit into an int64 of PyTorch."""
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


def at_least(name: str, value: Any, least: int, most: int = MOST) -> int:
    """An integer no smaller than `least`, and no larger than `most`."""
    return _at_least(name, value, least, most, "")


def at_least_or_none(name: str, value: Any, least: int, most: int = MOST) -> int | None:
    """An integer no smaller than `least`, and no larger than `most`, or None."""
    return None if value is None else _at_least(name, value, least, most, ", or None")


def _at_least(name: str, value: Any, least: int, most: int, otherwise: str) -> int:
    require(is_integer(value) and value >= least, name, f"be an integer of at least {least}{otherwise}", value)
    require(value <= most, name, f"be at most {most:,}{otherwise}", value)
    return int(value)  # one of numpy's would overflow where Python's does not, and no op takes it


def each_at_least(name: str, values: Sequence[Any], least: int) -> None:
    """Integers no smaller than `least`, any number of them."""
    valid = all(is_integer(value) and value >= least for value in values)
    require(valid, name, f"be integers of at least {least}", list(values))
    require(all(value <= MOST for value in values), name, f"be at most {MOST:,} each", list(values))


def one_or_more(name: str, values: Sequence[Any]) -> None:
    """Different integers of at least 1, one or more of them."""
    each_at_least(name, values, 1)
    require(bool(values) and len(set(values)) == len(values), name, "be one or more different numbers", list(values))


def seed(name: str, value: Any) -> None:
    """A number that PyTorch takes as a seed: an integer from 0, below 2**64."""
    require(is_integer(value) and 0 <= value < 2**64, name, "be an integer of at least 0 and below 2**64", value)


def above_zero(name: str, value: Any, most: float = LARGEST) -> None:
    """A number above 0, and no larger than `most`; math.inf for what infinity means something to, such as a limit."""
    require(is_number(value) and value > 0, name, "be above 0", value)
    _no_larger(name, value, most)


def above_zero_or_none(name: str, value: Any) -> None:
    """A number above 0, or None."""
    require(value is None or (is_number(value) and value > 0), name, "be above 0, or None", value)


def finite_or_none(name: str, value: Any) -> None:
    """A number that is neither NaN nor infinite, or None."""
    require(value is None or (is_number(value) and math.isfinite(value)), name, "be a finite number, or None", value)


def at_least_zero(name: str, value: Any, most: float = math.inf) -> None:
    """A number of at least 0, and no larger than `most`."""
    require(is_number(value) and value >= 0, name, "be at least 0", value)
    _no_larger(name, value, most)


def _no_larger(name: str, value: Any, most: float) -> None:
    if most < LARGEST:
        require(value <= most, name, f"be at most {most:,}", value)
    elif most == LARGEST:  # which a float32 of numpy cannot be compared with
        require(value <= most if isinstance(value, int) else value < math.inf, name, "be finite", value)


def share(name: str, value: Any) -> float:
    """A number from 0 to 1."""
    require(is_number(value) and 0 <= value <= 1, name, "be a number from 0 to 1", value)
    return value if isinstance(value, int | float) else float(value)


def share_above_zero(name: str, value: Any) -> float:
    """A number above 0 and at most 1."""
    require(is_number(value) and 0 < value <= 1, name, "be a number above 0 and at most 1", value)
    return float(value)


def yes_or_no(name: str, value: Any) -> bool:
    """True or False, of Python or numpy: no text such as "no", which counts as true, and no number."""
    require(type(value).__name__ in ("bool", "bool_"), name, "be True or False", value)
    return bool(value)


def each_yes_or_no(**values: Any) -> list[bool]:
    """`yes_or_no` of several arguments."""
    return [yes_or_no(name, value) for name, value in values.items()]


def one_of(name: str, value: Name, known: Sequence[str]) -> Name:
    """One of the known names."""
    require(value in known, name, f"be one of {list(known)}", value)
    return value


def each_one_of(name: str, values: Sequence[str], known: Sequence[str]) -> None:
    """Known names, any number of them; the message lists the unknown ones."""
    unknown = [value for value in values if value not in known]
    require(not unknown, name, f"be among {list(known)}", unknown)


def is_integer(value: object) -> bool:
    """Whether a value is an integer: of Python or numpy, and no bool."""
    return not isinstance(value, bool) and isinstance(value, Integral)


def is_number(value: object) -> bool:
    """Whether a value is a number: of Python or numpy, and no bool."""
    return not isinstance(value, bool) and isinstance(value, Real)
