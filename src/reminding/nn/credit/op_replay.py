"""What credit reaches of past calls, run forward again with today's weights, all segments side by side.

The op does it where it can, else plain PyTorch.

Shapes: B batch rows, L segments of single rows that credit reaches, S steps of the longest of them, T steps laid out,
R rows that have any, n steps in all, N memories of a row, M those and the states laid out, K ranks, I input,
H hidden.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from reminding.nn.credit.bank import Bank, Borders
from reminding.nn.credit.network import Network
from reminding.nn.credit.op_reach import ReachedSteps
from reminding.nn.credit.recorded import RecordedReader
from reminding.nn.forward.reference import loop
from reminding.nn.parts.cells import CellState
from reminding.nn.parts.memory import FAR, NOTHING
from reminding.nn.parts.rule import Rule
from reminding.ops.contract import Past, PastReads, PastSteps, scorer_parts
from reminding.ops.past_layout import PastLayout


@dataclass(frozen=True)
class ArrivedCredit:
    """The credit that later calls send into past ones.

    Attributes:
        banks: what each layer remembered, with the credit that has come to it.
        borders: the credit of the states between calls.
        cut_at: a stream step of each row before which its state is cut besides, (B,), or None.
    """

    banks: list[Bank]
    borders: Borders
    cut_at: Tensor | None


@dataclass(frozen=True)
class Replayed:
    """What is reached of one layer, run again with today's weights.

    Attributes:
        reached: which steps; steps: they, as the op takes them.
        credit: that of their memories, (R, M, H).
    """

    reached: ReachedSteps
    steps: PastSteps
    credit: Tensor | None


def replay(network: Network, reached: ReachedSteps, credit: ArrivedCredit, x: Tensor) -> Replayed | None:
    """Run what is reached of a layer forward, all at once; None where its scores leave the op's exact range.

    Args:
        x: (T, R, I).
    """
    bank, row = credit.banks[reached.layer], reached.layout.row
    steps = _on_op(network, reached, bank, x)
    if steps is None:
        steps = _in_plain_torch(network, reached, credit, x)
    if steps is None or isinstance(steps, str):
        return None
    d_memory = None if bank.credit is None else _of_rows(bank.credit, row)
    if d_memory is not None and steps.memory.shape[1] > d_memory.shape[1]:
        behind = steps.memory.shape[1] - d_memory.shape[1]
        d_memory = torch.cat([d_memory, d_memory.new_zeros(len(d_memory), behind, d_memory.shape[2])], 1)
    return Replayed(reached, steps, d_memory)


def _of_rows(tensor: Tensor, row: Tensor) -> Tensor:
    """The part of some batch rows, which ascend."""
    return tensor if len(row) == len(tensor) else tensor[row]


def _on_op(network: Network, reached: ReachedSteps, bank: Bank, x: Tensor) -> PastSteps | str | None:
    """`replay` by the op; None: it leaves that to plain PyTorch; a str: it would not be exact."""
    if network.autocast is not None:
        return None
    layout, width = reached.layout, bank.step.shape[1]
    h, *further = reached.entering()
    wide = torch.promote_types(h.dtype, torch.float32)
    c = further[0][0] if further[0] else h.new_empty(len(h), 0)
    cut, stored, entry = (each.to(h.device) for each in (layout.cut, layout.stored, layout.entry))
    memory, factor = _of_rows(bank.states, layout.row), reached.state_factor(h)
    if layout.own:
        memory = torch.cat([memory, memory.new_empty(len(memory), layout.shape[0], memory.shape[2])], 1)
    reads = PastReads(
        x=x.to(wide),
        memory=memory.to(wide).contiguous(),
        credited=_of_rows(bank.credited, layout.row),
        read=layout.read,
        own=width if layout.own else NOTHING,
        entries=layout.entries,
        past=Past(cut, stored, entry, h.to(wide), c.to(wide)),
        factor=None if factor is None else factor.to(wide),
    )
    return network.op.replay_past(reads, weights_of(network, reached.layer, wide), network.op_rule)


def weights_of(network: Network, number: int, wide: torch.dtype) -> list[Tensor | None]:
    """A layer's weights as the op takes them; None for those it does not have."""
    layer = network.layers[number]
    weights = (*layer.weights, *scorer_parts(layer.recall_tensors, network.op_rule))
    return [None if weight is None else weight.detach().to(wide) for weight in weights]


class _SideBySide:
    """The same steps with the segments side by side, S of the longest.

    Attributes:
        within: which of S steps are reached, (S, L); time: where each lies in the layout, (S, L).
    """

    def __init__(self, reached: ReachedSteps) -> None:
        start, column, count = reached.layout.entries
        ahead = torch.arange(int(count.max())).unsqueeze(1)
        self.within, self.time = ahead < count, start + ahead
        self._shape = reached.layout.shape
        self._step = self.within.flatten().nonzero().squeeze(1)  # (n,) into (S, L)
        self._place = (self.time * self._shape[1] + column).flatten()[self._step]  # (n,) into (T, R)

    def laid_out(self, tensor: Tensor, nothing: float = 0) -> Tensor:
        """(S, L, ...) to (T, R, ...)."""
        rest = tensor.shape[2:]
        flat = tensor.new_full((self._shape[0] * self._shape[1], *rest), nothing)
        chosen = tensor.flatten(0, 1).index_select(0, self._step.to(tensor.device))
        return flat.index_copy_(0, self._place.to(tensor.device), chosen).view(*self._shape, *rest)

    def of(self, tensor: Tensor) -> Tensor:
        """(T, R, ...) to (S, L, ...), 0 where not reached."""
        flat = tensor.new_zeros(self.within.numel(), *tensor.shape[2:])
        chosen = tensor.flatten(0, 1).index_select(0, self._place.to(tensor.device))
        flat.index_copy_(0, self._step.to(tensor.device), chosen)
        return flat.view(*self.within.shape, *tensor.shape[2:])


def _in_plain_torch(network: Network, reached: ReachedSteps, credit: ArrivedCredit, x: Tensor) -> PastSteps | None:
    """`replay` in as many steps as the longest segment has."""
    rule, layout, side = network.rule, reached.layout, _SideBySide(reached)
    row, bank, layer = reached.row, credit.banks[reached.layer], network.layers[reached.layer]
    source = side.of(layout.source)  # (S, L)
    read = torch.where(side.within.unsqueeze(2), reached.given.read[source], NOTHING)
    places = bank.read_places(read, row, reached.steps_done)
    reader = RecordedReader(bank.at(places.place), places, layer.scorer, rule)
    entering, states = _EnteringStates(side.of(layout.cut)), reached.entering()
    cuts = None if credit.cut_at is None else cast("list[int]", credit.cut_at[row].tolist())
    streams = cast("list[int]", reached.steps_done.tolist())
    cell = network.cell(reached.layer, x.device.type)
    outputs, proposals, _ = loop(side.of(x), *states, streams, cell, reader, rule, entering.note, cuts)
    output, summary = torch.stack(outputs), torch.stack(reader.summaries)
    stored = torch.stack(proposals) if rule.stores_proposal else output
    clamped = network.op_rule.k_top and network.op_rule.scoring.clamped
    if clamped and not _in_range(network, reached.layer, output - summary, bank, stored):
        return None
    scores = torch.stack(reader.scores) if reader.scores else output.new_zeros(*output.shape[:2], places.own.shape[2])
    slot = side.of(layout.read).long().to(x.device)
    slot, weights, edge, inverse = _record_weights(scores, places.filled.to(x.device), slot, rule)
    memory = _of_rows(bank.states, layout.row)
    if layout.own:
        memory = torch.cat([memory, side.laid_out(stored).transpose(0, 1)], 1)
    wide = torch.promote_types(output.dtype, torch.float32)  # what sums over many steps are computed in
    return PastSteps(
        x=x.to(wide),
        output=side.laid_out(output.to(wide)),
        summary=side.laid_out(summary.to(wide)),
        memory=memory.to(wide).contiguous(),
        slots=side.laid_out(slot.int(), NOTHING),
        edges=side.laid_out(edge.int(), NOTHING),
        weights=side.laid_out(weights.to(wide)),
        inverses=side.laid_out(inverse.to(wide)),
        past=_past_of(layout, side, entering, x.device),
    )


def _past_of(layout: PastLayout, side: _SideBySide, entering: _EnteringStates, device: torch.device) -> Past:
    """How the steps are laid out, for the op, with the states that entered them."""
    h, cell_state = entering.states
    wide = torch.promote_types(h.dtype, torch.float32)
    c = cell_state[0].to(wide) if cell_state else h.new_empty(len(h), 0, dtype=wide)
    entry = side.laid_out(entering.number.int(), NOTHING)
    return Past(layout.cut.to(device), layout.stored.to(device), entry.to(device), h.to(wide), c)


class _EnteringStates:
    """The states that steps begin with which do not follow the one before: at the first, and where they are cut.

    Args:
        cut: (S, L).
    """

    def __init__(self, cut: Tensor) -> None:
        self._enters = cut.clone()
        self._enters[0] = True
        self.number = torch.where(self._enters, self._enters.flatten().cumsum(0).view_as(cut) - 1, NOTHING)
        self._any = cast("list[bool]", self._enters.any(1).tolist())
        self._states: list[tuple[Tensor, ...]] = []

    def note(self, t: int, h: Tensor, cell_state: CellState) -> None:
        """Take what enters step t."""
        if self._any[t]:
            self._states.append(tuple(tensor[self._enters[t]] for tensor in (h, *cell_state)))

    @property
    def states(self) -> tuple[Tensor, CellState]:
        """All of them, (E, H) each."""
        h, *cell_state = (torch.cat(parts) for parts in zip(*self._states, strict=True))
        return h, tuple(cell_state)


def _in_range(network: Network, layer: int, query: Tensor, bank: Bank, stored: Tensor) -> bool:
    """Whether the op's score is exact for what was read and may have been stored."""
    w1, w2 = (weight.detach() for weight in network.layers[layer].score_weights[:2])
    held = bank.states.flatten(0, 1)
    key = torch.stack([_largest(held @ w1.t()), _largest(stored @ w1.t())]).max()
    return network.op.in_range(key, _largest(query @ w2.t()))


def _largest(tensor: Tensor) -> Tensor:
    return tensor.abs().amax() if tensor.numel() else tensor.new_zeros(())


def _record_weights(
    scores: Tensor, filled: Tensor, slot: Tensor, rule: Rule
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Slots and weights in the op's order, the slot at the threshold, and what the op's backward pass divides by.

    Args:
        scores, slot: (S, L, K); filled: (S, L).
    """
    top = cast("int", rule.k_top)
    if top == 0 or scores.shape[2] == 0:
        nothing = torch.full_like(filled, NOTHING)
        return slot[..., :top], scores[..., :top], nothing, torch.zeros_like(filled, dtype=scores.dtype)
    padded = torch.arange(scores.shape[2], device=scores.device) >= filled.unsqueeze(2)
    age = slot.masked_fill(padded, FAR).argsort(dim=2, stable=True)  # of equal scores the oldest is the best
    scores, order = scores.masked_fill(padded, float("-inf")).gather(2, age).sort(dim=2, descending=True, stable=True)
    slot = slot.gather(2, age.gather(2, order))
    ranked = rule.weigh_ranked(scores, filled)
    at_edge = ranked.edge.clamp(min=0).unsqueeze(2)
    # In states saved before 0.2, what set the threshold may stand in a row several times: then all scores are its.
    again = (slot == slot.gather(2, at_edge)) & (ranked.edge >= 0).unsqueeze(2)
    if bool(again.sum(2).gt(1).any()):
        ranked = rule.weigh_ranked(torch.where(again, scores.gather(2, at_edge), scores), filled)
    edge = slot.gather(2, at_edge).squeeze(2).masked_fill(ranked.edge < 0, NOTHING)
    return slot.masked_fill(~ranked.recalled, NOTHING)[..., :top], ranked.weights[..., :top], edge, ranked.inverse
