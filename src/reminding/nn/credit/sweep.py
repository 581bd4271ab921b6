"""Replay: segments run again when credit reaches them, newest first, each once.   [DESIGN section 5]

Credit only ever points back: from a step to the step before it in its segment, and to the memories it read, which
are older. So one sweep from the newest segment to the oldest meets every segment when all its credit has arrived.

Shapes: B batch rows, R rows of a segment, S steps of a segment, K ranks, H hidden.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import cast

import torch
from torch import Tensor

from reminding.nn.credit.bank import Bank, Borders
from reminding.nn.credit.ledger import ReplayedRecalls
from reminding.nn.credit.network import Network, gradients, leaves_of, totals
from reminding.nn.credit.recorded import RecordedReader
from reminding.nn.forward.reader import Reader
from reminding.nn.forward.reference import loop
from reminding.nn.parts.cells import CellState
from reminding.nn.parts.generators import SteadyScorer, drawing_as
from reminding.nn.parts.memory import NOTHING, Memory
from reminding.nn.parts.outside import check_followed
from reminding.nn.parts.tensors import by_row
from reminding.nn.state.past.segments import Segment


@dataclass(frozen=True)
class _LayerReplay:
    """One layer's pass through a segment, run again: what came out, and what may receive credit.

    Attributes:
        output, summary: (S, R, H); stored: what goes to memory at the steps that store, (S, R, H).
        cell_state: the further state after it.
        entering: h and the further state it was entered with.
        memory, place: what was read of older memories, and where that lies in the bank: (S, R, K, H) and (S, R, K),
            or (R, M, H) and (R, M) where all memories are read.
        reader: how it was read.
    """

    output: Tensor
    summary: Tensor
    stored: Tensor
    cell_state: CellState
    entering: tuple[Tensor, ...]
    memory: Tensor
    place: Tensor
    reader: RecordedReader | Reader


@dataclass(frozen=True)
class _Arrived:
    """The credit that has come to one layer's part of a segment.

    Attributes:
        output: of its outputs, (S, R, H).
        stored: of the proposals that it stored, (S, R, H); None where it stores outputs, or none has come.
        end: of its cell's further state after it; () where that is not reached.
    """

    output: Tensor
    stored: Tensor | None
    end: CellState

    @property
    def live(self) -> Tensor:
        """Which steps of which rows it has come to, (S, R); not a number counts as credit."""
        live = (self.output != 0).any(2)
        if self.stored is not None:
            live |= (self.stored != 0).any(2)
        for tensor in self.end:
            live[-1] |= by_row(tensor != 0).any(1)
        return live

    def part(self, stop: int, rows: Tensor) -> _Arrived:
        """That of the first `stop` steps of some rows."""
        stored = None if self.stored is None else self.stored[:stop, rows]
        whole = stop == len(self.output)
        return _Arrived(self.output[:stop, rows], stored, tuple(d[rows] for d in self.end) if whole else ())


class Sweep:
    """One way back through segments, newest first.

    Args:
        segments: those it will visit.
        banks: one per layer, of every state that the segments may have read or stored.
        borders: the gradient of h and of the cell's further state where calls met.
        streams: how many rows there are in all, B.
        cut_at: a stream step of each row before which the state is also detached, (B,) on the host, or None.

    Attributes:
        leaves: what the segments compute with: the network's tensors, cut from the graph that made them.
        d_tensors: the gradient of each of the network's tensors so far.
        d_state: the gradient of the state before the oldest segment visited, per layer.
    """

    def __init__(
        self,
        network: Network,
        segments: Sequence[Segment],
        banks: list[Bank],
        borders: Borders,
        streams: int,
        cut_at: Tensor | None = None,
    ) -> None:
        self.network, self.banks, self._borders, self._cut_at = network, banks, borders, cut_at
        self.d_state = [tuple(d.new_zeros(streams, *d.shape[1:]) for d in layer) for layer in borders.d_state]
        self._step = torch.full((streams,), NOTHING)
        self._carried = torch.zeros(streams, dtype=torch.bool)
        self.leaves = leaves_of(network.tensors)
        self.d_tensors: list[Tensor | None] = [None for _ in self.leaves]
        self._followed = False
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
        self._take_border(segment)
        if d_output is None and d_summary is None and not self._reached(segment):
            self._step[segment.row] = segment.steps_done
            return None
        arrived = self._arrived(segment, d_output)
        live = torch.stack([each.live for each in arrived]).any(0)  # (S, R)
        if d_summary is not None:
            live |= (d_summary != 0).any(2)
        rows = live.any(0).nonzero().squeeze(1)
        if len(rows) == 0:
            return None
        stop = int(live.any(1).nonzero()[-1]) + 1
        if segment.draws:
            stop, rows = segment.steps, torch.arange(len(segment.row), device=live.device)
        part = segment.rows(rows.cpu()) if len(rows) < len(segment.row) else segment
        summaries = None if d_summary is None else d_summary[:stop, rows]
        arrived = [each.part(stop, rows) for each in arrived]
        d_part = self._through(part, x[:stop, rows], arrived, summaries, need_x)
        if d_part is None:
            return None
        d_x = torch.zeros_like(x)
        d_x[:stop, rows] = d_part
        return d_x

    def _take_border(self, segment: Segment) -> None:
        """Add the credit of states in which a segment ends and a call ended, too."""
        end = segment.steps_done + segment.steps
        number, place = self._borders.at(segment.row, end)
        if len(number) == 0:
            return
        row = segment.row[place]
        stale = row[self._step[row] != end[place]]
        for targets, sources in zip(self.d_state, self._borders.d_state, strict=True):
            for target, source in zip(targets, sources, strict=True):
                target[stale] = 0
                target.index_add_(0, row.to(target.device), source[number.to(source.device)])
        self._step[row], self._carried[row] = end[place], True

    def _reached(self, segment: Segment) -> bool:
        """Whether any credit can have come to a segment that the loss does not touch."""
        if bool(self._carried[segment.row].any()):
            return True
        return any(bank.reached(place) for bank, place in zip(self.banks, self._stored(segment), strict=True))

    def _arrived(self, segment: Segment, d_output: Tensor | None) -> list[_Arrived]:
        """The credit that has come to each layer's part of a segment; d_output: from the loss, (S, R, H)."""
        row = segment.row
        follows = segment.steps_done + segment.steps == self._step[row]
        self._carried[row] = False
        self._step[row] = segment.steps_done
        arrived: list[_Arrived] = []
        for layer, (bank, stored) in enumerate(zip(self.banks, self._stored(segment), strict=True)):
            here = row.to(bank.device)
            follow = follows.to(here.device)
            last = d_output is not None and layer == len(self.banks) - 1
            d = cast("Tensor", d_output).clone() if last else bank.zeros(segment.steps, len(row))
            credit, apart = bank.of(stored), self.network.rule.stores_proposal
            if credit is not None and not apart:
                d += credit
            d_h, *d_further = (_taken_from(tensor, here, follow) for tensor in self.d_state[layer])
            d[-1] += d_h
            arrived.append(_Arrived(d, credit if apart else None, tuple(d_further)))
        return arrived

    def _stored(self, segment: Segment) -> list[Tensor]:
        """Where the states lie in each layer's bank that a segment stored, (S, R); NOTHING where it stored none."""
        known = self._places.get(id(segment))
        return self._find_stored([segment])[0] if known is None else known

    def _find_stored(self, segments: Sequence[Segment]) -> list[list[Tensor]]:
        """The same for many segments at once."""
        steps = [segment.steps_done + torch.arange(1, segment.steps + 1).unsqueeze(1) for segment in segments]
        rows = [segment.row.expand_as(step).flatten() for segment, step in zip(segments, steps, strict=True)]
        row, step = torch.cat(rows), torch.cat([step.flatten() for step in steps])
        step = torch.where(self.network.rule.credited(step), step, NOTHING)
        sizes = [part.numel() for part in steps]
        found = [bank.places(step.to(bank.device).unsqueeze(0), row.to(bank.device))[0] for bank in self.banks]
        split = cast("Callable[[Tensor, list[int]], tuple[Tensor, ...]]", torch.split)
        by_layer = [split(places, sizes) for places in found]
        return [[places[number].view_as(part) for places in by_layer] for number, part in enumerate(steps)]

    def _through(
        self,
        segment: Segment,
        x: Tensor,
        arrived: list[_Arrived],
        d_summary: Tensor | None,
        need_x: bool,
    ) -> Tensor | None:
        """Run the first steps of a segment again, as many as `x` has, and take the gradient; returns d_x."""
        x = x.detach().requires_grad_(need_x)
        with torch.enable_grad(), torch.autocast(x.device.type, enabled=False):
            run = partial(self._checked_run, segment=segment, x=x)
            passes = self.network.run(run, self.leaves, segment.modes)
        outputs: list[Tensor] = []
        d_all: list[Tensor] = []
        for replayed, credit in zip(passes, arrived, strict=True):
            outputs += [replayed.output, *replayed.cell_state[: len(credit.end)]]
            d_all += [credit.output, *credit.end]
            if credit.stored is not None:
                outputs.append(replayed.stored)
                d_all.append(credit.stored)
        if d_summary is not None:
            outputs.append(passes[-1].summary)
            d_all.append(d_summary)
        inputs = [x, *self.leaves]
        for replayed in passes:
            inputs += [*replayed.entering, replayed.memory, *self._noted(replayed).values()]
        d_x, *found = gradients(outputs, inputs, d_all)
        count = len(self.leaves)
        self.d_tensors = totals(self.d_tensors, found[:count])
        self._deliver(segment, passes, found[count:])
        return d_x

    def _noted(self, replayed: _LayerReplay) -> dict[int, Tensor]:
        """The values by step whose gradient only a note needs."""
        noted = self.network.note is not None and isinstance(replayed.reader, RecordedReader)
        return cast("RecordedReader", replayed.reader).own_values if noted else {}

    def _checked_run(self, network: Network, segment: Segment, x: Tensor) -> list[_LayerReplay]:
        """`_run`, the first time with a check that the graph of the user's modules ends in the leaves."""
        passes = self._run(network, segment, x)
        if network.modules and not self._followed:
            ends = [end for replayed in passes for end in (replayed.output, *replayed.cell_state)]
            begins = [begin for replayed in passes for begin in (*replayed.entering, replayed.memory)]
            check_followed(ends, [x, *self.leaves, *begins])
            self._followed = True
        return passes

    def _run(self, network: Network, segment: Segment, x: Tensor) -> list[_LayerReplay]:
        """All layers through a segment, one after the other."""
        passes: list[_LayerReplay] = []
        for layer in range(len(segment.layers)):
            if layer > 0 and segment.dropout_masks:
                x = x * segment.dropout_factor(layer, x, network.dropout_scale)[: len(x)]
            passes.append(self._run_layer(network, layer, segment, x))
            x = passes[-1].output
        return passes

    def _run_layer(self, network: Network, layer: int, segment: Segment, x: Tensor) -> _LayerReplay:
        entering = segment.layers[layer].entering
        drawn_for, factor = segment.pass_drawn_for(layer), entering.factor
        if drawn_for is not None and factor is not None:
            factor = drawn_for.spread(factor)
        cell = network.cell(layer, x.device.type, factor)
        cell = cell if drawn_for is None else drawn_for.drawing(cell)
        cut_at = None if self._cut_at is None else cast("list[int]", self._cut_at[segment.row].tolist())
        constant = self.banks[layer].constant(self._stored(segment)[layer])
        reader, memory, place = self._memory(network, layer, segment, len(x))
        h, cell_state = _leaf(entering.h), tuple(_leaf(tensor) for tensor in entering.cell_state)
        streams = cast("list[int]", segment.steps_done.tolist())
        with drawing_as(entering.generators, x.device):
            outputs, stored, after = loop(
                x, h, cell_state, streams, cell, reader, network.rule, _enter_nothing, cut_at, constant
            )
        summary = reader.recalled(h).summary if isinstance(reader, Reader) else torch.stack(reader.summaries)
        output = torch.stack(outputs)
        kept = torch.stack(stored) if network.rule.stores_proposal else output
        return _LayerReplay(output, summary, kept, after, (h, *cell_state), memory, place, reader)

    def _memory(
        self, network: Network, layer: int, segment: Segment, steps: int
    ) -> tuple[RecordedReader | Reader, Tensor, Tensor]:
        """The memory as the recorded pass saw it; its values, which may receive credit; their places in the bank."""
        bank, rule, scorer = self.banks[layer], network.rule, network.layers[layer].scorer
        row, part = segment.row.to(bank.device), segment.layers[layer]
        if scorer is not None and part.entering.generators is not None and network.layers[layer].score_name is None:
            scorer = replace(scorer, scorer=SteadyScorer(scorer.scorer, all_memories=part.read is None))
        if part.read is None:
            then = cast("Memory", part.entering.memory)
            filled = torch.arange(then.slots) < then.count.unsqueeze(1)
            step = torch.where(filled.to(row.device), then.step, NOTHING)
            place = bank.places(step.unsqueeze(0), row).squeeze(0)
            value = bank.at(place).requires_grad_(rule.backtrack)
            return Reader(replace(then, value=value), scorer, rule, segment.steps_done, True, None), value, place
        places = bank.read_places(part.read[:steps], row, segment.steps_done)
        there = ((places.place >= 0) | (places.own >= 0)).sum()
        assert bool(there == places.filled.sum()), "every memory that was read is kept"
        value = bank.at(places.place).requires_grad_(rule.backtrack)
        return RecordedReader(value, places, scorer, rule), value, places.place

    def _deliver(self, segment: Segment, passes: list[_LayerReplay], found: list[Tensor | None]) -> None:
        """Hand the gradients of entering states and memories on."""
        remaining = iter(found)
        for layer, replayed in enumerate(passes):
            row = segment.row.to(replayed.output.device)
            for target in self.d_state[layer]:
                gradient = next(remaining)
                if gradient is not None:
                    target[row] = gradient
                    self._carried[segment.row] |= by_row(gradient != 0).any(1).cpu()
            gradient = next(remaining)
            if gradient is not None:
                self.banks[layer].add(replayed.place, gradient)
            own = {t: next(remaining) for t in self._noted(replayed)}
            if isinstance(replayed.reader, RecordedReader):
                self._tell(layer, segment, replayed.reader, gradient, own)

    def _tell(
        self,
        layer: int,
        segment: Segment,
        recorded: RecordedReader,
        d_memory: Tensor | None,
        d_own: dict[int, Tensor | None],
    ) -> None:
        """Note the credit of what a segment read: d_memory (S, R, K, H), and of its own states (R, K, H) by step."""
        read = segment.layers[layer].read
        if self.network.note is None or read is None or not recorded.weights:
            return
        steps = len(recorded.weights)
        weight, read = torch.stack(recorded.weights).detach(), read[:steps]
        received = self.banks[layer].zeros(*read.shape) if d_memory is None else d_memory.clone()
        step = segment.steps_done + torch.arange(1, steps + 1).unsqueeze(1)
        origin = torch.full_like(step, NOTHING) if segment.origin is None else segment.origin[:steps]
        for t, gradient in d_own.items():
            if gradient is not None:
                mine = read[t] > segment.steps_done.unsqueeze(1).to(read.device)
                received[t] = torch.where(mine.unsqueeze(2), gradient, received[t])
        self.network.note.take(ReplayedRecalls(layer, segment.row, step, read, weight, received, origin))


def _taken_from(whole: Tensor, row: Tensor, where: Tensor) -> Tensor:
    """Rows of a gradient where it applies, 0 elsewhere; it is used up."""
    part = whole[row] * where.view(-1, *[1] * (whole.dim() - 1))
    whole[row] = 0
    return part


def _leaf(tensor: Tensor) -> Tensor:
    return tensor.detach().requires_grad_()


def _enter_nothing(t: int, h: Tensor, cell_state: CellState) -> None:
    """A replay leaves nothing for another."""
