"""Where autograd meets replay: passes whose graph is never kept.

Shapes: B batch, T time, I input, M memory slots, H hidden.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor

from reminding.nn.credit.bank import Bank, Borders
from reminding.nn.credit.network import Network, gradients
from reminding.nn.credit.sweep import Sweep
from reminding.nn.parts.generators import GeneratorStates, drawing_as, generator_states
from reminding.nn.parts.memory import FAR, NOTHING
from reminding.nn.parts.outside import Watch
from reminding.nn.parts.tensors import all_finite, counting_on_host
from reminding.nn.state.past.owed import LayerCredit, StateCredit
from reminding.nn.state.past.reachable import Evicted
from reminding.nn.state.past.runs import SegmentRun
from reminding.nn.state.stream import LayerState, Recall, SABState
from reminding.ops import untraced
from reminding.ops.batched import one_by_one
from reminding.ops.twice import alias

Gradients = tuple[Tensor | None, ...]


@dataclass(frozen=True)
class Pass:
    """All layers run over a stretch of time.

    Attributes:
        output: (T, B, H); after: the state after it; recall: if asked for.
        runs: gives its segments, oldest first; None where there will be no replay.
        stored: gives per layer the states stored in memory, for layers that may evict some of them again within the
            pass, or whose credit into past calls is deferred.
    """

    output: Tensor
    after: SABState
    recall: Recall | None
    runs: Callable[[], tuple[SegmentRun, ...]] | None = None
    stored: Callable[[], tuple[Evicted, ...]] | None = None


def flat(state: SABState) -> list[Tensor]:
    """What may carry a gradient: per layer h, the further state, and the values in memory."""
    return [tensor for layer in state.layers for tensor in (layer.h, *layer.cell_state, layer.memory.value)]


def filled(state: SABState, tensors: Sequence[Tensor]) -> SABState:
    """The state with the tensors of `flat` exchanged."""
    given = iter(tensors)
    layers = tuple(
        LayerState(
            next(given), tuple(next(given) for _ in layer.cell_state), replace(layer.memory, value=next(given))
        )
        for layer in state.layers
    )
    return replace(state, layers=layers)


RunPass = Callable[[Tensor, SABState, Network], Pass]
"""Computes a pass, with segments, of an input (T, B, I) from a state with a network."""


@dataclass
class _ReplayCall:
    """A pass that was run without a graph: on what, what came out, and how it is run again."""

    before: SABState
    ran: Pass
    again: _RunAgain


def replayed(run: RunPass, network: Network, x: Tensor, before: SABState, watch: Watch | None) -> Pass:
    """Run a pass without keeping its graph; when credit reaches its segments they are run again.

    Args:
        watch: the current one, which finds the tensors from outside that the user's modules compute with; None where
            there are no such modules.
    """
    modes, generators = network.modules.modes, generator_states(x.device)
    network = replace(network, rule=network.rule.noting_victims())
    with torch.no_grad():
        ran = run(x, before, network)
    if watch is not None and watch.found:
        network = network.with_outside(watch.found)
    call = _ReplayCall(before, ran, _RunAgain(run, network, modes, generators))
    results = cast("tuple[Tensor, ...]", _Replayed.apply(call, x, *flat(before), *network.tensors))
    output, summary, *after = results
    recall = None if ran.recall is None else replace(ran.recall, summary=summary)
    return replace(ran, output=output, after=filled(ran.after, after), recall=recall)


class _Replayed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, call: _ReplayCall, x: Tensor, *tensors: Tensor) -> tuple[Tensor | None, ...]:
        ran, size = call.ran, len(flat(call.before))
        ctx.again = call.again
        # What the backward pass needs holds on to no graph.
        ctx.ran = replace(ran, output=ran.output.detach(), after=ran.after.without_graph(), recall=None)
        ctx.before, ctx.noted = (
            filled(call.before, [tensor.detach() for tensor in tensors[:size]]),
            ran.recall is not None,
        )
        kept = [layer.memory.value for layer in ctx.ran.after.layers]  # which the sweep reads
        ctx.save_for_backward(x, *tensors, *kept)  # so that a change in between is noticed
        ctx.set_materialize_grads(False)
        summary = None if ran.recall is None else ran.recall.summary.detach()
        return ran.output.detach(), summary, *(tensor.detach() for tensor in flat(ran.after))

    @staticmethod
    @untraced.backward
    def backward(ctx: Any, *d_results: Tensor | None) -> Gradients:  # pyright: ignore[reportIncompatibleMethodOverride]
        saved = cast("tuple[Tensor, ...]", ctx.saved_tensors)  # a checkpoint lets them be asked for once
        saved = saved[: len(saved) - len(ctx.ran.after.layers)]
        if torch.is_grad_enabled():
            arriving = d_results if ctx.noted else (d_results[0], *d_results[2:])
            return None, *ctx.again.differentiate(ctx.before, saved, arriving)
        wanted = cast("tuple[bool, ...]", ctx.needs_input_grad)
        with counting_on_host():
            return tuple(
                one_by_one(lambda d: with_zeros(_Replayed.sweep(ctx, saved[0], d), saved, wanted), d_results)
            )

    @staticmethod
    def sweep(ctx: Any, x: Tensor, d_results: Sequence[Tensor | None]) -> Gradients:
        """The gradient of all that the pass was given."""
        ran, before = cast("Pass", ctx.ran), cast("SABState", ctx.before)
        network = cast("_RunAgain", ctx.again).network
        d_output, d_summary, *d_after = d_results
        assert ran.runs is not None
        segments = [segment for run in ran.runs() for segment in run.segments]
        banks = _banks_of_pass(before, ran)
        every = torch.arange(len(ran.after.step))
        credit = credit_of(ran.after, every, d_after, network.rule.backtrack)
        add_to(banks, [credit])
        sweep = Sweep(network, segments, banks, Borders([credit]), len(every))
        d_x = torch.zeros_like(x) if ctx.needs_input_grad[1] else None
        stop = len(x)
        for segment in reversed(segments):
            part = slice(stop - segment.steps, stop)
            given = (None if gradient is None else gradient[part] for gradient in (d_output, d_summary))
            d_part = sweep.visit(segment, x[part], *given, need_x=d_x is not None)
            if d_x is not None and d_part is not None:
                d_x[part] = d_part
            stop -= segment.steps
        return None, d_x, *_d_state(sweep, before), *sweep.d_tensors


@dataclass(frozen=True)
class _RunAgain:
    """A pass that can be run once more as it was, with a graph: for second derivatives."""

    run: RunPass
    network: Network
    modes: Tensor
    generators: GeneratorStates

    def differentiate(
        self, before: SABState, given: Sequence[Tensor], d_results: Sequence[Tensor | None]
    ) -> list[Tensor | None]:
        """The gradient of all that the pass was given, with a graph of its own.

        Args:
            given: x, the tensors of the state before, and those of the network.
            d_results: the gradients of the output, of the summary if it was noted, and of the state after.
        """
        with torch.enable_grad():
            given = [alias(tensor) for tensor in given]  # the state may have been computed with the same weights
        x, size = given[0], 1 + len(flat(before))
        tensors, leaves = given[1:size], given[size:]
        with drawing_as(self.generators, x.device):
            network = replace(self.network, rule=self.network.rule.with_noted_victims())
            ran = network.run(lambda network: self.run(x, filled(before, tensors), network), leaves, self.modes)
        summary = [] if ran.recall is None else [ran.recall.summary]
        results = [ran.output, *summary, *flat(ran.after)]
        reached = [(result, d) for result, d in zip(results, d_results, strict=True) if d is not None]
        if not reached:
            return [None] * len(given)
        outputs, d_outputs = zip(*reached, strict=True)
        return gradients(outputs, given, d_outputs, create_graph=True)


def _banks_of_pass(before: SABState, ran: Pass) -> list[Bank]:
    """Per layer every state that was remembered at some step of a pass."""
    if ran.stored is None:
        return [_bank(layer) for layer in ran.after.layers]
    return [_bank(layer, stored) for layer, stored in zip(before.layers, ran.stored(), strict=True)]


def _bank(layer: LayerState, *further: Evicted) -> Bank:
    value = [layer.memory.value.detach(), *(part.value for part in further)]
    step = [layer.memory.ascending_steps, *(part.step for part in further)]
    return Bank(torch.cat(value, 1), torch.cat(step, 1)) if further else Bank(value[0], step[0])


def _places(bank: Bank, layer: LayerState) -> Tensor:
    """Where a layer's memories lie in a bank, (B, M)."""
    step = layer.memory.ascending_steps
    every = torch.arange(len(step), device=step.device)
    return bank.places(step.masked_fill(step == FAR, NOTHING).unsqueeze(0), every).squeeze(0)


def credit_of(state: SABState, stream: Tensor, d_state: Sequence[Tensor | None], backtrack: bool) -> StateCredit:
    """The gradient of a state, given in the order of `flat`, None for zeros.

    Args:
        stream: the number of each row's stream, (B,); backtrack: whether memories take any.
    """
    layers: list[LayerCredit] = []
    given = iter(d_state)
    for layer in state.layers:
        h, *further = (_or_zeros(next(given), tensor) for tensor in (layer.h, *layer.cell_state))
        d_memory = next(given)
        step = layer.memory.ascending_steps
        layers.append(LayerCredit(h, tuple(further), d_memory if backtrack else None, step))
    return StateCredit(stream, state.step, tuple(layers))


def add_to(banks: list[Bank], credits: Sequence[StateCredit]) -> None:
    """Hand memories their credit."""
    for number, bank in enumerate(banks):
        for credit in credits:
            layer = credit.layers[number]
            if layer.memory is not None:
                bank.add_memories(credit.stream, layer.memory_step, layer.memory)


def _or_zeros(gradient: Tensor | None, like: Tensor) -> Tensor:
    return torch.zeros_like(like) if gradient is None else gradient


def _d_state(sweep: Sweep, before: SABState) -> Iterator[Tensor | None]:
    """The gradient of the state before a sweep's oldest segment, in the order of `flat`."""
    for bank, layer, d_state in zip(sweep.banks, before.layers, sweep.d_state, strict=True):
        yield from d_state
        yield bank.of(_places(bank, layer))


def completed(ran: Pass, x: Tensor, before: SABState, network: Network, plain: bool) -> Pass:
    """The results of a call, with the gradients and the numbers that no backend gives by itself.

    A call that finds no memory does not score. DistributedDataParallel waits for a gradient of each parameter all the
    same, and gets zeros.

    An output that is not finite has the same consequences on every backend: there the summary and the weights of
    recalls are NaN, and no memory is named; the gradients of all tensors of the network are NaN, and so are those of
    the row's input and state. A backward pass by itself may multiply NaN by 0, or leave both out.

    Args:
        x: (T, B, I); before: the state before.
        plain: whether plain PyTorch ran the call with a graph, which knows only the tensors that it needed.
    """
    if network.transform is not None:
        return ran
    finite = None if all_finite(ran.output) else ran.output.detach().isfinite().all(2)  # (T, B)
    if finite is not None and ran.recall is not None:
        ran = replace(ran, recall=_where_finite(ran.recall, finite))
    if not torch.is_grad_enabled() or (finite is None and not plain):
        return ran
    if finite is None:
        return _reaching_all(ran, network, [], [], None)
    rows = finite.all(0)
    states = flat(before)
    masks = [rows.view(1, -1, 1), *(rows.view(-1, *[1] * (tensor.dim() - 1)) for tensor in states)]
    return _reaching_all(ran, network, [x, *states], masks, rows.all())


def _where_finite(recall: Recall, finite: Tensor) -> Recall:
    """A recall (T, B, .), which says nothing at steps that are not finite, (T, B)."""
    at = finite.unsqueeze(2)
    return Recall(
        torch.where(at, recall.summary, torch.nan),
        torch.where(at, recall.step, 0),
        torch.where(at, recall.weight, torch.nan),
    )


def _reaching_all(
    ran: Pass, network: Network, given: Sequence[Tensor], rows: Sequence[Tensor], finite: Tensor | None
) -> Pass:
    """The same numbers, whose gradient reaches every tensor of the network, with zeros or NaN.

    Args:
        given: further tensors that it reaches; rows: which parts of each are finite.
        finite: whether all is, (); None: it is.
    """
    tensors = [tensor for layer in network.layers for tensor in layer.tensors]
    if network.modules.sharded is None:  # what FSDP divides is not whole outside its module's forward
        sparse = network.modules.sparse if finite is None else ()
        tensors += [tensor for tensor in network.modules.tensors if tensor.is_leaf and tensor not in sparse]
    pairs = [*((tensor, finite) for tensor in tensors), *zip(given, rows, strict=True)]
    wanted = [(tensor, mask) for tensor, mask in pairs if tensor.requires_grad]
    summary = [] if ran.recall is None else [ran.recall.summary]
    results = [ran.output, *summary, *flat(ran.after)]
    in_graph = [result for result in results if result.requires_grad]
    if not wanted or not in_graph:
        return ran
    sources, masks = zip(*wanted, strict=True)
    found = iter(cast("tuple[Tensor, ...]", _ReachingAll.apply(masks, *sources, *in_graph)))
    output, *rest = (next(found) if result.requires_grad else result for result in results)
    recall = None if ran.recall is None else replace(ran.recall, summary=rest[0])
    return replace(ran, output=output, recall=recall, after=filled(ran.after, rest[len(summary) :]))


class _ReachingAll(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, masks: Sequence[Tensor | None], *given: Tensor) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        sources, results = given[: len(masks)], given[len(masks) :]
        ctx.masks = masks
        ctx.like = [(tensor.shape, tensor.dtype, tensor.device) for tensor in sources]
        return tuple(result.detach() for result in results)

    @staticmethod
    @untraced.backward
    def backward(ctx: Any, *d_results: Tensor | None) -> Gradients:  # pyright: ignore[reportIncompatibleMethodOverride]
        like = cast("list[tuple[torch.Size, torch.dtype, torch.device]]", ctx.like)
        zeros = [torch.zeros(shape, dtype=dtype, device=device) for shape, dtype, device in like]
        pairs = zip(zeros, cast("Sequence[Tensor | None]", ctx.masks), strict=True)
        return (
            None,
            *(zero if mask is None else zero.masked_fill(~mask, torch.nan) for zero, mask in pairs),
            *d_results,
        )


def with_zeros(
    found: Gradients, saved: Sequence[Tensor], wanted: Sequence[bool], sparse: Collection[Tensor] = ()
) -> Gradients:
    """The same gradients, with zeros in the place of None for tensors that want one: hooks of parameters expect it.

    Args:
        saved: the last of the arguments that the gradients are of; wanted: which arguments want one.
        sparse: tensors that get no zeros.
    """
    first = len(found) - len(saved)
    filled = (
        torch.zeros_like(tensor) if gradient is None and want and tensor not in sparse else gradient
        for tensor, gradient, want in zip(saved, found[first:], wanted[first:], strict=True)
    )
    return *found[:first], *filled
