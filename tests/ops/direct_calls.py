"""Calls of the C++ op's operators as a layer makes them, and the same calls with one argument damaged.

A missing check may end the process, so they are run in one of their own, `python -m tests.ops.direct_calls`. It prints
a line before each call, so that the last one names the call that ended it, and WRONG after a call that gave other
numbers in silence.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from reminding import SAB
from reminding.ops.cpu_op import checks, missing

CASES: dict[str, dict[str, Any]] = {
    "lstm additive": {"cell": "lstm", "score": "additive", "normalizer": "threshold", "engine": "autograd"},
    "gru dot replay": {"cell": "gru", "score": "dot", "normalizer": "softmax", "engine": "replay"},
    "rnn separable fifo": {
        "cell": "rnn", "score": "separable", "semantics": "release", "normalizer": "threshold", "capacity": 2,
        "engine": "replay",
    },
    "lstm separable least recalled": {
        "cell": "lstm", "score": "separable", "normalizer": "softmax1", "capacity": 3, "evict": "least_recalled",
        "engine": "autograd", "dtype": torch.float64,
    },
    "lstm additive stream": {"cell": "lstm", "score": "additive", "normalizer": "softmax", "engine": "replay"},
    "gru additive stream": {"cell": "gru", "score": "additive", "normalizer": "threshold", "engine": "autograd"},
    "lstm without memory": {"cell": "lstm", "score": "additive", "k_top": 0, "engine": "replay"},
}  # fmt: skip

# Names of what lists of tensors hold, by operator or for all.
MEMBERS: dict[str, tuple[str, ...]] = {
    "given": ("x", "h0", "c0", "step0", "count0", "score"),
    "packed": ("input", "hidden", "memory", "query"),
    "kept": ("gates", "cells", "queries", "keys"),
    "record": ("output", "summary", "memory", "slots", "edge", "weights", "inverse", "entering_c"),
    "bounded": ("received", "alive"),
    "arriving": ("d_output", "d_summary", "d_c_T"),
    "credit": ("d_recalled", "d_keys"),
    "sums": ("d_weight_ih", "d_weight_hh", "d_w1", "d_w2"),
    "leaving": ("d_x", "d_h0", "d_c0", "d_bias", "d_score"),
    "past": ("cut", "stored", "entry", "h", "c"),
    "segments": ("row", "taken", "steps", "base", "stride"),
    "memory": ("step", "passes", "credited"),
}

LARGEST = 2**63 - 1
# Values that an index may never have, where credit comes to it.
OUT_OF_RANGE: dict[str, tuple[int, ...]] = {
    "count0": (-1, -(2**40), 10**6, LARGEST),
    "step0": (-1, -LARGEST, LARGEST),
    **dict.fromkeys(("slots", "edge"), (10**6, 2**31 - 1)),
    **dict.fromkeys(("pair", "touched", "stored", "entry"), (-2, -(2**31), 10**6, 2**31 - 1)),
    **dict.fromkeys(("row", "steps", "base"), (-1, -LARGEST, 10**6, LARGEST)),
    **dict.fromkeys(("taken", "stride"), (-1, LARGEST)),
}
# Of the rule's numbers: cell, score, normalizer, semantics, k_top, k_att, k_trunc, backtrack, capacity, evict, scales.
BAD_NUMBERS = ((3, -1), (3, 7), (3, -1), (2, -1), (-1, 2**31), (0, -1), (-1,), (2, -1), (-1,), (2, -1), (0, -1), (0, -1))
# What may be left out: the call is another then, and right.
OPTIONAL = {
    "forward": {"gates", "cells", "queries", "entering_c", "milestones"},
    "backward": {"d_output", "d_summary", "d_c_T", "d_x"},
    "reach": {"d_output", "d_summary", "d_c_T", "d_memory"},
    "sab_forward": {"bias_ih", "bias_hh"},
    "sab_backward": {"bias_ih", "bias_hh", "d_output", "d_summary", "d_c_T", "d_memory"},
}
CHECKS = {"sab_forward": checks.check_forward, "sab_backward": checks.check_backward}
SHAPELESS = {"pack", "exponentiate", "ask_for_huge_pages"}
"""Operators of one tensor, of whatever shape."""


@dataclass(frozen=True)
class Call:
    """One call of an operator; its arguments as they were before it."""

    operator: Any
    arguments: list[Any]

    @property
    def name(self) -> str:
        return self.operator._schema.name.split("::")[1]

    @property
    def names(self) -> list[str]:
        return [argument.name for argument in self.operator._schema.arguments]

    def run(self, arguments: list[Any]) -> list[Tensor]:
        """What a call with these arguments writes and returns."""
        arguments = copied(arguments)
        if self.name in CHECKS:
            CHECKS[self.name](dict(zip(self.names, arguments, strict=True)))
        returned = self.operator(*arguments)
        schema = self.operator._schema.arguments
        written = [a for a, of in zip(arguments, schema, strict=True) if of.alias_info and of.alias_info.is_write]
        return list(tensors([written, returned]))


@dataclass(frozen=True)
class Damage:
    """A change of one argument, or of one member of a list of them.

    Attributes:
        place: which argument, and which member of it, -1 for all of it.
        says: its name and how it is changed.
        other: whether the call is right all the same, with another meaning.
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


def copied(value: Any) -> Any:
    """A copy that shares no memory, with the strides and the flags of the original."""
    if isinstance(value, Tensor):
        if value.device.type != "cpu" or value.layout != torch.strided or not value.untyped_storage().nbytes():
            return value
        with torch.no_grad():
            storage = value.untyped_storage().clone()
            whole = torch.empty(0, dtype=value.dtype).set_(storage, value.storage_offset(), value.shape, value.stride())
        return torch._neg_view(whole) if value.is_neg() else whole
    return [copied(part) for part in value] if isinstance(value, list | tuple) else value


def tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for part in value:
            yield from tensors(part)


def equal(found: list[Tensor], right: list[Tensor]) -> bool:
    """Whether two calls wrote the same, but for the rounding of products over rows that lie otherwise in memory."""
    return len(found) == len(right) and all(
        one.shape == other.shape
        and one.dtype == other.dtype
        and torch.allclose(one, other, rtol=1e-4, atol=1e-5, equal_nan=True)
        for one, other in zip(found, right, strict=True)
    )


class _Record(TorchDispatchMode):
    """Notes the calls of the two operators that autograd knows."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Call] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.namespace == "reminding":
            self.calls.append(Call(func, copied([*args])))
        return func(*args, **(kwargs or {}))


class _Loops:
    """Stands in for `torch.ops.reminding_cpu` and notes the calls of its loops."""

    def __init__(self, calls: list[Call]) -> None:
        self._loops, self._calls = torch.ops.reminding_cpu, calls

    def __getattr__(self, name: str) -> Callable[..., Any]:
        operator = getattr(self._loops, name).default

        def noted(*arguments: Any) -> Any:
            self._calls.append(Call(operator, copied([*arguments])))
            return operator(*arguments)

        return noted


def recorded(case: str) -> list[Call]:
    """The calls of operators in a training step of a small layer, one for each operator and each shape of arguments.

    They are noted in two runs, since torch itself looks an operator up while a mode is on.
    """
    assert missing() is None
    record = _Record()
    with record:
        _train(case)
    loops = torch.ops.reminding_cpu
    torch.ops.reminding_cpu = _Loops(record.calls)
    try:
        _train(case)
    finally:
        torch.ops.reminding_cpu = loops
    different = {str((call.name, _outline(call.arguments))): call for call in record.calls}
    return list(different.values())


def _train(case: str) -> None:
    """Forward and backward; of a stream two chunks, the second with credit for the first."""
    options = {"k_top": 2, "dtype": torch.float32, **CASES[case]}
    if options["score"] != "separable":
        options["score_size"] = 6
    torch.manual_seed(0)
    layer = SAB(3, 5, k_att=2, k_trunc=3, backend="cpu", **options)
    x = torch.randn(7, 2, 3, dtype=options["dtype"], requires_grad=True)
    state = None
    for _ in range(2 if "stream" in case else 1):
        output, state = layer(x, state)
        output[-1:].square().sum().backward()


def _outline(value: Any) -> Any:
    if isinstance(value, Tensor):
        return tuple(value.shape), value.dtype
    return tuple(map(_outline, value)) if isinstance(value, list | tuple) else value


def damages(call: Call) -> Iterator[Damage]:
    """Every damage known to every argument of a call."""
    for at, (name, value) in enumerate(zip(call.names, call.arguments, strict=True)):
        if isinstance(value, Tensor) or value is None:
            yield from _of_tensor(call, (at, -1), name, value)
        elif isinstance(value, list | tuple) and (call.name, name) != ("ask_for_huge_pages", "tensors"):
            yield from _of_list(call, at, name, list(value))
        elif isinstance(value, int):
            yield from _of_number(call, at, name)


def _of_list(call: Call, at: int, name: str, value: list[Any]) -> Iterator[Damage]:
    def damage(says: str, changed: list[Any], other: bool = False) -> Damage:
        return Damage((at, -1), f"{name} {says}", lambda _: changed, other)

    if name == "rule":
        for place, bad in enumerate(BAD_NUMBERS):
            for number in bad:
                yield damage(f"[{place}] = {number}", [*value[:place], number, *value[place + 1 :]])
        # Reading more than was recorded; what searches records alone asks only whether anything is stored.
        yield damage("[4] + 3", [*value[:4], value[4] + 3, *value[5:]], call.name in ("reach_past", "sab_forward"))
    if name == "milestones":
        for changed in ([3], [0, 0], [3, -1], [3, 3], [-1, 0], [2, 1, 0]):
            yield damage(f"= {changed}", changed)
        return
    yield damage("= []", [], name == "past")
    yield damage("without its last", value[:-1])
    yield damage("with one more", [*value, value[-1] if value else 0 if name == "rule" else None])
    if name != "rule":
        for member, (part, tensor) in enumerate(zip(MEMBERS[name], value, strict=False)):
            yield from _of_tensor(call, (at, member), part, tensor)


def _of_number(call: Call, at: int, name: str) -> Iterator[Damage]:
    bad = {"first_row": (-1, 1, LARGEST), "stride": (0, -1), "offset": (-1, LARGEST), "keep": (7, -1), "most": (-1, 3)}
    for number in bad.get(name, ()):
        yield Damage((at, -1), f"{name} = {number}", lambda _, number=number: number)
    if name not in bad:  # a truth value; `compact` says what the kept tensors are
        yield Damage((at, -1), f"{name} turned round", lambda value: not value, name != "compact")


def _of_tensor(call: Call, place: tuple[int, int], name: str, value: Tensor | None) -> Iterator[Damage]:
    def damage(says: str, change: Callable[[Tensor], Any], other: bool = False) -> Damage:
        return Damage(place, f"{name} {says}", change, other)

    if value is None:
        yield damage("= zeros(1)", lambda _: torch.zeros(1))
        return
    yield damage("= None", lambda _: None, name in OPTIONAL.get(call.name, ()))
    if value.dtype == torch.bool or not value.is_floating_point():
        types = (torch.int16, torch.int32, torch.int64, torch.bool, torch.float32)
    else:
        types = (torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int32)
    for dtype in types:
        if dtype != value.dtype:
            alone = call.name in ("pack", "exponentiate") and dtype.is_floating_point
            yield damage(f"as {dtype}", lambda x, dtype=dtype: x.to(dtype), alone)
    for dim in range(value.dim()):
        other = _measures(call, name, dim)
        yield damage(f"shorter in {dim}", lambda x, dim=dim: x[_slice(dim, x.shape[dim] - 1)].contiguous(), other)
        yield damage(f"longer in {dim}", lambda x, dim=dim: torch.cat([x, x[_slice(dim, 1)]], dim), other)
    shapeless = call.name in SHAPELESS
    yield damage("with one more dimension", lambda x: x.unsqueeze(0), shapeless)
    yield damage("flattened", lambda x: x.flatten(), shapeless or value.dim() == 1)
    yield damage("empty", lambda x: x.new_empty(0), shapeless)
    yield damage("transposed in memory", _strided)
    yield damage("on no device", lambda x: x.to("meta"), name == "received0")  # which nobody may read
    yield damage("without memory", _without_memory)
    yield damage("sparse", lambda x: x.to_sparse())
    if value.is_floating_point():
        yield damage("negated twice", lambda x: torch._neg_view(-x))
        yield damage("that requires gradients", lambda x: x.requires_grad_())
    elif value.numel() and value.dtype != torch.bool:
        for number in OUT_OF_RANGE.get(name, ()):
            if abs(number) <= torch.iinfo(value.dtype).max + 1:
                for element in {0, value.numel() // 2, value.numel() - 1}:
                    yield damage(f"[{element}] = {number}", lambda x, e=element, n=number: _with(x, e, n))


def _measures(call: Call, name: str, dim: int) -> bool:
    """Whether this size of a tensor is the call's own to choose."""
    if call.name in SHAPELESS:
        return True
    if call.name == "forward" and name == "keys":
        # Rows of a group; and of the dot score's width the packed weights tell the panels alone.
        return (dim == 0 and call.arguments[3][0] is None) or dim == 2
    return (call.name, name, dim) in {
        ("sab_forward", "x", 0),
        ("sab_forward", "memory0", 1),
        ("reach_past", "read", 0),
        ("reach_past", "read", 2),
        ("replay", "memory", 1),
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


def outcome(call: Call, arguments: list[Any]) -> list[Tensor] | None:
    """What a call writes and returns; None where it is refused."""
    try:
        return call.run(arguments)
    except (RuntimeError, ValueError, TypeError, IndexError):
        return None


def run_each(calls: list[Call], first: int, stride: int) -> int:
    """Every so many-th damage of all that the calls can have; how many calls were made."""
    right: dict[int, list[Tensor]] = {}
    every = [(at, damage) for at, call in enumerate(calls) for damage in damages(call)]
    for at, damage in every[first::stride]:
        call = calls[at]
        right[at] = right.get(at) or call.run(call.arguments)
        print(call.name, damage.says, flush=True)
        found = outcome(call, damage.of(call.arguments))
        if not damage.other and found is not None and not equal(found, right[at]):
            print("WRONG", call.name, damage.says)
    return len(every[first::stride])


def run_pairs(calls: list[Call], seed: int, size: int) -> int:
    """Calls with two damages, and with random numbers among the integers; only a crash is wrong."""
    choose = random.Random(seed)
    every = [list(damages(call)) for call in calls]
    for number in range(size):
        at = choose.randrange(len(calls))
        arguments, says = copied(calls[at].arguments), [calls[at].name]
        for damage in choose.sample(every[at], 2):
            try:
                arguments = damage.of(arguments)
            except (RuntimeError, IndexError, TypeError, AttributeError):  # the first left nothing to damage
                continue
            says.append(damage.says)
        for tensor in tensors(arguments) if number % 2 else ():
            _scatter(tensor, choose)
        print(*says, seed, number, flush=True)
        outcome(calls[at], arguments)
    return size


def _scatter(tensor: Tensor, choose: random.Random) -> None:
    if tensor.dtype not in (torch.int32, torch.int64) or tensor.device.type != "cpu" or tensor.layout != torch.strided:
        return
    if not tensor.numel() or not tensor.is_contiguous() or not tensor.untyped_storage().nbytes():
        return
    most = torch.iinfo(tensor.dtype).max
    for _ in range(choose.randrange(3)):
        value = choose.choice([choose.randint(-3, 8), choose.randint(-most, most)])
        tensor.view(-1)[choose.randrange(tensor.numel())] = value


def main() -> None:
    """Run damaged calls of some cases."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="+", choices=CASES)
    parser.add_argument("--first", type=int, default=0, help="the first damage to run")
    parser.add_argument("--stride", type=int, default=1, help="and every so many-th from there")
    parser.add_argument("--pairs", type=int, default=0, help="so many calls with two damages instead")
    parser.add_argument("--seed", type=int, default=0, help="of the pairs")
    options = parser.parse_args()
    torch.use_deterministic_algorithms(True)  # fills memory that nothing is written to, so that it compares
    for case in options.cases:
        calls = recorded(case)
        if options.pairs:
            made = run_pairs(calls, options.seed, options.pairs)
        else:
            made = run_each(calls, options.first, options.stride)
        print("made", made)


if __name__ == "__main__":
    main()
