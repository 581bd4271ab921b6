"""What a SAB layer carries from one call to the next, and what it says it recalled.

Shapes: L layers, B batch, T time, M memory slots, K k_top, H hidden.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor

from reminding.disk.errors import DamagedFileError
from reminding.nn.parts.cells import Shape
from reminding.nn.parts.memory import Memory
from reminding.nn.parts.tensors import (
    Change,
    Rows,
    TensorGroup,
    TimeRows,
    alone,
    counting_on_host,
    row_mask,
    row_places,
)
from reminding.nn.state import unpacked
from reminding.nn.state.archive import PREFIX, name_tensors, restore
from reminding.nn.state.checks import WrongFieldError, check_state
from reminding.nn.state.made_by import MadeBy
from reminding.nn.state.past.history import History, HistoryData
from reminding.nn.state.storage import load_tensors, pack_tensors, save_tensors

FILE_FORMAT = "reminding.SABState"
FILE_VERSION = "3"


@dataclass(eq=False)
class Recall(TensorGroup):
    """What was recalled at each step, in the layout of the layer's output.

    Attributes:
        summary: the attention summary s of the last layer, (T, B, H); 0 where nothing was recalled.
            Differentiable.
        step: the 1-based stream step at which each recalled memory was stored, (T, B, K) int64, largest
            weight first; 0 where nothing was (and for the zero vector that the release's memory starts
            with, told apart by its weight).
        weight: the weight of each, (T, B, K), 0 where nothing. Not differentiable.

    With more than one layer `step` and `weight` have a leading layer axis. `batch_first` and unbatched
    input move or drop axes as they do in the output. For packed input all three are padded tensors in
    the batch's own order, 0 behind each sequence's end.
    """

    summary: TimeRows
    step: TimeRows
    weight: TimeRows


@dataclass(eq=False)
class LayerState(TensorGroup):
    """One layer's part: h (B, H), the cell's further state (B, ...) each, and the memory."""

    h: Rows
    cell_state: tuple[Rows, ...]
    memory: Memory


@dataclass(eq=False)
class SABState:
    """The state of a stream: pass it to the next call and the layer goes on where it stopped.

    It is a value: a call never changes the state it was given. It unpacks as `h, c = state`, like
    `nn.LSTM`'s; as `h, = state` where the cell has no c. Two states are equal only if they are the same one. It is
    a pytree: its leaves are the tensors of its layers.

    Attributes:
        layers: each layer's state.
        step: steps done so far by each row's stream, (B,) int64, on the host.
        batched: whether the input had a batch axis; without one, B = 1 inside.
        zero_slot: whether a stream's memory starts with a zero vector (semantics="release").
        history: what is kept of past calls for credit from later ones: see `SAB`'s argument horizon.
        made_by: which layer its history is of; None for a state without one.
    """

    layers: tuple[LayerState, ...]
    step: Tensor
    batched: bool = True
    zero_slot: bool = False
    history: History = field(default_factory=History, repr=False)
    made_by: MadeBy | None = field(default=None, repr=False)

    @property
    def h(self) -> Tensor:
        """Hidden state of every layer, (L, B, H); (L, H) for unbatched input."""
        return self._stack([layer.h for layer in self.layers])

    @property
    def c(self) -> Tensor | tuple[Tensor, ...] | None:
        """The cell's further state, (L, B, H) for an LSTM, None for a GRU or RNN, a tuple for several tensors.

        Raises:
            ValueError: the layers have cells of different kinds; `layers` has each one's own.
        """
        if len({len(layer.cell_state) for layer in self.layers}) > 1:
            raise ValueError("state has no common c: its layers have cells of different kinds; see state.layers")
        stacks = tuple(
            self._stack(list(tensors)) for tensors in zip(*(x.cell_state for x in self.layers), strict=True)
        )
        if not stacks:
            return None
        return stacks[0] if len(stacks) == 1 else stacks

    @property
    def memory(self) -> Tensor:
        """What is remembered, oldest first, (L, B, M, H); zeros behind a row's last memory."""
        return self._stack([layer.memory.value for layer in self.layers])

    @property
    def memory_step(self) -> Tensor:
        """The stream step each memory was stored at, (L, B, M) int64; 0 for padding."""
        return self._stack([layer.memory.step for layer in self.layers])

    @property
    def batch_size(self) -> int:
        """Rows in the batch, B."""
        return len(self.step)

    @property
    def nbytes(self) -> int:
        """Bytes that its tensors take."""
        data = sum(tensor.nbytes for tensor in name_tensors(self._past_alone()).values())
        return data + sum(tensor.nbytes for tensor in self._tensors().values())

    def __iter__(self) -> Iterator[Any]:
        h, c = self.h, self.c
        if any(layer.memory.slots for layer in self.layers):
            unpacked.note(h, self.history.maker)
        yield h
        if c is not None:
            yield c

    def __getitem__(self, index: object) -> NoReturn:
        raise TypeError(
            "a SABState has no items: h and c are state.h and state.c, or `h, c = state`; state.rows(index) is the "
            "state of some batch rows"
        )

    def __deepcopy__(self, memo: dict[int, Any]) -> SABState:
        copy = self.without_graph().clone()
        return replace(copy, history=copy.history.changed(maker=None))  # the credit may be that of a copied layer

    def detach(self) -> SABState:
        """The same numbers, cut from the past: no credit from later calls reaches the calls that led here.

        There is no need for it between the chunks of a stream: a layer takes a state without its graph.
        """
        return replace(self.without_graph(), history=History())

    def without_graph(self) -> SABState:
        """The same numbers and the same past, cut from the graph that made them, and holding on to nothing else."""
        layers = tuple(_without_graph(layer) for layer in self.layers)
        return replace(self, layers=layers, step=self.step.clone())

    def settle(self) -> None:
        """Send on the credit that waits in the state: see `SAB.settle`, which this calls of the layer that made it.

        Raises:
            ValueError: credit waits, and the layer is not known, as of a state from a file, of a deep copy, or of
                calls with other tensors than the layer's parameters: `layer.settle(state)` does it.
        """
        if not self.history.waits:
            return
        settle = None if self.history.maker is None else self.history.maker.settle
        if settle is None:
            raise ValueError("state does not know the layer that made it: layer.settle(state) does it")
        settle(self)

    def clone(self) -> SABState:
        """A copy that shares nothing; still part of the graph, as `Tensor.clone` is.

        Credit that waits for later calls (`credit_every`) goes with both, and each sends it on. A copy that is made
        before the backward pass of a call that sends credit on shares it, so that it is sent once.
        """
        layers = tuple(layer.map(torch.Tensor.clone, host=True) for layer in self.layers)
        return replace(self, layers=layers, step=self.step.clone(), history=self.history.copied())

    def to(
        self,
        device: torch.device | torch.dtype | str | None = None,
        dtype: torch.dtype | None = None,
        non_blocking: bool = False,
    ) -> SABState:
        """Move to a device, or change the floating-point type, or both; step counts stay on the host.

        Args:
            device: a type may stand here alone, as `Tensor.to` takes it.
            non_blocking: as `Tensor.to` has it.
        """
        if isinstance(device, torch.dtype):
            device, dtype = None, device

        def moved(tensor: Tensor) -> Tensor:
            kind = dtype if tensor.is_floating_point() else None
            return tensor.to(device=device, dtype=kind, non_blocking=non_blocking)

        return replace(self._map(moved), history=self.history.map(moved))

    def with_memory_on(self, device: torch.device | str) -> SABState:
        """Its memories, and what is kept of past calls, moved to a device; h and c stay where they are.

        From a GPU to the host they go to page-locked memory, out of which they are copied back without a wait.
        """

        def moved(tensor: Tensor) -> Tensor:
            return _moved(tensor, device)

        layers = tuple(replace(layer, memory=layer.memory.map(moved)) for layer in self.layers)
        return replace(self, layers=layers, history=self.history.map(moved))

    def reset(self, mask: Tensor | Sequence[bool] | None = None) -> SABState:
        """Start a new stream in some rows: zero h and c, an empty memory, step count 0.

        Args:
            mask: which rows, (B,) bool; None: all.

        Raises:
            ValueError: the mask has another shape or type.
        """
        rows = row_mask(mask, self.batch_size)  # kept by the graph: the caller's may change

        def clear(tensor: Tensor) -> Tensor:
            return tensor.masked_fill(rows.to(tensor.device).view(-1, *[1] * (tensor.dim() - 1)), 0)

        layers: list[LayerState] = []
        for layer in self.layers:
            cleared = layer.map(clear)
            memory = replace(cleared.memory, count=torch.where(rows, int(self.zero_slot), layer.memory.count))
            layers.append(replace(cleared, memory=memory.rows(slice(None))))
        step = self.step.masked_fill(rows, 0)
        return replace(self, layers=tuple(layers), step=step, history=self.history.without(rows))

    def rows(self, index: Tensor | slice) -> SABState:
        """The state of some batch rows, in the order of `index`: a slice, a list of numbers, or a mask of all rows.

        Raises:
            ValueError: the index chooses no list of rows, as a single number does; or a row is there twice and
                `credit_every` is above 1.
        """
        places = row_places(index, self.batch_size)
        layers = tuple(layer.rows(index) for layer in self.layers)
        return replace(self, layers=layers, step=self.step[index], history=self.history.rows(places))

    def save(self, path: str | Path) -> None:
        """Write to a safetensors file; `load` gives back the same numbers, bit for bit.

        The file is replaced in one step, so that a killed process or a full disk leaves the old one.

        Raises:
            FileNotFoundError: there is no such folder.
            OSError: it could not be written; the message says why.
        """
        save_tensors(path, *self._content())

    def packed_file(self) -> bytes:
        """The content of the file that `save` writes."""
        return pack_tensors(*self._content())

    def _content(self) -> tuple[dict[str, Tensor], dict[str, str]]:
        """The tensors and the metadata of a file."""
        flags = {"batched": str(int(self.batched)), "zero_slot": str(int(self.zero_slot))}
        flags |= {"made_by": self.made_by.to_json()} if self.made_by is not None else {}
        tensors = {"step": self.step, **self._tensors(), **name_tensors(self._past_alone())}
        return tensors, {"format": FILE_FORMAT, "version": FILE_VERSION, **flags}

    @staticmethod
    @counting_on_host()
    def load(path: str | Path, device: str = "cpu") -> SABState:
        """Read a file that `save` wrote.

        Raises:
            FileNotFoundError: there is none.
            DamagedFileError: a ValueError; it is damaged. The message names the file, and the tensor that is wrong.
            ValueError: it holds something else.
        """
        tensors, metadata = load_tensors(path, device)
        if metadata.get("format") != FILE_FORMAT or metadata.get("version") != FILE_VERSION:
            raise ValueError(f"{path} holds no {FILE_FORMAT} of version {FILE_VERSION}; its metadata says {metadata}")
        try:
            state = _restored(tensors, metadata)
            state.check()
            missing = tensors.keys() ^ state._content()[0].keys()
        except WrongFieldError as error:
            raise DamagedFileError(path, error.problem, error.field) from error
        except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
            raise DamagedFileError(path, f"it holds no whole state ({error!r})") from error
        if missing:
            raise DamagedFileError(path, "does not fit the other tensors", f"tensor {min(missing)}")
        return state

    def check(self) -> None:
        """Compare every tensor with the shape, type and range that it must have.

        `load` does so. A state that came by another way from an untrusted place should be checked before it is given
        to a layer: numbers out of range can end the process there.

        Raises:
            ValueError: names the first tensor that is wrong.
        """
        history = self._past_alone() if self.history.calls else self.history
        cell = None if self.made_by is None else self.made_by.cell
        check_state(self.step, self.layers, history, batched=self.batched, cell=cell)

    @property
    def past(self) -> HistoryData:
        """What later credit can reach of the calls that led here."""
        self.history = self._past_alone()  # the same, without what it took to make it
        return self.history.reachable([layer.memory for layer in self.layers], self.step)

    def _past_alone(self) -> History:
        return self.history.alone([layer.memory for layer in self.layers], self.step)

    def __getstate__(self) -> dict[str, Any]:
        self.history = self._past_alone()  # so that the same state has the same bytes again
        return self.__dict__

    def _tensors(self) -> dict[str, Tensor]:
        named = [layer.named(f"layers.{number}") for number, layer in enumerate(self.layers)]
        return {name: tensor for part in named for name, tensor in part.items()}

    def _map(self, change: Change) -> SABState:
        return replace(self, layers=tuple(layer.map(change) for layer in self.layers))

    def _stack(self, tensors: list[Tensor]) -> Tensor:
        return torch.stack([tensor if self.batched else tensor[0] for tensor in tensors])


def _restored(tensors: dict[str, Tensor], metadata: dict[str, str]) -> SABState:
    """The state in the tensors and the metadata of a file."""
    flags: list[bool] = []
    for name in ("batched", "zero_slot"):
        if metadata.get(name) not in ("0", "1"):
            raise WrongFieldError(f"metadata {name}", f"must be 0 or 1, got {metadata.get(name)}")
        flags.append(metadata[name] == "1")
    numbers = sorted({int(name.split(".")[1]) for name in tensors if name.startswith("layers.")})
    layers = tuple(LayerState.restored(tensors, f"layers.{number}") for number in numbers)
    made_by = MadeBy.from_json(metadata["made_by"]) if "made_by" in metadata else None
    step = tensors["step"].cpu()
    if step.dim() != 1:
        raise WrongFieldError("step", f"must have one axis, got {step.dim()}")
    past = {name: tensor for name, tensor in tensors.items() if name.startswith(PREFIX)}
    history = restore(past, [layer.memory for layer in layers], step)
    return SABState(layers, step, flags[0], flags[1], history, made_by)


def fresh_state(
    batch_size: int, hidden_size: int, state_shapes: Sequence[tuple[Shape, ...]], like: Tensor, zero_slot: bool
) -> SABState:
    """The state of streams that have not begun: zero h and c, and a memory that is empty or one zero vector.

    Args:
        state_shapes: per layer, the shapes of the cell's further state without the batch axis.
        like: a tensor of the wanted device and type.
    """
    slots = int(zero_slot)

    def layer(shapes: tuple[Shape, ...]) -> LayerState:
        memory = Memory(
            value=like.new_zeros(batch_size, slots, hidden_size),
            step=like.new_zeros(batch_size, slots, dtype=torch.int64),
            weight=like.new_zeros(batch_size, slots),
            count=torch.full((batch_size,), slots, device="cpu"),
        )
        cell_state = tuple(like.new_zeros(batch_size, *shape) for shape in shapes)
        return LayerState(like.new_zeros(batch_size, hidden_size), cell_state, memory)

    layers = tuple(layer(shapes) for shapes in state_shapes)
    step = torch.zeros(batch_size, dtype=torch.int64, device="cpu")
    past = History(begun=step, stream=torch.arange(batch_size, device="cpu"))
    return SABState(layers, step, zero_slot=zero_slot, history=past)


def _without_graph(layer: LayerState) -> LayerState:
    """The same, cut from its graph. All but the memories' values are copies: the caller may change the old ones."""
    numbers = replace(layer, memory=layer.memory.without_values()).map(lambda x: x.detach().clone(), host=True)
    return replace(numbers, memory=replace(numbers.memory, value=alone(layer.memory.value)))


def _moved(tensor: Tensor, device: torch.device | str) -> Tensor:
    """A tensor on another device; from a GPU to the host, in page-locked memory and all there when this returns."""
    kind = torch.device(device).type
    if tensor.is_cuda and kind == "cpu":
        return torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True).copy_(tensor)
    return tensor.to(device, non_blocking=kind == "cuda")
