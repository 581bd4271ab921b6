"""The memory that reading a file needs, and the bound for a damaged one: twice that of the honest file.

A reader that believes a length in a damaged header asks for memory at once. Three figures show it: what Python and
NumPy allocate, the pages that are in use, and the addresses that are claimed, used or not.
"""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TRACED_SLACK = 64 << 10
"""Bytes beyond twice the honest file's, for messages and a traceback."""
RESIDENT_SLACK, CLAIMED_SLACK = 4 << 20, 144 << 20
"""The same of pages, of which an allocator may have some left or not (DuckDB needs 3 MiB more for one reading than
for another), and of addresses, of which glibc claims 128 MiB in a new thread and gives half back."""
EXCESS = "are allowed"
"""How the message of too much memory ends."""
_PEAK, _CLAIMED = "VmHWM", "VmPeak"


@dataclass(frozen=True)
class Memory:
    """Bytes that an action needed at its peak, beyond those before it.

    Attributes:
        traced: allocated by Python and NumPy; resident: in pages that were used; claimed: in addresses. The last two
            are 0 where the system does not tell.
    """

    traced: int = 0
    resident: int = 0
    claimed: int = 0

    def excess(self, honest: Memory) -> str:
        """What is above the bound that the honest file gives; "" if nothing is."""
        for name, slack in (("traced", TRACED_SLACK), ("resident", RESIDENT_SLACK), ("claimed", CLAIMED_SLACK)):
            own, most = getattr(self, name), 2 * getattr(honest, name) + slack
            if own > most:
                return f"{own:,} bytes {name}, at most {most:,} {EXCESS}"
        return ""

    @staticmethod
    def most(measured: Iterable[Memory]) -> Memory:
        """The largest of each figure."""
        each = list(measured)
        return Memory(*(max(getattr(one, name) for one in each) for name in ("traced", "resident", "claimed")))


def measured(action: Callable[[], Any]) -> tuple[Any, Exception | None, Memory]:
    """Do something; returns its result, its error, and the memory it needed."""
    result, error = None, None
    tracemalloc.start()
    _forget_the_peak()
    before = _status()
    began, _ = tracemalloc.get_traced_memory()
    try:
        result = action()
    except Exception as raised:
        error = raised
    finally:
        _, peak = tracemalloc.get_traced_memory()
        after = _status()
        tracemalloc.stop()
    grown = (after[name] - before[name] for name in (_PEAK, _CLAIMED))
    return result, error, Memory(peak - began, *grown)


def _forget_the_peak() -> None:
    """Let the peak of resident memory begin anew, where Linux allows it."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def _status() -> dict[str, int]:
    """Peaks of this process, bytes."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return {_PEAK: 0, _CLAIMED: 0}
    values = dict(line.split(":", 1) for line in lines)
    return {name: 1024 * int(values[name].split()[0]) for name in (_PEAK, _CLAIMED)}
