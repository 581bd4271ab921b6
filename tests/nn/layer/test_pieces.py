"""Streams that end and begin within a call, run side by side: all results are those of one stretch after the other.

Shapes: T time, B batch, I input, H hidden.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

from reminding import SAB, SABState
from reminding.nn.layer.pieces import SPREAD
from reminding.nn.layer.runner import Runner
from tests.nn.samples import LAYERS, added, assert_same_gradients, assert_same_state, draw, gradients, make, needs_op
from tests.tolerance import assert_equal

OPTIONS: dict[str, dict[str, Any]] = {
    **LAYERS,
    "fifo": {"k_top": 2, "k_att": 1, "k_trunc": 4, "capacity": 3},
    "least recalled": {"k_top": 2, "k_att": 2, "k_trunc": 4, "capacity": 3, "evict": "least_recalled"},
    "within the call": {"k_top": 2, "k_att": 2, "horizon": 0},
    "ten steps back": {"k_top": 2, "k_att": 2, "horizon": 10, "k_trunc": 4},
    "every second call": {"k_top": 2, "k_att": 1, "k_trunc": 5, "credit_every": 2, "num_layers": 2},
    "every third call": {"k_top": 2, "k_att": 1, "k_trunc": 5, "credit_every": 3, "capacity": 6},
    "every fourth call": {"k_top": 2, "k_att": 2, "credit_every": 4, "capacity": 4, "evict": "least_recalled"},
    "replay": {"k_top": 2, "k_att": 2, "k_trunc": 4, "engine": "replay"},
    "no credit": {"k_top": 2, "k_att": 2, "backtrack": False},
}
T, B, WIDTH = 23, 5, 3
Calls = Sequence[tuple[Tensor | PackedSequence, Tensor | None]]
Results = tuple[list[Tensor], Any, dict[str, Tensor]]


def make_encoded(**options: Any) -> SAB:
    return make(encoder=nn.Linear(2, WIDTH, dtype=torch.float64), **options)


def resets(share: float, seed: int) -> Tensor:
    return torch.rand(T, B, generator=torch.Generator().manual_seed(seed)) < share


def packed(x: Tensor, seed: int) -> PackedSequence:
    lengths = torch.randint(1, len(x) + 1, (x.shape[1],), generator=torch.Generator().manual_seed(seed))
    lengths[1] = len(x)
    return pack_padded_sequence(x, lengths, enforce_sorted=False)


def stream(layer: SAB, calls: Calls) -> Results:
    """Of the calls of a stream, a backward pass each: what they gave, the last state, and the gradients' sum."""
    state: Any = None
    found: list[Tensor] = []
    total: dict[str, Tensor] = {}
    for number, (x, mask) in enumerate(calls):
        data = (x.data if isinstance(x, PackedSequence) else x).clone().requires_grad_()
        given_x = PackedSequence(data, *x[1:]) if isinstance(x, PackedSequence) else data
        output, state, recall = layer(given_x, state, reset=mask, return_recall=True)
        output = output.data if isinstance(output, PackedSequence) else output
        found += [output, recall.summary, recall.step.double(), recall.weight]
        loss = (output * draw(*output.shape, seed=number)).sum()
        loss = loss + (recall.summary * draw(*recall.summary.shape, seed=5)).sum()  # at steps that a row has not, too
        for part in state.layers:
            for tensor in (part.h, *part.cell_state, part.memory.value):
                loss = loss + (tensor * draw(*tensor.shape, seed=7)).sum()
        own = gradients(layer, loss, **{f"x{number}": data})
        found.append(own.pop(f"x{number}"))
        total = added(total, own)
    if layer.credit_every > 1:
        layer.zero_grad()
        state.settle()
        left = {name: p.grad for name, p in layer.named_parameters() if p.grad is not None}
        total = {name: total[name] + left[name] if name in left else total[name] for name in total}
    return found, state, total


def assert_same(got: Results, want: Results) -> None:
    for number, (one, other) in enumerate(zip(got[0], want[0], strict=True)):
        assert_equal(one, other, f"result {number}")
    assert_same_state(got[1], want[1])
    assert_same_gradients(got[2], want[2])


def noting(shapes: list[tuple[int, ...]]) -> Callable[..., Any]:
    """`Runner.run_pieces`, which notes the shapes of its inputs."""
    run = Runner.run_pieces

    def noted(runner: Runner, x: Tensor, *rest: Any) -> Any:
        shapes.append(tuple(x.shape))
        return run(runner, x, *rest)

    return noted


def never(runner: Runner, x: Tensor, state: SABState) -> bool:
    return False


def check(layer: SAB, calls: Calls, side_by_side: bool = True) -> None:
    """Also against the layer whose calls are run one stretch after the other, and the reference."""
    ran: list[tuple[int, ...]] = []
    takes = Runner.takes_pieces
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Runner, "run_pieces", noting(ran))
        got = stream(layer, calls)
        assert bool(ran) == side_by_side, "which code ran"
        patch.setattr(Runner, "takes_pieces", never)
        assert_same(got, stream(layer, calls))
        patch.setattr(Runner, "takes_pieces", takes)
        layer.backend = "reference"
        assert_same(got, stream(layer, calls))


@needs_op
@pytest.mark.parametrize("name", OPTIONS)
def test_streams_side_by_side_give_what_stretches_give(name: str) -> None:
    calls = [(draw(T, B, WIDTH, seed=number), resets(share, number)) for number, share in enumerate([0.03, 0.3, 0.1])]
    able = OPTIONS[name].get("k_top", 1) is not None and name != "no memory"
    check(make(**OPTIONS[name]), [*calls, (draw(T, B, WIDTH), None), (draw(T, B, WIDTH, seed=9), None)], able)


@needs_op
@pytest.mark.parametrize("name", OPTIONS)
def test_packed_sequences_give_what_stretches_give(name: str) -> None:
    calls = [
        (packed(draw(T, B, WIDTH, seed=number), number), mask) for number, mask in enumerate([None, resets(0.1, 3)])
    ]
    able = OPTIONS[name].get("k_top", 1) is not None and name != "no memory"
    check(make(**OPTIONS[name]), [*calls, (draw(T, B, WIDTH), resets(0.1, 4))], able)


@needs_op
@pytest.mark.parametrize("options", [{}, {"credit_every": 2}, {"horizon": 12, "k_att": 2}])
def test_credit_reaches_an_encoder_through_streams_side_by_side(options: dict[str, Any]) -> None:
    layer = make_encoded(k_top=2, **options)
    calls = [(draw(T, B, 2, seed=number), resets(0.05, number)) for number in range(3)]
    check(layer, [*calls, (packed(draw(T, B, 2), 2), None)])


@needs_op
@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    name=st.sampled_from(sorted(set(OPTIONS) - {"no memory", "dense rnn"})),
    masks=st.lists(st.lists(st.booleans(), min_size=12, max_size=12), min_size=1, max_size=3),
    seed=st.integers(0, 100),
)
def test_any_resets_give_what_stretches_give(name: str, masks: list[list[bool]], seed: int) -> None:
    """Of 6 steps of 2 rows; the first call begins without resets but for one, so that some code for it is run."""
    made = [torch.tensor(mask).view(6, 2) for mask in masks]
    made[0][3, 0] = True
    check(make(**OPTIONS[name]), [(draw(6, 2, WIDTH, seed=seed + number), mask) for number, mask in enumerate(made)])


@needs_op
def test_a_reset_at_every_step_takes_room_for_the_steps_that_there_are() -> None:
    """One row without resets beside many short streams: not all of them get the room of the long one."""
    shapes: list[tuple[int, ...]] = []
    mask = torch.ones(64, 8, dtype=torch.bool)
    mask[:, 0] = False
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Runner, "run_pieces", noting(shapes))
        make()(draw(64, 8, WIDTH), reset=mask)
    assert sum(shape[0] * shape[1] for shape in shapes) <= 2 * SPREAD * mask.numel()


@needs_op
def test_second_derivatives_of_packed_sequences_are_those_of_each_alone() -> None:
    layer = make(k_top=2, k_att=2, k_trunc=4)
    x, lengths = draw(9, 3, WIDTH).requires_grad_(), torch.tensor([4, 9, 1])

    def penalty(output: Tensor, c: Tensor) -> Tensor:
        loss = output.pow(3).sum() + c.pow(3).sum()
        (d_x,) = torch.autograd.grad(loss, x, create_graph=True)
        return d_x.pow(2).sum()

    output, state = layer(pack_padded_sequence(x, lengths, enforce_sorted=False))
    whole = gradients(layer, penalty(output.data, state.c), x=x)
    total: dict[str, Tensor] = {}
    for b, length in enumerate(lengths):
        output, state = layer(x[: int(length), b : b + 1])
        total = added(total, gradients(layer, penalty(output, state.c), x=x))
    assert_same_gradients(whole, total)


@needs_op
def test_scores_out_of_range_are_run_by_the_reference() -> None:
    """The op's additive score has limits, beyond which one stretch runs after the other on the reference."""
    layer = make(k_top=2)
    with torch.no_grad():
        for name in ("score_memory_l0", "score_query_l0"):
            layer.get_parameter(name).mul_(400)
    calls = [(draw(T, B, WIDTH), resets(0.1, 1))]
    got, other = stream(layer, calls), make(k_top=2, backend="reference")
    other.load_state_dict(layer.state_dict())
    assert_same(got, stream(other, calls))
