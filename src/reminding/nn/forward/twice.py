"""A call of an op in plain PyTorch, for second derivatives of the op.

Shapes: B batch, T time, M memory slots, H hidden.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor
from torch.nn import functional as F

from reminding.nn.forward.layer_call import LayerCall
from reminding.nn.forward.reference import unroll
from reminding.nn.parts.bound import bind
from reminding.nn.parts.memory import Memory
from reminding.nn.parts.rule import Rule
from reminding.nn.parts.scorers import RecallWeights
from reminding.nn.state.merging import join_layer_states
from reminding.nn.state.stream import LayerState
from reminding.ops.contract import CELLS, EVICT, NORMALIZERS, SEMANTICS, STORED, LayerInput, OpRule, number_of
from reminding.ops.scores import SCORES
from reminding.ops.twice import PlainResults


def compute(given: LayerInput, rule: OpRule) -> PlainResults:
    """What an op's `layer` computes, by the reference."""
    settings = _rule_of(rule)
    cell, score = _name(CELLS, rule.cell), next(name for name, known in SCORES.items() if known.code == rule.score)
    parts = list(given.scorer if settings.remembers else ())
    gate = parts.pop() if settings.summary_gate else None
    null_score = parts.pop() if settings.null_score else None
    learned = RecallWeights(null_score, gate)
    layer = bind(cell, score, given.recurrent, tuple(parts), learned, settings.forget_scale)
    state = LayerState(given.h0, () if given.c0 is None else (given.c0,), _memory(given, settings))
    call = LayerCall(layer, settings, given.x, state, given.step0, record=True, starts=None, factor=given.factor)
    output, summary, after = _run(call) if given.lengths is None else _run_by_length(call, given.lengths)
    return PlainResults(output, summary, after.cell_state[0] if after.cell_state else None, after.memory.value)


def _run(call: LayerCall) -> tuple[Tensor, Tensor, LayerState]:
    """The output and the summary, (T, B, H), and the state after a call."""
    ran = unroll(call)
    assert ran.recall is not None, "it was asked for"
    return ran.output, ran.recall.summary, ran.after


def _run_by_length(call: LayerCall, lengths: Tensor) -> tuple[Tensor, Tensor, LayerState]:
    """`_run` of rows of different lengths, see `LayerInput`: each time some have ended, the others go on."""
    results: list[tuple[Tensor, Tensor]] = []
    ended: list[LayerState] = []
    state, every = call.state, len(lengths)
    ends = cast("list[int]", lengths.unique().tolist())  # pyright: ignore[reportUnknownMemberType]
    for start, stop in pairwise([0, *ends]):
        rows = int((lengths > start).sum())
        ended.insert(0, state.rows(slice(rows, None)))
        part = replace(
            call,
            x=call.x[start:stop, :rows],
            state=state.rows(slice(rows)),
            steps_done=call.steps_done[:rows] + start,
            factor=None if call.factor is None else call.factor[:rows],
        )
        output, summary, state = _run(part)
        results.append((F.pad(output, (0, 0, 0, every - rows)), F.pad(summary, (0, 0, 0, every - rows))))
    output, summary = (
        F.pad(torch.cat(each), (0, 0, 0, 0, 0, len(call.x) - int(lengths[0]))) for each in zip(*results, strict=True)
    )
    return output, summary, join_layer_states([state, *ended])


def _memory(given: LayerInput, settings: Rule) -> Memory:
    """The memories given, at steps that are never asked for."""
    slots = given.memory0.shape[:2]
    weight = given.received0 if settings.capacity is not None else given.memory0.new_zeros(slots)
    assert weight is not None and weight.shape == slots, "with a capacity, what the memories have received is given"
    step = torch.zeros(slots, dtype=torch.int64, device=given.memory0.device)
    return Memory(given.memory0, step, weight, given.count0.cpu())


def _rule_of(rule: OpRule) -> Rule:
    """The rule in names."""
    return Rule(
        k_top=rule.k_top,
        k_att=rule.k_att,
        k_trunc=rule.k_trunc or None,
        semantics=_name(SEMANTICS, rule.semantics),
        normalizer=_name(NORMALIZERS, rule.normalizer),
        recall_scale=number_of(rule.recall_scale),
        forget_scale=number_of(rule.forget_scale),
        capacity=rule.capacity or None,
        evict=_name(EVICT, rule.evict),
        backtrack=bool(rule.backtrack),
        horizon=None,
        null_score=bool(rule.null_score) and rule.k_top > 0,
        summary_gate=bool(rule.summary_gate) and rule.k_top > 0,
        stored=_name(STORED, rule.stored),
    )


def _name(table: dict[str, int], code: int) -> str:
    return next(name for name, known in table.items() if known == code)
