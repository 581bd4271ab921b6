"""What recurrent baselines share: the state that they carry from call to call, and the door of a call.

Shapes: B batch, T time, I input, H hidden.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from reminding import checks
from reminding.disk.errors import DamagedFileError
from reminding.nn.layer import entering
from reminding.nn.layer.layout import Layout, enter, name_of_input
from reminding.nn.parts.tensors import all_finite, row_mask, row_places
from reminding.nn.state.storage import load_tensors, pack_tensors, save_tensors
from reminding.nn.state.stream import Recall

FILE_FORMAT = "reminding.CarriedState"


@dataclass(frozen=True)
class CarriedState:
    """What a recurrent baseline carries from one call to the next; of constant size.

    Args:
        tensors: by name; the first axis of each counts the batch rows.
        packed: whether the call's input was a PackedSequence, whose rows end at different steps; it cannot go on.
    """

    tensors: Mapping[str, Tensor]
    packed: bool = False

    @property
    def nbytes(self) -> int:
        """Size, bytes."""
        return sum(tensor.nbytes for tensor in self.tensors.values())

    def detach(self) -> CarriedState:
        """The same numbers, cut from the graph that made them."""
        return self._map(lambda tensor: tensor.detach())

    def to(self, *args: Any, **kwargs: Any) -> CarriedState:
        """Move or convert every tensor, as `Tensor.to` does."""
        return self._map(lambda tensor: tensor.to(*args, **kwargs))

    def reset(self, mask: Tensor | Sequence[bool] | None = None) -> CarriedState:
        """Begin a new stream in some rows: they become 0.

        Args:
            mask: which rows, (B,) bool; None: all.

        Raises:
            ValueError: the mask has another shape or type.
        """
        marked = row_mask(mask, len(next(iter(self.tensors.values()))))
        return self._map(lambda tensor: _filled(tensor, marked.to(tensor.device), 0.0))

    def rows(self, index: Tensor | slice) -> CarriedState:
        """The state of some batch rows, in the order of `index`: a slice, a list of numbers, or a mask of all rows.

        Args:
            index: (R,) int64, (B,) bool, or a slice.

        Raises:
            ValueError: the index chooses no list of rows, as a single number does.
            IndexError: it names a row that is not there, or a mask has another length.
        """
        row_places(index, len(next(iter(self.tensors.values()))))
        return self._map(lambda tensor: tensor[index])

    def save(self, path: str | Path) -> None:
        """Write to a safetensors file, in one step; `load` gives back the same numbers, bit for bit."""
        save_tensors(path, self.tensors, self._metadata)

    def packed_file(self) -> bytes:
        """The content of the file that `save` writes."""
        return pack_tensors(self.tensors, self._metadata)

    @property
    def _metadata(self) -> dict[str, str]:
        return {"format": FILE_FORMAT, "packed": str(int(self.packed))}

    @staticmethod
    def load(path: str | Path, device: str = "cpu") -> CarriedState:
        """Read a file that `save` wrote.

        Raises:
            FileNotFoundError: there is none.
            DamagedFileError: a ValueError; it is damaged.
            ValueError: it holds something else.
        """
        tensors, metadata = load_tensors(path, device)
        if metadata.get("format") != FILE_FORMAT:
            raise ValueError(f"{path} holds no {FILE_FORMAT}; its metadata says {metadata}")
        if metadata.get("packed") not in ("0", "1"):
            raise DamagedFileError(path, f"must be 0 or 1, got {metadata.get('packed')}", "metadata packed")
        return CarriedState(tensors, metadata["packed"] == "1")

    def _map(self, change: Callable[[Tensor], Tensor]) -> CarriedState:
        return replace(self, tensors={name: change(tensor) for name, tensor in self.tensors.items()})


def join_rows(parts: Sequence[CarriedState]) -> CarriedState:
    """Put the rows of several states of one layer under one another."""
    tensors = {name: torch.cat([part.tensors[name] for part in parts]) for name in parts[0].tensors}
    return replace(parts[0], tensors=tensors)


class CarriedLayer(nn.Module):
    """The base of recurrent baselines: it brings a call's arguments into one layout, and its results out of it.

    Args:
        input_size, hidden_size, batch_first: as in `SAB`.
        encoder: a module applied to the input first.
    """

    def __init__(self, input_size: int, hidden_size: int, batch_first: bool, encoder: nn.Module | None) -> None:
        super().__init__()
        self.input_size = checks.at_least("input_size", input_size, 1)
        self.hidden_size = checks.at_least("hidden_size", hidden_size, 1)
        self.batch_first = batch_first
        self.encoder = encoder

    @abstractmethod
    def fresh(self, rows: int) -> dict[str, Tensor]:
        """The tensors of streams that have not begun, by name; the first axis of each is B = rows."""

    @abstractmethod
    def run(
        self, x: Tensor, begins: Tensor | None, carried: Mapping[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Run over at least one step.

        Args:
            x: input, (T, B, I).
            begins: the steps before which a row begins a new stream, (T, B) bool; None: nowhere.
            carried: the tensors of the state to go on from.

        Returns:
            output (T, B, H), and the tensors of the state after the last step.
        """

    def forward(
        self,
        input: Tensor | PackedSequence,
        state: CarriedState | None = None,
        *,
        reset: Tensor | None = None,
        return_recall: bool = False,
    ) -> Any:
        """Run over a sequence or its next chunk; arguments and results as `SAB.forward`'s.

        The recall is empty: its summary is 0 and K is 0. A packed sequence must be whole: no state may come
        with it, and the one it returns cannot go on. The gradient of the parameters leaves out the steps at which a
        row is NaN, where SAB's is NaN.

        Raises:
            ValueError: input, reset or state does not fit in shape, type or device; or a state comes with a packed
                sequence, or from one.
        """
        x, layout = enter(input, self.encoder, self.batch_first)
        like = next(self.parameters())
        entering.check_input(x, self.input_size, like, name_of_input(self.encoder))
        carried = self._carried(state, x.shape[1], layout)
        mask = layout.reset_mask(reset, len(x), x.shape[1])
        begins = None if mask is None else mask.to(x.device)
        if len(x):
            y, after = self._run(x, begins, carried)
        else:
            entered = CarriedState(carried) if mask is None or not len(mask) else CarriedState(carried).reset(mask[0])
            y, after = x.new_zeros(0, x.shape[1], self.hidden_size), dict(entered.tensors)
        new = CarriedState(after, packed=layout.packed is not None)
        output = layout.output(y)
        return (output, new, empty_recall(y, layout)) if return_recall else (output, new)

    def _run(
        self, x: Tensor, begins: Tensor | None, carried: Mapping[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """`run`; a step that is not finite makes NaN of its stream from there on, and of no stream that begins later.

        A scan would take it along: it multiplies the state before a stream begins by 0.
        """
        if all_finite(x) and all(all_finite(tensor) for tensor in carried.values()):
            return self.run(x, begins, carried)
        before = torch.stack([_lost_rows(tensor) for tensor in carried.values()]).any(0)
        lost = lost_steps(~x.detach().isfinite().all(2), begins, before)
        known = {name: _filled(tensor, before, 0.0) for name, tensor in carried.items()}
        y, after = self.run(x.masked_fill(lost.unsqueeze(2), 0), begins, known)
        after = {name: _filled(tensor, lost[-1], torch.nan) for name, tensor in after.items()}
        return y.masked_fill(lost.unsqueeze(2), torch.nan), after

    def _carried(self, state: CarriedState | None, rows: int, layout: Layout) -> Mapping[str, Tensor]:
        """The tensors to go on from, compared with those that this layer would begin with."""
        fresh = self.fresh(rows)
        if state is None:
            return fresh
        kind = type(self).__name__
        if not isinstance(cast("object", state), CarriedState):
            raise ValueError(f"state must be a CarriedState, got {type(state).__name__}")
        if state.packed or layout.packed is not None:
            raise ValueError(f"state cannot be carried into or out of a PackedSequence by the {kind} baseline")
        if unknown := state.tensors.keys() - fresh.keys():
            raise ValueError(f"state must have {sorted(fresh)}, got also {sorted(unknown)}: another layer's")
        for name, wanted in fresh.items():
            got = state.tensors.get(name)
            if got is None or (got.shape, got.dtype, got.device) != (wanted.shape, wanted.dtype, wanted.device):
                told = "nothing" if got is None else f"{got.dtype} of shape {tuple(got.shape)} on {got.device}"
                raise ValueError(
                    f"state must have {name!r}, {wanted.dtype} of shape {tuple(wanted.shape)} on {wanted.device}, "
                    f"got {told}"
                )
        return state.tensors


def lost_steps(bad: Tensor, begins: Tensor | None, before: Tensor) -> Tensor:
    """The steps of streams that are not finite any more, (T, B) bool.

    Args:
        bad: the steps whose input is not finite, (T, B) bool.
        begins: the steps before which a row begins a new stream, (T, B) bool; None: nowhere.
        before: the rows whose state is not finite before the first step, (B,) bool.
    """
    count = bad.long().cumsum(0) + before.long()
    if begins is None:
        return count > 0
    earlier = torch.where(begins, count - bad.long(), 0).cummax(0).values  # of streams before the present one
    return count > earlier


def _lost_rows(tensor: Tensor) -> Tensor:
    """The rows of a tensor, (B, ...), with a number that is not finite, (B,)."""
    return ~tensor.detach().flatten(1).isfinite().all(1)


def _filled(tensor: Tensor, rows: Tensor, value: float) -> Tensor:
    """A tensor, (B, ...), with a number throughout some rows, (B,)."""
    return tensor.masked_fill(rows.view(-1, *[1] * (tensor.dim() - 1)), value)


def constant(tensor: Tensor) -> Tensor:
    """A tensor without its graph; a copy of one that was made in inference mode, which autograd refuses."""
    return tensor.clone() if tensor.is_inference() else tensor.detach()


def empty_recall(y: Tensor, layout: Layout) -> Recall:
    """The recall of a layer without a memory, for its output (T, B, H)."""
    nothing = y.new_zeros(*y.shape[:2], 0)
    return Recall(torch.zeros_like(y), nothing.long(), nothing).map(layout.aside)
