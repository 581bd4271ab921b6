"""Lets Triton's interpreter, which runs programs in sequence, run kernels whose programs wait for each other.

Programs take turns. A program runs until it waits at a meeting, so the work before a meeting is done in any order
that a test asks for, and a program that fails to wait gets far ahead of the others. A deadlock is detected at once.
All reads and writes between two meetings are recorded. There is a race if a program touches an element that another
program of its tile writes between the same two meetings, or that a program of another tile writes at any time.

This models the order of programs only, not caches or the threads within a program.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import triton.language as tl
from triton.runtime import interpreter

ORDERS: dict[str, Callable[[list[int]], int]] = {
    "first ahead": min,
    "last ahead": max,
    "any": random.Random(0).choice,
}
PATIENCE = 120
"""The limit for one turn in seconds. The interpreter is slow, but only a bug in this file takes longer."""


class StuckError(AssertionError):
    """All programs wait for each other."""


class Crowd:
    """The programs of one launch, taking turns."""

    def __init__(self, order: Callable[[list[int]], int]) -> None:
        self.order = order
        self.programs: list[tuple[tuple[int, int, int], Callable[[], None]]] = []
        self.turns: list[threading.Semaphore] = []
        self.waiting: set[int] = set()
        self.running: set[int] = set()
        self.met: list[int] = []  # how often each program has arrived
        self.seen: list[tuple[int, int] | None] = []
        self.touched: list[tuple[int, int, bool, Any]] = []
        self.failure: BaseException | None = None

    def run(self) -> None:
        """Run all programs until they end, or raise the error that one raised."""
        count = len(self.programs)
        self.turns = [threading.Semaphore(0) for _ in range(count)]
        self.running, self.met, self.seen = set(range(count)), [0] * count, [None] * count
        threads = [threading.Thread(target=self._work, args=(index,), daemon=True) for index in range(count)]
        for thread in threads:
            thread.start()
        self._next()
        for thread in threads:
            thread.join()
        if self.failure is not None:
            raise self.failure
        self._assert_nobody_touched_what_another_wrote()

    def _work(self, index: int) -> None:
        HERE.crowd, HERE.index = self, index
        HERE.grid_idx, body = self.programs[index]
        try:
            self._take_turn(index)
            body()
        except BaseException as error:
            self.failure = self.failure or error
        self.running.discard(index)
        self._next()

    def _next(self) -> None:
        able = sorted(self.running - self.waiting)
        if not able and self.running:
            self.failure = self.failure or StuckError(
                f"programs {sorted(self.running)} wait, after {self.met} meetings"
            )
        for index in sorted(self.running) if self.failure else [self.order(able)] if able else []:
            self.turns[index].release()

    def _take_turn(self, index: int) -> None:
        assert self.turns[index].acquire(timeout=PATIENCE), "no turn came"
        if self.failure is not None:
            raise self.failure

    def arrive(self, index: int) -> None:
        """Note that a counter has changed, so that waiting programs read it again."""
        self.met[index] += 1
        self.waiting.clear()

    def look(self, index: int, address: int, value: int) -> bool:
        """Let other programs run if this one has seen the same value before; returns whether to read again."""
        again = self.seen[index] == (address, value)
        self.seen[index] = (address, value)
        if again:
            self.waiting.add(index)
            self._next()
            self._take_turn(index)
        return again

    def touch(self, addresses: Any, writes: bool) -> None:
        """Record what the current program reads or writes."""
        self.touched.append((HERE.index, self.met[HERE.index], writes, np.unique(addresses)))

    def _assert_nobody_touched_what_another_wrote(self) -> None:
        tiles = np.array([grid[0] for grid, _ in self.programs])
        sizes = [len(each[3]) for each in self.touched]
        program, meetings, writes = (np.repeat([each[k] for each in self.touched], sizes) for k in range(3))
        address = np.concatenate([each[3] for each in self.touched])
        self._assert_apart(address, tiles[program], writes, "tiles")
        for tile in np.unique(tiles):
            of_tile = tiles[program] == tile
            for meeting in np.unique(meetings):
                some = of_tile & (meetings == meeting)
                self._assert_apart(address[some], program[some], writes[some], f"programs, after {meeting} meetings,")

    @staticmethod
    def _assert_apart(address: Any, who: Any, writes: Any, what: str) -> None:
        pairs = np.unique(np.stack([address.astype(np.int64), who.astype(np.int64)]), axis=1)
        shared, times = np.unique(pairs[0], return_counts=True)
        clash = np.intersect1d(shared[times > 1], address[writes].astype(np.int64))
        assert len(clash) == 0, f"{what} share {len(clash)} addresses that one of them writes"


class Here(threading.local):
    """Which program a thread runs."""

    crowd: Crowd | None = None
    index: int = 0
    grid_idx: tuple[int, int, int] | None = None


HERE = Here()


class Gathered:
    """A kernel that runs when every program of its grid has been called."""

    def __init__(self, fn: Any, crowd: Crowd) -> None:
        self.fn, self.crowd = fn, crowd
        self.__globals__, self.__name__ = fn.__globals__, fn.__name__
        self.__signature__ = interpreter.inspect.signature(fn)

    def __call__(self, **arguments: Any) -> None:
        assert HERE.grid_idx is not None
        self.crowd.programs.append((HERE.grid_idx, lambda: self.fn(**arguments)))
        dims = interpreter.interpreter_builder.grid_dim
        if len(self.crowd.programs) == int(np.prod(dims)):
            self.crowd.run()


def run_together(patch: pytest.MonkeyPatch, order: str) -> None:
    """Make the interpreter run the programs of two-dimensional grids together, in one of `ORDERS`."""
    builder = type(interpreter.interpreter_builder)
    executor, load, store = interpreter.GridExecutor, builder.create_masked_load, builder.create_masked_store
    rmw, poll, dot = builder.create_atomic_rmw, builder.create_atomic_load, builder.create_dot

    class Executor(executor):  # pyright: ignore[reportUntypedBaseClass]
        def __init__(self, fn: Any, names: Any, grid: Any, *further: Any) -> None:
            super().__init__(fn, names, grid, *further)
            if len(grid) == 2:
                self.fn = Gathered(fn, Crowd(ORDERS[order]))

    def arriving(self: Any, *arguments: Any) -> Any:
        found = rmw(self, *arguments)
        assert HERE.crowd is not None, "a program alone need not meet anybody"
        HERE.crowd.arrive(HERE.index)
        return found

    def polling(self: Any, ptr: Any, *further: Any) -> Any:
        found = load(self, ptr, further[0], None, None, True)
        assert HERE.crowd is not None
        again = HERE.crowd.look(HERE.index, int(ptr.data.item()), int(found.data.item()))
        return load(self, ptr, further[0], None, None, True) if again else found

    def loading(self: Any, ptrs: Any, mask: Any, *further: Any) -> Any:
        if HERE.crowd is not None:
            HERE.crowd.touch(ptrs.data[mask.data], writes=False)
        return load(self, ptrs, mask, *further)

    def storing(self: Any, ptrs: Any, value: Any, mask: Any, *further: Any) -> Any:
        if HERE.crowd is not None:
            HERE.crowd.touch(ptrs.data[mask.data], writes=True)
        return store(self, ptrs, value, mask, *further)

    def multiplying(self: Any, a: Any, b: Any, *further: Any) -> Any:
        """The interpreter holds bfloat16 as integers, and would multiply the integers."""
        if a.dtype.scalar == tl.bfloat16:
            a, b = (self.cast_impl(each, tl.float32) for each in (a, b))
        return dot(self, a, b, *further)

    patch.setattr(interpreter, "GridExecutor", Executor)
    patch.setattr(builder, "grid_idx", property(lambda _: HERE.grid_idx, _set_place), raising=False)
    for name, method in {
        "create_atomic_rmw": arriving,
        "create_atomic_load": polling,
        "create_masked_load": loading,
        "create_masked_store": storing,
        "create_dot": multiplying,
    }.items():
        patch.setattr(builder, name, method)
    assert poll is not builder.create_atomic_load


def _set_place(_: Any, place: tuple[int, int, int] | None) -> None:
    HERE.grid_idx = place
