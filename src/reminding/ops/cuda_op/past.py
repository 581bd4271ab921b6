"""Credit back through steps of past calls, laid out as one pass: what the C++ op's loop does, by the backward kernel.

Shapes: as in `Past` and `PastSteps`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from reminding.ops.contract import OpRule, PastGradients, PastReads, PastSteps, joint_bias, split_bias
from reminding.ops.cpu_op import lay_out_past, list_past, reach_past
from reminding.ops.cuda_op.backward import remake_gates, run_backward
from reminding.ops.cuda_op.packing import Call, Record
from reminding.ops.cuda_op.triton.tiling import launch_cells
from reminding.ops.past_layout import PastLayout, PastRows

__all__ = ["differentiate_past", "gather_past", "lay_out_past", "list_past", "reach_past", "replay_past"]


def gather_past(parts: Sequence[Tensor], rows: PastRows, layout: PastLayout) -> Tensor:
    """As `cpu_op.gather_past`, on the device of the tensors."""
    sizes = torch.tensor([0, *(len(part) for part in parts[:-1])]).cumsum(0)
    count = torch.where(rows.part >= 0, rows.steps, 0)
    segment = torch.repeat_interleave(count)  # (n,), of each step that is there
    ahead = torch.arange(len(segment)) - (count.cumsum(0) - count)[segment]
    source = (sizes[rows.part.clamp(min=0)] + rows.base)[segment] + ahead * rows.stride[segment]
    place = layout.first[segment] + ahead * layout.shape[1]
    flat = torch.cat(list(parts))
    out = flat.new_zeros(layout.source.numel(), flat.shape[1])
    out.index_copy_(0, place.to(flat.device), flat.index_select(0, source.to(flat.device)))
    return out.view(*layout.shape, flat.shape[1])


def replay_past(reads: PastReads, parameters: Sequence[Tensor | None], rule: OpRule) -> PastSteps | None:
    """Left to plain PyTorch, which runs all segments side by side in as many steps as the longest has."""
    return None


def differentiate_past(
    d: PastGradients, parameters: Sequence[Tensor | None], steps: PastSteps, rule: OpRule, need_x: bool
) -> list[Tensor | None]:
    """As `cpu_op.differentiate_past`, arguments and results; everything is float32 or float64."""
    weight_ih, weight_hh, bias_ih, bias_hh, *scorer = (None if p is None else p.contiguous() for p in parameters)
    assert weight_ih is not None and weight_hh is not None, "only the biases may be left out"
    x, output, summary, memory, slots, edges, weights, inverses, past, *_ = steps
    nothing = output.new_zeros(output.shape[1], output.shape[2])
    none = torch.zeros(len(nothing), dtype=torch.int64, device=x.device)
    bias = joint_bias(bias_ih, bias_hh, weight_hh, rule)
    parts = [x, nothing, nothing, memory[:, :0], weight_ih, weight_hh, bias, *scorer, none, none]
    call = Call.of(x, nothing, memory[:, :0], scorer[0], rule)._replace(M=memory.shape[1])
    keys = memory @ scorer[0].t() if scorer[0] is not None else memory[..., :0]
    edges = torch.stack([edges, torch.full_like(edges, -1)], dim=2)  # what was behind the k_top best has no gradient
    record = Record(output, summary, output[..., :0], memory, keys, slots, weights, edges, inverses)
    gates, queries = remake_gates(parts, record, call, past)
    if rule.has_c:
        cells = torch.empty_like(output)
        launch_cells(gates, cells, past.c, past.entry)
        record = record._replace(cells=cells)
    found = run_backward((d.output, None, d.c, d.memory), parts, record, gates, queries, call, need_x, past)
    d_bias = found[6]
    assert d_bias is not None, "it is summed whether there are biases or not"
    shares = zip((bias_ih, bias_hh), split_bias(d_bias, rule), strict=True)
    return [found[0], *found[4:6], *(None if own is None else share for own, share in shares), *found[7:]]
