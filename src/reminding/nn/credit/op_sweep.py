"""Credit to past calls on a compiled op: all that it reaches is run again at once, laid out as one pass backwards.

Recorded reads are the only dependency between segments of past calls. So a search over integers finds which of them
credit reaches; those are run forward side by side, and their steps, row by row, make one pass for the op's backward
loop. Of several layers the lowest is run forward first, since it makes the input of the next, and the highest is
differentiated first: the gradient of its input is credit of the outputs below. `Sweep` is the definition of the same
gradient. Counts (rows, steps, segments) are on the host, as in a state.

Shapes: B batch rows, P segments of single rows, L those that credit reaches, T steps laid out, R rows that have any,
N memories of a row, K ranks, I input, H hidden.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from reminding.nn.credit.bank import Borders
from reminding.nn.credit.encoded import Encode
from reminding.nn.credit.network import Network, totals
from reminding.nn.credit.op_reach import PastInputs, ReachedSteps, SegmentRows
from reminding.nn.credit.op_replay import ArrivedCredit, Replayed, replay, weights_of
from reminding.nn.state.past.runs import SegmentRun
from reminding.ops.contract import PastGradients, scorer_of


def credit_past(
    network: Network, runs: Sequence[SegmentRun], credit: ArrivedCredit, encode: Encode | None
) -> list[Tensor | None] | None:
    """The gradients of the network's tensors, as `Sweep` finds them; None where the op would not be exact.

    Args:
        runs: of past calls, each row's oldest first; encode: None: no encoder.
    """
    if not runs:
        return [None for _ in network.tensors]
    rows = SegmentRows(network.op, runs)
    number, place = credit.borders.among(rows.row, rows.steps_done + rows.steps)
    reached = _reached(network, rows, runs, credit, place)
    if reached[0] is None:
        return [None for _ in network.tensors]
    inputs = PastInputs(reached[0], encode, network)
    x, replayed = inputs.x, list[Replayed]()
    for layer, steps in enumerate(reached):
        if steps is None:
            break
        if replayed:
            made = steps.taken_from(replayed[-1].reached, replayed[-1].steps.output)
            x = _times(made, steps.dropout_factor(layer, network)).to(x.dtype)
        ran = replay(network, steps, credit, x)
        if ran is None:
            return None
        replayed.append(ran)
    return _differentiate(network, reached, replayed, credit.borders, (number, place), inputs)


def _times(tensor: Tensor, factor: Tensor | None) -> Tensor:
    return tensor if factor is None else tensor * factor


def _reached(
    network: Network, rows: SegmentRows, runs: Sequence[SegmentRun], credit: ArrivedCredit, ends: Tensor
) -> list[ReachedSteps | None]:
    """What credit reaches of each layer; None where it reaches nothing of it, nor of those above it.

    Args:
        ends: the entries of `rows` that end in a state that has credit.
    """
    op, rule = network.op, network.op_rule
    count = torch.zeros_like(rows.steps)
    count[ends] = rows.steps[ends]
    found: list[ReachedSteps | None] = []
    for layer in range(len(network.layers) - 1, -1, -1):
        given, memories = rows.of_layer(runs, layer), credit.banks[layer].memories
        count = op.reach_past(given, memories, count, rule)
        if not bool(count.any()):
            found.insert(0, None)
            continue
        layout = op.lay_out_past(given, memories, count, credit.cut_at, rule)
        found.insert(0, ReachedSteps(op, layer, runs, rows, given, layout))
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
        d_output = None
        if d_above is not None and above is not None:
            d_output = steps.taken_from(above, _times(d_above, above.dropout_factor(layer + 1, network)))
        need_x = layer > 0 or inputs.encoded
        d_above, d_layer = backward(network, replayed[layer], borders, (d_output, *ends), need_x)
        d_all, above = [*d_layer, *d_all], steps
    return totals(d_all, inputs.d_tensors(d_above if inputs.encoded else None, len(d_all)))


def backward(
    network: Network,
    replayed: Replayed,
    borders: Borders,
    arrived: tuple[Tensor | None, Tensor, Tensor],
    need_x: bool,
) -> tuple[Tensor | None, list[Tensor | None]]:
    """Send the credit of a layer's memories, states and outputs back through what it reaches.

    Args:
        arrived: of the outputs, (T, R, H); which states between calls have credit, and which entries end in them.

    Returns:
        the gradient of the input (T, R, I), if it is needed, and of each of the layer's tensors.
    """
    steps, layer = replayed.steps, network.layers[replayed.reached.layer]
    wide = steps.output.dtype
    d_output, d_c = _arriving(replayed.reached, borders, *arrived, steps.output)
    given = weights_of(network, replayed.reached.layer, wide)
    arriving = PastGradients(d_output, d_c, None if replayed.credit is None else replayed.credit.to(wide))
    with torch.autocast(steps.x.device.type, enabled=False):
        d_x, *grads = network.op.differentiate_past(arriving, given, steps, network.op_rule, need_x)
    grads = (*grads[:4], *scorer_of(grads[4:], steps.output.shape[2], network.op_rule))
    tensors = (*layer.weights, *layer.recall_tensors)
    found = [d.to(w.dtype) for w, d in zip(tensors, grads, strict=True) if w is not None and d is not None]
    return d_x, list(found)


def _arriving(
    reached: ReachedSteps, borders: Borders, d_output: Tensor | None, number: Tensor, place: Tensor, like: Tensor
) -> tuple[Tensor | None, Tensor | None]:
    """The credit of outputs, (T, R, H), that of states between calls added to it, and of c after each step.

    Args:
        d_output: (T, R, H), changed in place; number, place: see `backward`; like: the outputs.
    """
    d_output = None if d_output is None else d_output.to(like)
    if len(number) == 0:
        return d_output, None
    at = reached.layout.last[torch.searchsorted(reached.index, place)].to(like.device)
    d_h, *further = (d[number.to(d.device)].to(like) for d in borders.d_state[reached.layer])
    d_c = _added(None, at, further[0], like) if further else None
    return _added(d_output, at, d_h, like), d_c


def _added(total: Tensor | None, at: Tensor, credit: Tensor, like: Tensor) -> Tensor | None:
    """Credit (n, H) added at flat places (n,) to a total (T, R, H), in place; None where there is none."""
    if not bool((credit != 0).any()):
        return total
    total = torch.zeros_like(like) if total is None else total
    total.flatten(0, 1).index_add_(0, at, credit)
    return total
