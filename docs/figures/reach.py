"""What k_att, k_trunc and the capacity come to, counted: the page on choosing them states these formulas.

Steps are counted from 1, as everywhere.
"""

from __future__ import annotations


def remembered(step: int, k_att: int, capacity: int | None = None) -> int:
    """How many memories a step can choose among."""
    stored = (step - 1) // k_att
    return stored if capacity is None else min(stored, capacity)


def scores(steps: int, k_att: int, capacity: int | None = None) -> int:
    """How many scores a row computes in a sequence: each step scores every memory there is."""
    return sum(remembered(step, k_att, capacity) for step in range(1, steps + 1))


def payable(step: int, k_att: int, k_trunc: int | None) -> bool:
    """Whether a later recall can pay a step: whether a memory is stored behind it before its segment ends."""
    stored = -(-step // k_att) * k_att
    return k_trunc is None or stored <= -(-step // k_trunc) * k_trunc


def payable_share(k_att: int, k_trunc: int) -> float:
    """The share of all steps that a later recall can pay."""
    period = k_att * k_trunc
    return sum(payable(step, k_att, k_trunc) for step in range(1, period + 1)) / period


def remembered_span(k_att: int, capacity: int) -> int:
    """How many steps back the oldest memory lies, at least, when the oldest goes first and the memory is full."""
    return k_att * (capacity - 1)
