"""What credit reaches of past calls, run forward again with today's weights, all segments side by side.

The op does it where it can, else plain PyTorch.

Shapes: B batch rows, L segments of single rows that credit reaches, S steps of the longest of them, T steps laid out,
R rows that have any, N memories of a row, M those and the states laid out, K ranks, I input, H hidden.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from reminding.nn.credit.bank import Bank, Borders, ReadPlaces
from reminding.nn.credit.network import Network
from reminding.nn.credit.op_reach import ReachedSteps, TimeLayout
from reminding.nn.credit.recorded import RecordedReader
from reminding.nn.forward.reference import loop
from reminding.nn.parts.cells import CellState
from reminding.nn.parts.memory import NOTHING
from reminding.nn.parts.rule import Rule
from reminding.ops.contract import Past, PastReads, PastSteps, scorer_parts


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
        reached: which steps; layout: where they lie in time; steps: they, as the op takes them.
        credit: that of their memories, (R, M, H).
    """

    reached: ReachedSteps
    layout: TimeLayout
    steps: PastSteps
    credit: Tensor | None

    @property
    def output(self) -> Tensor:
        """(S, L, H)."""
        return self.layout.back(self.steps.output)


def replay(network: Network, reached: ReachedSteps, credit: ArrivedCredit, x: Tensor) -> Replayed | None:
    """Run what is reached of a layer forward, all at once; None where its scores leave the op's exact range.

    Args:
        x: (S, L, I).
    """
    layout, bank, rule = TimeLayout(reached), credit.banks[reached.layer], network.rule
    read = torch.where(reached.within.unsqueeze(2), reached.read, NOTHING)
    places = bank.read_places(read, reached.row, reached.steps_done)
    cut = rule.cuts_after(reached.step - 1)
    if credit.cut_at is not None:
        cut = cut | (reached.step == credit.cut_at[reached.row])
    steps = _on_op(network, layout, credit, places, cut, x)
    if steps is None:
        steps = _in_plain_torch(network, layout, credit, places, cut, x)
    if steps is None or isinstance(steps, str):
        return None
    d_memory = None if bank.credit is None else bank.credit[layout.row]
    if d_memory is not None and steps.memory.shape[1] > d_memory.shape[1]:
        behind = steps.memory.shape[1] - d_memory.shape[1]
        d_memory = torch.cat([d_memory, d_memory.new_zeros(len(d_memory), behind, d_memory.shape[2])], 1)
    return Replayed(reached, layout, steps, d_memory)


def _on_op(
    network: Network, layout: TimeLayout, credit: ArrivedCredit, places: ReadPlaces, cut: Tensor, x: Tensor
) -> PastSteps | str | None:
    """`replay` by the op; None: it leaves that to plain PyTorch; a str: it would not be exact."""
    reached, bank = layout.reached, credit.banks[layout.reached.layer]
    own = bool((places.own >= 0).any())
    if network.autocast is not None:
        return None
    h, *further = reached.entering()
    wide = torch.promote_types(h.dtype, torch.float32)
    c = further[0][0] if further[0] else h.new_empty(len(h), 0)
    entry = torch.full((layout.steps, len(layout.row)), NOTHING, dtype=torch.int32)
    entry[layout.time[0], layout.column] = torch.arange(len(layout.column), dtype=torch.int32)
    past = _past_of(network.rule, layout, credit, cut, own, entry, (h.to(wide), c.to(wide)))
    memory, width = bank.states[layout.row], bank.step.shape[1]
    if own:
        memory = torch.cat([memory, memory.new_empty(len(memory), layout.steps, memory.shape[2])], 1)
    slot = _numbered(_slots(places, reached.row, width), bank, layout)
    reads = PastReads(
        x=layout.of(x.to(wide)),
        memory=memory.to(wide),
        credited=bank.credited[layout.row],
        read=layout.of(slot.int(), NOTHING),
        own=width if own else NOTHING,
        entries=torch.stack([layout.time[0], layout.column, reached.count]),
        past=past,
    )
    return network.op.replay_past(reads, weights_of(network, reached.layer, wide), network.op_rule)


def weights_of(network: Network, number: int, wide: torch.dtype) -> list[Tensor | None]:
    """A layer's weights as the op takes them; None for those it does not have."""
    layer = network.layers[number]
    weights = (*layer.weights, *scorer_parts(layer.recall_tensors, network.op_rule))
    return [None if weight is None else weight.detach().to(wide) for weight in weights]


def _past_of(
    rule: Rule,
    layout: TimeLayout,
    credit: ArrivedCredit,
    cut: Tensor,
    own: bool,
    entry: Tensor,
    states: tuple[Tensor, Tensor],
) -> Past:
    """How the steps are laid out, for the op.

    Args:
        own: whether any step has read a state of its own segment; entry: (T, R); states: those it names, (E, H).
    """
    reached, bank = layout.reached, credit.banks[layout.reached.layer]
    cut = cut.clone()
    cut[0] |= ~layout.follows  # what was laid before it did not come before it
    h, c = states
    return Past(
        cut=layout.of(cut).to(h.device),
        stored=layout.of(_stored(rule, reached, layout, bank, own).int(), NOTHING).to(h.device),
        entry=entry.to(h.device),
        h=h,
        c=c,
    )


def _in_plain_torch(
    network: Network, layout: TimeLayout, credit: ArrivedCredit, places: ReadPlaces, cut: Tensor, x: Tensor
) -> PastSteps | None:
    """`replay` in as many steps as the longest segment has."""
    reached, rule = layout.reached, network.rule
    row, bank, layer = reached.row, credit.banks[reached.layer], network.layers[reached.layer]
    reader = RecordedReader(bank.at(places.place), places, layer.scorer, rule)
    entering, states = _EnteringStates(cut), reached.entering()
    cuts = None if credit.cut_at is None else cast("list[int]", credit.cut_at[row].tolist())
    streams = cast("list[int]", reached.steps_done.tolist())
    cell = network.cell(reached.layer, x.device.type)
    outputs, proposals, _ = loop(x, *states, streams, cell, reader, rule, entering.note, cuts)
    output, summary = torch.stack(outputs), torch.stack(reader.summaries)
    stored = torch.stack(proposals) if rule.stores_proposal else output
    clamped = network.op_rule.k_top and network.op_rule.scoring.clamped
    if clamped and not _in_range(network, reached.layer, output - summary, bank, stored):
        return None
    scores = torch.stack(reader.scores) if reader.scores else output.new_zeros(*output.shape[:2], places.own.shape[2])
    slot = _slots(places, row, bank.step.shape[1]).to(x.device)
    slot, weights, edge, inverse = _record_weights(scores, places.filled.to(x.device), slot, rule)
    own = bool((places.own >= 0).any())
    h, cell_state = entering.states
    wide = torch.promote_types(h.dtype, torch.float32)  # what sums over many steps are computed in
    c = cell_state[0].to(wide) if cell_state else h.new_empty(len(h), 0, dtype=wide)
    entry = layout.of(entering.number.int(), NOTHING)
    memory = bank.states[layout.row]
    if own:
        memory = torch.cat([memory, layout.of(stored).transpose(0, 1)], 1)
    return PastSteps(
        x=layout.of(x.to(wide)),
        output=layout.of(output.to(wide)),
        summary=layout.of(summary.to(wide)),
        memory=memory.to(wide).contiguous(),
        slots=layout.of(_numbered(slot, bank, layout).int(), NOTHING),
        edges=layout.of(_numbered(edge.unsqueeze(2), bank, layout).squeeze(2).int(), NOTHING),
        weights=layout.of(weights.to(wide)),
        inverses=layout.of(inverse.to(wide)),
        past=_past_of(rule, layout, credit, cut, own, entry, (h.to(wide), c)),
    )


def _slots(places: ReadPlaces, row: Tensor, width: int) -> Tensor:
    """Read states as slots of their rows, (S, L, K): `width` and more for a state of the recall's own segment."""
    older = torch.where(places.place >= 0, places.place - (row * width).unsqueeze(1), NOTHING)
    return torch.where(places.own >= 0, places.own + width, older)


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
    scores, order = scores.masked_fill(padded, float("-inf")).sort(dim=2, descending=True, stable=True)
    slot = slot.gather(2, order)
    ranked = rule.weigh_ranked(scores, filled)
    at_edge = ranked.edge.clamp(min=0).unsqueeze(2)
    # What set the threshold may stand in a row several times, with scores that differ by rounding: then all are it.
    again = (slot == slot.gather(2, at_edge)) & (ranked.edge >= 0).unsqueeze(2)
    if bool(again.sum(2).gt(1).any()):
        ranked = rule.weigh_ranked(torch.where(again, scores.gather(2, at_edge), scores), filled)
    edge = slot.gather(2, at_edge).squeeze(2).masked_fill(ranked.edge < 0, NOTHING)
    return slot.masked_fill(~ranked.recalled, NOTHING)[..., :top], ranked.weights[..., :top], edge, ranked.inverse


def _numbered(slot: Tensor, bank: Bank, layout: TimeLayout) -> Tensor:
    """Slots (S, L, K) with those of a segment's own states numbered by their time in the layout."""
    width = bank.step.shape[1]
    return torch.where(slot >= width, slot + layout.time[0].view(1, -1, 1).to(slot.device), slot)


def _stored(rule: Rule, reached: ReachedSteps, layout: TimeLayout, bank: Bank, own: bool) -> Tensor:
    """The slots that took each h, (S, L, 2): the bank's, and where segments have read states of their own, that of h
    itself: behind the bank's come all the states laid out.
    """
    stored, width = rule.credited(reached.step), bank.step.shape[1]
    place = bank.places(torch.where(stored, reached.step, NOTHING), reached.row)
    constant = bank.constant(place)
    if constant is not None:
        place = place.masked_fill(constant, NOTHING)
    kept = torch.where(place >= 0, place - reached.row * width, NOTHING)
    again = torch.full_like(kept, NOTHING)
    if own:
        passes = stored if constant is None else stored & ~constant
        again = torch.where(passes, layout.time + width, NOTHING)
    return torch.stack([kept, again], 2)
