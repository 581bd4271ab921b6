"""What must hold of a state, wherever it comes from: every shape, type and range that compiled code relies on.

Shapes: L layers, B batch rows, N streams, R rows of a segment or a credit, S steps of a segment, M memory slots,
G memories, K ranks, H hidden.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from reminding.nn.parts.cells import CELLS
from reminding.nn.parts.memory import FAR, NOTHING, Memory
from reminding.nn.parts.tensors import counts_of
from reminding.nn.state.past.history import History
from reminding.nn.state.past.owed import LayerCredit, StateCredit
from reminding.nn.state.past.reachable import Evicted
from reminding.nn.state.past.segments import EncoderInput, EnteringState, Segment

AUTOCAST_KINDS = (torch.float32, torch.float16, torch.bfloat16)
MOST_ROWS = 1 << 31
"""The most rows of a pass that drew random numbers: for all of them they are drawn again."""


class LayerPart(Protocol):
    """One layer's part of a state."""

    @property
    def h(self) -> Tensor:
        """(B, H)."""
        ...

    @property
    def cell_state(self) -> tuple[Tensor, ...]:
        """The cell's further state, (B, ...) each."""
        ...

    @property
    def memory(self) -> Memory:
        """Its memory."""
        ...


class WrongFieldError(ValueError):
    """A part of a state is not as it must be.

    Attributes:
        field: its name in a file of the state; problem: what was expected, and what came.
    """

    def __init__(self, field: str, problem: str) -> None:
        self.field, self.problem = field, problem
        super().__init__(f"state: {field} {problem}")


def check_state(
    step: Tensor, layers: Sequence[LayerPart], history: History, *, batched: bool, cell: str | None
) -> None:
    """Compare every tensor of a state with what it must be.

    Args:
        step, layers, batched: the state's own; history: its own as `History.alone` has it.
        cell: the name of the cell; None: unknown.

    Raises:
        WrongFieldError: names the first that is wrong.
    """
    _counts("step", step, (len(step),) if step.dim() == 1 else (-1,), 0, FAR)
    if not layers:
        raise WrongFieldError("layers", "must be at least one, got none")
    if not batched and len(step) != 1:
        raise WrongFieldError("step", f"must have one row without a batch axis, got {len(step)}")
    for number, layer in enumerate(layers):
        _check_layer(f"layers.{number}", layer, step, own_cell=cell not in CELLS)
    _check_history(history, layers, len(step))


def _check_layer(name: str, layer: LayerPart, step: Tensor, *, own_cell: bool) -> None:
    """One layer's h, further state and memory; a cell of the user's own may keep what it likes for each row."""
    rows = len(step)
    if layer.h.dim() != 2 or not layer.h.is_floating_point():
        raise WrongFieldError(f"{name}.h", f"must be floating-point (B, H), got {_told(layer.h)}")
    size = layer.h.shape[1]
    _typed(f"{name}.h", layer.h, layer.h.dtype, (rows, size))
    for number, further in enumerate(layer.cell_state):
        shape = (rows, *further.shape[1:]) if own_cell else (rows, size)
        _typed(f"{name}.cell_state.{number}", further, further.dtype if own_cell else layer.h.dtype, shape)
    _check_memory(f"{name}.memory", layer.memory, rows, size, layer.h.dtype)
    memory = layer.memory
    filled = torch.arange(memory.slots, device=memory.step.device) < memory.count.to(memory.step.device).unsqueeze(1)
    latest = step.to(memory.step.device).unsqueeze(1)
    if bool(((memory.step > latest) & filled).any()):
        raise WrongFieldError(f"{name}.memory.step", "must not be later than the row's own step")
    if bool(((memory.step.diff() <= 0) & filled[:, 1:]).any()):
        raise WrongFieldError(f"{name}.memory.step", "must ascend")


def _check_memory(name: str, memory: Memory, rows: int, size: int, kind: torch.dtype) -> None:
    slots = memory.value.shape[1] if memory.value.dim() == 3 else 0
    _typed(f"{name}.value", memory.value, kind, (rows, slots, size))
    _counts(f"{name}.step", memory.step, (rows, slots), 0, FAR)
    _typed(f"{name}.weight", memory.weight, kind, (rows, slots))
    _counts(f"{name}.count", memory.count, (rows,), 0, slots)


def _check_history(history: History, layers: Sequence[LayerPart], rows: int) -> None:
    if history.stream is None or history.begun is None:
        return
    streams = len(history.begun) if history.begun.dim() else -1
    _counts("history.owing.begun", history.begun, (streams,), 0, FAR)
    _counts("history.owing.stream", history.stream, (rows,), 0, streams - 1)
    segments = history.segments
    inputs = {id(segment.encoder_input): segment.encoder_input for segment in segments}
    for number, given in enumerate(given for given in inputs.values() if given is not None):
        _check_input(f"history.inputs.{number}", given)
    for number, segment in enumerate(segments):
        _check_segment(f"history.segments.{number}", segment, layers, streams)
    _check_alike(segments)
    _check_evicted("history.evicted", history.evicted, layers, streams)
    if history.owing or history.calls:
        _check_evicted("history.owing.held", () if history.held is None else history.held.value, layers, streams)
    for number, call in enumerate(history.calls):
        _check_evicted(f"history.calls.{number}.stored", call.stored.value, layers, streams)
    for number, owed in enumerate(history.owing):
        if owed.credit is not None:
            _check_credit(f"history.owing.credit.{number}", owed.credit, layers, streams)


def _check_segment(name: str, segment: Segment, layers: Sequence[LayerPart], streams: int) -> None:
    rows, steps = len(segment.row) if segment.row.dim() else -1, segment.steps
    if steps < 1:
        raise WrongFieldError(f"{name}.steps", f"must be at least 1, got {steps}")
    _counts(f"{name}.row", segment.row, (rows,), 0, streams - 1)
    if len(set(counts_of(segment.row))) != rows:
        raise WrongFieldError(f"{name}.row", "must name each row once")
    _counts(f"{name}.steps_done", segment.steps_done, (rows,), 0, FAR - steps)
    if segment.x is not None and segment.encoder_input is None:
        _check_x(f"{name}.x", segment.x, layers[0].h.dtype, steps, rows)
        if not 0 <= segment.start < FAR:
            raise WrongFieldError(f"{name}.start", f"must be at least 0, got {segment.start}")
    elif segment.x is not None or segment.encoder_input is None:
        raise WrongFieldError(f"{name}.x", "must be there if, and only if, there is no input of an encoder")
    else:
        _check_encoded(name, segment)
    if segment.drawn_rows is not None:
        _check_drawn(name, segment)
    _same_number(f"{name}.layers", len(segment.layers), len(layers))
    _typed(f"{name}.modes", segment.modes, torch.bool, (segment.modes.numel(),))
    for number, mask in enumerate(segment.dropout_masks):
        _typed(f"{name}.dropout_masks.{number}", mask, torch.bool, (steps, rows, layers[number].h.shape[1]))
    if segment.dropout_scale is not None:
        _typed(f"{name}.dropout_scale", segment.dropout_scale, torch.float64, ())
    latest = int(segment.steps_done.max()) + steps if rows else 0
    for number, (part, layer) in enumerate(zip(segment.layers, layers, strict=True)):
        _check_entering(f"{name}.layers.{number}.entering", part.entering, layer, rows)
        if part.read is not None:
            ranks = part.read.shape[-1] if part.read.dim() else -1
            _counts(f"{name}.layers.{number}.read", part.read, (steps, rows, ranks), NOTHING, latest)


def _check_x(name: str, x: Tensor, kind: torch.dtype, steps: int, rows: int) -> None:
    """A segment's input. Under autocast its type may be one of those that autocast converts."""
    kinds = (kind,) if kind == torch.float64 else AUTOCAST_KINDS
    features = x.shape[-1] if x.dim() else -1
    _typed(name, x, x.dtype if x.dtype in kinds else kind, (steps, rows, features))


def _check_alike(segments: Sequence[Segment]) -> None:
    """Whether the segments of one stream have inputs of one width, and reads of one number of ranks."""
    widths = [segment.x.shape[-1] for segment in segments if segment.x is not None]
    if len(set(widths)) > 1:
        raise WrongFieldError("history.segments.x", f"must have one number of features, got {sorted(set(widths))}")
    ranks = {part.read.shape[-1] for segment in segments for part in segment.layers if part.read is not None}
    if len(ranks) > 1:
        raise WrongFieldError("history.segments.layers.read", f"must have one number of ranks, got {sorted(ranks)}")


def _check_input(name: str, given: EncoderInput) -> None:
    """The random numbers and the modes that an encoder starts from; what it reads is its own affair."""
    if given.input.dim() == 0:
        raise WrongFieldError(f"{name}.input", "must have an axis")
    for number, generator in enumerate(given.generators or ()):
        _typed(f"{name}.generators.{number}", generator, torch.uint8, (generator.numel(),))
    _typed(f"{name}.modes", given.modes, torch.bool, (given.modes.numel(),))
    if given.lowered is not None:
        kind = given.lowered.dtype if given.lowered.dtype in AUTOCAST_KINDS else torch.bfloat16
        _typed(f"{name}.lowered", given.lowered, kind, (0,))
    if given.batch_first is not None:
        _typed(f"{name}.batch_first", given.batch_first, torch.bool, ())
    if given.batch_sizes is not None:
        _counts(f"{name}.batch_sizes", given.batch_sizes, (given.batch_sizes.numel(),), 0, FAR)


def _check_encoded(name: str, segment: Segment) -> None:
    """The place of a segment in what an encoder makes of its input: how large that is, the encoder alone knows."""
    if segment.column is None:
        raise WrongFieldError(f"{name}.column", "must be there beside an encoder's input")
    _counts(f"{name}.column", segment.column, (len(segment.row),), 0, FAR - 1)
    if not 0 <= segment.start < FAR - segment.steps:
        raise WrongFieldError(f"{name}.start", f"must be at least 0, got {segment.start}")


def _check_drawn(name: str, segment: Segment) -> None:
    """The places of a segment's rows among those for which random numbers were drawn."""
    drawn = segment.drawn_rows
    assert drawn is not None
    _counts(f"{name}.drawn_rows", drawn, (), len(segment.row), MOST_ROWS)
    if segment.column is None:
        raise WrongFieldError(f"{name}.column", "must be there where random numbers were drawn")
    _counts(f"{name}.column", segment.column, (len(segment.row),), 0, int(drawn) - 1)
    if len(set(counts_of(segment.column))) != len(segment.row):
        raise WrongFieldError(f"{name}.column", "must name each row of the pass once")


def _check_entering(name: str, entering: EnteringState, layer: LayerPart, rows: int) -> None:
    kind, size = layer.h.dtype, layer.h.shape[1]
    _typed(f"{name}.h", entering.h, kind, (rows, size))
    _same_number(f"{name}.cell_state", len(entering.cell_state), len(layer.cell_state))
    for number, (mine, like) in enumerate(zip(entering.cell_state, layer.cell_state, strict=True)):
        _typed(f"{name}.cell_state.{number}", mine, like.dtype, (rows, *like.shape[1:]))
    if entering.memory is not None:
        _check_memory(f"{name}.memory", entering.memory, rows, entering.memory.value.shape[-1], kind)
    for number, generator in enumerate(entering.generators or ()):
        _typed(f"{name}.generators.{number}", generator, torch.uint8, (generator.numel(),))
    if entering.factor is not None:
        _typed(f"{name}.factor", entering.factor, kind, (rows, size))


def _check_evicted(name: str, parts: Sequence[Evicted], layers: Sequence[LayerPart], streams: int) -> None:
    if parts:
        _same_number(name, len(parts), len(layers))
    for number, part in enumerate(parts):
        rows, width = (*part.step.shape, -1, -1)[:2]
        if rows > streams:
            raise WrongFieldError(f"{name}.{number}.step", f"must have {streams} rows at most, got {rows}")
        _counts(f"{name}.{number}.step", part.step, (rows, width), 0, FAR)
        layer = layers[number]
        _typed(f"{name}.{number}.value", part.value, layer.h.dtype, (rows, width, layer.h.shape[1]))


def _check_credit(name: str, credit: StateCredit, layers: Sequence[LayerPart], streams: int) -> None:
    rows = len(credit.stream) if credit.stream.dim() else -1
    _counts(f"{name}.stream", credit.stream, (rows,), 0, streams - 1)
    _counts(f"{name}.step", credit.step, (rows,), 0, FAR)
    _same_number(f"{name}.layers", len(credit.layers), len(layers))
    for number, (part, layer) in enumerate(zip(credit.layers, layers, strict=True)):
        _check_layer_credit(f"{name}.layers.{number}", part, layer, rows)


def _check_layer_credit(name: str, credit: LayerCredit, layer: LayerPart, rows: int) -> None:
    _typed(f"{name}.h", credit.h, layer.h.dtype, (rows, layer.h.shape[1]))
    _same_number(f"{name}.cell_state", len(credit.cell_state), len(layer.cell_state))
    for number, (mine, like) in enumerate(zip(credit.cell_state, layer.cell_state, strict=True)):
        _typed(f"{name}.cell_state.{number}", mine, like.dtype, (rows, *like.shape[1:]))
    slots = credit.memory_step.shape[-1] if credit.memory_step.dim() else -1
    _counts(f"{name}.memory_step", credit.memory_step, (rows, slots), 0, FAR)
    if credit.memory is not None:
        _typed(f"{name}.memory", credit.memory, layer.h.dtype, (rows, slots, layer.h.shape[1]))


def _typed(name: str, tensor: Tensor, kind: torch.dtype, shape: tuple[int, ...]) -> None:
    if tensor.dtype != kind or tuple(tensor.shape) != shape:
        raise WrongFieldError(name, f"must be {kind} of shape {shape}, got {_told(tensor)}")


def _counts(name: str, tensor: Tensor, shape: tuple[int, ...], least: int, most: int) -> None:
    """Whether a tensor holds whole numbers of a range."""
    _typed(name, tensor, torch.int64, shape)
    if tensor.numel() and (int(tensor.min()) < least or int(tensor.max()) > most):
        upper = "" if most == FAR else f" to {most}"
        raise WrongFieldError(name, f"must be from {least}{upper}, got {int(tensor.min())} to {int(tensor.max())}")


def _same_number(name: str, got: int, wanted: int) -> None:
    if got != wanted:
        raise WrongFieldError(name, f"must be {wanted}, one for each of the layers or of their tensors, got {got}")


def _told(tensor: Tensor) -> str:
    return f"{tensor.dtype} of shape {tuple(tensor.shape)}"
