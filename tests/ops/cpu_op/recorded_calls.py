"""Records the calls that a layer makes of the C++ op's operators; `direct_calls` then damages them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence
from torch.utils._python_dispatch import TorchDispatchMode

from reminding import SAB
from reminding.ops.contract import SEARCH, OpRule
from reminding.ops.cpu_op import missing

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
    "lstm additive packed": {"cell": "lstm", "score": "additive", "normalizer": "threshold", "engine": "replay"},
    "gru dot packed": {"cell": "gru", "score": "dot", "normalizer": "softmax", "engine": "autograd"},
    "lstm dot dropped": {
        "cell": "lstm", "score": "dot", "normalizer": "softmax", "engine": "autograd", "recurrent_dropout": 0.3,
    },
    "gru additive dropped": {
        "cell": "gru", "score": "additive", "normalizer": "softmax", "engine": "replay", "recurrent_dropout": 0.3,
    },
    "lstm additive dropped stream": {
        "cell": "lstm", "score": "additive", "normalizer": "softmax", "engine": "replay", "recurrent_dropout": 0.3,
    },
    "lstm without memory": {"cell": "lstm", "score": "additive", "k_top": 0, "engine": "replay"},
    "lstm additive served by a tree": {
        "cell": "lstm", "score": "additive", "normalizer": "softmax", "search": "tree",
    },
    "gru separable served least recalled": {
        "cell": "gru", "score": "separable", "normalizer": "softmax", "capacity": 3, "evict": "least_recalled",
    },
    "rnn dot served fifo": {"cell": "rnn", "score": "dot", "normalizer": "softmax1", "capacity": 4},
}  # fmt: skip


@dataclass(frozen=True)
class Call:
    """One call of an operator, with its arguments as they were before the call."""

    operator: Any
    arguments: list[Any]

    @property
    def name(self) -> str:
        return self.operator._schema.name.split("::")[1]

    @property
    def names(self) -> list[str]:
        return [argument.name for argument in self.operator._schema.arguments]

    def run(self, arguments: list[Any]) -> list[Tensor]:
        """All that a call with these arguments writes and returns."""
        arguments = copied(arguments)
        returned = self.operator(*arguments)
        schema = self.operator._schema.arguments
        written = [a for a, of in zip(arguments, schema, strict=True) if of.alias_info and of.alias_info.is_write]
        return list(tensors([written, returned]))


def copied(value: Any) -> Any:
    """A copy that shares no memory with the original, but has its strides and flags."""
    if isinstance(value, Tensor):
        if value.device.type != "cpu" or value.layout != torch.strided or not value.untyped_storage().nbytes():
            return value
        with torch.no_grad():
            storage = value.untyped_storage().clone()
            layout = value.storage_offset(), value.shape, value.stride()
            whole = torch.empty(0, dtype=value.dtype).set_(storage, *layout)
        return torch.ops.aten._neg_view(whole) if value.is_neg() else whole
    return [copied(part) for part in cast("list[Any]", value)] if isinstance(value, list | tuple) else value


def tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for part in cast("list[Any]", value):
            yield from tensors(part)


def equal(found: list[Tensor], right: list[Tensor]) -> bool:
    """Whether two calls wrote the same numbers, up to rounding: products depend on how rows lie in memory."""
    return len(found) == len(right) and all(
        one.shape == other.shape
        and one.dtype == other.dtype
        and torch.allclose(one, other, rtol=1e-4, atol=1e-5, equal_nan=True)
        for one, other in zip(found, right, strict=True)
    )


class _Record(TorchDispatchMode):
    """Records the calls of the two operators that are registered with autograd."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Call] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.namespace == "reminding":
            self.calls.append(Call(func, copied([*args])))
        return func(*args, **(kwargs or {}))


class _Loops:
    """Replaces `torch.ops.reminding_cpu` and records the calls of its loops."""

    def __init__(self, calls: list[Call]) -> None:
        self._loops, self._calls = torch.ops.reminding_cpu, calls

    def __getattr__(self, name: str) -> Callable[..., Any]:
        operator = getattr(self._loops, name).default

        def noted(*arguments: Any) -> Any:
            self._calls.append(Call(operator, copied([*arguments])))
            return operator(*arguments)

        noted.default = noted  # pyright: ignore[reportFunctionMemberAccess]
        return noted


def recorded(case: str) -> list[Call]:
    """The operator calls in a training step of a small layer, one for each operator and each shape of arguments.

    They are recorded in two runs, since torch itself looks an operator up while a dispatch mode is on.
    """
    assert missing() is None
    record = _Record()
    with record:
        _run(case)
    namespaces = cast("Any", torch.ops)
    loops = namespaces.reminding_cpu
    namespaces.reminding_cpu = _Loops(record.calls)
    try:
        _run(case)
    finally:
        namespaces.reminding_cpu = loops
    if "tree" in case:
        record.calls.append(_bounds())
    different = {str((call.name, _outline(call.arguments))): call for call in record.calls}
    return list(different.values())


def _bounds() -> Call:
    """A call of the operator that only tests call."""
    rule = OpRule.of(cell="lstm", score="additive", k_top=2)._replace(search=SEARCH["tree"])
    return Call(_loops().bounds.default, [torch.randn(20, 3), torch.randn(3), torch.randn(3), list(rule)])


def _loops() -> Any:
    return torch.ops.reminding_cpu


def _run(case: str) -> None:
    _serve(case) if "served" in case else _train(case)


def _serve(case: str) -> None:
    """Take steps on streams that remember enough for a tree, where there is one."""
    torch.manual_seed(0)
    layer = SAB(3, 5, k_top=2, k_att=1, k_trunc=3, score_size=6, backend="cpu", **CASES[case])
    stepper = layer.stepper()
    for x in torch.randn(24, 2, 3):
        stepper(x, return_recall=True)


def _train(case: str) -> None:
    """Run forward and backward. A stream has two chunks, and the second sends credit into the first.

    Packed sequences have different lengths.
    """
    options: dict[str, Any] = {"k_top": 2, "dtype": torch.float32, **CASES[case]}
    if options["score"] != "separable":
        options["score_size"] = 6
    torch.manual_seed(0)
    layer = SAB(3, 5, k_att=2, k_trunc=3, backend="cpu", **options)
    x = torch.randn(7, 2, 3, dtype=options["dtype"], requires_grad=True)
    state = None
    for _ in range(2 if "stream" in case else 1):
        given = pack_padded_sequence(x, torch.tensor([7, 5])) if "packed" in case else x
        output, state = layer(given, state)
        (output.data if isinstance(output, PackedSequence) else output)[-1:].square().sum().backward()


def _outline(value: Any) -> Any:
    if isinstance(value, Tensor):
        return tuple(value.shape), value.dtype
    return tuple(map(_outline, cast("list[Any]", value))) if isinstance(value, list | tuple) else value
