"""A trained layer as a graph of tensors alone, for torch.export and ONNX: one step of it, or a whole sequence.

    module = SequenceModule(layer)
    program = module.export()                 # torch.export.ExportedProgram, for any T, B and room for memories
    output, state = program.module()(x, module.begin(rows=3, steps=len(x)))
    module.save_onnx("layer.onnx")            # the same for onnxruntime

Shapes: B batch, T time, I input, M memory slots, H hidden, D score width.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from reminding.nn.exported_step import LayerTensors, Slots, layer_step
from reminding.nn.layer import entering, surroundings
from reminding.nn.layer.layout import not_finite_throughout
from reminding.nn.layer.sab import SAB
from reminding.nn.parts.bound import BoundLayer
from reminding.nn.parts.memory import Memory
from reminding.nn.parts.rule import Rule
from reminding.nn.parts.user_modules import evaluating
from reminding.nn.state.stream import LayerState, SABState, fresh_state

State = tuple[Tensor, ...]
"""The state of streams as tensors, in the order of `Exported.names`."""


class Exported(nn.Module):
    """What `StepModule` and `SequenceModule` share: frozen copies of the layer's weights, and its state as tensors.

    Args:
        layer: as it is now, in evaluation; later changes to it are not seen. Cells and scorers of your own are
            included where torch.export can trace them.

    Attributes:
        names: the name of each tensor of a state: the stream step, then per layer h, the cell's further state and the
            memory, see `Slots`.

    Raises:
        ValueError: the layer is no SAB, evicts by a function of yours, or its calls do more than `SAB.forward` does.

    A memory has the room that the state has. With a capacity that is the capacity. Without one, a row that stores
    more than it has room for returns NaN from then on; `begin` and `tensors_of` make room for a number of steps.
    `tensors_of` compares a state with the layer. A call counts its tensors; PyTorch raises where shapes do not fit.

    `torch.export.save(module.export(), path)` and `save_onnx` write it to a file; pickle and torch.save cannot.
    """

    def __init__(self, layer: SAB) -> None:
        super().__init__()
        surroundings.check_exportable(layer, getattr(layer, "rule", None), SAB.forward)
        self.rule: Rule = layer.rule
        self.input_size, self.hidden_size, self.batch_first = layer.input_size, layer.hidden_size, layer.batch_first
        self._zero_slot, self._made_by = layer.rule.zero_slot, layer.made_by
        self._shapes = list(layer.state_shapes)
        self._layers: list[BoundLayer] = []
        self.weights, self.modules_of_user = nn.ParameterList(), nn.ModuleList()
        with evaluating(layer), torch.no_grad():
            for number in range(layer.num_layers):
                own = [_frozen(module) for module in layer.own_modules(number)]
                self.modules_of_user.extend([module for module in own if module is not None])
                bound = layer.bound_to(number, *own)
                mine = [nn.Parameter(tensor.detach().clone(), requires_grad=False) for tensor in bound.tensors]
                self.weights.extend(mine)
                self._layers.append(bound.with_tensors(mine))
            self.encoder = _frozen(layer.encoder)
        self._like: Tensor
        self.register_buffer("_like", torch.zeros_like(layer.like().detach()), persistent=False)
        self.names = tuple(self._names())
        self.eval()

    def begin(self, rows: int, *, steps: int | None = None) -> State:
        """The state of streams that have not begun.

        Args:
            rows: how many, B.
            steps: make room for the memories of so many steps. None: the capacity, or nothing is remembered.

        Raises:
            ValueError: steps is None, and the layer remembers without a capacity.
        """
        return self.tensors_of(self._fresh(rows), steps=steps)

    def tensors_of(self, state: SABState, *, steps: int | None = None) -> State:
        """A state of the layer as tensors; its past calls are left out.

        Args:
            steps: as in `begin`.

        Raises:
            ValueError: as `begin`; or the state is of another layer.
        """
        entering.check_state(state.detach(), self._fresh(state.batch_size))
        entering.check_capacity(state, self.rule.capacity)
        found: list[Tensor] = [state.step.to(self._like.device)]
        with torch.no_grad():
            for bound, layer in zip(self._layers, state.layers, strict=True):
                found += [layer.h, *layer.cell_state]
                if bound.scorer is not None:
                    memory = layer.memory.padded(self._room(layer.memory.slots, steps))
                    keys = bound.scorer.keys(memory.value)
                    found += Slots(memory.value, memory.step, memory.weight, keys, memory.count.to(found[0].device))
        return tuple(tensor.detach() for tensor in found)

    def state_of(self, tensors: State) -> SABState:
        """The reverse of `tensors_of`: a state with which the layer goes on."""
        parts, layers = self._parts(tensors), list[LayerState]()
        for fresh, part in zip(self._fresh(len(tensors[0])).layers, parts, strict=True):
            memory = fresh.memory
            if part.memory is not None:
                value, step, weight, _, count = part.memory
                memory = Memory(value, step, weight, count.cpu()).rows(slice(None))
            layers.append(LayerState(part.h, part.cell_state, memory))
        return SABState(tuple(layers), tensors[0].cpu(), zero_slot=self._zero_slot, made_by=self._made_by)

    def export(self) -> torch.export.ExportedProgram:
        """The module as torch.export's program, for any batch, and any length and room for memories."""
        x, state = self._example()
        with torch.no_grad():
            return torch.export.export(self, (x, state), dynamic_shapes=self._dynamic_shapes(x, state))

    def save_onnx(self, path: str | Path) -> None:
        """Write the module as an ONNX file, with inputs x and `names`, and outputs y and, for each name, `new_NAME`.

        Raises:
            ImportError: onnx or onnxscript is missing, or PyTorch is 2.6, whose exporter cannot convert a layer.
        """
        _require_onnx()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the exporter's own code
            onnx: Any = torch.onnx.export(
                self.export(),
                input_names=["x", *self.names],
                output_names=["y", *(f"new_{name}" for name in self.names)],
                dynamo=True,
                verbose=False,
            )
        onnx.save(str(path))

    def _names(self) -> Iterator[str]:
        yield "step"
        for number, (bound, shapes) in enumerate(zip(self._layers, self._shapes, strict=True)):
            extra = ["c"] if len(shapes) == 1 else [f"c{place}" for place in range(len(shapes))]
            memory = ["memory", "memory_step", "memory_weight", "memory_keys", "memory_count"]
            for name in ["h", *extra, *(memory if bound.scorer is not None else [])]:
                yield f"{name}_l{number}"

    def _fresh(self, rows: int) -> SABState:
        fresh = fresh_state(rows, self.hidden_size, self._shapes, self._like, self._zero_slot)
        return replace(fresh, made_by=self._made_by)

    def _room(self, slots: int, steps: int | None) -> int:
        """How wide a memory of so many slots becomes: at least as many as decide a recall."""
        if self.rule.capacity is not None:
            return self.rule.capacity
        if steps is None:
            raise ValueError("steps must say how many steps to make room for: the layer has no capacity")
        return max(slots - (-steps // self.rule.k_att), self.rule.ranks or 1, 1)

    def _parts(self, state: State) -> list[LayerTensors]:
        """The tensors of a state behind the first, by layer. ValueError: there are more, or fewer."""
        if len(state) != len(self.names):
            raise ValueError(f"state must have {len(self.names)} tensors, {', '.join(self.names)}; got {len(state)}")
        given = iter(state[1:])
        parts: list[LayerTensors] = []
        for bound, shapes in zip(self._layers, self._shapes, strict=True):
            h, cell_state = next(given), tuple(next(given) for _ in shapes)
            memory = None if bound.scorer is None else Slots(*(next(given) for _ in Slots._fields))
            parts.append(LayerTensors(h, cell_state, memory))
        return parts

    def _bound(self) -> list[BoundLayer]:
        """The layers with the module's weights, for which torch.export puts others in place."""
        given = iter(self.weights)
        return [bound.with_tensors([next(given) for _ in bound.tensors]) for bound in self._layers]

    def _advance(self, layers: list[BoundLayer], x: Tensor, state: State) -> tuple[Tensor, State]:
        """One step of all layers: x (B, I), h of the last (B, H)."""
        parts, found = self._parts(state), [state[0] + 1]
        for bound, part in zip(layers, parts, strict=True):
            after = layer_step(bound, self.rule, x, found[0], part)
            x = after.h
            found += [after.h, *after.cell_state, *(after.memory or ())]
        return x, tuple(found)

    def _example(self) -> tuple[Tensor, State]:
        raise NotImplementedError

    def _dynamic_shapes(self, x: Tensor, state: State) -> Any:
        raise NotImplementedError

    def _dynamic_state(self, batch: Any) -> tuple[dict[int, Any], ...]:
        """Which axes of a state are free: the batch, and the slots of a memory without capacity."""
        if self.rule.capacity is not None:
            return tuple({0: batch} for _ in self.names)
        slots = torch.export.Dim("slots", min=max(self.rule.ranks or 1, 1))
        wide = ("memory_l", "memory_step_l", "memory_weight_l", "memory_keys_l")
        return tuple({0: batch, 1: slots} if name.startswith(wide) else {0: batch} for name in self.names)


class StepModule(Exported):
    """One step of a layer: (x (B, I), state) to (h (B, H), state). An encoder is left out: x is what it returns."""

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """Take one step.

        Args:
            x: input, (B, I).
            state: of B rows, from `begin`, `tensors_of` or the step before.

        Returns:
            h (B, H), NaN in a row whose memory had no room left, and the state after the step.
        """
        y, after = self._advance(self._bound(), not_finite_throughout(x), state)
        return y.clone(), after

    def _example(self) -> tuple[Tensor, State]:
        return self._like.new_zeros(3, self.input_size), self.begin(3, steps=4 * self.rule.k_att)

    def _dynamic_shapes(self, x: Tensor, state: State) -> Any:
        batch = torch.export.Dim("batch")
        return {0: batch}, self._dynamic_state(batch)


class SequenceModule(Exported):
    """A layer over a sequence: (input (T, B, I), state) to (output (T, B, H), state), T at least 1.

    It has no gradient: PyTorch's scan, the loop that exporters keep, cannot differentiate a state with integers.
    Under torch.compile, scan needs `torch._dynamo.config.capture_scalar_outputs`.

    Args:
        layer: its encoder is included, and its batch_first holds.
        example: an input for the encoder, such as token ids (T, B), in the layer's layout; None: numbers (T, B, I).

    Raises:
        ValueError: as `Exported`; or the example has no axes for time and batch, or nothing in them.
    """

    def __init__(self, layer: SAB, example: Tensor | None = None) -> None:
        super().__init__(layer)
        if example is not None and (example.dim() < 2 or 0 in example.shape[:2]):
            raise ValueError(f"example must have a step and a row at least, (T, B, ...), got {tuple(example.shape)}")
        self._given = example

    def forward(self, input: Tensor, state: State) -> tuple[Tensor, State]:
        """Run over a sequence, or the next chunk of one.

        Args:
            input: (T, B, I), or (B, T, I) with the layer's batch_first; what the encoder takes if there is one.
            state: of B rows, from `begin`, `tensors_of` or the chunk before.

        Returns:
            output (T, B, H) in the input's layout, NaN in a row from where its memory has no room left; the state.

        Raises:
            ValueError: input or state requires grad, and grad is enabled.
        """
        if torch.is_grad_enabled() and any(given.requires_grad for given in (input, *state)):
            raise ValueError("input and state must not require grad: a SequenceModule has no gradient, the layer has")
        x = not_finite_throughout(input if self.encoder is None else self.encoder(input))
        x = x.transpose(0, 1) if self.batch_first else x

        layers, batch = self._bound(), x.shape[1]

        def combine(carried: list[Tensor], x_t: Tensor) -> tuple[list[Tensor], Tensor]:
            y, after = self._advance(layers, x_t, tuple(carried))
            # AOTInductor finds the size of the batch only if a step uses it.
            return list(after), y.expand(batch, -1).clone()

        last, output = _scan()(combine, list(state), x)
        return (output.transpose(0, 1) if self.batch_first else output), tuple(last)

    def _example(self) -> tuple[Tensor, State]:
        if self._given is None:
            x = self._like.new_zeros(*((3, 4) if self.batch_first else (4, 3)), self.input_size)
        else:  # torch.export holds a size of 1 fixed
            x = self._given.repeat(2, 2, *[1] * (self._given.dim() - 2))
        return x, self.begin(x.shape[0 if self.batch_first else 1], steps=4 * self.rule.k_att)

    def _dynamic_shapes(self, x: Tensor, state: State) -> Any:
        batch, time = torch.export.Dim("batch"), torch.export.Dim("time")
        return {0: batch, 1: time} if self.batch_first else {0: time, 1: batch}, self._dynamic_state(batch)


def _frozen(module: Any) -> Any:
    """A copy in evaluation that learns nothing; None of None."""
    return None if module is None else copy.deepcopy(module).requires_grad_(False).eval()


def _scan() -> Any:
    """Torch's scan, which torch.export keeps as a loop; in a function, since what it imports takes seconds."""
    from torch._higher_order_ops import scan

    return cast("Any", scan)


def _require_onnx() -> tuple[Any, Any]:
    """What torch.onnx needs."""
    if torch.__version__.startswith("2.6."):
        raise ImportError(f"save_onnx needs a newer PyTorch than 2.6, got {torch.__version__}")
    try:
        import onnx
        import onnxscript
    except ImportError as error:
        raise ImportError('save_onnx needs onnx and onnxscript: pip install "reminding[onnx]"') from error
    return onnx, onnxscript
