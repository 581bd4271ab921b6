"""Credit to past calls on a compiled op: all that it reaches is run again at once, laid out as one pass backwards.

Recorded reads are the only dependency between segments of past calls. So a search over integers finds which of them
credit reaches; those are run forward side by side, and their steps, row by row, make one pass for the op's backward
loop. Of several layers the lowest is run forward first, since it makes the input of the next, and the highest is
differentiated first: the gradient of its input is credit of the outputs below. `Sweep` is the definition of the same
gradient. Counts (rows, steps, segments) are on the host, as in a state.

Shapes: B batch rows, P segments of single rows, L those that credit reaches, S steps of the longest of them, T steps
laid out, R rows that have any, N memories of a row, K ranks, I input, H hidden.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor

from reminding.nn.credit.bank import Borders
from reminding.nn.credit.encoded import Encode
from reminding.nn.credit.network import Network, totals
from reminding.nn.credit.op_reach import PastInputs, ReachedSteps, SegmentRows, TimeLayout
from reminding.nn.credit.op_replay import ArrivedCredit, Replayed, replay, weights_of
from reminding.nn.state.past.segments import Segment
from reminding.ops.contract import PastGradients, scorer_of


def credit_past(
    network: Network, segments: Sequence[Segment], credit: ArrivedCredit, encode: Encode | None
) -> list[Tensor | None] | None:
    """The gradients of the network's tensors, as `Sweep` finds them; None where the op would not be exact.

    Args:
        segments: of past calls, each row's oldest first; encode: None: no encoder.
    """
    if not segments:
        return [None for _ in network.tensors]
    rows = SegmentRows(segments)
    number, place = credit.borders.among(rows.row, rows.steps_done + rows.steps)
    reached = _reached(network, rows, segments, credit, place)
    if reached[0] is None:
        return [None for _ in network.tensors]
    inputs = PastInputs(reached[0], segments, encode, network)
    x, replayed = inputs.x, list[Replayed]()
    for layer, steps in enumerate(reached):
        if steps is None:
            break
        below = reached[layer - 1]
        if layer > 0 and below is not None:
            made = replayed[-1].output[: len(steps.within), below.of(steps)] * steps.dropout_factor(layer, network)
            x = made.to(x.dtype)
        ran = replay(network, steps, credit, x)
        if ran is None:
            return None
        replayed.append(ran)
    return _differentiate(network, reached, replayed, credit.borders, (number, place), inputs)


def _reached(
    network: Network, rows: SegmentRows, segments: Sequence[Segment], credit: ArrivedCredit, ends: Tensor
) -> list[ReachedSteps | None]:
    """What credit reaches of each layer; None where it reaches nothing of it, nor of those above it.

    Args:
        ends: the entries of `rows` that end in a state that has credit.
    """
    count = torch.zeros_like(rows.steps)
    count[ends] = rows.steps[ends]
    found: list[ReachedSteps | None] = []
    for layer in range(len(network.layers) - 1, -1, -1):
        read = [cast("Tensor", segment.layers[layer].read).flatten(0, 1) for segment in segments]
        steps_read = torch.cat(read).cpu()
        count = rows.reached_by(network.op, credit.banks[layer], steps_read, count, network.op_rule)
        some = bool(count.any())
        found.insert(0, ReachedSteps(rows, segments, count, layer, steps_read) if some else None)
    return found


def _differentiate(
    network: Network,
    reached: Sequence[ReachedSteps | None],
    replayed: Sequence[Replayed],
    borders: Borders,
    ends: tuple[Tensor, Tensor],
    inputs: PastInputs,
) -> list[Tensor | None]:
    """The gradients of the network's tensors, from the highest layer to the lowest.

    Args:
        ends: which states between calls have credit, and which entries of the segments' rows end in them.
    """
    d_all: list[Tensor | None] = [None] * len(network.modules.tensors)
    d_above: Tensor | None = None
    above: ReachedSteps | None = None
    for layer in range(len(reached) - 1, -1, -1):
        steps, size = reached[layer], len(network.layers[layer].tensors)
        if steps is None:
            d_all = [*[None] * size, *d_all]
            continue
        d_output = steps.new_steps(replayed[layer].steps.output)
        if d_above is not None and above is not None:
            d_output[: len(d_above), steps.of(above)] += d_above * above.dropout_factor(layer + 1, network)
        need_x = layer > 0 or inputs.encoded
        d_above, d_layer = backward(network, replayed[layer], borders, (d_output, *ends), need_x)
        d_all, above = [*d_layer, *d_all], steps
    return totals(d_all, inputs.d_tensors(d_above if inputs.encoded else None, len(d_all)))


def backward(
    network: Network,
    replayed: Replayed,
    borders: Borders,
    arrived: tuple[Tensor, Tensor, Tensor],
    need_x: bool,
) -> tuple[Tensor | None, list[Tensor | None]]:
    """Send the credit of a layer's memories, states and outputs back through what it reaches.

    Args:
        arrived: of the outputs, (S, L, H); which states between calls have credit, and which entries end in them.

    Returns:
        the gradient of the input (S, L, I), if it is needed, and of each of the layer's tensors.
    """
    layout, steps, layer = replayed.layout, replayed.steps, network.layers[replayed.reached.layer]
    d_output, d_c = _arriving(replayed.reached, layout, borders, *arrived)
    wide = steps.output.dtype
    given = weights_of(network, replayed.reached.layer, wide)
    arriving = PastGradients(*(None if d is None else d.to(wide) for d in (d_output, d_c, replayed.credit)))
    with torch.autocast(steps.x.device.type, enabled=False):
        d_x, *grads = network.op.differentiate_past(arriving, given, steps, network.op_rule, need_x)
    grads = (*grads[:4], *scorer_of(grads[4:], steps.output.shape[2], network.op_rule))
    tensors = (*layer.weights, *layer.recall_tensors)
    found = [d.to(w.dtype) for w, d in zip(tensors, grads, strict=True) if w is not None and d is not None]
    return None if d_x is None else layout.back(d_x), list(found)


def _arriving(
    reached: ReachedSteps, layout: TimeLayout, borders: Borders, d_output: Tensor, number: Tensor, place: Tensor
) -> tuple[Tensor | None, Tensor | None]:
    """The credit of outputs, (T, R, H), that of states between calls added to it, and of c after each step.

    Args:
        d_output: (S, L, H); number, place: see `backward`.
    """
    entry = torch.searchsorted(reached.index, place)
    at = ((reached.count[entry] - 1).to(d_output.device), entry.to(d_output.device))
    d_h, *further = (d[number.to(d.device)] for d in borders.d_state[reached.layer])
    d_output.index_put_(at, d_h.to(d_output), accumulate=True)
    d_c = None
    if further and bool((further[0] != 0).any()):
        d_c = torch.zeros_like(d_output).index_put_(at, further[0].to(d_output), accumulate=True)
    some = bool((d_output != 0).any())
    return layout.of(d_output) if some else None, None if d_c is None else layout.of(d_c)
