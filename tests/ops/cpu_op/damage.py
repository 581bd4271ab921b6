"""Ways to damage the arguments of an operator: tensors, lists and numbers, one change at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from tests.ops.cpu_op.recorded_calls import Call, copied

# Names of the members of lists of tensors, by operator or for all operators.
MEMBERS: dict[str, tuple[str, ...]] = {
    "given": ("x", "h0", "c0", "step0", "count0", "score", "lengths", "factor"),
    "packed": ("input", "hidden", "memory", "query"),
    "kept": ("gates", "cells", "queries", "keys"),
    "record": ("output", "summary", "memory", "slots", "edge", "weights", "inverse", "entering_c"),
    "weights": ("weight_ih", "weight_hh", "w1", "w2"),
    "arriving": ("d_output", "d_summary", "d_c_T", "d_c", "d_memory"),
    "visited": ("pair", "touched"),
    "room": ("gates", "cells", "queries", "output", "summary"),
    "credit": ("d_recalled", "d_keys"),
    "sums": ("d_weight_ih", "d_weight_hh", "d_w1", "d_w2"),
    "leaving": ("d_x", "d_h0", "d_c0", "d_bias", "d_score"),
    "past": ("cut", "stored", "entry", "h", "c"),
    "segments": ("row", "steps_done", "steps", "base", "stride"),
    "memory": ("step", "passes", "credited"),
}
# Lists of `serve`, which have names that mean something else to other operators.
SERVED: dict[str, tuple[str, ...]] = {
    "state": ("h", "c", "step0"),
    "weights": ("bias", "input", "hidden", "memory", "query", "score"),
    "slots": ("value", "stored_at", "received", "keys"),
    "held": ("window", "tops", "points", "links", "notes"),
    "out": ("output", "summary", "c_T", "weights", "steps"),
}

LARGEST = 2**63 - 1
# Values that an index may not have where it is read.
OUT_OF_RANGE: dict[str, tuple[int, ...]] = {
    "count0": (-1, -(2**40), 10**6, LARGEST),
    "step0": (-1, -LARGEST, LARGEST),
    "lengths": (-1, 0, -LARGEST, 10**6, LARGEST),
    **dict.fromkeys(("slots", "edge"), (10**6, 2**31 - 1)),
    **dict.fromkeys(("pair", "touched", "stored", "entry"), (-2, -(2**31), 10**6, 2**31 - 1)),
    **dict.fromkeys(("row", "steps", "base"), (-1, -LARGEST, 10**6, LARGEST)),
    **dict.fromkeys(("steps_done", "stride"), (-1, LARGEST)),
    **dict.fromkeys(("window", "notes"), (-2, -LARGEST, 10**6, LARGEST)),
    "entries": (-1, -LARGEST, 10**6, LARGEST),
    "read": (10**6, 2**31 - 1),
}
TYPES = {
    True: (torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int32),
    False: (torch.int16, torch.int32, torch.int64, torch.bool, torch.float32),
}
"""Wrong types for a tensor of floating-point numbers (True) or of other elements (False)."""
BAD_NUMBERS = {
    "cell": (3, -1), "score": (3, 7), "normalizer": (3, -1), "semantics": (2, -1), "k_top": (-1, 2**20 + 1, 2**31),
    "k_att": (0, -1), "k_trunc": (-1,), "backtrack": (2, -1), "capacity": (-1,), "evict": (2, -1),
    "recall_scale": (0, -1), "forget_scale": (0, -1), "search": (3, -1), "null_score": (-1, 2),
    "summary_gate": (-1, 2), "stored": (-1, 2),
}  # fmt: skip
BAD_SCALARS = {"first_row": (-1, 1, LARGEST), "stride": (0, -1), "offset": (-1, LARGEST), "keep": (7, -1)}
# Arguments that may be left out; the call is then valid, but a different one.
OPTIONAL = {
    "forward": {"lengths", "factor"},
    "differentiate": {"lengths", "factor", "d_output", "d_summary", "d_c_T", "d_c", "d_memory", "d_x"},
    "backward": {"lengths", "factor", "d_output", "d_summary", "d_c_T", "d_c", "d_x"},
    "reach": {"lengths", "d_output", "d_summary", "d_c_T", "d_c", "d_memory"},
    "sab_forward": {"bias_ih", "bias_hh", "factor"},
    "sab_backward": {"bias_ih", "bias_hh", "factor", "d_output", "d_summary", "d_c_T", "d_memory"},
    "replay_past": {"factor"},
    "serve": {"summary", "weights", "steps"},
}
SHAPELESS = {"pack", "number", "exponentiate", "ask_for_huge_pages", "fingerprint"}
"""Operators whose tensors may have any shape."""


@dataclass(frozen=True)
class Damage:
    """A change of one argument, or of one member of a list of them.

    Attributes:
        place: which argument, and which member of a list, -1 for the argument as a whole.
        says: the name of the argument and the change.
        other: whether the changed call is valid, with another meaning.
    """

    place: tuple[int, int]
    says: str
    change: Callable[[Any], Any]
    other: bool = False

    def of(self, arguments: list[Any]) -> list[Any]:
        at, member = self.place
        damaged = copied(arguments)
        if member < 0:
            damaged[at] = self.change(damaged[at])
        else:
            damaged[at][member] = self.change(damaged[at][member])
        return damaged


def damages(call: Call) -> Iterator[Damage]:
    """Every known damage to every argument of a call."""
    for at, (name, value) in enumerate(zip(call.names, call.arguments, strict=True)):
        if isinstance(value, Tensor) or value is None:
            yield from _of_tensor(call, (at, -1), name, value)
        elif isinstance(value, list | tuple):
            yield from _of_list(call, at, name, list(cast("list[Any]", value)))
        elif isinstance(value, int):
            yield from _of_number(call, at, name)


def _of_list(call: Call, at: int, name: str, value: list[Any]) -> Iterator[Damage]:
    def damage(says: str, changed: list[Any], other: bool = False) -> Damage:
        return Damage((at, -1), f"{name} {says}", lambda _: changed, other)

    if name == "rule":
        for place, (number_of, bad) in enumerate(BAD_NUMBERS.items()):
            for number in bad:
                yield damage(f"{number_of} = {number}", [*value[:place], number, *value[place + 1 :]])
        # Asks for more ranks than were recorded, where they were. For reach_past only k_top > 0 matters.
        free = ("reach_past", "sab_forward", "forward", "replay_past")
        yield damage("k_top + 3", [*value[:4], value[4] + 3, *value[5:]], call.name in free)
    if name == "steps":
        for number in (-1, 2**31, LARGEST):
            yield damage(f"[0] = {number}", [number, *value[1:]])
    if name == "milestones":
        for changed in ([3], [0, 0], [3, -1], [3, 3], [-1, 0], [2, 1, 0]):
            yield damage(f"= {changed}", changed)
        return
    yield damage("= []", [], name in ("past", "tensors"))
    yield damage("without its last", value[:-1], name == "tensors")
    yield damage("with one more", [*value, value[-1] if value else 0 if name == "rule" else None], name == "tensors")
    if name not in ("rule", "steps"):
        parts = (SERVED if call.name == "serve" else MEMBERS).get(
            name, [f"{name}[{member}]" for member in range(len(value))]
        )
        for member, (part, tensor) in enumerate(zip(parts, value, strict=False)):
            yield from _of_tensor(call, (at, member), part, tensor)


def _of_number(call: Call, at: int, name: str) -> Iterator[Damage]:
    for number in BAD_SCALARS.get(name, ()):
        yield Damage((at, -1), f"{name} = {number}", lambda _, number=number: number)
    if name not in BAD_SCALARS:  # a bool; `compact` must match the saved tensors
        yield Damage((at, -1), f"{name} turned round", lambda value: not value, name != "compact")


def _of_tensor(call: Call, place: tuple[int, int], name: str, value: Tensor | None) -> Iterator[Damage]:
    def damage(says: str, change: Callable[[Tensor], Any], other: bool = False) -> Damage:
        return Damage(place, f"{name} {says}", change, other)

    if value is None:
        yield damage("= zeros(1)", lambda _: torch.zeros(1))
        return
    yield damage("= None", lambda _: None, name in OPTIONAL.get(call.name, ()))
    for dtype in TYPES[value.is_floating_point()]:
        if dtype != value.dtype:
            alone = call.name in ("pack", "exponentiate") and dtype.is_floating_point
            yield damage(f"as {dtype}", lambda x, dtype=dtype: x.to(dtype), alone)
    for says, change, other in _of_shape(call, name, value):
        yield damage(says, change, other)
    yield damage("transposed in memory", _strided)
    yield damage("on no device", lambda x: x.to("meta"), name == "received0")  # read with a capacity only
    yield damage("without memory", _without_memory)
    yield damage("sparse", lambda x: x.to_sparse())
    if value.is_floating_point():
        yield damage("negated twice", lambda x: torch.ops.aten._neg_view(-x))
        yield damage("that requires gradients", lambda x: x.requires_grad_())
    elif value.numel() and value.dtype != torch.bool:
        for number in OUT_OF_RANGE.get(name, ()):
            if abs(number) <= torch.iinfo(value.dtype).max + 1:
                for element in {0, value.numel() // 2, value.numel() - 1}:
                    yield damage(f"[{element}] = {number}", lambda x, e=element, n=number: _with(x, e, n))


def _of_shape(call: Call, name: str, value: Tensor) -> Iterator[tuple[str, Callable[[Tensor], Tensor], bool]]:
    """A description, the change, and whether the call stays valid."""
    for dim in range(value.dim()):
        other = _measures(call, name, dim)
        yield f"shorter in {dim}", lambda x, dim=dim: x[_slice(dim, x.shape[dim] - 1)].contiguous(), other
        yield f"longer in {dim}", lambda x, dim=dim: torch.cat([x, x[_slice(dim, 1)]], dim), other
    shapeless = call.name in SHAPELESS
    yield "with one more dimension", lambda x: x.unsqueeze(0), shapeless
    yield "flattened", lambda x: x.flatten(), shapeless or value.dim() == 1
    yield "empty", lambda x: x.new_empty(0), shapeless


def _measures(call: Call, name: str, dim: int) -> bool:
    """Whether a call may choose this size of a tensor freely."""
    if call.name in SHAPELESS:
        return True
    return (call.name, name, dim) in {
        ("sab_forward", "x", 0),
        ("sab_forward", "memory0", 1),
        ("forward", "x", 0),
        ("forward", "memory0", 1),
        ("reach_past", "read", 0),
        ("reach_past", "read", 2),
        ("lay_out_past", "read", 0),
        ("lay_out_past", "read", 2),
        ("replay_past", "read", 2),
        ("replay_past", "credited", 1),
        ("replay_past", "memory", 1),
        ("replay_past", "entries", 1),
        ("replay_past", "gates", 0),
        ("replay_past", "cells", 0),
        ("replay_past", "queries", 0),
        ("gather_past", "parts", 0),
        ("gather_past", "out", 0),
        ("gather_past", "out", 1),
        ("give_back", "d_memory0", 1),
        ("replay", "memory", 1),
        ("bounds", "keys", 0),
    }


def _slice(dim: int, stop: int) -> tuple[slice, ...]:
    return (*[slice(None)] * dim, slice(max(stop, 0)))


def _strided(x: Tensor) -> Tensor:
    wide = torch.empty(*x.shape, 2, dtype=x.dtype)
    wide[..., 0] = x
    return wide[..., 0]


def _without_memory(x: Tensor) -> Tensor:
    x = torch.zeros(x.shape, dtype=x.dtype)
    x.untyped_storage().resize_(0)
    return x


def _with(x: Tensor, element: int, number: int) -> Tensor:
    x.view(-1)[element] = number
    return x
