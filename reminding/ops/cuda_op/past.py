"""Credit back through steps of past calls, laid out as one pass: what the C++ op's loop does, by the backward kernel.

Shapes: T time, B rows, I input.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from reminding.ops.cpu_op import Passed, Past, Rule
from reminding.ops.cpu_op.problem import joint_bias
from reminding.ops.cuda_op.call import Call
from reminding.ops.cuda_op.recurrence import Record, again, run_backward
from reminding.ops.cuda_op.tiling import launch_cells


def differentiate_past(
    arriving: tuple[Tensor | None, Tensor | None, Tensor | None],
    x: Tensor,
    parameters: Sequence[Tensor | None],
    passed: Passed,
    rule: Rule,
    need_x: bool,
    past: Past,
) -> list[Tensor | None]:
    """As `cpu_op.differentiate_past`, arguments and results; everything is float32 or float64."""
    weight_ih, weight_hh, bias_ih, bias_hh, *scorer = (None if p is None else p.contiguous() for p in parameters)
    assert weight_ih is not None and weight_hh is not None, "only the biases may be left out"
    nothing = passed.output.new_zeros(passed.output.shape[1], passed.output.shape[2])
    none = torch.zeros(len(nothing), dtype=torch.int64, device=x.device)
    held = [bias.requires_grad_() for bias in (bias_ih, bias_hh) if bias is not None]
    with torch.enable_grad():
        bias = joint_bias(bias_ih, bias_hh, weight_hh, rule)
    parts = [x, nothing, nothing, passed.memory[:, :0], weight_ih, weight_hh, bias.detach(), *scorer, none, none]
    call = Call.of(x, nothing, passed.memory[:, :0], scorer[0], rule)._replace(M=passed.memory.shape[1])
    keys = passed.memory @ scorer[0].t() if scorer[0] is not None else passed.memory[..., :0]
    output, summary, memory, slots, edges, weights, inverses = passed
    record = Record(output, summary, output[..., :0], memory, keys, slots, weights, edges, inverses)
    gates, queries = again(parts, record, call, past)
    if rule.has_c:
        cells = torch.empty_like(output)
        launch_cells(gates, cells, past.c, past.entry)
        record = record._replace(cells=cells)
    d_output, d_c, d_memory = arriving
    found = run_backward((d_output, None, d_c, d_memory), parts, record, gates, queries, call, need_x, past)
    d_biases = iter(torch.autograd.grad(bias, held, found[6]) if held else ())
    given = (None if bias is None else next(d_biases) for bias in (bias_ih, bias_hh))
    return [found[0], *found[4:6], *given, *found[7:]]
