"""The layers of a call, as a replay runs them again: with which tensors, on which op; and the gradients of tensors.

Shapes: H hidden; else as each layer has them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeVar, cast

import torch
from torch import Tensor

from reminding.nn.credit.ledger import Noting
from reminding.nn.forward.compiled import op_rule
from reminding.nn.forward.reference import in_precision
from reminding.nn.parts.bound import BoundLayer
from reminding.nn.parts.cells import Step
from reminding.nn.parts.generators import drawing_as, generator_states
from reminding.nn.parts.outside import Watch, check_carried
from reminding.nn.parts.rule import Rule
from reminding.nn.parts.user_modules import UserModules
from reminding.nn.state.stream import SABState
from reminding.ops.backends import BACKENDS, Op
from reminding.ops.contract import OpRule

Result = TypeVar("Result")
MaybeTensors = Sequence[Tensor | None]


@dataclass(frozen=True)
class Network:
    """The layers of a call with the tensors they compute with, which may be no parameters but made of some.

    Attributes:
        backend: the code that computes them where all segments are run at once.
        modules: the user's modules among them.
        autocast: the lower precision that the cells ran in; None: their own.
        transform: of derivatives that is in force, see `Demand`.
        dropout_scale: what dropout multiplies the outputs it lets through by.
        note: told what credit each memory receives through each recall.
    """

    layers: tuple[BoundLayer, ...]
    rule: Rule
    backend: str
    modules: UserModules
    autocast: torch.dtype | None = None
    transform: str | None = None
    dropout_scale: float = 1.0
    note: Noting | None = None

    @property
    def op(self) -> Op:
        """The op of the backend, where it has one."""
        return BACKENDS[self.backend].op

    @cached_property
    def op_rule(self) -> OpRule:
        """The settings of the one layer of a network that an op computes, as the op takes them."""
        return op_rule(self.layers[0], self.rule, cast("int", self.rule.k_top))

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """The tensors other than inputs and states that may receive gradient: those of layers, then of modules."""
        return (*(tensor for layer in self.layers for tensor in layer.tensors), *self.modules.tensors)

    def cell(self, layer: int, device: str, factor: Tensor | None = None) -> Step:
        """A layer's cell, as it ran in the call's autocast region.

        Args:
            factor: of recurrent dropout, see `EnteringState`.
        """
        return in_precision(self.layers[layer].cell_masked_by(factor), device, self.autocast)

    def with_leaves(self, leaves: Sequence[Tensor]) -> Network:
        """The same layers computing with other tensors in the places of `tensors`; the modules by `run`."""
        layers: list[BoundLayer] = []
        first = 0
        for layer in self.layers:
            size = len(layer.tensors)
            layers.append(layer.with_tensors(leaves[first : first + size]))
            first += size
        return replace(self, layers=tuple(layers))

    def run(
        self, function: Callable[[Network], Result], leaves: Sequence[Tensor], modes: Tensor | None = None
    ) -> Result:
        """Call a function with the network computing with other tensors, the user's modules too.

        Args:
            leaves: in the places of `tensors`; modes: see `UserModules.modes`.
        """
        network = self.with_leaves(leaves)
        own = leaves[len(leaves) - len(self.modules.tensors) :]
        return self.modules.run(lambda: function(network), own, modes)

    @property
    def has_own_steps(self) -> bool:
        """Whether a cell or a scorer is a module of the user's."""
        return any(layer.cell_name is None or layer.score_name is None for layer in self.layers)

    def with_outside(self, tensors: Iterable[Tensor]) -> Network:
        """The same network, whose modules compute with these tensors from outside besides."""
        return replace(self, modules=self.modules.with_outside(tensors))

    def try_steps(self, x: Tensor, state: SABState, watch: Watch) -> None:
        """Take two steps for what a watch sees of the user's cells and scorers, and leave no trace.

        Args:
            x: (T, B, I).

        Raises:
            ValueError: a module keeps more than its state from step to step.
        """
        x = x.detach()[:1].repeat(2, 1, 1)
        states = generator_states(x.device)
        with (
            torch.enable_grad(),
            torch.autocast(x.device.type, enabled=False),
            drawing_as(states, x.device),
            suppress(Exception),  # of a module that fails: the call says it
        ):
            self.modules.try_out(lambda: self._steps(x, state.without_graph()), watch)
        check_carried(watch)

    def _steps(self, x: Tensor, state: SABState) -> None:
        states = [(layer.h, layer.cell_state) for layer in state.layers]
        for x_t in x:
            y = x_t
            for number, layer in enumerate(self.layers):
                y, further = self.cell(number, x.device.type)(y, *states[number])
                states[number] = y, further
                if layer.score_name is None and layer.scorer is not None:
                    layer.scorer.scores(layer.scorer.keys(y.unsqueeze(1)), y)


def leaves_of(tensors: Sequence[Tensor]) -> list[Tensor]:
    """The same numbers as leaves of a graph of their own, which no hook of the tensors sees."""
    return [tensor.detach().requires_grad_(tensor.requires_grad) for tensor in tensors]


def total(one: Tensor | None, other: Tensor | None) -> Tensor | None:
    """The sum of two gradients, where None is no gradient."""
    return other if one is None else one if other is None else one + other


def totals(one: MaybeTensors, other: MaybeTensors) -> list[Tensor | None]:
    """The sums of two gradients of the same tensors."""
    return [total(*pair) for pair in zip(one, other, strict=True)]


def gradients(
    outputs: Sequence[Tensor], inputs: Sequence[Tensor], d_outputs: Sequence[Tensor], create_graph: bool = False
) -> list[Tensor | None]:
    """The gradient of each input; None for those that take none or that nothing reaches."""
    reached = [(output, d) for output, d in zip(outputs, d_outputs, strict=True) if output.requires_grad]
    wanted = [tensor for tensor in inputs if tensor.requires_grad]
    if not reached or not wanted:
        return [None] * len(inputs)
    grad = cast("Callable[..., tuple[Tensor | None, ...]]", torch.autograd.grad)
    ends, arriving = zip(*reached, strict=True)
    found = iter(grad(ends, wanted, arriving, allow_unused=True, create_graph=create_graph))
    return [next(found) if tensor.requires_grad else None for tensor in inputs]
