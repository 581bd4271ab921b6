"""Truncated BPTT on PyTorch's own recurrent kernels: what is left of the layer when it recalls nothing.

With k_top = 0 a segment is a plain stretch of `nn.LSTM`, `nn.GRU` or `nn.RNN`, and those kernels run it whole.
The result equals `engine.unroll`'s; only the time differs.

Shapes: B batch, T time, I input, H hidden.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

from reminding.nn.parts.bound import BoundLayer
from reminding.nn.parts.rule import Rule
from reminding.nn.state.segments import Entry, Trace
from reminding.nn.state.stream import LayerState, Recall


def serves(rule: Rule, x: Tensor, taken: Tensor) -> bool:
    """Whether these kernels can run a layer of built-in cells: it recalls nothing, forgets as PyTorch does, and
    all rows are in one phase.
    """
    if rule.k_top != 0 or rule.forget_scale != 1 or x.numel() == 0 or torch.is_autocast_enabled(x.device.type):
        return False
    return rule.k_trunc is None or bool((taken == taken[0]).all())


def unroll(
    x: Tensor,
    state: LayerState,
    taken: Tensor,
    layer: BoundLayer,
    rule: Rule,
    record: bool,
    starts: list[int] | None,
) -> tuple[Tensor, LayerState, Recall | None, Trace | None]:
    """Run one layer with a built-in cell over a stretch of time; arguments and results as `engine.unroll`'s."""
    begun = int(taken[0])
    cuts = [t for t in range(len(x)) if rule.cuts(begun + t + 1)]
    borders = sorted({0, *cuts, *(starts or ()), len(x)})
    h, extra = state.h.unsqueeze(0), tuple(tensor.unsqueeze(0) for tensor in state.extra)
    outputs: list[Tensor] = []
    entries: list[Entry] = []
    for start, stop in pairwise(borders):
        if starts is not None and start in starts:
            entries.append(
                Entry(h.detach().squeeze(0), tuple(tensor.detach().squeeze(0) for tensor in extra), None, None)
            )
        if start in cuts:
            h, extra = h.detach(), tuple(tensor.detach() for tensor in extra)
        y, h, *further = _run(x[start:stop], h, extra, layer)
        extra = tuple(further)
        outputs.append(y)
    output = torch.cat(outputs)
    after = LayerState(h.squeeze(0), tuple(tensor.squeeze(0) for tensor in extra), state.memory)
    nothing = output.new_zeros(*output.shape[:2], 0)
    recall = Recall(torch.zeros_like(output), nothing.long(), nothing) if record else None
    trace = None if starts is None else Trace(lambda: entries, lambda: nothing.long())
    return output, after, recall, trace


def _run(x: Tensor, h: Tensor, extra: tuple[Tensor, ...], layer: BoundLayer) -> tuple[Tensor, ...]:
    """One segment on PyTorch's kernel: output (T, B, H) and final state, (1, B, H) each."""
    given = [weight for weight in layer.weights if weight is not None]
    has_biases = len(given) == 4
    if layer.cell_name == "lstm":
        return torch.lstm(x, (h, *extra), given, has_biases, 1, 0.0, False, False, False)
    kernel = torch.gru if layer.cell_name == "gru" else torch.rnn_tanh
    return kernel(x, h, given, has_biases, 1, 0.0, False, False, False)
