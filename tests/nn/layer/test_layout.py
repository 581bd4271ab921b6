"""Input may be packed, unbatched, batch first or empty. Each form gives the results of its rows run alone.

Shapes: L layers, T time, B batch, I input, H hidden, K k_top.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_sequence, pad_packed_sequence

from reminding import SAB, Recall, SABState
from tests.nn.samples import (
    BUILT,
    assert_same_gradients,
    assert_same_recall,
    assert_same_state,
    draw,
    gradients,
    make,
    row,
    turned,
)
from tests.tolerance import assert_equal

OPTIONS: dict[str, dict[str, Any]] = {
    "defaults": {"k_trunc": 3},
    "paper": {"k_top": 2, "k_att": 2, "k_trunc": 3, "normalizer": "threshold"},
    "release": {"k_top": 3, "k_att": 2, "k_trunc": 3, "semantics": "release"},
    "dense gru": {"cell": "gru", "k_top": None, "k_att": 1, "k_trunc": None, "score": "dot"},
    "bounded": {"k_top": 2, "k_att": 1, "k_trunc": 4, "capacity": 3, "evict": "least_recalled"},
    "no memory": {"k_top": 0, "k_trunc": 4},
    "two layers": {"num_layers": 2, "k_top": 2, "k_att": 2, "k_trunc": 3},
}
every_option = pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())


@every_option
def test_a_batch_is_its_rows(options: dict[str, Any]) -> None:
    layer = make(**options)
    x = draw(13, 4, 3).requires_grad_()
    output, state, recall = layer(x, return_recall=True)
    whole = gradients(layer, (output * draw(*output.shape, seed=5)).sum(), x=x)
    alone: list[Tensor] = []
    batch_axis = 1 + (layer.num_layers > 1)
    for i in range(4):
        y, after, read = layer(x[:, i : i + 1], return_recall=True)
        assert_equal(output[:, i : i + 1], y, f"row {i}")
        assert_same_state(row(state, i), after)
        assert torch.equal(recall.step.narrow(batch_axis, i, 1), read.step)
        assert_equal(recall.weight.narrow(batch_axis, i, 1), read.weight, "weights")
        alone.append(y)
    rows = gradients(layer, (torch.cat(alone, 1) * draw(*output.shape, seed=5)).sum(), x=x)
    assert_same_gradients(whole, rows)


@every_option
def test_unbatched_is_a_batch_of_one(options: dict[str, Any]) -> None:
    layer = make(**options)
    x = draw(13, 3)
    output, state, recall = layer(x, return_recall=True)
    wanted, after, read = layer(x.unsqueeze(1), return_recall=True)
    assert_equal(output, wanted.squeeze(1), "output")
    assert_same_recall(recall, alone_in_batch(read))
    assert state.h.shape == (layer.num_layers, 4)
    assert_equal(state.h, after.h[:, 0], "h")
    assert_equal(state.memory, after.memory[:, 0], "memory")
    assert_equal(layer(x, state)[0], layer(x.unsqueeze(1), after)[0].squeeze(1), "the next chunk")


@every_option
def test_batch_first_only_moves_axes(options: dict[str, Any]) -> None:
    layer, other = make(**options), make(**options, batch_first=True)
    x = draw(13, 4, 3)
    output, state, recall = layer(x, return_recall=True)
    y, after, read = other(x.transpose(0, 1), return_recall=True)
    assert_equal(y, output.transpose(0, 1), "output")
    assert_same_state(after, state)
    assert_same_recall(read, turned(recall))


@pytest.mark.parametrize("steps", [0, 1, 9])
@every_option
def test_an_empty_batch_keeps_its_shapes(options: dict[str, Any], steps: int) -> None:
    layer = make(**options)
    x = torch.empty(steps, 0, 3, dtype=torch.float64, requires_grad=True)
    output, state, recall = layer(x, return_recall=True)
    assert output.shape == recall.summary.shape == (steps, 0, 4)
    assert recall.step.shape[-3:-1] == recall.weight.shape[-3:-1] == (steps, 0)
    assert state.h.shape == (layer.num_layers, 0, 4)
    output.sum().backward()
    assert layer(x, state)[0].shape == (steps, 0, 4)
    masks: list[Any] = [None, [], torch.zeros(0, dtype=torch.bool)]
    for mask in masks:
        assert layer(x, state.reset(mask))[0].shape == (steps, 0, 4)


@every_option
def test_no_steps_change_nothing(options: dict[str, Any]) -> None:
    layer = make(**options)
    nothing = draw(0, 2, 3)
    output, state, recall = layer(nothing, return_recall=True)
    assert output.shape == recall.summary.shape == (0, 2, 4)
    x = draw(9, 2, 3)
    _, before = layer(x)
    output, after = layer(nothing, before)
    assert output.shape == (0, 2, 4)
    assert_same_state(after, before)
    assert_equal(layer(x, state)[0], layer(x)[0], "a stream begun by an empty chunk")
    output.sum().backward()
    assert all(p.grad is not None and not p.grad.any() for p in layer.parameters()), "as of other layers"


@pytest.mark.parametrize("backend", BUILT)
@pytest.mark.parametrize("steps", [11, 12])
@every_option
def test_a_state_keeps_its_gradient_through_a_call_without_steps(
    options: dict[str, Any], steps: int, backend: str
) -> None:
    """Also where the next step would be cut from it; and with (h, c), with which a stream begins."""
    layer, x = make(backend=backend, **options), draw(steps, 2, 3).requires_grad_()

    def loss_of(state: SABState) -> Tensor:
        parts = [part for each in state.layers for part in (each.h, *each.cell_state, each.memory.value)]
        weighted = (part * draw(*part.shape, seed=number) for number, part in enumerate(parts))
        return torch.stack([part.sum() for part in weighted]).sum()

    _, state = layer(x)
    want = gradients(layer, loss_of(state), x=x)
    for _ in range(2):
        _, state = layer(draw(0, 2, 3), state)
    assert_same_gradients(gradients(layer, loss_of(state), x=x), want)
    begun = draw(2, layer.num_layers, 2, 4).requires_grad_()
    given = begun[0] if layer.cell == "gru" else begun.unbind(0)
    _, state = layer(draw(0, 2, 3), given)
    found = gradients(layer, loss_of(state), begun=begun)["begun"]
    assert found.count_nonzero() == (begun[0] if layer.cell == "gru" else begun).numel()


def packed_rows(lengths: list[int], enforce_sorted: bool = False) -> tuple[list[Tensor], PackedSequence]:
    rows = [draw(length, 3, seed=10 + i).requires_grad_() for i, length in enumerate(lengths)]
    return rows, pack_sequence(rows, enforce_sorted=enforce_sorted)


def check_packed(layer: SAB, lengths: list[int], enforce_sorted: bool = False) -> None:
    """Output, recall, state and gradients equal those of each sequence run alone."""
    rows, packed = packed_rows(lengths, enforce_sorted)
    output, state, recall = layer(packed, return_recall=True)
    assert isinstance(output, PackedSequence)
    padded, sizes = pad_packed_sequence(output)
    assert sizes.tolist() == lengths
    alone: list[Tensor] = []
    for i, x in enumerate(rows):
        y, after, read = layer(x.unsqueeze(1), return_recall=True)
        assert_equal(padded[: len(x), i : i + 1], y, f"sequence {i}")
        assert_same_state(row(state, i), after)
        mine = part_of(recall, i, len(x))
        width = read.step.shape[-1]
        assert torch.equal(mine.step[..., :width], read.step)
        assert not mine.step[..., width:].any()
        assert_equal(mine.weight[..., :width], read.weight, "weights")
        alone.append(y.squeeze(1))
    further = {f"sequence {i}": x for i, x in enumerate(rows)}
    got = gradients(layer, (padded * padded.detach().cos()).sum(), **further)
    wanted = torch.stack([(y * y.detach().cos()).sum() for y in alone]).sum()
    assert_same_gradients(got, gradients(layer, wanted, **further))


def part_of(recall: Recall, index: int, steps: int) -> Recall:
    """One sequence's part of a padded recall. The summary has no leading layer axis."""
    return recall.map(lambda tensor: tensor.narrow(-2, index, 1).narrow(-3, 0, steps))


def alone_in_batch(recall: Recall) -> Recall:
    """The recall of a batch of one, without the batch axis."""
    return recall.map(lambda tensor: tensor.squeeze(-2))


@every_option
@pytest.mark.parametrize("lengths", [[3, 9, 1, 9, 5], [4], [6, 6]], ids=str)
def test_packed_sequences_are_each_alone(options: dict[str, Any], lengths: list[int]) -> None:
    check_packed(make(**options), lengths)


def test_packed_in_order_of_length() -> None:
    check_packed(make(**OPTIONS["paper"]), [9, 7, 7, 2], enforce_sorted=True)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=5), st.sampled_from(sorted(OPTIONS)))
def test_packed_sequences_of_any_lengths(lengths: list[int], name: str) -> None:
    check_packed(make(**OPTIONS[name]), lengths)


@every_option
def test_packed_sequences_go_on_from_their_own_states(options: dict[str, Any]) -> None:
    """The state is given and returned in the caller's order of rows, not sorted by length."""
    layer = make(**options)
    rows, packed = packed_rows([3, 8, 1, 5])
    _, state = layer(packed)
    output, after = layer(pack_sequence([x.flip(0) for x in rows], enforce_sorted=False), state)
    padded, _ = pad_packed_sequence(output)
    for i, x in enumerate(rows):
        y, alone = layer(x.flip(0).unsqueeze(1), row(state, i))
        assert_equal(padded[: len(x), i : i + 1], y, f"sequence {i}")
        assert_same_state(row(after, i), alone)


def test_packed_from_given_tensors() -> None:
    """h and c, and their gradients, are in the caller's order, as with PyTorch's layers."""
    layer = make(**OPTIONS["two layers"])
    rows, packed = packed_rows([3, 8, 1])
    h, c = (draw(2, 3, 4, seed=s).requires_grad_() for s in (3, 4))
    padded, _ = pad_packed_sequence(layer(packed, (h, c))[0])
    got = gradients(layer, (padded * padded.detach().cos()).sum(), h=h, c=c)
    alone = [layer(x.unsqueeze(1), (h[:, i : i + 1], c[:, i : i + 1]))[0] for i, x in enumerate(rows)]
    wanted = torch.stack([(y * y.detach().cos()).sum() for y in alone]).sum()
    assert_same_gradients(got, gradients(layer, wanted, h=h, c=c))


def test_packed_recall_with_batch_first_is_padded_batch_first() -> None:
    layer, other = make(**OPTIONS["two layers"]), make(**OPTIONS["two layers"], batch_first=True)
    _, packed = packed_rows([3, 8, 1])
    want = layer(packed, return_recall=True)[2]
    got = other(packed, return_recall=True)[2]
    assert_same_recall(got, turned(want))


def test_an_encoder_sees_the_input_as_it_came() -> None:
    embedding = torch.nn.Embedding(10, 3, dtype=torch.float64)
    layer = make(k_top=2, k_att=1, encoder=embedding)
    plain = make(k_top=2, k_att=1)
    plain.load_state_dict({name: w for name, w in layer.state_dict().items() if not name.startswith("encoder")})
    tokens = torch.randint(0, 10, (7, 2), generator=torch.Generator().manual_seed(0))
    output = layer(tokens)[0]
    assert_equal(output, plain(embedding(tokens))[0], "output")
    output.sum().backward()
    assert embedding.weight.grad is not None
    assert embedding.weight.grad[tokens.unique()].abs().sum(1).min() > 0
    packed = pack_sequence([tokens[:3, 0], tokens[:, 1]], enforce_sorted=False)
    padded, _ = pad_packed_sequence(layer(packed)[0])
    assert_equal(padded[:3, 0], output[:3, 0], "packed tokens")
    assert_equal(padded[:, 1], output[:, 1], "packed tokens")


@pytest.mark.parametrize("num_layers", [1, 2, 3])
def test_shapes_of_the_recall(num_layers: int) -> None:
    layer = make(num_layers=num_layers, k_top=3, k_att=2)
    recall = layer(draw(9, 2, 3), return_recall=True)[2]
    lead = () if num_layers == 1 else (num_layers,)
    assert recall.summary.shape == (9, 2, 4)
    assert recall.step.shape == recall.weight.shape == (*lead, 9, 2, 3)
    assert recall.step.dtype == torch.int64
    assert recall.summary.requires_grad
    assert not recall.weight.requires_grad


@every_option
@pytest.mark.parametrize("form", ["batched", "batch first", "unbatched"])
def test_a_call_without_steps_resets_rows(options: dict[str, Any], form: str) -> None:
    """The state is that of `SABState.reset`, and a later call gives what it gives after a reset of its own."""
    layer = make(batch_first=form == "batch first", **options)
    first = form == "batch first"

    def turn(x: Tensor) -> Tensor:
        return x.transpose(0, 1) if first else x[:, 0] if form == "unbatched" else x

    mask = torch.tensor(True) if form == "unbatched" else torch.tensor([True, False, False])
    _, state = layer(turn(draw(6, 3, 3)))
    empty, rest = turn(draw(0, 3, 3)), turn(draw(7, 3, 3, seed=3))
    output, after, recall = layer(empty, state, reset=mask, return_recall=True)
    assert output.shape[1 if first else 0] == 0 and recall.summary.shape == output.shape
    assert after.step.tolist() == ([0] if form == "unbatched" else [0, 6, 6])
    assert_same_state(after, state.reset(mask.reshape(-1)))
    found, _ = layer(rest, after)
    one = gradients(layer, found.square().sum())
    _, state = layer(turn(draw(6, 3, 3)))
    wanted, _ = layer(rest, state, reset=mask)
    assert_equal(found, wanted, "the rest")
    assert_same_gradients(one, gradients(layer, wanted.square().sum()))
    with torch.no_grad():
        _, served = layer(empty, layer(turn(draw(6, 3, 3)))[1], reset=mask)
        assert_equal(layer(rest, served)[0], wanted, "without gradient")


def test_a_call_without_steps_resets_no_row_that_is_not_marked() -> None:
    layer = make(k_trunc=2)
    _, state = layer(draw(6, 2, 3))
    for mask in (torch.zeros(2, dtype=torch.bool), torch.zeros(0, 2, dtype=torch.bool), None):
        assert layer(draw(0, 2, 3), state, reset=mask)[1].step.tolist() == [6, 6]


@pytest.mark.parametrize("backend", BUILT)
def test_credit_ends_at_a_reset_without_steps(backend: str) -> None:
    layer = make(k_trunc=2, capacity=4, horizon=None, backend=backend)
    found: list[dict[str, Tensor]] = []
    for empty in (True, False):
        _, state = layer(draw(6, 2, 3))
        mask, rest = torch.tensor([True, False]), draw(5, 2, 3, seed=3)
        if empty:
            _, state = layer(draw(0, 2, 3), state, reset=mask)
        output, _ = layer(rest, state, reset=None if empty else mask)
        found.append(gradients(layer, output.square().sum()))
    assert_same_gradients(*found)
