"""Direct calls of the C++ op with bad arguments: each is refused, and none reads out of bounds.

`direct_calls` makes most of them in processes of their own, since a missing check may crash the process.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import Tensor

from reminding import SAB
from reminding.ops import cpu_op
from reminding.ops.contract import OpRule
from reminding.ops.cpu_op import checks
from tests.nn.samples import first_is
from tests.ops.cpu_op.damage import damages
from tests.ops.cpu_op.direct_calls import outcome
from tests.ops.cpu_op.recorded_calls import CASES, Call, recorded

pytestmark = pytest.mark.skipif(cpu_op.missing() is not None, reason=str(cpu_op.missing()))

RULE = len(OpRule._fields)
ROOT = Path(__file__).parents[3]
Change = Callable[[Any], Any]


def run(*words: str) -> int:
    """Run damaged calls; returns how many there were."""
    command = [sys.executable, "-X", "faulthandler", "-m", "tests.ops.cpu_op.direct_calls", *words]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    lines = ran.stdout.splitlines()
    assert ran.returncode == 0, f"{ran.returncode} after {lines[-1:]}:\n{ran.stderr[-2000:]}"
    wrong = [line for line in lines if line.startswith("WRONG")]
    assert wrong == [], "\n".join(wrong)
    return sum(int(line.split()[1]) for line in lines if line.startswith("made"))


def number_of_damages(case: str) -> int:
    return sum(1 for call in recorded(case) for _ in damages(call))


def test_a_damaged_call_is_refused_or_gives_the_same() -> None:
    """Every sixteenth damaged call; the slow test makes all of them."""
    first, stride = 7, 16
    made = sum(len(range(first, number_of_damages(case), stride)) for case in CASES)
    assert run(*CASES, "--first", str(first), "--stride", str(stride)) == made > 1500


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_every_damaged_call_is_refused_or_gives_the_same(case: str) -> None:
    assert run(case) == number_of_damages(case)


def test_every_argument_of_every_operator_is_damaged() -> None:
    called: set[str] = set()
    for call in (call for case in CASES for call in recorded(case)):
        called.add(call.operator._schema.name)
        damaged = {damage.place for damage in damages(call)}
        for at, (name, value) in enumerate(zip(call.names, call.arguments, strict=True)):
            assert any(place == at for place, _ in damaged), f"{call.name}: {name}"
            members = cast("list[Any]", value) if isinstance(value, list) else []
            wanted = {(at, member) for member, each in enumerate(members) if isinstance(each, Tensor)}
            assert wanted <= damaged, f"{call.name}: {name}"
    names = cast("Any", torch)._C._dispatch_get_all_op_names()
    ours = {name.split(".")[0] for name in names if name.startswith(("reminding_cpu::", "reminding::sab_"))}
    others = {"reminding::sab_cuda_forward", "reminding::sab_cuda_backward", "reminding_cpu::limit_isa"}
    assert called == ours - others


@pytest.mark.parametrize("number", [-1, 3, 2**63 - 1])
def test_the_one_number_of_the_operator_without_a_tensor_is_checked(number: int) -> None:
    with pytest.raises(RuntimeError, match="reminding: most must be between 0 and 2"):
        torch.ops.reminding_cpu.limit_isa(number)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_two_damages_and_random_indices_end_no_process(case: str) -> None:
    assert run(case, "--pairs", "3000") == 3000


def changed(call: Call, path: tuple[int, ...], change: Change) -> list[Any]:
    """The arguments of a call with one of them changed, or one member of a list."""
    arguments = list(call.arguments)
    at, *member = path
    if not member:
        arguments[at] = change(arguments[at])
    else:
        arguments[at] = [change(part) if place == member[0] else part for place, part in enumerate(arguments[at])]
    return arguments


def rule_with(place: int, number: int) -> Callable[[list[int]], list[int]]:
    return lambda rule: [*rule[:place], number, *rule[place + 1 :]]


# fmt: off
WRONG: list[tuple[str, tuple[int, ...], Change, str]] = [
    ("forward", (0, 1), lambda h0: h0[:1], r"h0 must be float32 of shape \(2, 5\) on the CPU, got .*\(1, 5\)"),
    ("forward", (0, 1), lambda h0: None, r"h0 must be a tensor, got None"),
    ("forward", (0, 7), lambda _: torch.ones(1, 5), r"factor must be float32 of shape \(2, 5\) .*, got .*\(1, 5\)"),
    ("differentiate", (0, 7), lambda _: torch.ones(2, 5), r"factor must be float32 of shape \(\d, 2, 5\)"),
    ("replay_past", (11,), lambda _: torch.ones(2, 5), r"factor must be float32 of shape \(\d, 2, 5\)"),
    ("forward", (0, 1), lambda h0: h0.double(), r"h0 must be float32 .*, got float64"),
    ("forward", (0, 1), lambda h0: h0.t().contiguous().t(), r"h0 must be contiguous, got strides \(1, 2\)"),
    ("forward", (0, 4), first_is(-1), r"count0 must be between 0 and 3, got -1 in element 0"),
    ("forward", (0, 4), first_is(4), r"count0 must be between 0 and 3, got 4 in element 0"),
    ("forward", (0, 3), first_is(-1), r"step0 must be between 0 and \d+, got -1 in element 0"),
    ("forward", (1,), lambda memory0: memory0[:1], r"memory0 must be float32 of shape \(2, 3, 5\) on the CPU"),
    ("forward", (4, 0), lambda weight: weight[:1], r"weight_ih must be float32 of shape \(20, 3\) on the CPU"),
    ("forward", (4, 2), lambda w1: w1[:, :1].contiguous(), r"W1 must be float32 of shape \(6, 5\) on the CPU"),
    ("forward", (5,), lambda keep: 3, r"keep must be between 0 and 2, got 3"),
    ("forward", (6,), lambda _: [2, 2], r"milestones: offset must be between 0 and 1, got 2"),
    ("forward", (7,), rule_with(0, 7), r"rule: cell must be between 0 and 2, got 7"),
    ("forward", (7,), rule_with(4, -1), r"rule: k_top must be between 0 and \d+, got -1"),
    ("forward", (7,), rule_with(5, 0), r"rule: k_att must be between 1 and \d+, got 0"),
    ("forward", (7,), rule_with(8, -1), r"rule: capacity must be between 0 and \d+, got -1"),
    ("forward", (7,), rule_with(10, 0), r"rule: recall_scale must be above 0 and at most 1, got 0"),
    ("forward", (7,), lambda rule: rule[:-1], f"rule must hold {RULE} values, got {RULE - 1}"),
    ("backward", (9, 0), lambda sums: None, r"sums: weight_ih must be a tensor, got None"),
    ("backward", (13,), lambda first: 1, r"first_row must be between 0 and 0, got 1"),
    ("backward", (6,), first_is(9), r"pair must be -1 or the next number, 0, got 9 in element 0"),
    ("backward", (7,), first_is(9), r"touched must be -1 or the next number, 0, got 9 in element 0"),
    ("differentiate", (5, 0), first_is(9), r"pair must be -1 or the next number, 0, got 9 in element 0"),
    ("differentiate", (5, 1), first_is(9), r"touched must be -1 or the next number, 0, got 9 in element 0"),
    ("differentiate", (5,), lambda _: [], r"visited must be given with a past, and with it alone"),
    ("differentiate", (6, 1), first_is(99), r"past: stored must be between -1 and \d+, got 99 in element 0"),
    ("differentiate", (6, 2), first_is(99), r"past: entry must be between -1 and \d+, got 99 in element 0"),
    ("differentiate", (1, 2), lambda w1: w1[:1], r"W2 must be float32 of shape \(1, 5\) on the CPU"),
    ("differentiate", (8,), lambda M0: 99, r"M0 must be between 0 and \d+, got 99"),
    ("reach_past", (1, 0), first_is(2), r"segments: row must be between 0 and 1, got 2 in element 0"),
    ("reach_past", (1, 3), first_is(99), r"segments: base must be between 0 and \d+, got 99 in element 0"),
    ("reach_past", (1,), lambda segments: segments[:-1], r"segments must hold 5 values, got 4"),
    ("lay_out_past", (4,), first_is(99), r"count must be between 0 and \d+, got 99 in element 0"),
    ("lay_out_past", (0, 0), first_is(1), r"segments: row must ascend, got 0 in element 1"),
    ("gather_past", (1,), first_is(9), r"part must be between -1 and \d+, got 9 in element 0"),
    ("gather_past", (2,), first_is(-1), r"base must be between 0 and \d+, got -1 in element 0"),
    ("gather_past", (6,), lambda out: out.double(), r"parts must be contiguous, of out's type and on the CPU"),
    ("replay_past", (4,), first_is(99), r"entries: start must be between 0 and \d+, got 99 in element 0"),
    ("replay_past", (3,), first_is(99), r"read must be between -1 and \d+, got 99 in element 0"),
    ("replay_past", (8,), lambda _: [], r"past must say how the steps are laid out"),
    ("replay_past", (9,), lambda own: 99, r"own must be between -1 and \d+, got 99"),
    ("replay_past", (10, 0), lambda gates: gates[:1], r"room: gates must have at least \d+ rows, got 1"),
    ("replay_past", (10, 3), lambda output: output[:1], r"room: output must be float32 of shape \(\d+, 2, 5\)"),
    ("give_back", (2,), first_is(9), r"touched must be -1 or the next number, 0, got 9 in element 0"),
    ("give_back", (3,), first_is(-1), r"count0 must be between 0 and \d+, got -1 in element 0"),
    ("give_back", (4,), lambda first: 1, r"first_row must be between 0 and 0, got 1"),
]
# fmt: on


@pytest.mark.parametrize(("operator", "path", "change", "says"), WRONG)
def test_the_message_names_the_argument(operator: str, path: tuple[int, ...], change: Change, says: str) -> None:
    of_past = [call for call in recorded("lstm additive stream") if call.name == operator]
    call = of_past[-1]
    with pytest.raises(RuntimeError, match=f"reminding: {says}"):
        call.run(changed(call, path, change))
    assert outcome(call, call.arguments) is not None, "as it was, it runs"


@pytest.mark.parametrize(
    ("lengths", "says"),
    [
        ([8, 5], "lengths must be between 1 and 7, got 8 in element 0"),
        ([7, 0], "lengths must be between 1 and 7, got 0 in element 1"),
        ([5, 7], "lengths must be between 1 and 5, got 7 in element 1"),
    ],
)
def test_lengths_of_rows_fit_the_call_and_do_not_ascend(lengths: list[int], says: str) -> None:
    calls = {call.name: call for call in recorded("lstm additive packed")}
    for name, path in (("forward", (0, 6)), ("reach", (6,))):
        with pytest.raises(RuntimeError, match=f"reminding: {says}"):
            calls[name].run(changed(calls[name], path, lambda _: torch.tensor(lengths)))


def test_slots_of_live_steps_are_compared_with_the_memory() -> None:
    call = next(call for call in recorded("lstm additive stream") if call.name == "backward")
    beyond = changed(call, (4, 3), lambda slots: torch.full_like(slots, 99))
    with pytest.raises(RuntimeError, match=r"slots must name touched memories, got 99 in step \d of row \d"):
        call.run(beyond)


MISFITS: list[tuple[str, Change, str]] = [
    (
        "memory0",
        lambda memory: memory[:1],
        r"memory0 must be torch.float32 of shape \(2, 0, 5\) .*, got .* \(1, 0, 5\)",
    ),
    ("bias_ih", lambda bias: bias[:1], r"bias_ih must be torch.float32 of shape \(20,\) .*, got .* \(1,\)"),
    ("w3", lambda w3: None, r"w3 must be a tensor of shape \(6,\), got None"),
    ("x", lambda x: x[0], r"x must be a tensor of 3 dimensions, got \(2, 3\)"),
    ("count0", lambda count: count.int(), r"count0 must be torch.int64 of shape \(2,\) .*, got torch.int32"),
    ("rule", rule_with(5, 0), r"rule: k_att must be at least 1, got 0"),
    ("rule", rule_with(3, 2), r"rule: semantics must be one of \[0, 1\], got 2"),
    ("rule", lambda rule: [*rule, 0], f"rule must hold {RULE} numbers, got {RULE + 1}"),
    ("keep", lambda keep: 7, r"keep must be one of \[0, 1, 2\], got 7"),
    ("milestones", lambda _: [0, 0], r"milestones must be \[\] or \[stride, offset\] .*, got \[0, 0\]"),
]


@pytest.mark.parametrize(("name", "change", "says"), MISFITS)
def test_what_python_would_broadcast_or_divide_by_is_refused_by_name(name: str, change: Change, says: str) -> None:
    call = next(call for call in recorded("lstm additive") if call.name == "sab_forward")
    arguments = dict(zip(call.names, call.arguments, strict=True))
    checks.check_forward(arguments)
    with pytest.raises(ValueError, match=says):
        checks.check_forward({**arguments, name: change(arguments[name])})


def test_a_record_of_the_forward_pass_has_the_shapes_that_the_call_gives_it() -> None:
    call = next(call for call in recorded("lstm additive") if call.name == "sab_backward")
    arguments = dict(zip(call.names, call.arguments, strict=True))
    checks.check_backward(arguments)
    for name, tensor in arguments.items():
        if isinstance(tensor, Tensor):
            with pytest.raises(ValueError, match=name):
                checks.check_backward({**arguments, name: tensor.unsqueeze(0)})


@pytest.mark.parametrize(("weight", "transpose"), [((0, 3), True), ((3, 0), True), ((0, 3), False), ((3, 0), False)])
def test_a_weight_without_elements_is_packed(weight: tuple[int, int], transpose: bool) -> None:
    (packed,) = torch.ops.reminding_cpu.pack([torch.zeros(weight)], transpose)
    assert not packed.any()


def test_sizes_without_elements_end_no_process_and_no_patience() -> None:
    """Unchecked, one loop would run for 2^40 steps without rows, and another over a list of 2^31 ranks."""
    loops = torch.ops.reminding_cpu
    with pytest.raises(RuntimeError, match="weight must have 2 dimensions of at most"):
        loops.pack([torch.empty(2**40, 0)], True)
    call = next(call for call in recorded("gru dot replay") if call.name == "reach")
    for at in (2, 0):
        with pytest.raises(RuntimeError, match="reminding: "):
            call.run(changed(call, (at,), lambda tensor: tensor.new_empty(2**40, 0, *tensor.shape[2:])))


def test_a_state_with_a_damaged_counter_is_refused() -> None:
    """A file written by another program may hold such a state."""
    torch.manual_seed(0)
    layer = SAB(3, 4, k_top=2, k_att=2, k_trunc=3, backend="cpu")
    x = torch.randn(6, 2, 3)
    _, state = layer(x)
    count = state.layers[0].memory.count
    for number in (-1, 10**9):
        kept = count.clone()
        count.fill_(number)
        with pytest.raises((RuntimeError, ValueError, IndexError)):
            layer(x, state.detach())
        count.copy_(kept)
    assert layer(x, state.detach())[0].isfinite().all()
