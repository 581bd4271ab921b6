"""Direct calls of the Triton operators with bad arguments are refused by name, before a kernel is launched.

So they need no Triton. test_operator.py makes valid calls.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from reminding.ops.contract import OpRule
from reminding.ops.cuda_op.checks import GIVEN, check_backward, check_forward
from reminding.ops.cuda_op.packing import Call, Record
from tests.ops.cuda_op.arguments import arguments

FORWARD: Any = torch.ops.reminding.sab_cuda_forward.default
BACKWARD: Any = torch.ops.reminding.sab_cuda_backward.default
CASES = {
    "lstm": ("lstm", "additive", None, torch.float64),
    "gru in half precision": ("gru", "dot", "fifo", torch.bfloat16),
    "rnn": ("rnn", "separable", "least_recalled", torch.float32),
}
every_case = pytest.mark.parametrize("case", CASES)


def named(operator: Any, given: tuple[Any, ...]) -> dict[str, Any]:
    """An operator's arguments by name, without gradients."""
    plain = [value.detach() if isinstance(value, Tensor) else value for value in given]
    return dict(zip([argument.name for argument in operator._schema.arguments], plain, strict=True))


def forward_call(case: str) -> dict[str, Any]:
    torch.manual_seed(0)
    return named(FORWARD, arguments(*CASES[case], False, "cpu"))


def backward_call(case: str) -> dict[str, Any]:
    """Of a forward pass that has recalled nothing."""
    given = forward_call(case)
    h0 = given["h0"]
    call = Call.of(given["x"], h0, given["memory0"], given["w1"], given["rule"])
    record = Record(*(torch.zeros_like(tensor) for tensor in Record.blank(h0, call)))
    kept = [h0.new_zeros(call.T, call.B, len(given["bias"])), h0.new_zeros(call.T, call.B, call.D)]
    arriving = [torch.ones_like(record.output), None, torch.ones_like(h0), torch.ones_like(record.memory)]
    return named(
        BACKWARD, (*arriving, *(given[name] for name in GIVEN), list(record), kept, given["rule"], False, True)
    )


def refused(operator: Any, arguments: dict[str, Any], name: str) -> None:
    with pytest.raises(ValueError, match=rf"^{re.escape(name)}"):
        operator(*arguments.values())


def changes_of(tensor: Tensor) -> Iterator[tuple[str, Callable[[Tensor], Tensor]]]:
    """Damage that no tensor may have."""
    yield "another type", lambda x: x.to(torch.int16)
    yield "with one more dimension", lambda x: x.unsqueeze(0)
    for dim in (dim for dim in range(tensor.dim()) if tensor.shape[dim]):
        yield f"longer in {dim}", lambda x, dim=dim: torch.cat([x, x.narrow(dim, 0, 1)], dim)
    if tensor.is_floating_point():
        yield "of another width", lambda x: x.to(torch.float32 if x.dtype == torch.float64 else torch.float64)


FREE = {("x", "longer in 0"), ("memory0", "longer in 1")}
"""Changes after which the forward pass is a valid call with another meaning."""


@every_case
def test_each_damaged_tensor_of_a_forward_call_is_refused(case: str) -> None:
    whole = forward_call(case)
    check_forward([whole[name] for name in GIVEN], whole["received0"], whole["rule"])
    made = 0
    for name, value in whole.items():
        for says, change in changes_of(value) if isinstance(value, Tensor) else ():
            if (name, says) not in FREE:
                with pytest.raises(ValueError, match=r" must be "):
                    FORWARD(*{**whole, name: change(value)}.values())
                made += 1
    assert made > 40


@every_case
def test_each_damaged_tensor_of_a_backward_call_is_refused(case: str) -> None:
    whole = backward_call(case)
    d = [whole[name] for name in ("d_output", "d_summary", "d_c_last", "d_memory")]
    given = [whole[name] for name in GIVEN]
    check_backward(given, d, whole["record"], whole["kept"], whole["rule"], False)
    for place, field in enumerate(Record._fields):
        for _, change in changes_of(whole["record"][place]):
            record = [*whole["record"]]
            record[place] = change(record[place])
            refused(BACKWARD, {**whole, "record": record}, field)
    for place, field in enumerate(("gates", "queries")):
        for _, change in changes_of(whole["kept"][place]):
            kept = [*whole["kept"]]
            kept[place] = change(kept[place])
            refused(BACKWARD, {**whole, "kept": kept}, field)
    for name in ("d_output", "d_c_last", "d_memory", "c0", "weight_hh"):
        refused(BACKWARD, {**whole, name: whole[name][:, :-1].contiguous()}, name)
    refused(BACKWARD, {**whole, "record": whole["record"][:-1]}, "record must hold 9 tensors, got 8")
    refused(BACKWARD, {**whole, "kept": []}, "kept must hold 2 tensors, got 0")


@pytest.mark.parametrize(
    ("name", "number"), [("count0", -1), ("count0", 2), ("count0", 2**40), ("step0", -1), ("step0", -(2**62))]
)
def test_counters_out_of_range_are_refused(name: str, number: int) -> None:
    for operator, whole in ((FORWARD, forward_call("lstm")), (BACKWARD, backward_call("lstm"))):
        changed = whole[name].clone()
        changed[-1] = number
        refused(operator, {**whole, name: changed}, f"{name} must be from 0")


@pytest.mark.parametrize(("field", "place", "least"), [("slots", 5, -5), ("edges", 7, -1)])
@pytest.mark.parametrize("number", [-6, 4, 2**30])
def test_slots_out_of_range_are_refused(field: str, place: int, least: int, number: int) -> None:
    whole = backward_call("lstm")
    changed = whole["record"][place].clone()
    changed.view(-1)[-1] = number
    record = [*whole["record"]]
    record[place] = changed
    refused(BACKWARD, {**whole, "record": record}, f"{field} must be from {least} to 3, got ")


@pytest.mark.parametrize("place", range(len(OpRule._fields)), ids=OpRule._fields)
@pytest.mark.parametrize("number", [-1, 2**62])
def test_a_rule_that_stands_for_nothing_is_refused(place: int, number: int) -> None:
    whole = forward_call("lstm")
    rule = [*whole["rule"]]
    rule[place] = number
    if number > 0 and OpRule._fields[place] in ("k_att", "k_trunc", "capacity"):
        return  # as many steps as that are never done
    with pytest.raises(ValueError, match="rule: "):
        FORWARD(*{**whole, "rule": rule}.values())


def test_what_the_kernels_do_not_run_is_refused() -> None:
    whole = forward_call("lstm")
    rule = list(OpRule(*whole["rule"])._replace(summary_gate=1))
    refused(FORWARD, {**whole, "rule": rule}, "rule: null_score and summary_gate must be 0")
    refused(FORWARD, {**whole, "rule": whole["rule"][:-1]}, "rule must hold")


@pytest.mark.parametrize("name", ["w1", "w2", "w3"])
def test_a_part_of_the_scorer_that_is_missing_is_refused(name: str) -> None:
    refused(FORWARD, {**forward_call("lstm"), name: None}, f"{name} must be a tensor of")


def test_the_weight_that_memories_have_received_is_needed_with_a_capacity() -> None:
    refused(FORWARD, {**forward_call("rnn"), "received0": None}, "received0 must be a tensor of shape (2, 1)")
