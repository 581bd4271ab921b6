"""One state of the streams of several states that share no past, such as those of processes that train together.

Shapes: B batch rows, N streams, G memories, H hidden.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import zip_longest
from typing import TypeVar

import torch
from torch import Tensor
from torch.nn import functional as F

from reminding.nn.parts.memory import FAR, join
from reminding.nn.parts.tensors import counting_on_host, host_range
from reminding.nn.state.past.history import History, HistoryData, Lazy, PastCall
from reminding.nn.state.past.history import join_rows as join_histories
from reminding.nn.state.past.owed import LayerCredit, Owed, StateCredit
from reminding.nn.state.past.reachable import Evicted
from reminding.nn.state.past.runs import SegmentRun
from reminding.nn.state.stream import LayerState, SABState

One = TypeVar("One")
Two = TypeVar("Two")


def merge_states(parts: Sequence[SABState]) -> SABState:
    """Put the rows of states of one layer under one another, with their pasts; one of unbatched input has one row.

    The result goes on as the parts would. Like a state from a file it has no graph: credit goes to the past calls.

    Raises:
        ValueError: there is no part, or they are not of one layer, of one type and device.
    """
    kinds = {_kind(part) for part in parts}
    makers = {part.made_by for part in parts} - {None}
    if len(kinds) != 1 or len(makers) > 1:
        got = sorted(map(str, makers if len(kinds) == 1 else kinds))
        raise ValueError(f"parts must be states of one layer, of one type and device; got {', '.join(got) or 'none'}")
    pasts = [part.history.alone([layer.memory for layer in part.layers], part.step) for part in parts]
    whole = replace(join_rows([part.detach() for part in parts]), batched=True)
    with torch.inference_mode(False), torch.no_grad(), counting_on_host():
        owing, kind = [part.history.owing for part in parts], parts[0].layers[0].h.dtype
        past = _merged(pasts, [part.step for part in parts], owing, kind)
        return replace(whole, history=past, made_by=next(iter(makers), None))


def _kind(state: SABState) -> tuple[object, ...]:
    """What states must have in common to be one."""
    layers = [[layer.h, *layer.cell_state] for layer in state.layers]
    kinds = (tuple((tuple(each.shape[1:]), each.dtype, each.device) for each in tensors) for tensors in layers)
    return state.zero_slot, *kinds


def join_rows(parts: list[SABState]) -> SABState:
    """Put the rows of several states of one layer under one another."""
    layers = tuple(join_layer_states(peers) for peers in zip(*(part.layers for part in parts), strict=True))
    past = join_histories([part.history for part in parts])
    return replace(parts[0], layers=layers, step=torch.cat([part.step for part in parts]), history=past)


def join_layer_states(parts: Sequence[LayerState]) -> LayerState:
    """The same of one layer of a stack."""
    return LayerState(
        h=torch.cat([part.h for part in parts]),
        cell_state=tuple(map(torch.cat, zip(*(part.cell_state for part in parts), strict=True))),
        memory=join([part.memory for part in parts]),
    )


def own_rows(state: SABState, rows: slice, *, ended: bool) -> SABState:
    """Some rows of a state, with their own past alone, and the credit that waits for it.

    `SABState.rows` keeps the past of all rows, whose credit would be sent on by each part.

    Args:
        rows: of the state.
        ended: whether streams that have ended, but are owed credit, belong to these rows.
    """
    past = state.history.alone([layer.memory for layer in state.layers], state.step)
    if past.kept is None or past.held is None or past.begun is None or past.stream is None:
        return state.rows(rows)
    own = torch.zeros(past.streams, dtype=torch.bool, device="cpu")
    own[past.stream[rows]] = True
    if ended:
        own |= ~torch.isin(host_range(past.streams), past.stream)
    index = own.nonzero().squeeze(1)  # ascending, so that the streams that were there first stay first
    number = own.cumsum(0) - 1
    data = HistoryData(past.kept.value.runs).rows(index)
    data = HistoryData(data.runs, _rows_of(past.kept.value.evicted, index))
    held = _rows_of(past.held.value, index)
    calls = tuple(_call(call.by_stream, call.stored.value, index) for call in past.calls)
    owed: list[Owed] = []
    for credit in (each.credit for each in past.owing):
        mine = None if credit is None else credit.rows(own[credit.stream].nonzero().squeeze(1))
        owed.append(Owed(None if mine is None else replace(mine, stream=number[mine.stream])))
    history = History(
        Lazy(lambda: data), Lazy(lambda: held), past.begun[index], calls, number[past.stream[rows]], tuple(owed)
    )
    return replace(state.detach().rows(rows), history=history, made_by=state.made_by)


def _call(runs: Sequence[SegmentRun], stored: Sequence[Evicted], index: Tensor) -> PastCall:
    """The part of one call that is of some streams, which get the numbers of their places in `index`."""
    own, mine = HistoryData(tuple(runs)).rows(index), _rows_of(stored, index)
    return PastCall(host_range(len(index)), Lazy(lambda: own.runs), Lazy(lambda: mine))


def _rows_of(layers: Sequence[Evicted], index: Tensor) -> tuple[Evicted, ...]:
    """Each layer's memories of some streams, as far as there are any of them."""
    return tuple(each.rows(index[index < len(each.step)].to(each.step.device)) for each in layers)


def _merged(
    pasts: Sequence[History], steps: Sequence[Tensor], owing: Sequence[Sequence[Owed]], kind: torch.dtype
) -> History:
    """The past of all rows.

    Args:
        steps: the stream step of each row of each part, (B,) each.
        owing: what each part is owed; kind: the type of the states.
    """
    begun = [step if past.begun is None else past.begun for past, step in zip(pasts, steps, strict=True)]
    kept = [HistoryData() if past.kept is None else past.kept.value for past in pasts]
    held = [() if past.held is None else past.held.value for past in pasts]
    now = [host_range(len(step)) if past.stream is None else past.stream for past, step in _pairs(pasts, steps)]
    known = [len(data.evicted[0].step) if data.evicted else len(each) for data, each in _pairs(kept, begun)]
    numbers = _numbers(known, [len(each) for each in begun])
    streams = torch.cat(numbers)
    runs = [run.renumbered(number[run.row]) for data, number in _pairs(kept, numbers) for run in data.runs]
    first = [number[:count] for number, count in _pairs(numbers, known)]
    data = HistoryData(tuple(runs), _layers([each.evicted for each in kept], first))
    remembered = _layers(held, numbers)
    return History(
        Lazy(lambda: data),
        Lazy(lambda: remembered),
        torch.cat(begun)[streams.argsort()],
        tuple(_merged_call(calls, numbers) for calls in zip_longest(*(past.calls for past in pasts))),
        torch.cat([number[stream] for number, stream in _pairs(numbers, now)]),
        tuple(_owed(owing, numbers, kind)),
    )


def _merged_call(calls: Sequence[PastCall | None], numbers: Sequence[Tensor]) -> PastCall:
    """One call of each part as one; a part that has made fewer calls has none."""
    there = [(call, number) for call, number in _pairs(calls, numbers) if call is not None]
    runs = [run.renumbered(number[run.row]) for call, number in there for run in call.by_stream]
    stored = _layers([() if call is None else call.stored.value for call in calls], numbers)
    return PastCall(host_range(sum(map(len, numbers))), Lazy(lambda: tuple(runs)), Lazy(lambda: stored))


def _numbers(known: Sequence[int], counts: Sequence[int]) -> list[Tensor]:
    """The new number of each stream of each part: those that were there when the past was put in order come first."""
    first, later = 0, sum(known)
    numbers: list[Tensor] = []
    for old, count in zip(known, counts, strict=True):
        numbers.append(torch.cat([host_range(first, first + old), host_range(later, later + count - old)]))
        first, later = first + old, later + count - old
    return numbers


class _MergedOwed(Owed):
    """What states that were merged into one are owed together, also what comes to them later.

    Args:
        parts: what each is owed, and the new number of each of its streams.
        kind: the type of the states.
    """

    def __init__(self, parts: Sequence[tuple[Owed, Tensor]], kind: torch.dtype) -> None:
        super().__init__(due=any(owed.due for owed, _ in parts))
        self._parts, self._kind = parts, kind

    @property
    def credit(self) -> StateCredit | None:
        found = [replace(owed.credit, stream=new[owed.credit.stream]) for owed, new in self._parts if owed.credit]
        if not found:
            return None
        layers = tuple(map(_layer_credit, zip(*(credit.layers for credit in found), strict=True)))
        step, stream = (torch.cat([getattr(credit, name) for credit in found]) for name in ("step", "stream"))
        return StateCredit(stream, step, layers).of_type(self._kind)

    def copied(self) -> Owed:
        if self.settled:
            return self
        return _MergedOwed([(owed.copied(), numbers) for owed, numbers in self._parts], self._kind)

    def of_type(self, like: Tensor) -> Owed:
        return self if self.settled or like.dtype == self._kind else _MergedOwed(self._parts, like.dtype)

    def alone(self) -> Owed:
        plain = Owed(self.credit)
        plain.settled = self.settled
        return plain

    def sent(self) -> None:
        super().sent()
        for owed, _ in self._parts:
            owed.sent()


def _owed(owing: Sequence[Sequence[Owed]], numbers: Sequence[Tensor], kind: torch.dtype) -> Iterator[Owed]:
    """What waits, call by call: when it is sent on depends on how many calls' credit waits.

    Parts that have calls in common, as rows of one state have, are owed what came to these together, once. As with
    copies, a backward pass that is to send on what a part is owed takes it from the whole as well.
    """
    known: set[int] = set()
    columns: list[list[tuple[Owed, Tensor] | None]] = []
    for part, new in _pairs(owing, numbers):
        shared = any(each.due for each in part)
        own = [None if id(each) in known else each if shared else each.copied() for each in part]
        columns.append([each and (each, new) for each in own])
        known |= {id(each) for each in part}
    for parts in zip_longest(*columns):
        yield _MergedOwed([part for part in parts if part is not None], kind)


def _layer_credit(parts: Sequence[LayerCredit]) -> LayerCredit:
    """The credit of one layer's states, whose rows come under one another."""
    width = max(part.memory_step.shape[1] for part in parts)
    memory: list[Tensor] = []
    for part in parts:
        rows, slots = part.memory_step.shape
        like = part.h if part.memory is None else part.memory
        memory.append(like.new_zeros(rows, width, like.shape[-1]))
        if part.memory is not None:
            memory[-1][:, :slots] = part.memory
    step = [F.pad(part.memory_step, (0, width - part.memory_step.shape[1]), value=FAR) for part in parts]
    further = zip(*(part.cell_state for part in parts), strict=True)
    return LayerCredit(
        h=torch.cat([part.h for part in parts]),
        cell_state=tuple(torch.cat(tensors) for tensors in further),
        memory=None if all(part.memory is None for part in parts) else torch.cat(memory),
        memory_step=torch.cat(step),
    )


def _layers(parts: Sequence[tuple[Evicted, ...]], streams: Sequence[Tensor]) -> tuple[Evicted, ...]:
    """Each layer's memories of all streams, (N, G, H), from those of each part; a part may have none.

    Args:
        streams: the number of each row of each part.
    """
    layers = max(map(len, parts))
    return tuple(_padded([part[layer] if part else None for part in parts], streams) for layer in range(layers))


def _padded(parts: Sequence[Evicted | None], streams: Sequence[Tensor]) -> Evicted:
    """Memories of some streams each as those of all, with the step FAR where there is none."""
    like = next(part for part in parts if part is not None)
    total = sum(map(len, streams))
    width = max(part.step.shape[1] for part in parts if part is not None)
    value = like.value.new_zeros(total, width, like.value.shape[-1])
    step = like.step.new_full((total, width), FAR)
    for part, stream in _pairs(parts, streams):
        if part is not None:
            rows, slots = part.step.shape
            value[stream[:rows], :slots] = part.value
            step[stream[:rows], :slots] = part.step
    return Evicted(value, step)


def _pairs(first: Iterable[One], second: Iterable[Two]) -> zip[tuple[One, Two]]:
    return zip(first, second, strict=True)
