"""Credit to past calls on a compiled op: all that it reaches is run again at once, laid out as one pass backwards.

Recorded reads are the only dependency between segments of past calls. So a search over integers finds which of them
credit reaches; those are run forward side by side, and their steps, row by row, make one pass for the op's backward
loop. `Sweep` is the definition of the same gradient. Counts (rows, steps, segments) are on the host, as in a state.

Shapes: B batch rows, P segments of single rows, L those that credit reaches, S steps of the longest of them, T steps
laid out, R rows that have any, N memories of a row, K ranks, I input, H hidden.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from reminding.nn.credit.bank import Bank, ReadPlaces
from reminding.nn.credit.encoded import Encode
from reminding.nn.credit.gradients import totals
from reminding.nn.credit.network import Network
from reminding.nn.credit.op_reach import PastInputs, ReachedSteps, SegmentRows
from reminding.nn.credit.recorded import RecordedReader
from reminding.nn.forward.reference import loop
from reminding.nn.parts.cells import CellState
from reminding.nn.parts.memory import NOTHING
from reminding.nn.parts.rule import Rule
from reminding.nn.state.segments import Segment
from reminding.ops.contract import Past, PastGradients, PastSteps, scorer_of, scorer_parts


@dataclass(frozen=True)
class ArrivedCredit:
    """The credit that a later call sends into past ones.

    Attributes:
        bank: what was remembered, with the credit that has come to it.
        d_state: the gradient of h and of the cell's further state, (B, H) each, at stream steps `step`, (B,).
        cut_at: a stream step of each row before which its state is cut besides, (B,), or None.
    """

    bank: Bank
    d_state: tuple[Tensor, ...]
    step: Tensor
    cut_at: Tensor | None


@dataclass(frozen=True)
class ReplayedSteps:
    """Reached segments run again with today's weights.

    Attributes:
        output, summary: (S, L, H); stored: what goes to memory at the steps that store, (S, L, H).
        cut: before which steps (h, c) is cut, (S, L).
        state: the states in which segments are entered, and those before cuts within them, (E, H) each; entry:
            which of them a step begins with, -1 where it is the state after the step before, (S, L).
        slot: which of its row's memories each step read, N and more for a state of its own segment: N + its step in
            it, -1 where none, (S, L, K); weights: (S, L, K); edge, inverse: (S, L), see the op.
        has_own: whether any step read, or had its threshold from, a state of its own segment.
    """

    output: Tensor
    summary: Tensor
    stored: Tensor
    cut: Tensor
    state: tuple[Tensor, CellState]
    entry: Tensor
    slot: Tensor
    weights: Tensor
    edge: Tensor
    inverse: Tensor
    has_own: bool


def credit_past(
    network: Network, segments: Sequence[Segment], credit: ArrivedCredit, encode: Encode | None
) -> list[Tensor | None] | None:
    """The gradients of the network's tensors, as `Sweep` finds them; None where the op would not be exact.

    Args:
        segments: of past calls, each row's oldest first; encode: None: no encoder.
    """
    rows, count = SegmentRows(segments), len(network.tensors)
    read = torch.cat([cast("Tensor", segment.layers[0].read).flatten(0, 1) for segment in segments]).cpu()
    carried = torch.stack([(d != 0).any(1) for d in credit.d_state]).any(0).cpu()
    reaches = rows.reached_by(network.op, credit.bank, read, carried, credit.step, network.op_rule)
    if not bool(reaches.any()):
        return [None for _ in network.tensors]
    reached = ReachedSteps(rows, segments, reaches)
    inputs = PastInputs(reached, segments, encode, network)
    replayed = replay_forward(network, reached, credit, reached.steps_of(read), inputs.x)
    if replayed is None:
        return None
    d_x, d_layer = backward(network, reached, replayed, credit, inputs)
    others: list[Tensor | None] = [None] * (count - len(d_layer))
    return totals([*d_layer, *others], inputs.d_tensors(d_x, count))


def replay_forward(
    network: Network, reached: ReachedSteps, credit: ArrivedCredit, read: Tensor, x: Tensor
) -> ReplayedSteps | None:
    """Run what is reached forward, all at once; None where its scores leave the range in which the op is exact.

    Args:
        read: (S, L, K); x: (S, L, I).
    """
    row, bank, rule, layer = reached.row, credit.bank, network.rule, network.layers[0]
    places = bank.read_places(torch.where(reached.within.unsqueeze(2), read, NOTHING), row, reached.steps_done)
    reader = RecordedReader(bank.at(places.place), places, layer.scorer, rule)
    cut = rule.cuts_after(reached.step - 1)
    if credit.cut_at is not None:
        cut = cut | (reached.step == credit.cut_at[row])
    entering, states = _EnteringStates(cut), reached.entering()
    cuts = None if credit.cut_at is None else cast("list[int]", credit.cut_at[row].tolist())
    streams = cast("list[int]", reached.steps_done.tolist())
    outputs, kept, _ = loop(x, *states, streams, network.cell(0, x.device.type), reader, rule, entering.note, cuts)
    output, summary = torch.stack(outputs), torch.stack(reader.summaries)
    stored = torch.stack(kept) if rule.stores_proposal else output
    if (
        network.op_rule.k_top
        and network.op_rule.scoring.clamped
        and not _in_range(network, output - summary, bank, stored)
    ):
        return None
    scores = torch.stack(reader.scores) if reader.scores else output.new_zeros(read.shape)
    slot = _slots(places, row, bank.step.shape[1]).to(x.device)
    weighed = _record_weights(scores, places.filled.to(x.device), slot, rule)
    has_own = bool((places.own >= 0).any())
    return ReplayedSteps(output, summary, stored, cut, entering.states, entering.number, *weighed, has_own=has_own)


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


def _in_range(network: Network, query: Tensor, bank: Bank, stored: Tensor) -> bool:
    """Whether the op's score is exact for what was read and may have been stored."""
    w1, w2 = network.layers[0].score_weights[0].detach(), network.layers[0].score_weights[1].detach()
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


class TimeLayout:
    """Reached steps laid out in time: each row's one behind the other, so that all end together.

    Attributes:
        steps: T; row: the batch rows that have any, (R,); place: where each step lies in (T, R), flat, (n,).
        column: which of these rows each entry belongs to, (L,).
        time: where each step lies in time, (S, L).
        first, follows: whether it is its row's first, and whether it goes on where the one before it ended, (L,).
    """

    def __init__(self, reached: ReachedSteps) -> None:
        self.row = cast("Tensor", reached.row.unique())
        self.column = torch.searchsorted(self.row, reached.row)
        behind = reached.count.cumsum(0)
        total = torch.zeros(len(self.row), dtype=torch.int64).scatter_add(0, self.column, reached.count)
        end = total.cumsum(0)[self.column]
        self.steps = int(total.max())
        self._within = reached.within
        ahead = torch.arange(len(reached.within)).unsqueeze(1)
        self.time = self.steps - (end - behind + reached.count) + ahead
        self.place = (self.time * len(self.row) + self.column)[reached.within]
        self.first = torch.ones_like(self.column, dtype=torch.bool)
        self.first[1:] = self.column[1:] != self.column[:-1]
        self.follows = ~self.first
        self.follows[1:] &= (reached.steps_done + reached.count)[:-1] == reached.steps_done[1:]

    def of(self, tensor: Tensor, nothing: float = 0) -> Tensor:
        """(S, L, ...) to (T, R, ...)."""
        shape = (self.steps, len(self.row), *tensor.shape[2:])
        flat = tensor.new_full((shape[0] * shape[1], *shape[2:]), nothing)
        flat[self.place] = tensor[self._within]
        return flat.view(shape)

    def back(self, tensor: Tensor) -> Tensor:
        """(T, R, ...) to (S, L, ...), 0 where not reached."""
        result = tensor.new_zeros(*self._within.shape, *tensor.shape[2:])
        result[self._within] = tensor.flatten(0, 1)[self.place]
        return result


def backward(
    network: Network, reached: ReachedSteps, replayed: ReplayedSteps, credit: ArrivedCredit, inputs: PastInputs
) -> tuple[Tensor | None, list[Tensor | None]]:
    """Send the credit of memories and state back through what it reaches.

    Returns:
        the gradient of the input (S, L, I), if an encoder made it, and of each of the layer's tensors.
    """
    layout, rule, x = TimeLayout(reached), network.op_rule, inputs.x
    steps, d_memory = _past_steps(network.rule, reached, replayed, credit.bank, layout, x)
    d_output, d_c = _arriving(reached, layout, credit)
    wide = steps.output.dtype
    layer = network.layers[0]
    weights = (*layer.weights, *scorer_parts(layer.recall_tensors, rule))
    given = [None if weight is None else weight.detach().to(wide) for weight in weights]
    arriving = PastGradients(*(None if d is None else d.to(wide) for d in (d_output, d_c, d_memory)))
    with torch.autocast(x.device.type, enabled=False):
        d_x, *grads = network.op.differentiate_past(arriving, given, steps, rule, inputs.encoded)
    grads = (*grads[:4], *scorer_of(grads[4:], replayed.output.shape[2], rule))
    tensors = (*layer.weights, *layer.recall_tensors)
    found = [d.to(w.dtype) for w, d in zip(tensors, grads, strict=True) if w is not None and d is not None]
    return None if d_x is None else layout.back(d_x).to(x.dtype), list(found)


def _past_steps(
    rule: Rule, reached: ReachedSteps, replayed: ReplayedSteps, bank: Bank, layout: TimeLayout, x: Tensor
) -> tuple[PastSteps, Tensor | None]:
    """The steps that were run again as the op takes them, and the credit of their memories, (R, M, H)."""
    memory, d_memory, slot, stored = _memories(rule, reached, replayed, bank, layout)
    h, cell_state = replayed.state
    wide = torch.promote_types(h.dtype, torch.float32)  # what sums over many steps are computed in
    cut = replayed.cut.clone()
    cut[0] |= ~layout.follows  # what was laid before it did not come before it
    past = Past(
        cut=layout.of(cut).to(h.device),
        stored=layout.of(stored.int(), NOTHING).to(h.device),
        entry=layout.of(replayed.entry.int(), NOTHING).to(h.device),
        h=h.to(wide),
        c=cell_state[0].to(wide) if cell_state else h.new_empty(len(h), 0, dtype=wide),
    )
    edge = _numbered(replayed.edge.unsqueeze(2), bank, layout).squeeze(2)
    steps = PastSteps(
        x=layout.of(x.to(wide)),
        output=layout.of(replayed.output.to(wide)),
        summary=layout.of(replayed.summary.to(wide)),
        memory=memory.to(wide),
        slots=layout.of(slot.int(), NOTHING),
        edges=layout.of(edge.int(), NOTHING),
        weights=layout.of(replayed.weights.to(wide)),
        inverses=layout.of(replayed.inverse.to(wide)),
        past=past,
    )
    return steps, d_memory


def _numbered(slot: Tensor, bank: Bank, layout: TimeLayout) -> Tensor:
    """Slots (S, L, K) with those of a segment's own states numbered by their time in the layout."""
    width = bank.step.shape[1]
    return torch.where(slot >= width, slot + layout.time[0].view(1, -1, 1).to(slot.device), slot)


def _memories(
    rule: Rule, reached: ReachedSteps, replayed: ReplayedSteps, bank: Bank, layout: TimeLayout
) -> tuple[Tensor, Tensor | None, Tensor, Tensor]:
    """The memories of the rows laid out, (R, M, H), and their credit; the slots read, and those that took each h.

    Behind the bank's, where a segment has read states of its own, come all the states laid out.
    """
    width = bank.step.shape[1]
    slot = _numbered(replayed.slot, bank, layout)
    memory = bank.states[layout.row]
    d_memory = None if bank.credit is None else bank.credit[layout.row]
    stored = rule.credited(reached.step)
    place = bank.places(torch.where(stored, reached.step, NOTHING), reached.row)
    constant = bank.constant(place)
    if constant is not None:
        place = place.masked_fill(constant, NOTHING)
    kept = torch.where(place >= 0, place - reached.row * width, NOTHING)
    own = torch.full_like(kept, NOTHING)
    if replayed.has_own:
        mine = layout.of(replayed.stored).transpose(0, 1)  # (R, T, H)
        memory = torch.cat([memory, mine], 1)
        d_memory = None if d_memory is None else torch.cat([d_memory, torch.zeros_like(mine)], 1)
        passes = stored if constant is None else stored & ~constant
        own = torch.where(passes, layout.time + width, NOTHING)
    return memory.contiguous(), d_memory, slot, torch.stack([kept, own], 2)


def _arriving(
    reached: ReachedSteps, layout: TimeLayout, credit: ArrivedCredit
) -> tuple[Tensor | None, Tensor | None]:
    """The credit of the state as that of the last outputs (T, R, H) and of the last c, where a row ends in it."""
    last = torch.ones_like(layout.first)
    last[:-1] = layout.first[1:]
    ends = (reached.steps_done + reached.count)[last] == credit.step[layout.row]
    parts = [torch.where(ends.to(d.device).unsqueeze(1), d[layout.row], 0) for d in credit.d_state]
    d_output = parts[0].new_zeros(layout.steps, *parts[0].shape) if bool((parts[0] != 0).any()) else None
    if d_output is not None:
        d_output[-1] = parts[0]
    return d_output, parts[1] if len(parts) > 1 else None
