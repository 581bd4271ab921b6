"""The reach and cost that follow from k_att, k_trunc and capacity; docs/howto/choose.md states these formulas.

Steps are counted from 1, as everywhere.
"""

from __future__ import annotations


def remembered(step: int, k_att: int, capacity: int | None = None) -> int:
    """The number of memories a step can choose among."""
    stored = (step - 1) // k_att
    return stored if capacity is None else min(stored, capacity)


def scores(steps: int, k_att: int, capacity: int | None = None) -> int:
    """The number of scores a row computes in a sequence: each step scores every memory stored so far."""
    return sum(remembered(step, k_att, capacity) for step in range(1, steps + 1))


def creditable(step: int, k_att: int, k_trunc: int | None) -> bool:
    """Whether a later recall can credit a step: whether a memory is stored at or after the step, in its segment."""
    stored = -(-step // k_att) * k_att
    return k_trunc is None or stored <= -(-step // k_trunc) * k_trunc


def creditable_share(k_att: int, k_trunc: int) -> float:
    """The share of all steps that a later recall can credit."""
    period = k_att * k_trunc
    return sum(creditable(step, k_att, k_trunc) for step in range(1, period + 1)) / period


def remembered_span(k_att: int, capacity: int) -> int:
    """The least age, in steps, of the oldest memory in a full memory with first-in-first-out eviction."""
    return k_att * (capacity - 1)
