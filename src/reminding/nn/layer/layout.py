"""The door of a layer: from the caller's layout of time and batch to the inner one (T, B, ...), and back.

Shapes: L layers, B batch, T time, I input, K recalled memories, H hidden.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from reminding.nn.parts.tensors import all_finite
from reminding.nn.state.past.passes import Pieces
from reminding.nn.state.stream import Recall, SABState


@dataclass(frozen=True)
class Stretch:
    """A piece of time in which the same batch rows run and no stream begins after its first step.

    It has no step in a call without steps that resets rows.
    """

    start: int
    stop: int
    rows: int
    reset: Tensor | None


@dataclass(frozen=True)
class Layout:
    """How one input came in, which is how its output goes out.

    Attributes:
        batched: whether there was a batch axis.
        batch_first: whether it came before the time axis.
        packed: the packed sequence the input came as, if it did; its rows are then sorted by length inside.
    """

    batched: bool
    batch_first: bool
    packed: PackedSequence | None

    def output(self, y: Tensor) -> Tensor | PackedSequence:
        """(T, B, H) in the form the input had."""
        if self.packed is None:
            return self.aside(y)
        packed = pack_padded_sequence(y, _lengths(self.packed.batch_sizes))
        return PackedSequence(
            packed.data, self.packed.batch_sizes, self.packed.sorted_indices, self.packed.unsorted_indices
        )

    def aside(self, y: Tensor, axis: int = 0) -> Tensor:
        """(..., T, B, ...) with time at `axis`, as a padded tensor with the caller's axes and row order."""
        if self.packed is not None and self.packed.unsorted_indices is not None:
            y = y.index_select(axis + 1, self.packed.unsorted_indices)
        if not self.batched:
            return y.squeeze(axis + 1)
        return y.transpose(axis, axis + 1) if self.batch_first else y

    def given_back(
        self, output: Tensor, after: SABState, recall: Recall | None
    ) -> tuple[Any, SABState] | tuple[Any, SABState, Recall]:
        """What a call returns, from its output (T, B, H) and its recall (L, T, B, K); L = 1 has no axis of layers."""
        result = self.output(output), after
        if recall is None:
            return result
        axis = 0 if len(recall.step) == 1 else 1
        step, weight = (tensor.squeeze(0) if axis == 0 else tensor for tensor in (recall.step, recall.weight))
        return *result, Recall(self.aside(recall.summary), self.aside(step, axis), self.aside(weight, axis))

    @property
    def order(self) -> Tensor | None:
        """The caller's number of each inner row, (B,) int64; None where they are the same."""
        return None if self.packed is None else self.packed.sorted_indices

    def sorted_rows(self, state: SABState) -> SABState:
        """A state in the caller's row order, in the inner one."""
        index = None if self.packed is None else self.packed.sorted_indices
        return state if index is None else state.rows(index.cpu())

    def unsorted_rows(self, state: SABState) -> SABState:
        """The reverse of `sorted_rows`."""
        index = None if self.packed is None else self.packed.unsorted_indices
        return state if index is None else state.rows(index.cpu())

    def reset_mask(self, reset: object, steps: int, rows: int) -> Tensor | None:
        """`reset` as a host mask per step and row of the inner layout, (T, B); None where nothing is reset.

        A call without steps resets rows as well: the mask of rows, (B,), is then (1, B), of a step that is not there.

        Raises:
            ValueError: it is no bool tensor of shape (B,) or, in the input's layout, (T, B).
        """
        if reset is None:
            return None
        lead = (steps, rows) if not self.batch_first else (rows, steps)
        per_step = (steps,) if not self.batched else lead
        per_row = () if not self.batched else (rows,)
        if not isinstance(reset, Tensor):
            raise ValueError(f"reset must be a bool tensor of shape {per_row} or {per_step}, got {reset!r}")
        shape = tuple(reset.shape)
        if reset.dtype != torch.bool or shape not in (per_row, per_step):
            raise ValueError(
                f"reset must be bool of shape {per_row} or {per_step}, got {reset.dtype} of shape {shape}"
            )
        mask = reset.to("cpu", copy=True)  # a graph may keep it, and the caller's may change
        if tuple(mask.shape) == per_row:
            first = torch.zeros(max(steps, 1), rows, dtype=torch.bool)
            first[0] = mask
            mask = first
        elif not self.batched:
            mask = mask.unsqueeze(1)
        elif self.batch_first:
            mask = mask.transpose(0, 1)
        index = None if self.packed is None else self.packed.sorted_indices
        return mask if index is None else mask[:, index.cpu()]

    def pieces(self, steps: int, rows: int, reset: Tensor | None) -> Pieces:
        """The streams of the call, each a piece of a row's time: a row's own behind one another, row by row.

        Args:
            steps, rows: T and B; reset: (T, B) bool on the host; None: nothing is reset.
        """
        lengths = torch.full((rows,), steps) if self.packed is None else _lengths(self.packed.batch_sizes)
        begins = torch.zeros(rows, steps, dtype=torch.bool) if reset is None else reset.t() & _within(lengths, steps)
        begins[:, 0] = True
        column, begun = begins.nonzero(as_tuple=True)
        begins_next = torch.cat([begun[1:], begun.new_zeros(1)])
        pieces = Pieces(column, begun, lengths[column] - begun)
        return replace(pieces, steps=torch.where(pieces.last, pieces.steps, begins_next - begun))

    def stretches(self, steps: int, rows: int, reset: Tensor | None) -> list[Stretch]:
        """Cut time wherever a sequence ends or a stream begins; without steps, one piece if rows are reset.

        Args:
            steps, rows: T and B; reset: (T, B) bool on the host; None: nothing is reset.
        """
        if not steps:
            return [] if reset is None or not reset.any() else [Stretch(0, 0, rows, reset[0])]
        if self.packed is None and reset is None:
            return [Stretch(0, steps, rows, None)]
        sizes = [rows] * steps if self.packed is None else cast("list[int]", self.packed.batch_sizes.tolist())
        fresh = [False] * steps if reset is None else cast("list[bool]", reset.any(1).tolist())
        borders = [t for t in range(steps) if t == 0 or fresh[t] or sizes[t] != sizes[t - 1]]
        return [
            Stretch(
                start,
                stop,
                sizes[start],
                reset[start, : sizes[start]] if reset is not None and fresh[start] else None,
            )
            for start, stop in pairwise([*borders, steps])
        ]


def enter(
    input: Tensor | PackedSequence, encoder: Callable[[Tensor], Tensor] | None, batch_first: bool
) -> tuple[Tensor, Layout]:
    """Bring an input, through the encoder if there is one, into the inner layout.

    Returns:
        x (T, B, I), and its layout. A step with an infinite feature, or one that is not a number, is NaN in all.

    Raises:
        ValueError: it is neither a tensor of 2 or 3 axes nor a packed sequence.
    """
    if isinstance(input, PackedSequence):
        data = input.data if encoder is None else _require_tensor("encoder(input)", encoder(input.data))
        if data.dim() != 2:
            raise ValueError(f"input must be a PackedSequence of data (N, input_size), got {tuple(data.shape)}")
        x, _ = pad_packed_sequence(PackedSequence(whole_steps(data), input.batch_sizes))
        return x, Layout(True, batch_first, input)
    if not isinstance(cast("object", input), Tensor):
        raise ValueError(f"input must be a Tensor or a PackedSequence, got {type(input).__name__}")
    x = input if encoder is None else _require_tensor("encoder(input)", encoder(input))
    if x.dim() not in (2, 3):
        form = "(B, T, I)" if batch_first else "(T, B, I)"
        name = name_of_input(encoder)
        raise ValueError(f"{name} must have shape {form} or, unbatched, (T, I); got {tuple(x.shape)}")
    x, layout = whole_steps(x), Layout(x.dim() == 3, batch_first, None)
    if x.dim() == 2:
        return x.unsqueeze(1), layout
    return (x.transpose(0, 1) if batch_first else x), layout


def name_of_input(encoder: object) -> str:
    """What messages call that which enters a layer."""
    return "input" if encoder is None else "encoder(input)"


def whole_steps(x: Tensor) -> Tensor:
    """The same numbers where all features of a step (..., I) are finite, and NaN in all features elsewhere.

    Else an infinite feature would saturate gates and pass unseen, and its gradient would be 0 times infinity where a
    backward pass computes it, and 0 where it does not. The gradient is that of the input.
    """
    return x if not x.is_floating_point() or all_finite(x) else not_finite_throughout(x)


def not_finite_throughout(x: Tensor) -> Tensor:
    """`whole_steps` as a graph that does not depend on the numbers."""
    finite = x.detach().isfinite().all(-1, keepdim=True)
    return x + torch.where(finite, 0.0, torch.nan).to(x.dtype)


def _require_tensor(name: str, value: object) -> Tensor:
    if not isinstance(value, Tensor):
        raise ValueError(f"{name} must be a Tensor, got {type(value).__name__}")
    return value


def _within(lengths: Tensor, steps: int) -> Tensor:
    """Which of the steps each row has, (B, T)."""
    return torch.arange(steps) < lengths.unsqueeze(1)


def _lengths(batch_sizes: Tensor) -> Tensor:
    """Sequence lengths, longest first, from how many sequences run at each step."""
    rows = int(batch_sizes[0]) if len(batch_sizes) else 0
    return (batch_sizes.unsqueeze(1) > torch.arange(rows)).sum(0)
