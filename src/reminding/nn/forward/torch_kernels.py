"""Truncated BPTT on PyTorch's own recurrent kernels: what is left of the layer when it recalls nothing.

With k_top = 0 a segment is a plain stretch of `nn.LSTM`, `nn.GRU` or `nn.RNN`, and those kernels run it whole.
The result equals `reference.unroll`'s; only the time differs.

Shapes: B batch, T time, I input, H hidden.
"""

from __future__ import annotations

from functools import partial
from itertools import pairwise

import torch
from torch import Tensor

from reminding.nn.forward.layer_call import LayerCall, LayerPass
from reminding.nn.parts.bound import BoundLayer
from reminding.nn.state.past.segments import EnteringState, EnteringStates, ReplayRecord
from reminding.nn.state.stream import LayerState, Recall


def serves(call: LayerCall) -> bool:
    """Whether these kernels can run a layer: a built-in cell that recalls nothing, forgets as PyTorch's does and has
    no recurrent dropout, all rows in one phase.
    """
    rule, x, steps_done = call.rule, call.x, call.steps_done
    if (
        call.lengths is not None
        or call.layer.cell_name is None
        or rule.remembers
        or rule.forget_scale != 1
        or call.factor is not None
    ):
        return False
    if x.numel() == 0 or torch.is_autocast_enabled(x.device.type):
        return False
    return rule.k_trunc is None or bool((steps_done == steps_done[0]).all())


def unroll(call: LayerCall) -> LayerPass:
    """Run one layer with a built-in cell over a stretch of time, as `reference.unroll` does."""
    x, state, starts = call.x, call.state, call.starts
    begun = int(call.steps_done[0])
    cuts = [t for t in range(len(x)) if call.rule.cuts(begun + t + 1)]
    borders = sorted({0, *cuts, *(starts or ()), len(x)})
    h, cell_state = state.h.unsqueeze(0), tuple(tensor.unsqueeze(0) for tensor in state.cell_state)
    outputs: list[Tensor] = []
    entering: list[EnteringState] = []
    for start, stop in pairwise(borders):
        if starts is not None and start in starts:
            further = tuple(tensor.detach().squeeze(0) for tensor in cell_state)
            entering.append(EnteringState(h.detach().squeeze(0), further, None, None))
        if start in cuts:
            h, cell_state = h.detach(), tuple(tensor.detach() for tensor in cell_state)
        y, h, *left = _run(x[start:stop], h, cell_state, call.layer)
        cell_state = tuple(left)
        outputs.append(y)
    output = torch.cat(outputs)
    after = LayerState(h.squeeze(0), tuple(tensor.squeeze(0) for tensor in cell_state), state.memory)
    nothing = output.new_zeros(*output.shape[:2], 0)
    recall = Recall(torch.zeros_like(output), nothing.long(), nothing) if call.record else None
    replay = None if starts is None else ReplayRecord(partial(EnteringStates.of, entering), nothing.long)
    return LayerPass(output, after, recall, replay, output)


def _run(x: Tensor, h: Tensor, cell_state: tuple[Tensor, ...], layer: BoundLayer) -> tuple[Tensor, ...]:
    """One segment on PyTorch's kernel: output (T, B, H) and final state, (1, B, H) each."""
    given = [weight for weight in layer.weights if weight is not None]
    has_biases, keeps_graph = len(given) == 4, x.is_cuda and torch.is_grad_enabled()  # which cuDNN must be told
    if layer.cell_name == "lstm":
        return torch.lstm(x, (h, *cell_state), given, has_biases, 1, 0.0, keeps_graph, False, False)
    kernel = torch.gru if layer.cell_name == "gru" else torch.rnn_tanh
    return kernel(x, h, given, has_biases, 1, 0.0, keeps_graph, False, False)
