"""The recurrence over time, as the paper's Algorithm 1 says it, for autograd to differentiate.

This is the definition that every faster path must equal: a plain loop whose gradient is the one that autograd
gives for it, with the detaches written here and no others.

Shapes: B batch, T time, I input, M memory slots, K recalled slots, H hidden.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor

from reminding.nn.forward.layer_call import LayerCall, LayerPass
from reminding.nn.forward.reader import Reader
from reminding.nn.parts.cells import CellState, Step
from reminding.nn.parts.generators import GeneratorStates, generator_states
from reminding.nn.parts.rule import Rule
from reminding.nn.parts.tensors import counts_of
from reminding.nn.state.past.segments import EnteringState, EnteringStates, ReplayRecord
from reminding.nn.state.stream import LayerState


class Reads(Protocol):
    """What the recurrence asks of a memory: see `Reader`."""

    def read(self, query: Tensor) -> Tensor | None:
        """The summary for a provisional state (B, H); None where nothing is remembered in any row."""
        ...

    def store(self, h: Tensor, rows: Tensor | bool, ahead: int) -> None:
        """Take the state of the step that is `ahead` of the pass's beginning, and store it in the given rows."""
        ...


Enter = Callable[[int, Tensor, CellState], None]


def unroll(call: LayerCall) -> LayerPass:
    """Run one layer over a stretch of time.   [Ke et al. 2018, Algorithm 1]

    Under autocast only the cells see the lower precision. State, scores and memory stay in the parameters'
    type: sums over thousands of steps and the choice of the best few need it, and cost little beside the cells.
    """
    x, state, rule, starts, kind = call.x, call.state, call.rule, call.starts, call.x.device.type
    cell = in_precision(call.layer.cell_masked_by(call.factor), kind, autocast_type(kind))
    entering: list[EnteringState] = []

    with torch.autocast(kind, enabled=False):
        ranks = None if starts is None else rule.ranks_noted(state.memory.count, call.steps_done, len(x))
        reader = Reader(state.memory, call.layer.scorer, rule, call.steps_done, call.record, ranks)

        def enter(t: int, h: Tensor, cell_state: CellState) -> None:
            if starts is not None and t in starts:
                memory = reader.memory.without_values() if ranks is None else None
                generators = generator_states(x.device) if call.draws else None
                further = tuple(tensor.detach() for tensor in cell_state)
                entering.append(EnteringState(h.detach(), further, memory, generators, call.factor))

        streams = counts_of(call.steps_done)
        outputs, stored, cell_state = loop(x, state.h, state.cell_state, streams, cell, reader, rule, enter)
        states = _that_drew(entering, generator_states(x.device)) if call.draws else entering
    h = outputs[-1] if outputs else state.h
    output = torch.stack(outputs) if outputs else h.new_zeros(0, *h.shape)
    after = LayerState(h, cell_state, replace(reader.memory, keys=None))
    replay = (
        None
        if starts is None
        else ReplayRecord(partial(EnteringStates.of, states), partial(reader.read_steps, h.detach()))
    )
    kept = torch.stack(stored) if outputs and rule.stores_proposal else output
    return LayerPass(output, after, reader.recalled(h) if call.record else None, replay, kept)


def _that_drew(entering: list[EnteringState], after: GeneratorStates) -> list[EnteringState]:
    """The entering states, with the generators' only where numbers were drawn between one and the next."""
    states = [*(state.generators or () for state in entering), after]
    drew = [not all(map(torch.equal, *pair)) for pair in pairwise(states)]
    return [state if used else replace(state, generators=None) for state, used in zip(entering, drew, strict=True)]


def autocast_type(device: str) -> torch.dtype | None:
    """The lower precision of the present autocast region on a kind of device; None outside of one."""
    if device == "meta" or not torch.is_autocast_enabled(device):
        return None
    return torch.get_autocast_dtype(device)


def in_precision(cell: Step, device: str, lower: torch.dtype | None) -> Step:
    """The cell as it runs under autocast of this type, its results brought back to its state's type."""
    if lower is None:
        return cell

    def step(x: Tensor, h: Tensor, cell_state: CellState) -> tuple[Tensor, CellState]:
        with torch.autocast(device, dtype=lower):
            h_hat, further = cell(x, h, cell_state)
        return h_hat.to(h.dtype), tuple(new.to(old.dtype) for new, old in zip(further, cell_state, strict=True))

    return step


def loop(
    x: Tensor,
    h: Tensor,
    cell_state: CellState,
    streams: list[int],
    cell: Step,
    memory: Reads,
    rule: Rule,
    enter: Enter,
    cut_at: list[int] | None = None,
    constant: Tensor | None = None,
) -> tuple[list[Tensor], list[Tensor], CellState]:
    """The recurrence itself.

    Args:
        x: (T, B, I); h, cell_state: the state before it.
        streams: steps each row's stream has done before.
        enter: called before each step with its number, from 0, h, and the cell's further state.
        cut_at: a further stream step of each row before which its state is detached.
        constant: which states go to memory without their past, (T, B) bool.

    Returns:
        h of every step, (B, H) each; of every step what would go to memory, h or h_hat; the cell's further state
        after the last.
    """
    outputs: list[Tensor] = []
    proposals: list[Tensor] = []
    for t, x_t in enumerate(x.unbind(0)):
        enter(t, h, cell_state)
        cuts = _rows_due(rule.cuts, streams, t + 1, cut_at)
        h, cell_state = _detached(h, cuts), tuple(_detached(tensor, cuts) for tensor in cell_state)
        h_hat, cell_state = cell(x_t, h, cell_state)
        summary = memory.read(h_hat)
        h = h_hat if summary is None else h_hat + summary
        stored = h_hat if rule.stores_proposal else h
        stored = stored if rule.backtrack else stored.detach()
        if constant is not None:
            stored = _detached(stored, constant[t])
        memory.store(stored, _rows_due(rule.stores, streams, t + 1), t + 1)
        outputs.append(h)
        if rule.stores_proposal:
            proposals.append(h_hat)
    return outputs, proposals if rule.stores_proposal else outputs, cell_state


def _rows_due(
    due: Callable[[int], bool], streams: list[int], ahead: int, also: list[int] | None = None
) -> Tensor | bool:
    """In which rows something is due `ahead` steps on: all (True), none (False), or a host mask (B,).

    Args:
        also: a further step of each row at which it is due.
    """
    answer = {done: due(done + ahead) for done in set(streams)}
    if also is not None:
        further = [done + ahead == step for done, step in zip(streams, also, strict=True)]
        if any(further):
            return torch.tensor([answer[done] or more for done, more in zip(streams, further, strict=True)])
    if len(set(answer.values())) <= 1:
        return any(answer.values())
    return torch.tensor([answer[done] for done in streams])


def _detached(tensor: Tensor, rows: Tensor | bool) -> Tensor:
    """The tensor without its past in the given rows: no gradient passes there."""
    if isinstance(rows, bool):
        return tensor.detach() if rows else tensor
    return torch.where(rows.to(tensor.device).view(-1, *[1] * (tensor.dim() - 1)), tensor.detach(), tensor)
