"""The recurrence over time, as the paper's Algorithm 1 says it, for autograd to differentiate.

This is the definition that everything faster is held to: a plain loop whose gradient is whatever autograd
gives for it, with the detaches written here and no others.

Shapes: B batch, T time, I input, M memory slots, K recalled slots, H hidden.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import Protocol, cast

import torch
from torch import Tensor

from reminding.nn.forward.reader import Reader
from reminding.nn.parts.cells import Extra, Step
from reminding.nn.parts.generators import Random, random_state
from reminding.nn.parts.rule import Rule
from reminding.nn.parts.scorers import Scorer
from reminding.nn.state.segments import Entry, Trace
from reminding.nn.state.stream import LayerState, Recall


class Reads(Protocol):
    """What the recurrence asks of a memory: see `Reader`."""

    def read(self, query: Tensor) -> Tensor | None:
        """The summary for a provisional state (B, H); None where nothing is remembered in any row."""
        ...

    def store(self, h: Tensor, rows: Tensor | bool, ahead: int) -> None:
        """Take the state of the step that is `ahead` of the pass's beginning, and store it in the given rows."""
        ...


Enter = Callable[[int, Tensor, Extra], None]


def unroll(
    x: Tensor,
    state: LayerState,
    taken: Tensor,
    cell: Step,
    scorer: Scorer | None,
    rule: Rule,
    record: bool,
    starts: list[int] | None = None,
    draws: bool = False,
) -> tuple[Tensor, LayerState, Recall | None, Trace | None]:
    """Run one layer over a stretch of time.   [Ke et al. 2018, Algorithm 1]

    Args:
        x: input, (T, B, I).
        state: the layer's state before it.
        taken: steps each row's stream has taken before, (B,) int64 on the host.
        scorer: None where k_top = 0: nothing is remembered.
        record: whether to note what was recalled.
        starts: the steps, counted from 0, at which segments begin that a replay may have to go through again;
            None: there will be no replay.
        draws: whether cell or scorer may draw random numbers, which a replay would have to draw again.

    Returns:
        output (T, B, H), the state after it, the recall with time-major layout if asked for, and what a replay
        needs if there may be one.

    Under autocast only the cells see the lower precision. State, scores and memory stay in the parameters'
    type: sums over thousands of steps and the choice of the best few need it, and cost little beside the cells.
    """
    kind = x.device.type
    cell = under_autocast(cell, kind)
    entries: list[Entry] = []

    with torch.autocast(kind, enabled=False):
        reader = Reader(state.memory, scorer, rule, taken, record, ranked=starts is not None)

        def enter(t: int, h: Tensor, extra: Extra) -> None:
            if starts is not None and t in starts:
                memory = reader.memory.without_values() if rule.k_top is None else None
                random = random_state(x.device) if draws else None
                entries.append(Entry(h.detach(), tuple(tensor.detach() for tensor in extra), memory, random))

        streams = cast("list[int]", taken.tolist())
        outputs, extra = loop(x, state.h, state.extra, streams, cell, reader, rule, enter)
        entries = _that_drew(entries, random_state(x.device)) if draws else entries
    h = outputs[-1] if outputs else state.h
    output = torch.stack(outputs) if outputs else h.new_zeros(0, *h.shape)
    after = LayerState(h, extra, replace(reader.memory, keys=None))
    trace = None if starts is None else Trace(lambda: entries, partial(reader.read_steps, h.detach()))
    return output, after, reader.recalled(h) if record else None, trace


def _that_drew(entries: list[Entry], after: Random) -> list[Entry]:
    """The entries, with the generators' states only where numbers were drawn between one and the next."""
    states = [*(entry.random or () for entry in entries), after]
    drew = [not all(map(torch.equal, *pair)) for pair in pairwise(states)]
    return [entry if used else replace(entry, random=None) for entry, used in zip(entries, drew, strict=True)]


def under_autocast(cell: Step, kind: str) -> Step:
    """The cell as it runs in the present autocast region, its results brought back to its state's type."""
    if not torch.is_autocast_enabled(kind):
        return cell
    lower = torch.get_autocast_dtype(kind)

    def step(x: Tensor, h: Tensor, extra: Extra) -> tuple[Tensor, Extra]:
        with torch.autocast(kind, dtype=lower):
            h_hat, further = cell(x, h, extra)
        return h_hat.to(h.dtype), tuple(new.to(old.dtype) for new, old in zip(further, extra, strict=True))

    return step


def loop(
    x: Tensor,
    h: Tensor,
    extra: Extra,
    streams: list[int],
    cell: Step,
    memory: Reads,
    rule: Rule,
    enter: Enter,
    cut_at: list[int] | None = None,
    constant: Tensor | None = None,
) -> tuple[list[Tensor], Extra]:
    """The recurrence itself.

    Args:
        x: (T, B, I); h, extra: the state before it.
        streams: steps each row's stream has taken before.
        enter: called before each step with its number, from 0, h, and the cell's further state.
        cut_at: a further stream step of each row before which its state is detached.
        constant: which states go to memory without their past, (T, B) bool.

    Returns:
        h of every step, (B, H) each, and the cell's further state after the last.
    """
    outputs: list[Tensor] = []
    for t, x_t in enumerate(x.unbind(0)):
        enter(t, h, extra)
        cuts = _rows_due(rule.cuts, streams, t + 1, cut_at)
        h, extra = _detached(h, cuts), tuple(_detached(tensor, cuts) for tensor in extra)
        h_hat, extra = cell(x_t, h, extra)
        summary = memory.read(h_hat)
        h = h_hat if summary is None else h_hat + summary
        stored = h if rule.backtrack else h.detach()
        if constant is not None:
            stored = _detached(stored, constant[t])
        memory.store(stored, _rows_due(rule.stores, streams, t + 1), t + 1)
        outputs.append(h)
    return outputs, extra


def _rows_due(
    due: Callable[[int], bool], streams: list[int], ahead: int, also: list[int] | None = None
) -> Tensor | bool:
    """In which rows something is due `ahead` steps on: all (True), none (False), or a host mask (B,).

    Args:
        also: a further step of each row at which it is due.
    """
    answer = {taken: due(taken + ahead) for taken in set(streams)}
    if also is not None:
        further = [taken + ahead == step for taken, step in zip(streams, also, strict=True)]
        if any(further):
            return torch.tensor([answer[taken] or more for taken, more in zip(streams, further, strict=True)])
    if len(set(answer.values())) <= 1:
        return any(answer.values())
    return torch.tensor([answer[taken] for taken in streams])


def _detached(tensor: Tensor, rows: Tensor | bool) -> Tensor:
    """The tensor without its past in the given rows: no gradient passes there."""
    if isinstance(rows, bool):
        return tensor.detach() if rows else tensor
    return torch.where(rows.to(tensor.device).view(-1, *[1] * (tensor.dim() - 1)), tensor.detach(), tensor)
