"""Credit to past calls on a compiled op: all that it reaches is run again at once, laid out as one pass backwards.

Segments of past calls hang together through their recorded reads alone. So which of them credit reaches is found with
integers, those are run forward side by side, and their steps, row by row, make one pass for the op's backward loop:
the C++ op's, or the Triton kernel's. What is counted (rows, steps, segments) is on the host, as in a state.

Shapes: B batch rows, P segments of single rows, L those that credit reaches, S steps of the longest of them, T steps
laid out, R rows that have any, N memories of a row, K ranks, I input, H hidden.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from reminding.nn.credit.bank import Bank
from reminding.nn.credit.op_reach import Inputs, Reached, Rows
from reminding.nn.credit.sweep import Network, Recorded, total
from reminding.nn.forward.compiled import OPS, op_rule, out_of_range
from reminding.nn.forward.reference import loop
from reminding.nn.parts.bound import BoundLayer
from reminding.nn.parts.cells import Extra
from reminding.nn.parts.memory import NOTHING
from reminding.nn.parts.rule import Rule
from reminding.nn.state.segments import Segment, Source
from reminding.ops import cpu_op
from reminding.ops.sparsify import RELEASE_EPSILON, SOFTMAX


@dataclass(frozen=True)
class OpLayer:
    """A layer that an op can compute, "cpu" or "cuda", and the network of this one layer as a replay runs it."""

    backend: str
    layer: BoundLayer
    normalizer: str
    network: Network

    @property
    def rule(self) -> cpu_op.Rule:
        """Its settings as the op takes them."""
        return op_rule(self.layer, self.normalizer, self.network.rule)


@dataclass(frozen=True)
class Again:
    """Reached segments run again with today's weights.

    Attributes:
        output, summary: (S, L, H).
        cut: before which steps (h, c) is cut, (S, L).
        state: the states in which segments are entered, and those before cuts within them, (E, H) each; entry:
            which of them a step begins with, -1 where it is the state after the step before, (S, L).
        slot: which of its row's memories each step read, N and more for a state of its own segment: N + its step in
            it, -1 where none, (S, L, K); weights: (S, L, K); edge, inverse: (S, L), see the op.
        has_own: whether any step read, or had its threshold from, a state of its own segment.
    """

    output: Tensor
    summary: Tensor
    cut: Tensor
    state: tuple[Tensor, Extra]
    entry: Tensor
    slot: Tensor
    weights: Tensor
    edge: Tensor
    inverse: Tensor
    has_own: bool


def credit_past(
    op: OpLayer,
    segments: Sequence[Segment],
    bank: Bank,
    arrived: Tensor,
    d_state: tuple[Tensor, Extra],
    cut_at: Tensor | None,
    encode: Callable[[Source], Tensor] | None,
) -> list[Tensor | None] | None:
    """The gradients of the network's parameters, as `Sweep` finds them; None where the op would not be exact.

    Args:
        segments: of past calls, each row's oldest first; encode: makes x (T, B, I) of a source; None: no encoder.
        bank: what was remembered, with the credit that has come to it.
        arrived: the stream step of the state, (B,); d_state: its credit, (B, H) each.
        cut_at: a stream step of each row before which its state is cut besides, (B,), or None.
    """
    parameters = op.network.parameters
    rows = Rows(segments)
    read = torch.cat([cast("Tensor", segment.layers[0].read).flatten(0, 1) for segment in segments]).cpu()
    carried = torch.stack([(d != 0).any(1) for d in (d_state[0], *d_state[1])]).any(0).cpu()
    until = rows.reached_by(bank, read, carried, arrived, op.rule)
    if not bool(until.any()):
        return [None for _ in parameters]
    reached = Reached(rows, segments, until)
    inputs = Inputs.of(reached, segments, encode)
    again = run_again(op, reached, bank, reached.steps_of(read), inputs.x, cut_at)
    if again is None:
        return None
    found = backward(op, reached, again, bank, inputs.x, d_state, arrived, need_x=bool(inputs.made))
    d_encoder = inputs.d_parameters(found.x, parameters) if found.x is not None else [None] * len(parameters)
    own = {id(parameter): gradient for parameter, gradient in found.parameters}
    return [total(own.get(id(parameter)), d) for parameter, d in zip(parameters, d_encoder, strict=True)]


def run_again(
    op: OpLayer, reached: Reached, bank: Bank, read: Tensor, x: Tensor, cut_at: Tensor | None
) -> Again | None:
    """Run what is reached forward, all at once; None where its scores leave the range in which the op is exact.

    Args:
        read: (S, L, K); x: (S, L, I); cut_at: a further stream step of each batch row before which its state is cut.
    """
    network, row = op.network, reached.row
    rule, scorer = network.rule, network.scorers[0]
    read = torch.where(reached.within.unsqueeze(2), read, NOTHING)
    own = read - reached.taken.unsqueeze(1) - 1
    own = torch.where(own >= 0, own, NOTHING)
    place = bank.places(torch.where(own >= 0, NOTHING, read), row)
    filled = (read >= 0).sum(2)
    recorded = Recorded(bank.at(place), own.to(x.device), filled.to(x.device), scorer, rule)
    cut = rule.cuts_after(reached.step - 1)
    if cut_at is not None:
        cut = cut | (reached.step == cut_at[row])
    entry, entries = _Entries(cut), reached.entering()
    cuts = None if cut_at is None else cast("list[int]", cut_at[row].tolist())
    streams = cast("list[int]", reached.taken.tolist())
    outputs, _ = loop(x, *entries, streams, network.cells[0], recorded, rule, entry.note, cuts)
    output, summary = torch.stack(outputs), torch.stack(recorded.summaries)
    clamps = op.backend == "cpu" and op.layer.score_name == "additive"
    if clamps and op.rule.k_top and _too_large(op.layer, output - summary, bank, output):
        return None
    width = bank.step.shape[1]
    slot = torch.where(own >= 0, own + width, torch.where(place >= 0, place - (row * width).unsqueeze(1), NOTHING))
    scores = torch.stack(recorded.scores) if recorded.scores else output.new_zeros(read.shape)
    weighed = _weighed(scores, filled.to(x.device), slot.to(x.device), rule)
    return Again(output, summary, cut, entry.states, entry.number, *weighed, has_own=bool((own >= 0).any()))


class _Entries:
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

    def note(self, t: int, h: Tensor, extra: Extra) -> None:
        """Take what enters step t."""
        if self._any[t]:
            self._states.append(tuple(tensor[self._enters[t]] for tensor in (h, *extra)))

    @property
    def states(self) -> tuple[Tensor, Extra]:
        """All of them, (E, H) each."""
        h, *extra = (torch.cat(parts) for parts in zip(*self._states, strict=True))
        return h, tuple(extra)


def _too_large(layer: BoundLayer, query: Tensor, bank: Bank, output: Tensor) -> bool:
    w1, w2 = layer.score_weights[0].detach(), layer.score_weights[1].detach()
    held = bank.states.flatten(0, 1)
    key = torch.stack([_largest(held @ w1.t()), _largest(output @ w1.t())]).max()
    return out_of_range(key, _largest(query @ w2.t()))


def _largest(tensor: Tensor) -> Tensor:
    return tensor.abs().amax() if tensor.numel() else tensor.new_zeros(())


def _weighed(scores: Tensor, filled: Tensor, slot: Tensor, rule: Rule) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Slots and weights in the op's order, the slot at the threshold, and what the op's backward pass divides by.

    Args:
        scores, slot: (S, L, K); filled: (S, L).
    """
    top = cast("int", rule.k_top)
    padded = torch.arange(scores.shape[2], device=scores.device) >= filled.unsqueeze(2)
    scores, order = scores.masked_fill(padded, float("-inf")).sort(dim=2, descending=True, stable=True)
    slot, read = slot.gather(2, order), scores.isfinite()
    kind = rule.normalizer
    if kind in SOFTMAX.values() or top == 0:
        weights = rule.weigh(scores.flatten(0, 1), filled.flatten()).view_as(scores) if scores.numel() else scores
        none = torch.full_like(filled, NOTHING)
        return slot.masked_fill(~read, NOTHING)[..., :top], weights[..., :top], none, (filled > 0).to(scores.dtype)
    release = rule.semantics == "release"
    epsilon = RELEASE_EPSILON if release else 0.0
    last = ((filled - 1).clamp(min=0) if not release else (filled - 1).clamp(0, top - 1)).unsqueeze(2)
    limit, at_edge = scores.gather(2, last) + epsilon, slot.gather(2, last)
    # What set the threshold may stand in a row several times, with scores that differ by rounding.
    excess = torch.where(read & (slot != at_edge), scores - limit, 0.0).relu()
    sums = excess.sum(2)
    inverse = torch.where(sums > 0, 1 / (sums + epsilon), 0.0)
    kept, weights = excess > 0, excess * inverse.unsqueeze(2)
    edge = at_edge.squeeze(2).masked_fill(sums <= 0, NOTHING)
    if release:
        raw = (filled > 0) & (filled <= top)
        inverse, edge = torch.where(raw, -1.0, inverse), edge.masked_fill(raw, NOTHING)
        kept = torch.where(raw.unsqueeze(2), read, kept)
        weights = torch.where(raw.unsqueeze(2), scores.masked_fill(~read, 0.0), weights)
    return slot.masked_fill(~kept, NOTHING)[..., :top], rule.recall_scale * weights[..., :top], edge, inverse


class Laid:
    """Reached steps laid out in time: each row's one behind the other, so that all end together.

    Attributes:
        steps: T; row: the batch rows that have any, (R,); place: where each step lies in (T, R), flat, (n,).
        column: which of these rows each entry belongs to, (L,).
        time: where each step lies in time, (S, L).
        first, follows: whether it is its row's first, and whether it goes on where the one before it ended, (L,).
    """

    def __init__(self, reached: Reached) -> None:
        self.row = cast("Tensor", reached.row.unique())
        self.column = torch.searchsorted(self.row, reached.row)
        behind = reached.until.cumsum(0)
        total = torch.zeros(len(self.row), dtype=torch.int64).scatter_add(0, self.column, reached.until)
        end = total.cumsum(0)[self.column]
        self.steps = int(total.max())
        self._within = reached.within
        ahead = torch.arange(len(reached.within)).unsqueeze(1)
        self.time = self.steps - (end - behind + reached.until) + ahead
        self.place = (self.time * len(self.row) + self.column)[reached.within]
        self.first = torch.ones_like(self.column, dtype=torch.bool)
        self.first[1:] = self.column[1:] != self.column[:-1]
        self.follows = ~self.first
        self.follows[1:] &= (reached.taken + reached.until)[:-1] == reached.taken[1:]

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


@dataclass(frozen=True)
class Found:
    """The gradients of a backward pass: of the input (S, L, I), if it was needed, and by parameter."""

    x: Tensor | None
    parameters: list[tuple[Tensor, Tensor]]


def backward(
    op: OpLayer,
    reached: Reached,
    again: Again,
    bank: Bank,
    x: Tensor,
    d_state: tuple[Tensor, Extra],
    arrived: Tensor,
    need_x: bool,
) -> Found:
    """Send the credit of memories and state back through what it reaches.

    Args:
        bank: with the credit that has come to memories.
        d_state: that of the state, (B, H) each; arrived: the stream step of that state, (B,).
    """
    laid = Laid(reached)
    rule = op.rule
    memory, d_memory, slot, stored = _memories(op.network.rule, reached, again, bank, laid)
    d_output, d_c = _arriving(reached, laid, d_state, arrived)
    h, extra = again.state
    wide = torch.promote_types(h.dtype, torch.float32)  # what sums over many steps are computed in
    cut = again.cut.clone()
    cut[0] |= ~laid.follows  # what was laid before it did not come before it
    past = cpu_op.Past(
        cut=laid.of(cut).to(h.device),
        stored=laid.of(stored.int(), NOTHING).to(h.device),
        entry=laid.of(again.entry.int(), NOTHING).to(h.device),
        h=h.to(wide),
        c=extra[0].to(wide) if extra else h.new_empty(len(h), 0, dtype=wide),
    )
    parameters = (*op.layer.weights, *cpu_op.scorer_parts(op.layer.score_weights, rule))
    edge = _numbered(again.edge.unsqueeze(2), bank, laid).squeeze(2)
    passed = cpu_op.Passed(
        x=laid.of(x.to(wide)),
        output=laid.of(again.output.to(wide)),
        summary=laid.of(again.summary.to(wide)),
        memory=memory.to(wide),
        slots=laid.of(slot.int(), NOTHING),
        edges=laid.of(edge.int(), NOTHING),
        weights=laid.of(again.weights.to(wide)),
        inverses=laid.of(again.inverse.to(wide)),
        past=past,
    )
    detached = [None if p is None else p.detach().to(wide) for p in parameters]
    arriving = tuple(None if d is None else d.to(wide) for d in (d_output, d_c, d_memory))
    with torch.autocast(x.device.type, enabled=False):
        d_x, *grads = OPS[op.backend].differentiate_past(arriving, detached, passed, rule, need_x)
    by_parameter = [(p, d.to(p.dtype)) for p, d in zip(parameters, grads, strict=True) if p is not None]
    return Found(laid.back(d_x).to(x.dtype) if need_x else None, by_parameter)


def _numbered(slot: Tensor, bank: Bank, laid: Laid) -> Tensor:
    """Slots (S, L, K) with those of a segment's own states numbered by their time in the layout."""
    width = bank.step.shape[1]
    return torch.where(slot >= width, slot + laid.time[0].view(1, -1, 1).to(slot.device), slot)


def _memories(
    rule: Rule, reached: Reached, again: Again, bank: Bank, laid: Laid
) -> tuple[Tensor, Tensor | None, Tensor, Tensor]:
    """The memories of the rows laid out, (R, M, H), and their credit; the slots read, and those that took each h.

    Behind the bank's, where a segment has read states of its own, come all the states laid out.
    """
    width = bank.step.shape[1]
    slot = _numbered(again.slot, bank, laid)
    memory = bank.states[laid.row]
    d_memory = None if bank.credit is None else bank.credit[laid.row]
    stored = (reached.step % rule.k_att == 0) & (rule.k_top != 0 and rule.backtrack)
    place = bank.places(torch.where(stored, reached.step, NOTHING), reached.row)
    constant = bank.constant(place)
    if constant is not None:
        place = place.masked_fill(constant, NOTHING)
    kept = torch.where(place >= 0, place - reached.row * width, NOTHING)
    own = torch.full_like(kept, NOTHING)
    if again.has_own:
        mine = laid.of(again.output).transpose(0, 1)  # (R, T, H)
        memory = torch.cat([memory, mine], 1)
        d_memory = None if d_memory is None else torch.cat([d_memory, torch.zeros_like(mine)], 1)
        passes = stored if constant is None else stored & ~constant
        own = torch.where(passes, laid.time + width, NOTHING)
    return memory.contiguous(), d_memory, slot, torch.stack([kept, own], 2)


def _arriving(
    reached: Reached, laid: Laid, d_state: tuple[Tensor, Extra], arrived: Tensor
) -> tuple[Tensor | None, Tensor | None]:
    """The credit of the state as that of the last outputs (T, R, H) and of the last c, where a row ends in it."""
    last = torch.ones_like(laid.first)
    last[:-1] = laid.first[1:]
    ends = (reached.taken + reached.until)[last] == arrived[laid.row]
    d_h, d_extra = d_state
    parts = [torch.where(ends.to(d.device).unsqueeze(1), d[laid.row], 0) for d in (d_h, *d_extra)]
    d_output = d_h.new_zeros(laid.steps, *parts[0].shape) if bool((parts[0] != 0).any()) else None
    if d_output is not None:
        d_output[-1] = parts[0]
    return d_output, parts[1] if d_extra else None
