"""Streams served call by call on the CPU op: see `reminding.ops.serving`.

Shapes: as there.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from reminding.ops.contract import EVICT, OpRule, joint_bias, scorer_parts
from reminding.ops.cpu_op.able import GROUP, LEAST_IN_TREE, searches
from reminding.ops.cpu_op.packing import pack as packed_products
from reminding.ops.cpu_op.packing import raw
from reminding.ops.scores import SCORES
from reminding.ops.serving import Held, Packed, Served, Slots, StreamState, Trees
from reminding.ops.untraced import own_precision


def pack(recurrent: Sequence[Tensor | None], scorer: Sequence[Tensor], rule: OpRule) -> Packed:
    """Bias, input, hidden, memory and query weights, and the score's vector, in the layout of packing.py.

    Args:
        recurrent, scorer: the layer's tensors as `LayerInput` has them.
    """
    weight_ih, weight_hh, bias_ih, bias_hh = (None if weight is None else weight.detach() for weight in recurrent)
    assert weight_ih is not None and weight_hh is not None, "only the biases may be left out"
    w1, w2, w3 = scorer_parts([weight.detach() for weight in scorer], rule)
    products = packed_products(weight_ih, weight_hh, w1, w2, rule, True)
    return (joint_bias(bias_ih, bias_hh, weight_hh, rule), *products, None if w3 is None else w3.contiguous().clone())


def prepare(value: Tensor, scorer: Sequence[Tensor], rule: OpRule) -> tuple[Tensor, Tensor]:
    """The keys of memories as the loops compare them, (B, M, D), and their bounds, (B, D + 1) or (B, 1).

    Args:
        value: the memories, (B, M, H); scorer: as in `LayerInput`.
    """
    rows, slots = value.shape[:2]
    if rule.k_top == 0:
        return value.new_empty(rows, slots, 0), value.new_zeros(rows, 1)
    with own_precision("cpu"):
        keys = rule.scoring.keys(value, tuple(weight.detach() for weight in scorer)).contiguous()
    tops = keys.new_zeros(rows, 1 if rule.scoring.keyless else keys.shape[2] + 1)
    if rule.scoring.keyless or slots == 0:
        return keys, tops
    tops[:, -1] = keys.abs().amax((1, 2))
    if rule.scoring.clamped:
        raw().exponentiate(keys.view(rows * slots, -1))
    tops[:, :-1] = keys.abs().amax(1)
    return keys, tops


def trees(keys: Tensor, rule: OpRule) -> Trees:
    """Trees as search.h has them. Where any memory may be evicted, others move, and trees would not last."""
    rows, slots, width = keys.shape
    most = min(slots, rule.capacity) if rule.bounded else slots
    lasting = not rule.bounded or rule.evict == EVICT["fifo"]
    nodes, links = tree_room(slots) if lasting and slots >= LEAST_IN_TREE and searches(rule, most) else (0, 0)
    sides = 2 if rule.score == SCORES["dot"].code else 1
    points = keys.new_empty(rows, nodes, (sides + 1) * width if nodes else 0)
    notes = torch.tensor([-1, 1, 0, 0]).expand(rows, 4).contiguous()
    return Trees(points, keys.new_empty(rows, links, dtype=torch.int32), notes)


def tree_room(slots: int) -> tuple[int, int]:
    """The most groups of a tree over so many slots, and the numbers that it keeps (problem.h, `TreeRoom`)."""
    nodes = slots // 5 + GROUP
    return nodes, 5 + nodes * (GROUP + 2) + slots * 5


def serve(
    x: Tensor,
    state: StreamState,
    packed: Packed,
    slots: Slots,
    held: Held,
    c: Tensor,
    rule: OpRule,
    record: bool,
) -> Served:
    """Run T steps on from a state."""
    steps, rows = x.shape[:2]
    output = x.new_empty(steps, rows, state.h.shape[1])
    served = Served(output, None, c, None, None)
    if record:
        weights = x.new_empty(steps, rows, rule.k_top)
        served = Served(output, torch.empty_like(output), c, weights, torch.empty_like(weights, dtype=torch.int64))
    raw().serve.default(x, state, packed, slots, (*held[:2], *held.trees), served, rule)
    return served


def fingerprint(weights: Sequence[Tensor]) -> int:
    """A number that changes with the numbers in the weights, which are contiguous."""
    return raw().fingerprint.default(weights)
