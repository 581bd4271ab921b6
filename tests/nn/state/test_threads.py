"""States are values that threads may share, also where a part of one is made when it is first looked at."""

from __future__ import annotations

from reminding.nn.parts.memory import Memory
from reminding.nn.state.past.history import Lazy
from tests.nn.samples import draw, make


def test_two_threads_may_make_a_part_at_the_same_time() -> None:
    """The second one is done while the first one makes it, which without the luck of threads is a call within it."""
    made: list[str] = []

    def first() -> str:
        made.append("")
        return made[0] if len(made) > 1 else f"first, after {lazy.value!r}"

    lazy = Lazy(first)
    assert lazy.value == "first, after ''"
    assert lazy.value == "first, after ''"


def test_two_threads_may_look_at_a_memory_that_is_not_made_yet() -> None:
    own = make(k_att=1)(draw(3, 2, 3))[1].layers[0].memory
    calls: list[int] = []

    def read() -> Memory:
        calls.append(1)
        if len(calls) == 1:
            assert memory.count.tolist() == [3, 3]
        return own

    memory = Memory.made_when_read(read, None)
    assert memory.step.tolist() == own.step.tolist()
    assert len(calls) == 2
    assert Memory.__getattr__(memory, "value") is own.value  # asked for when another thread had just made it
