"""Replay: segments run again when credit reaches them, newest first, each once.   [DESIGN section 5]

Credit only ever points back: from a step to the step before it in its segment, and to the memories it read, which
are older. So one sweep from the newest segment to the oldest meets every segment when all its credit has arrived.

Shapes: B batch rows, R rows of a segment, S steps of a segment, K ranks, H hidden.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor

from reminding.nn.credit.bank import Bank
from reminding.nn.forward.reader import Reader
from reminding.nn.forward.reference import loop
from reminding.nn.parts.cells import Extra, Step
from reminding.nn.parts.generators import drawing_as
from reminding.nn.parts.memory import NOTHING, Memory
from reminding.nn.parts.rule import Rule
from reminding.nn.parts.scorers import Scorer
from reminding.nn.state.segments import Passage, Segment
from reminding.ops import reference

Note = Callable[[int, Tensor, Tensor, Tensor, Tensor, Tensor], None]


@dataclass(frozen=True)
class Network:
    """The layers that a replay runs again, with the weights they have now.

    Attributes:
        cells, scorers: one per layer; no scorer where nothing is remembered.
        parameters: what may receive a gradient besides inputs and states.
        kept_scale: what dropout multiplies the outputs it lets through by.
        note: told what credit each memory receives through each recall; see `Credit.take`.
    """

    cells: tuple[Step, ...]
    scorers: tuple[Scorer | None, ...]
    rule: Rule
    parameters: tuple[Tensor, ...]
    kept_scale: float = 1.0
    note: Note | None = None


class Recorded:
    """The memory as a recorded pass read it: the same memories decide each recall, with the weights of today.

    Args:
        value: what was read, (S, R, K, H); own: which of it are states of this segment, by their step in it,
            NOTHING elsewhere, (S, R, K); filled: how many were read, (S, R).

    Attributes:
        summaries: of each step so far, (R, H); scores, weights: (R, K), none where nothing was read at all.
        own_values: what was read at steps that read states of this segment, (R, K, H), by step.
    """

    def __init__(self, value: Tensor, own: Tensor, filled: Tensor, scorer: Scorer | None, rule: Rule) -> None:
        self._value, self._own, self._scorer, self._rule = value, own, scorer, rule
        self._keys = None if scorer is None or not bool(filled.any()) else scorer.keys(value)
        self._has_own = cast("list[bool]", (own >= 0).flatten(1).any(1).tolist())
        self._filled = filled
        self._states: list[Tensor] = []
        self.summaries: list[Tensor] = []
        self.scores: list[Tensor] = []
        self.weights: list[Tensor] = []
        self.own_values: dict[int, Tensor] = {}

    def read(self, query: Tensor) -> Tensor | None:
        """The summary for a provisional state (R, H); None where nothing was read."""
        t = len(self._states)
        if self._keys is None or self._scorer is None:
            self.summaries.append(torch.zeros_like(query))
            return None
        value, keys = self._value[t], self._keys[t]
        if self._has_own[t]:
            own = self._own[t]
            row = torch.arange(len(own), device=own.device).unsqueeze(1)
            mine = torch.stack(self._states)[own.clamp(min=0), row]  # (R, K, H)
            value = torch.where((own >= 0).unsqueeze(2), mine, value)
            self.own_values[t] = value
            keys = self._scorer.keys(value)
        self.scores.append(self._scorer.scores(keys, query))
        weights = self._rule.weigh(self.scores[-1], self._filled[t])
        self.weights.append(weights)
        self.summaries.append(reference.summarize(weights, value))
        return self.summaries[-1]

    def store(self, h: Tensor, rows: Tensor | bool, ahead: int) -> None:
        """Take the state of a step, which a later one of the segment may have read."""
        self._states.append(h)


@dataclass(frozen=True)
class _Again:
    """One layer's pass through a segment, run again: what came out, and what may receive credit.

    Attributes:
        output, summary: (S, R, H); extra: the further state after it.
        entry: h and the further state it was entered with.
        memory, place: what was read of older memories, and where that lies in the bank: (S, R, K, H) and (S, R, K),
            or (R, M, H) and (R, M) where all memories are read.
        recorded: how it was read; None where all memories are.
    """

    output: Tensor
    summary: Tensor
    extra: Extra
    entry: tuple[Tensor, ...]
    memory: Tensor
    place: Tensor
    recorded: Recorded | None


class Sweep:
    """One way back through segments, newest first.

    Args:
        segments: those it will visit.
        banks: one per layer, of every state that the segments may have read or stored.
        step: the stream step each row has reached, (B,) int64 on the host.
        d_h, d_extra: the gradient of the state there, per layer.
        cut_at: a stream step of each row before which the state is detached besides, (B,) on the host, or None.

    Attributes:
        d_parameters: the gradient of each of the network's parameters so far.
        d_h, d_extra: the gradient of the state before the oldest segment visited, per layer.
    """

    def __init__(
        self,
        network: Network,
        segments: Sequence[Segment],
        banks: list[Bank],
        step: Tensor,
        d_h: list[Tensor],
        d_extra: list[Extra],
        cut_at: Tensor | None = None,
    ) -> None:
        self.network, self.banks, self._step, self._cut_at = network, banks, step.clone(), cut_at
        self.d_h = [tensor.clone() for tensor in d_h]
        self.d_extra = [tuple(tensor.clone() for tensor in extra) for extra in d_extra]
        self.d_parameters: list[Tensor | None] = [None] * len(network.parameters)
        carried = [tensor for layer in zip(self.d_h, self.d_extra, strict=True) for tensor in (layer[0], *layer[1])]
        self._carried = torch.stack([(tensor != 0).flatten(1).any(1) for tensor in carried]).any(0).cpu()
        ways = self._find_stored(segments) if segments else []
        self._places = {id(segment): places for segment, places in zip(segments, ways, strict=True)}

    def visit(
        self, segment: Segment, x: Tensor, d_output: Tensor | None, d_summary: Tensor | None, need_x: bool
    ) -> Tensor | None:
        """Send all credit that has come to a segment back through it.

        Args:
            x: its input (S, R, I); d_output, d_summary: from the loss, (S, R, H).

        Returns:
            d_x (S, R, I), if it is needed and any credit has come.
        """
        if d_output is None and d_summary is None and not self._reached(segment):
            self._step[segment.row] = segment.taken
            return None
        d_steps, d_ends = self._arrived(segment, d_output)
        live = _live(d_steps, d_ends, d_summary)  # (S, R)
        rows = live.any(0).nonzero().squeeze(1)
        if len(rows) == 0:
            return None
        stop = int(live.any(1).nonzero()[-1]) + 1
        if segment.draws:
            stop, rows = segment.steps, torch.arange(len(segment.row), device=live.device)
        part = segment.rows(rows.cpu()) if len(rows) < len(segment.row) else segment
        d_outputs = [d[:stop, rows] for d in d_steps]
        ends = [tuple(d[rows] for d in extra) if stop == segment.steps else () for extra in d_ends]
        summaries = None if d_summary is None else d_summary[:stop, rows]
        d_part = self._through(part, x[:stop, rows], d_outputs, ends, summaries, need_x)
        if d_part is None:
            return None
        d_x = torch.zeros_like(x)
        d_x[:stop, rows] = d_part
        return d_x

    def _reached(self, segment: Segment) -> bool:
        """Whether any credit can have come to a segment that the loss does not touch."""
        if bool(self._carried[segment.row].any()):
            return True
        return any(bank.reached(place) for bank, place in zip(self.banks, self._stored(segment), strict=True))

    def _arrived(self, segment: Segment, d_output: Tensor | None) -> tuple[list[Tensor], list[Extra]]:
        """The credit of the segment's outputs, (S, R, H) per layer, and of its further state at the end."""
        row = segment.row
        follows = segment.taken + segment.steps == self._step[row]
        self._carried[row] = False
        self._step[row] = segment.taken
        d_steps: list[Tensor] = []
        d_ends: list[Extra] = []
        for layer, (bank, stored) in enumerate(zip(self.banks, self._stored(segment), strict=True)):
            here = row.to(bank.device)
            follow = follows.to(here.device)
            last = d_output is not None and layer == len(self.banks) - 1
            d = cast("Tensor", d_output).clone() if last else bank.zeros(segment.steps, len(row))
            credit = bank.of(stored)
            if credit is not None:
                d += credit
            d[-1] += _taken_from(self.d_h[layer], here, follow)
            d_steps.append(d)
            d_ends.append(tuple(_taken_from(tensor, here, follow) for tensor in self.d_extra[layer]))
        return d_steps, d_ends

    def _stored(self, segment: Segment) -> list[Tensor]:
        """Where the states lie in each layer's bank that a segment stored, (S, R); NOTHING where it stored none."""
        known = self._places.get(id(segment))
        return self._find_stored([segment])[0] if known is None else known

    def _find_stored(self, segments: Sequence[Segment]) -> list[list[Tensor]]:
        """The same for many segments at once."""
        rule = self.network.rule
        steps = [segment.taken + torch.arange(1, segment.steps + 1).unsqueeze(1) for segment in segments]
        rows = [segment.row.expand_as(step).flatten() for segment, step in zip(segments, steps, strict=True)]
        row, step = torch.cat(rows), torch.cat([step.flatten() for step in steps])
        stored = (step % rule.k_att == 0) & (rule.k_top != 0 and rule.backtrack)
        step = torch.where(stored, step, NOTHING)
        sizes = [part.numel() for part in steps]
        found = [bank.places(step.to(bank.device).unsqueeze(0), row.to(bank.device))[0] for bank in self.banks]
        split = cast("Callable[[Tensor, list[int]], tuple[Tensor, ...]]", torch.split)
        by_layer = [split(places, sizes) for places in found]
        return [[places[number].view_as(part) for places in by_layer] for number, part in enumerate(steps)]

    def _through(
        self,
        segment: Segment,
        x: Tensor,
        d_outputs: list[Tensor],
        d_ends: list[Extra],
        d_summary: Tensor | None,
        need_x: bool,
    ) -> Tensor | None:
        """Run the first steps of a segment again, as many as `x` has, and take the gradient; returns d_x."""
        x = x.detach().requires_grad_(need_x)
        with torch.enable_grad(), torch.autocast(x.device.type, enabled=False):
            passes = self._run(segment, x)
        outputs = [again.output for again in passes]
        d_all = list(d_outputs)
        for again, d_end in zip(passes, d_ends, strict=True):
            outputs += again.extra[: len(d_end)]
            d_all += d_end
        if d_summary is not None:
            outputs.append(passes[-1].summary)
            d_all.append(d_summary)
        inputs = [x, *self.network.parameters]
        for again in passes:
            inputs += [*again.entry, again.memory, *self._noted(again).values()]
        found = gradients(outputs, inputs, d_all)
        d_x, found = found[0], found[1:]
        count = len(self.network.parameters)
        self.d_parameters = [total(*pair) for pair in zip(self.d_parameters, found[:count], strict=True)]
        self._deliver(segment, passes, found[count:])
        return d_x

    def _noted(self, again: _Again) -> dict[int, Tensor]:
        """The values by step whose gradient only a note needs."""
        return again.recorded.own_values if self.network.note is not None and again.recorded is not None else {}

    def _run(self, segment: Segment, x: Tensor) -> list[_Again]:
        passes: list[_Again] = []
        for layer, passage in enumerate(segment.layers):
            if layer > 0 and segment.kept:
                x = x * segment.kept[layer - 1][: len(x)] * self.network.kept_scale
            passes.append(self._again(layer, passage, segment, x))
            x = passes[-1].output
        return passes

    def _again(self, layer: int, passage: Passage, segment: Segment, x: Tensor) -> _Again:
        rule, cell, entry = self.network.rule, self.network.cells[layer], passage.entry
        cut_at = None if self._cut_at is None else cast("list[int]", self._cut_at[segment.row].tolist())
        constant = self.banks[layer].constant(self._stored(segment)[layer])
        recorded, memory, place = self._memory(layer, passage, segment, len(x))
        h, extra = _leaf(entry.h), tuple(_leaf(tensor) for tensor in entry.extra)
        streams = cast("list[int]", segment.taken.tolist())
        with drawing_as(entry.random, x.device):
            outputs, after = loop(x, h, extra, streams, cell, recorded, rule, _no_entry, cut_at, constant)
        summary = recorded.recalled(h).summary if isinstance(recorded, Reader) else torch.stack(recorded.summaries)
        kept = recorded if isinstance(recorded, Recorded) else None
        return _Again(torch.stack(outputs), summary, after, (h, *extra), memory, place, kept)

    def _memory(
        self, layer: int, passage: Passage, segment: Segment, steps: int
    ) -> tuple[Recorded | Reader, Tensor, Tensor]:
        """The memory as the recorded pass saw it; its values, which may receive credit; their places in the bank."""
        bank, rule, scorer = self.banks[layer], self.network.rule, self.network.scorers[layer]
        row = segment.row.to(bank.device)
        if passage.read is None:
            then = cast("Memory", passage.entry.memory)
            filled = torch.arange(then.slots) < then.count.unsqueeze(1)
            step = torch.where(filled.to(row.device), then.step, NOTHING)
            place = bank.places(step.unsqueeze(0), row).squeeze(0)
            value = bank.at(place).requires_grad_(rule.backtrack)
            return Reader(replace(then, value=value), scorer, rule, segment.taken, True, False), value, place
        read = passage.read[:steps]
        own = read - segment.taken.to(read.device).unsqueeze(1) - 1
        own = torch.where(own >= 0, own, NOTHING)
        place = bank.places(torch.where(own >= 0, NOTHING, read), row)
        filled = (read >= 0).sum(2)
        assert bool(((place >= 0) | (own >= 0)).sum() == filled.sum()), "every memory that was read is kept"
        value = bank.at(place).requires_grad_(rule.backtrack)
        return Recorded(value, own, filled, scorer, rule), value, place

    def _deliver(self, segment: Segment, passes: list[_Again], found: list[Tensor | None]) -> None:
        """Hand the gradients of entering states and memories on."""
        remaining = iter(found)
        for layer, again in enumerate(passes):
            row = segment.row.to(again.output.device)
            for target in (self.d_h[layer], *self.d_extra[layer]):
                gradient = next(remaining)
                if gradient is not None:
                    target[row] = gradient
                    self._carried[segment.row] |= (gradient != 0).flatten(1).any(1).cpu()
            gradient = next(remaining)
            if gradient is not None:
                self.banks[layer].add(again.place, gradient)
            own = {t: next(remaining) for t in self._noted(again)}
            if again.recorded is not None:
                self._tell(layer, segment, again.recorded, gradient, own)

    def _tell(
        self,
        layer: int,
        segment: Segment,
        recorded: Recorded,
        d_memory: Tensor | None,
        d_own: dict[int, Tensor | None],
    ) -> None:
        """Note the credit of what a segment read: d_memory (S, R, K, H), and of its own states (R, K, H) by step."""
        read = segment.layers[layer].read
        if self.network.note is None or read is None or not recorded.weights:
            return
        length = cast("Callable[..., Tensor]", torch.linalg.vector_norm)
        steps = len(recorded.weights)
        weight, read = torch.stack(recorded.weights).detach(), read[:steps]
        amount = weight.new_zeros(read.shape) if d_memory is None else length(d_memory, dim=3)
        step = segment.taken + torch.arange(1, steps + 1).unsqueeze(1)
        for t, gradient in d_own.items():
            if gradient is not None:
                mine = read[t] > segment.taken.unsqueeze(1).to(read.device)
                amount[t] = torch.where(mine, length(gradient, dim=2), amount[t])
        self.network.note(layer, segment.row, step, read, weight, amount)


def _live(d_steps: list[Tensor], d_ends: list[Extra], d_summary: Tensor | None) -> Tensor:
    """Which steps of which rows credit has come to, (S, R); not a number counts as credit."""
    live = torch.stack([(d != 0).any(2) for d in d_steps]).any(0)
    if d_summary is not None:
        live |= (d_summary != 0).any(2)
    for extra in d_ends:
        for tensor in extra:
            live[-1] |= (tensor != 0).flatten(1).any(1)
    return live


def _taken_from(whole: Tensor, row: Tensor, where: Tensor) -> Tensor:
    """Rows of a gradient where it applies, 0 elsewhere; it is used up."""
    part = whole[row] * where.view(-1, *[1] * (whole.dim() - 1))
    whole[row] = 0
    return part


def _leaf(tensor: Tensor) -> Tensor:
    return tensor.detach().requires_grad_()


def total(one: Tensor | None, other: Tensor | None) -> Tensor | None:
    """The sum of two gradients, where None is no gradient."""
    return other if one is None else one if other is None else one + other


def gradients(outputs: list[Tensor], inputs: list[Tensor], d_outputs: list[Tensor]) -> list[Tensor | None]:
    """The gradient of each input; None for those that take none or that nothing reaches."""
    reached = [(output, d) for output, d in zip(outputs, d_outputs, strict=True) if output.requires_grad]
    wanted = [tensor for tensor in inputs if tensor.requires_grad]
    if not reached or not wanted:
        return [None] * len(inputs)
    grad = cast("Callable[..., tuple[Tensor | None, ...]]", torch.autograd.grad)
    found = iter(grad([pair[0] for pair in reached], wanted, [pair[1] for pair in reached], allow_unused=True))
    return [next(found) if tensor.requires_grad else None for tensor in inputs]


def _no_entry(t: int, h: Tensor, extra: Extra) -> None:
    """A replay leaves nothing for another."""
