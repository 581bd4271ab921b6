"""Bounds on the scores of many memories of a row, which let a step pass over most of them: see triton/search.py.

They are made anew at each call, from keys that are made anew too, in one pass over them.

Shapes: B batch, D score width, M memory slots.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from reminding.ops.contract import SEARCH
from reminding.ops.cuda_op.packing import Call
from reminding.ops.scores import SCORES


class Trees(NamedTuple):
    """A tree for each row, its nodes spans first, then blocks; everything is empty where memories are scanned."""

    bounds: Tensor  # (B, nodes, D), (B, nodes, 2 D) for a dot product
    left: Tensor  # (B, nodes), scratch
    members: Tensor  # (B, nodes + M) int32, memories alive in each node and slot; empty unless they are listed
    patience: Tensor  # (B, 2) int32, of "auto"

    @staticmethod
    def of(keys: Tensor, count0: Tensor, w3: Tensor | None, call: Call) -> Trees:
        """The trees of the given memories, with room for those of the call.

        Args:
            keys: of the given memories (B, M0, D), the first count0[b] of row b filled.
            w3: the additive score's output weights, (D,).
        """
        none = keys.new_empty(0)
        if not call.searches:
            return Trees(none, none, none.int(), none.int())
        filled = torch.arange(keys.shape[1], device=keys.device) < count0.unsqueeze(1)  # (B, M0)
        return Trees(
            bounding_keys(keys, filled, w3, call),
            keys.new_full((call.B, call.spans + call.blocks), -torch.inf),
            members(filled, call) if call.lists else none.int(),
            keys.new_zeros(call.B, 2 if call.rule.search == SEARCH["auto"] else 0, dtype=torch.int32),
        )


def bounding_keys(keys: Tensor, filled: Tensor, w3: Tensor | None, call: Call) -> Tensor:
    """The bounding keys of all nodes; minus infinity where a node has no member yet.

    Args:
        filled: which of the given memories there are, (B, M0) bool.
    """
    if call.rule.score == SCORES["dot"].code:
        turned = torch.cat([keys, -keys], dim=2)
    else:
        assert w3 is not None, "the other keyed score has output weights"
        turned = torch.where(w3 > 0, keys, -keys)
    turned = turned.masked_fill(~filled.unsqueeze(2), -torch.inf)
    bounds = keys.new_full((call.B, call.spans + call.blocks, turned.shape[2]), -torch.inf)
    blocks = _groups(turned, call.fan, -torch.inf).amax(2)
    spans = _groups(blocks, call.fan, -torch.inf).amax(2)
    bounds[:, : spans.shape[1]] = spans
    bounds[:, call.spans : call.spans + blocks.shape[1]] = blocks
    return bounds


def members(filled: Tensor, call: Call) -> Tensor:
    """How many memories are alive in each node and slot, (B, nodes + M) int32."""
    slots = F.pad(filled.int(), (0, call.M - filled.shape[1])).unsqueeze(2)  # (B, M, 1)
    blocks = _groups(slots, call.fan, 0).sum(2, dtype=torch.int32)
    spans = _groups(blocks, call.fan, 0).sum(2, dtype=torch.int32)
    return torch.cat([spans, blocks, slots], dim=1).squeeze(2)


def _groups(values: Tensor, fan: int, missing: float) -> Tensor:
    """Values (B, n, width) in groups of `fan` neighbours, (B, groups, fan, width)."""
    B, n, width = values.shape
    return F.pad(values, (0, 0, 0, -n % fan), value=missing).view(B, -(-n // fan), fan, width)
