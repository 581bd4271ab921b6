"""Memory for large tensors that live no longer than one sweep through past calls, kept for the next sweep.

Memory that the process has not written to before costs a page fault for every 4 KB, which takes longer than the loops
need to fill it.
"""

from __future__ import annotations

import math
import os
import threading
from typing import Any, cast

import torch
from torch import Tensor

from reminding.ops.cpu_op.packing import raw

LEAST, MOST = 2**18, 2**27
"""The size of the smallest tensor that is worth it, and of all that is kept, in bytes."""
COUNTED = hasattr(torch._C, "_storage_Use_Count")  # pyright: ignore[reportPrivateUsage]
"""Whether PyTorch tells how many tensors lie in a storage; this function of it is not public."""


class _Storages:
    """Storages of which each is in use, or free for the next tensor that it suits; the one last used comes last."""

    def __init__(self) -> None:
        self.begin_anew()

    def begin_anew(self) -> None:
        """Keep nothing; in a forked process, where a thread that is not there may have held the lock."""
        self._lock = threading.Lock()
        self._kept: list[torch.UntypedStorage] = []

    def take(self, like: Tensor, shape: tuple[int, ...], size: int) -> Tensor:
        """A tensor of `size` bytes in the smallest free storage that suits it, or in a new one."""
        with self._lock:  # until the tensor is there, nothing shows that its storage is in use
            free = [each for each in self._kept if size <= each.nbytes() <= 2 * size and not _in_use(each)]
            storage = min(free, key=torch.UntypedStorage.nbytes) if free else _new(size)
            self._keep(storage)
            empty: Any = like.new_empty(0)
            return cast("Tensor", empty.set_(storage, 0, shape))

    def _keep(self, storage: torch.UntypedStorage) -> None:
        """Put a storage last, and let go of the first where all are too large together."""
        others = [each for each in self._kept if each is not storage]
        total = storage.nbytes() + sum(each.nbytes() for each in others)
        while total > MOST:
            total -= others.pop(0).nbytes()
        self._kept = [*others, storage]


def _new(size: int) -> torch.UntypedStorage:
    """A storage for so many bytes, up to a quarter larger: sweeps differ in how many steps they reach."""
    unit = 1 << max(size.bit_length() - 3, 0)
    room = torch.empty(-(-size // unit) * unit, dtype=torch.uint8)
    raw().ask_for_huge_pages([room])
    return room.untyped_storage()


def _in_use(storage: torch.UntypedStorage) -> bool:
    """Whether any tensor lies in a storage that is kept."""
    count: int = torch._C._storage_Use_Count(storage._cdata)  # pyright: ignore
    return count > 1


_STORAGES = _Storages()


def _begin_anew() -> None:
    _STORAGES.begin_anew()


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(after_in_child=_begin_anew)


def reusable(like: Tensor, *shape: int) -> Tensor:
    """A new tensor with the type of another, whose content is undefined."""
    size = math.prod(shape) * like.element_size()
    filled = torch.are_deterministic_algorithms_enabled()  # they fill what is new
    if not LEAST <= size <= MOST or filled or not COUNTED:
        return like.new_empty(shape)
    return _STORAGES.take(like, shape, size)
