"""The history of a stream: what is kept of its past calls, so that credit from a later call can reach into them.

Shapes: B batch rows, N streams, R rows of a pass, G memories, H hidden.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar, cast

import torch
from torch import Tensor

from reminding.nn.parts.memory import FAR, NOTHING, Memory
from reminding.nn.parts.rule import Rule
from reminding.nn.parts.tensors import Change, counting_on_host, host_range
from reminding.nn.state.past.maker import Maker
from reminding.nn.state.past.owed import Owed, check_once
from reminding.nn.state.past.reachable import Evicted, evicted_and_read, pruned
from reminding.nn.state.past.runs import SegmentRun, compacted, joined
from reminding.nn.state.past.segments import EncoderInput, Segment

Made = TypeVar("Made")
MappedInputs = dict[int, tuple[EncoderInput, EncoderInput]]
"""Inputs of the encoder by their id, each with what it became."""


@dataclass(frozen=True)
class HistoryData:
    """What a history holds: runs of segments, each row's oldest first, and each layer's evicted memories."""

    runs: tuple[SegmentRun, ...] = ()
    evicted: tuple[Evicted, ...] = ()

    @property
    def segments(self) -> tuple[Segment, ...]:
        """The segments of all runs."""
        return tuple(segment for run in self.runs for segment in run.segments)

    def rows(self, index: Tensor) -> HistoryData:
        """The part of some batch rows, which get the numbers of their places in `index`, (R,) int64."""
        chosen: list[SegmentRun] = []
        for run in self.runs:
            new, old = (index.unsqueeze(1) == run.row).nonzero(as_tuple=True)
            if len(new):
                chosen.append(run.rows(old).renumbered(new))
        return HistoryData(tuple(chosen), tuple(evicted.rows(index) for evicted in self.evicted))

    def without(self, mask: Tensor) -> HistoryData:
        """Nothing of the marked rows, (B,) bool."""
        chosen: list[SegmentRun] = []
        for run in self.runs:
            stays = (~mask[run.row]).nonzero().squeeze(1)
            if len(stays):
                chosen.append(run.rows(stays))
        gone = (
            replace(part, step=part.step.masked_fill(mask.to(part.step.device).unsqueeze(1), FAR))
            for part in self.evicted
        )
        return HistoryData(tuple(chosen), tuple(gone))

    def map(self, change: Change, inputs: MappedInputs | None = None) -> HistoryData:
        """The same function applied to every tensor on the device; shared inputs of the encoder stay shared.

        Args:
            inputs: those that were mapped with other parts of the same history; this adds its own.
        """
        inputs = {} if inputs is None else inputs
        changed: list[SegmentRun] = []
        for run in self.runs:
            given = run.encoder_input
            if given is not None and id(given) not in inputs:
                inputs[id(given)] = given, given.map(change)
            alone = replace(run, encoder_input=None).map(change)
            changed.append(alone if given is None else replace(alone, encoder_input=inputs[id(given)][1]))
        return HistoryData(tuple(changed), tuple(part.map(change) for part in self.evicted))


class Lazy(Generic[Made]):
    """Something that is made when it is first looked at, in any mode and thread."""

    def __init__(self, make: Callable[[], Made]) -> None:
        self._make: Callable[[], Made] | None = make
        self._made: list[Made] = []

    @property
    def value(self) -> Made:
        """What was made."""
        if (make := self._make) is not None:  # here, another thread may be done before
            with torch.inference_mode(False), torch.no_grad(), counting_on_host():
                self._made, self._make = [make()], None
        return self._made[0]

    def __getstate__(self) -> Made:
        return self.value

    def __setstate__(self, made: Made) -> None:
        self._make, self._made = None, [made]


@dataclass(frozen=True, eq=False)
class PastCall:
    """One pass over time that has not been put in order with those before it.

    Attributes:
        stream: which stream each of its rows was of, (R,) int64 on the host.
        runs: its segments, whose rows are the pass's; stored: what each layer stored in memory, (R, G, H).
        passing: whether no credit reaches it, and `stored` is all that it left in memory: what later calls may read.
    """

    stream: Tensor
    runs: Lazy[tuple[SegmentRun, ...]]
    stored: Lazy[tuple[Evicted, ...]]
    passing: bool = False

    @property
    def by_stream(self) -> tuple[SegmentRun, ...]:
        """Its segments, their rows numbered by stream."""
        if torch.equal(self.stream, host_range(len(self.stream))):
            return self.runs.value
        return tuple(run.renumbered(self.stream[run.row]) for run in self.runs.value)

    def alone(self, streams: int) -> PastCall:
        """The same as tensors alone, its rows those of all the streams there are."""
        runs, stored = self.by_stream, self.stored.value
        if torch.equal(self.stream, host_range(len(self.stream))):
            return self
        parts = [side_by_side([(self.stream, part)], streams, part.value) for part in stored]
        every = tuple(Evicted(*part) for part in parts)
        return PastCall(host_range(streams), Lazy(lambda: runs), Lazy(lambda: every), self.passing)

    def map(self, change: Change, inputs: MappedInputs) -> PastCall:
        """The same function applied to every tensor on the device; inputs: see `HistoryData.map`."""
        return PastCall(
            self.stream,
            Lazy(lambda: HistoryData(self.runs.value).map(change, inputs).runs),
            Lazy(lambda: tuple(part.map(change) for part in self.stored.value)),
            self.passing,
        )


class History:
    """The past of a state's streams: what was kept when credit was last sent on, and the calls since.

    Streams are numbered from the time at which `kept` was put in order: its rows are the first. A row that begins a
    new stream gets a new number, so that what the old one is owed stays apart. Calls are put in order only when that
    is needed: one that is not followed by another costs no more than holding on to its input.

    Attributes:
        kept: what credit could reach at that time.
        held: what each layer remembered then, (B, M, H).
        begun: the step at which each stream stood then, (N,) int64 on the host; 0 for those that began since.
        calls: since then, oldest first.
        stream: the number of each row's stream, (B,) int64 on the host; None where nothing is kept.
        owed: the credit of the states that calls since then began with, one for each call.
        rule: of the layer that made the calls; None without any.
        maker: the layer that made the state; None where it is not known.
    """

    def __init__(
        self,
        kept: Lazy[HistoryData] | None = None,
        held: Lazy[tuple[Evicted, ...]] | None = None,
        begun: Tensor | None = None,
        calls: tuple[PastCall, ...] = (),
        stream: Tensor | None = None,
        owed: tuple[Owed, ...] = (),
        rule: Rule | None = None,
        maker: Maker | None = None,
    ) -> None:
        self.kept, self.held, self.begun, self.calls = kept, held, begun, calls
        self.stream, self.owed, self.rule, self.maker = stream, owed, rule, maker

    def changed(self, **changes: Any) -> History:
        """The same with other attributes."""
        return History(**{**vars(self), **changes})

    @property
    def runs(self) -> tuple[SegmentRun, ...]:
        """All segments, their rows numbered by stream, each stream's oldest first."""
        found = list(self.kept.value.runs) if self.kept is not None else []
        for call in self.calls:
            found += call.by_stream
        return tuple(found)

    @property
    def segments(self) -> tuple[Segment, ...]:
        """The same, one by one."""
        return HistoryData(self.runs).segments

    @property
    def evicted(self) -> tuple[Evicted, ...]:
        """Each layer's memories that were evicted before the first of the calls, and that `kept` has read."""
        return () if self.kept is None else self.kept.value.evicted

    @property
    def empty(self) -> bool:
        """Whether no call is kept."""
        return not self.calls and (self.kept is None or not self.kept.value.runs)

    @property
    def streams(self) -> int:
        """How many there are, those that have ended included."""
        return 0 if self.begun is None else len(self.begun)

    @property
    def owing(self) -> tuple[Owed, ...]:
        """The states whose credit has not been sent on."""
        return tuple(owed for owed in self.owed if not owed.settled)

    @property
    def waits(self) -> bool:
        """Whether any credit waits to be sent on."""
        return any(owed.credit is not None for owed in self.owing)

    def remembered(self, layer: int, like: Tensor) -> list[tuple[Tensor, Evicted]]:
        """All that a layer had in memory since the first of the calls began, and the streams that it is of.

        Args:
            like: a memory's value, (..., H).
        """
        held = () if self.held is None else self.held.value[layer : layer + 1]
        found: list[tuple[Tensor, Evicted]] = [(host_range(len(part.step)), part) for part in held]
        if self.rule is not None and self.rule.semantics == "release":  # whose streams begin with a zero vector
            zeros = like.new_zeros(self.streams, 1, like.shape[-1])
            found.append((host_range(self.streams), Evicted(zeros, torch.zeros_like(zeros[..., 0]).long())))
        return found + [(call.stream, call.stored.value[layer]) for call in self.calls if call.stored.value]

    def followed_by(self, runs: Lazy[tuple[SegmentRun, ...]], stored: Lazy[tuple[Evicted, ...]]) -> History:
        """With one call more, by the rows of the present."""
        assert self.stream is not None, "a call begins with streams that have numbers"
        return self.changed(calls=(*self.calls, PastCall(self.stream, runs, stored)))

    def passed_by(self, memories: Sequence[Memory], step: Tensor) -> History:
        """With one call more that no credit reaches: later calls may read what it has left in memory, as constants.

        Args:
            memories, step: as the call left them; see `reachable`.
        """
        if not self.owing:
            return self.in_order(memories, step)
        assert self.stream is not None, "credit waits for streams that have numbers"
        held = tuple(map(Evicted.copied, memories))
        call = PastCall(self.stream, Lazy(tuple), Lazy(lambda: held), passing=True)
        before = self.calls[:-1] if self.calls and self.calls[-1].passing else self.calls
        return self.changed(calls=(*before, call))

    def begun_anew(self, step: Tensor) -> History:
        """That of the same streams, of which nothing is kept, since no credit reaches behind the present.

        Args:
            step: the stream step each row has reached, (B,) int64 on the host.
        """
        return History(begun=step.clone(), stream=host_range(len(step)), rule=self.rule, maker=self.maker)

    def map(self, change: Change) -> History:
        """The same function applied to every tensor on the device; owed credit follows when it is sent on."""
        kept, held, inputs = self.kept, self.held, MappedInputs()
        return self.changed(
            kept=None if kept is None else Lazy(lambda: kept.value.map(change, inputs)),
            held=None if held is None else Lazy(lambda: tuple(part.map(change) for part in held.value)),
            calls=tuple(call.map(change, inputs) for call in self.calls),
        )

    def rows(self, index: Tensor) -> History:
        """That of some rows, (R,) int64; what others are owed is still theirs. `check_once` says what is refused."""
        stream = None if self.stream is None else self.stream[index]
        return self if stream is None else self.changed(stream=check_once(stream, self.owing))

    def without(self, mask: Tensor) -> History:
        """With new streams in the marked rows, (B,) bool."""
        if self.stream is None or self.begun is None or not bool(mask.any()):
            return self
        fresh = int(mask.sum())
        stream = self.stream.clone()
        stream[mask] = host_range(self.streams, self.streams + fresh)
        return self.changed(stream=stream, begun=torch.cat([self.begun, self.begun.new_zeros(fresh)]))

    def reachable(self, memories: Sequence[Memory], step: Tensor) -> HistoryData:
        """What later credit can reach of it, numbered by the rows of the present.

        Args:
            memories: each layer's; step: the stream step each row has reached, (B,) int64 on the host.
        """
        if self.stream is None or self.empty:
            return HistoryData()
        if self._is_in_order(step) and self.kept is not None:
            return self.kept.value
        with torch.inference_mode(False), torch.no_grad(), counting_on_host():
            if self.rule is None:  # it came from a file, in order
                return self._own(HistoryData(self.runs, self.evicted))
            return self._reachable(memories, step, self.rule, self.stream)

    def _reachable(self, memories: Sequence[Memory], step: Tensor, rule: Rule, stream: Tensor) -> HistoryData:
        runs = list(self.kept.value.runs) if self.kept is not None else []
        for call in self.calls:
            runs = joined(runs, call.by_stream, rule)
        own = self._own(HistoryData(tuple(runs))).runs
        reached, begins = pruned(own, memories, step, rule)
        kept = compacted(reached)
        if rule.capacity is None or not kept:
            return HistoryData(tuple(kept))
        gone: list[Evicted] = []
        moved = not torch.equal(stream, host_range(self.streams))
        for layer, memory in enumerate(memories):
            evicted = [(host_range(len(part.step)), part) for part in self.evicted[layer : layer + 1]]
            parts = [*evicted, *self.remembered(layer, memory.value)]
            every = Evicted(*side_by_side(parts, self.streams, memory.value))
            every = every.rows(stream.to(every.step.device)) if moved else every
            gone.append(evicted_and_read(every, memory, (kept, begins), layer, rule))
        return HistoryData(tuple(kept), tuple(gone))

    def _is_in_order(self, step: Tensor) -> bool:
        """Whether the streams of the present rows, which stand at `step`, are in order, with no call since."""
        same = self.stream is not None and torch.equal(self.stream, host_range(self.streams))
        return same and self.kept is not None and not self.calls and torch.equal(step, cast("Tensor", self.begun))

    def _own(self, data: HistoryData) -> HistoryData:
        """The part of the present rows' streams."""
        assert self.stream is not None
        if torch.equal(self.stream, host_range(self.streams)):
            return data
        there = torch.tensor([len(part.step) for part in data.evicted[:1]])
        known = self.stream < (int(there) if len(there) else self.streams)
        own = data.rows(torch.where(known, self.stream, NOTHING))
        return own if bool(known.all()) else own.without(~known)

    def in_order(self, memories: Sequence[Memory], step: Tensor) -> History:
        """The same for later credit, the calls put in order with what was kept before; nothing may be owed."""
        if self._is_in_order(step):
            return self.changed(owed=())
        data, streams = self.reachable(memories, step), host_range(len(step))
        held = tuple(map(Evicted.copied, memories))
        return History(Lazy(lambda: data), Lazy(lambda: held), step.clone(), (), streams, (), self.rule, self.maker)

    def alone(self, memories: Sequence[Memory], step: Tensor) -> History:
        """The same as tensors alone: nothing is left to be made.

        Calls whose credit has not been sent on stay apart, even if none has come: a stream goes on from here as one
        that was never saved. So do calls of an unknown rule, as in rows of a state from a file, settled since.
        """
        if self.stream is None or not (self.owing or (self.calls and self.rule is None)):
            return self.in_order(memories, step)
        with torch.inference_mode(False), torch.no_grad(), counting_on_host():
            calls = tuple(call.alone(self.streams) for call in self.calls)
        return self.changed(calls=calls, owed=tuple(each.of_type(memories[0].value) for each in self.owing))

    def copied(self) -> History:
        """The same, sharing nothing; what waits is owed to both, unless a backward pass is to send it on anyway."""
        owed = self.owed if any(each.due for each in self.owing) else tuple(each.copied() for each in self.owed)
        return self.map(torch.Tensor.clone).changed(owed=owed)

    def __getstate__(self) -> dict[str, Any]:  # the next layer sets rule and maker
        return vars(self.changed(owed=tuple(each.alone() for each in self.owed), rule=None, maker=None))


def side_by_side(parts: Sequence[tuple[Tensor, Evicted]], streams: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Memories of some streams each as those of all, (N, G, H) and their steps (N, G), FAR where there is none.

    Args:
        like: a memory's value, (..., H).
    """
    every = host_range(streams)
    if parts and all(torch.equal(stream, every) for stream, _ in parts):
        values, steps = [part.value.to(like) for _, part in parts], [part.step.to(like.device) for _, part in parts]
        return (values[0], steps[0]) if len(parts) == 1 else (torch.cat(values, 1), torch.cat(steps, 1))
    width = sum(part.step.shape[1] for _, part in parts)
    value = like.new_zeros(streams, width, like.shape[-1])
    step = torch.full((streams, width), FAR, device=like.device)
    first = 0
    for stream, part in parts:
        last = first + part.step.shape[1]
        value[stream, first:last] = part.value.to(value)
        step[stream, first:last] = part.step.to(step.device)
        first = last
    return value, step


def join_rows(parts: Sequence[History]) -> History:
    """The past of the rows of several states of one layer under one another; a ValueError if they share no past."""
    known = [part for part in parts if part.stream is not None]
    if all(part.empty for part in known):
        return History()
    latest = max((part.calls for part in known), key=len)
    apart = any(one is not other for part in known for one, other in zip(part.calls, latest, strict=False))
    if len(known) < len(parts) or apart or any(part.kept is not known[0].kept for part in known):
        raise ValueError("states must have one past in common for their rows to be joined; state.detach() has none")
    streams = [part.stream for part in known if part.stream is not None]
    begun = max((part.begun for part in known if part.begun is not None), key=len)
    calls = {id(call): call for part in known for call in part.calls}
    owed = {id(each): each for part in known for each in part.owed}
    rule = next((part.rule for part in known if part.rule is not None), None)
    return known[0].changed(
        begun=begun,
        calls=tuple(calls.values()),
        stream=check_once(torch.cat(streams), known[0].owing),
        owed=tuple(owed.values()),
        rule=rule,
    )
