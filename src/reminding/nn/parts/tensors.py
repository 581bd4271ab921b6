"""Dataclasses of tensors: one way to change all tensors of a group, to take its rows, and to name them for a file.

A group's annotations say how each tensor lies: on the device or on the host, and which axis its batch rows are on.

Shapes: B batch rows, n chosen rows.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import types
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any, Self, TypeVar, Union, cast, get_args, get_origin, get_type_hints

import torch
from torch import Tensor

Change = Callable[[Tensor], Tensor]


@dataclasses.dataclass(frozen=True)
class Lies:
    """How a tensor of a group lies.

    Attributes:
        rows: the axis of its batch rows; None where it has none.
        host: whether it stays on the host when the group is moved, and keeps its numbers when the others change.
    """

    rows: int | None = 0
    host: bool = False


Rows = Annotated[Tensor, Lies(0)]
TimeRows = Annotated[Tensor, Lies(1)]
HostRows = Annotated[Tensor, Lies(0, host=True)]
HostTimeRows = Annotated[Tensor, Lies(1, host=True)]
Whole = Annotated[Tensor, Lies(None)]
HostWhole = Annotated[Tensor, Lies(None, host=True)]

Group = TypeVar("Group", bound="TensorGroup")


class TensorGroup:
    """A frozen dataclass of tensors, tuples of tensors, other groups, and plain numbers; any of them may be None."""

    def map(self, change: Change, host: bool = False) -> Self:
        """The same function applied to every tensor on the device; with `host`, to those on the host too."""
        return _changed(self, lambda tensor, lies: change(tensor) if host or not lies.host else tensor, host, change)

    def rows(self, index: Tensor | slice) -> Self:
        """The part of some batch rows."""

        def chosen(tensor: Tensor, lies: Lies) -> Tensor:
            return tensor if lies.rows is None else tensor[(slice(None),) * lies.rows + (index,)]

        return self._each(chosen, lambda group: group.rows(index))

    def named(self, prefix: str = "") -> dict[str, Tensor]:
        """Everything in it by name, numbers as tensors; `restored` is the reverse."""
        return dict(_named(self, prefix))

    @classmethod
    def restored(cls, named: dict[str, Tensor], prefix: str = "") -> Self:
        """The group that `named` named.

        Raises:
            KeyError: a part is missing; it is named.
        """
        return _restored(cls, named, prefix)

    def _each(self, change: Callable[[Tensor, Lies], Tensor], inner: Callable[[Any], Any]) -> Self:
        """The same group with `change` applied to its own tensors and `inner` to the groups in it."""
        found = {
            name: _applied(getattr(self, name), lies, change, inner) for name, lies in _lies_of(type(self)).items()
        }
        return type(self)(**found)  # all fields are in it


def _changed(group: Group, change: Callable[[Tensor, Lies], Tensor], host: bool, plain: Change) -> Group:
    return group._each(change, lambda inner: inner.map(plain, host))  # pyright: ignore[reportPrivateUsage]


def _applied(value: Any, lies: Lies, change: Callable[[Tensor, Lies], Tensor], inner: Callable[[Any], Any]) -> Any:
    if isinstance(value, Tensor):
        return change(value, lies)
    if isinstance(value, TensorGroup):
        return inner(value)
    if isinstance(value, tuple):
        return tuple(_applied(part, lies, change, inner) for part in cast("tuple[Any, ...]", value))
    return value


@functools.cache
def _lies_of(group: type) -> dict[str, Lies]:
    """How each field's tensors lie, by the field's name."""
    hints = get_type_hints(group, include_extras=True)
    return {field.name: _lies_in(hints[field.name]) for field in dataclasses.fields(group)}


def _lies_in(hint: Any) -> Lies:
    for part in (hint, *_parts_of(hint)):
        if get_origin(part) is Annotated:
            return next(mark for mark in get_args(part)[1:] if isinstance(mark, Lies))
    return Lies()


def _parts_of(hint: Any) -> Iterator[Any]:
    """The types that a union or a tuple is made of, and theirs."""
    if get_origin(hint) in (Union, types.UnionType, tuple):
        for part in get_args(hint):
            yield part
            yield from _parts_of(part)


def _named(value: Any, name: str) -> Iterator[tuple[str, Tensor]]:
    if isinstance(value, Tensor):
        yield name, value
    elif isinstance(value, int):  # a bool too
        yield name, torch.tensor(value, device="cpu")
    elif isinstance(value, tuple):
        for number, part in enumerate(cast("tuple[Any, ...]", value)):
            yield from _named(part, f"{name}.{number}")
    elif isinstance(value, TensorGroup):
        for field in dataclasses.fields(cast("Any", value)):
            yield from _named(getattr(value, field.name), f"{name}.{field.name}" if name else field.name)
    else:
        assert value is None, f"{name} is {type(value).__name__}"


def _restored(hint: Any, named: dict[str, Tensor], name: str) -> Any:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        there = name in named or any(other.startswith(f"{name}.") for other in named)
        kinds = [part for part in arguments if part is not type(None)]
        return _restored(kinds[0], named, name) if there else None
    if origin is tuple:
        numbers = {other[len(name) + 1 :].split(".")[0] for other in named if other.startswith(f"{name}.")}
        return tuple(_restored(arguments[0], named, f"{name}.{number}") for number in range(len(numbers)))
    if origin is Annotated:
        return _on_its_side(named[name], next(mark for mark in arguments[1:] if isinstance(mark, Lies)))
    if hint is Tensor:
        return named[name]
    if hint in (int, bool):
        return _number(hint, named[name], name)
    hints = get_type_hints(hint, include_extras=True)
    fields = {field.name for field in dataclasses.fields(hint)}
    return hint(**{own: _restored(hints[own], named, f"{name}.{own}" if name else own) for own in fields})


def _number(hint: Any, tensor: Tensor, name: str) -> Any:
    if tensor.dim() or tensor.dtype != torch.tensor(hint()).dtype:
        raise ValueError(f"{name} must be one {hint.__name__}, got {tensor.dtype} of shape {tuple(tensor.shape)}")
    return hint(tensor.item())


def _on_its_side(tensor: Tensor, lies: Lies) -> Tensor:
    return tensor.cpu() if lies.host else tensor


@contextmanager
def counting_on_host() -> Generator[None]:
    """While steps, rows and slots are counted: tensors made without a device are on the host, whatever
    torch.set_default_device or `with torch.device(...)` says.
    """
    if torch.empty(0).device.type == "cpu":  # PyTorch 2.6's get_default_device misses contexts
        yield
        return
    with torch.device("cpu"):
        yield


def host_range(start: int, stop: int | None = None) -> Tensor:
    """Numbers of rows or streams, int64, on the host: from start to stop - 1, or from 0 to start - 1."""
    return torch.arange(start, device="cpu") if stop is None else torch.arange(start, stop, device="cpu")


def counts_of(tensor: Tensor) -> list[int]:
    """Counts (B,) as a list. PyTorch 2.6's `tolist` cannot read them under torch.func."""
    return [int(number) for number in tensor]


def common(counts: Tensor) -> int | None:
    """The number that all rows have, (B,) on the host; None where they differ, or there are none."""
    numbers = set(cast("list[int]", counts.tolist()))
    return numbers.pop() if len(numbers) == 1 else None


def all_finite(tensor: Tensor) -> bool:
    """Whether a tensor is known to hold finite numbers only; False on devices that a look at it would wait for."""
    if tensor.device.type == "meta" or not tensor.numel():
        return True
    if tensor.device.type != "cpu":
        return False
    return math.isfinite(float(tensor.detach().sum())) or bool(tensor.detach().isfinite().all())  # a sum may overflow


def by_row(tensor: Tensor) -> Tensor:
    """A tensor (B, ...) as (B, n), also where a row has one number and no further axis."""
    return tensor.unsqueeze(-1).flatten(1)


def alone(tensor: Tensor) -> Tensor:
    """A tensor without its graph, and without a storage much larger than itself, of which it is a part.

    One that was made in inference mode is copied, so that a call with a graph may go on from it.
    """
    own = tensor.detach()
    if torch.compiler.is_compiling():
        return own.clone()  # what is traced cannot look at a storage
    if torch._C._functorch.is_functorch_wrapped_tensor(own):  # pyright: ignore
        return own  # it has no storage to look at
    shares = own.untyped_storage().nbytes() > 2 * own.nbytes
    return own.clone() if shares or own.is_inference() else own


def row_places(index: Tensor | slice, rows: int) -> Tensor:
    """The numbers of the rows that an index chooses of so many, (n,) int64 on the host, in its order.

    Raises:
        ValueError: the index chooses no list of rows, as a single number does.
    """
    places = torch.arange(rows, device="cpu")[index]
    if places.dim() != 1:
        raise ValueError(f"index must choose a list of rows: a slice, or a tensor of one axis; got {index!r}")
    return places


def row_mask(mask: Tensor | Sequence[bool] | None, rows: int) -> Tensor:
    """Which of so many rows a mask marks, (B,) bool on the host, a copy; None: all of them.

    Raises:
        ValueError: the mask has another shape or type.
    """
    marked = torch.as_tensor([True] * rows if mask is None else mask, device="cpu").clone()
    if not isinstance(mask, Tensor) and not len(marked):
        marked = marked.bool()  # an empty list has no type
    if marked.dtype != torch.bool or marked.shape != (rows,):
        raise ValueError(f"mask must be bool of shape ({rows},), got {marked.dtype} of shape {tuple(marked.shape)}")
    return marked
