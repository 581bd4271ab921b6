"""Streams that continue over many calls, and streams that begin within a call.

Shapes: L layers, T time, B batch, I input, H hidden, M memory slots.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.utils.rnn import pack_sequence, pad_packed_sequence

from reminding import SAB, Recall, SABState
from tests.nn.samples import (
    assert_same_gradients,
    assert_same_recall,
    assert_same_state,
    chunks,
    draw,
    gradients,
    joined,
    make,
    row,
)
from tests.tolerance import assert_equal

OPTIONS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "paper": {"k_top": 2, "k_att": 2, "k_trunc": 3, "normalizer": "threshold"},
    "release": {"k_top": 3, "k_att": 2, "k_trunc": 3, "semantics": "release"},
    "dense rnn": {"cell": "rnn", "k_top": None, "k_att": 1, "k_trunc": None, "score": "dot"},
    "fifo": {"k_top": 2, "k_att": 1, "k_trunc": 4, "capacity": 3},
    "least recalled": {"k_top": 2, "k_att": 2, "k_trunc": 4, "capacity": 3, "evict": "least_recalled"},
    "no memory": {"k_top": 0, "k_trunc": 4},
}
every_option = pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())


def run_chunks(layer: SAB, pieces: list[Tensor], state: Any = None) -> tuple[list[Tensor], SABState, list[Recall]]:
    outputs: list[Tensor] = []
    recalls: list[Recall] = []
    for piece in pieces:
        output, state, recall = layer(piece, state, return_recall=True)
        outputs.append(output)
        recalls.append(recall)
    return outputs, state, recalls


def widened(recall: Recall, width: int) -> Recall:
    """With k_top=None a recall is as wide as its fullest step, so that of a chunk may be narrower."""
    missing = width - recall.step.shape[-1]
    step, weight = (torch.nn.functional.pad(tensor, (0, missing)) for tensor in (recall.step, recall.weight))
    return Recall(recall.summary, step, weight)


def check_chunks(layer: SAB, x: Tensor, sizes: int | list[int]) -> None:
    output, state, recall = layer(x, return_recall=True)
    outputs, after, recalls = run_chunks(layer, chunks(x, sizes))
    assert_equal(torch.cat(outputs), output, "output")
    assert_same_state(after, state)
    width = recall.step.shape[-1]
    assert_same_recall(joined([widened(part, width) for part in recalls]), recall)


@every_option
@pytest.mark.parametrize("size", [1, 7, 64])
def test_chunks_give_what_the_whole_gives(options: dict[str, Any], size: int) -> None:
    check_chunks(make(**options), draw(70 if size == 64 else 30, 2, 3) * 0.5, size)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.lists(st.integers(0, 6), min_size=1, max_size=6), st.sampled_from(sorted(OPTIONS)))
def test_chunks_of_any_sizes_give_what_the_whole_gives(sizes: list[int], name: str) -> None:
    check_chunks(make(**OPTIONS[name]), draw(sum(sizes), 2, 3), sizes)


@every_option
def test_each_chunk_can_be_backpropagated_alone(options: dict[str, Any]) -> None:
    """This is the training loop of truncated BPTT: forward, backward, update, next chunk, with no graph kept."""
    layer = make(**options)
    optimizer = torch.optim.SGD(layer.parameters(), lr=1e-3)
    state: Any = None
    for piece in chunks(draw(20, 2, 3), 5):
        output, state = layer(piece, state)
        optimizer.zero_grad()
        output.pow(2).mean().backward()
        optimizer.step()
    assert state.step.tolist() == [20, 20]


@every_option
def test_credit_stops_at_the_border_of_two_calls(options: dict[str, Any]) -> None:
    layer = make(**options)
    first, second = draw(6, 2, 3).requires_grad_(), draw(6, 2, 3, seed=2).requires_grad_()
    _, state = layer(first)
    output, _ = layer(second, state)
    found = gradients(layer, output.sum(), first=first, second=second)
    assert not found["first"].any()
    assert found["second"].any()


@every_option
def test_a_reset_row_starts_like_a_new_stream(options: dict[str, Any]) -> None:
    layer = make(**options)
    _, state = layer(draw(11, 3, 3))
    x = draw(8, 3, 3, seed=2)
    output, after, recall = layer(x, state, reset=torch.tensor([False, True, False]), return_recall=True)
    new, fresh, read = layer(x[:, 1:2], return_recall=True)
    old, on = layer(x[:, 0:1], row(state, 0))
    assert_equal(output[:, 1:2], new, "the row that was reset")
    assert_equal(output[:, 0:1], old, "a row that was not")
    assert_same_state(row(after, 1), fresh)
    assert_same_state(row(after, 0), on)
    assert torch.equal(recall.step[:, 1:2, : read.step.shape[2]], read.step)


def resets(*places: tuple[int, int], steps: int = 15, rows: int = 3) -> Tensor:
    """A mask (T, B) in which new streams begin at the given (step, row) pairs."""
    mask = torch.zeros(steps, rows, dtype=torch.bool)
    for place in places:
        mask[place] = True
    return mask


def streams_alone(layer: SAB, x: Tensor, mask: Tensor, index: int) -> tuple[Tensor, SABState, Tensor]:
    """The streams of one row, each run alone: output (T, 1, H), the last state, and the recalled steps."""
    borders: list[int] = [0, *(t for t in range(1, len(x)) if mask[t, index]), len(x)]
    ran = [layer(x[start:stop, index : index + 1], return_recall=True) for start, stop in pairwise(borders)]
    width = max(recall.step.shape[2] for _, _, recall in ran)
    steps = torch.cat([widened(recall, width).step for _, _, recall in ran])
    return torch.cat([output for output, _, _ in ran]), ran[-1][1], steps


@every_option
def test_resets_in_time_split_a_row_into_streams(options: dict[str, Any]) -> None:
    """Each document in a batch has the values, state and gradients that it has when run alone."""
    layer = make(**options)
    x = draw(15, 3, 3).requires_grad_()
    mask = resets((0, 0), (4, 0), (5, 0), (4, 2), (14, 2))
    output, state, recall = layer(x, reset=mask, return_recall=True)
    alone: list[Tensor] = []
    for i in range(3):
        wanted, after, steps = streams_alone(layer, x, mask, i)
        assert_equal(output[:, i : i + 1], wanted, f"row {i}")
        assert_same_state(row(state, i), after)
        mine = recall.step[:, i : i + 1]
        assert torch.equal(mine[..., : steps.shape[2]], steps)
        alone.append(wanted)
    weight = draw(*output.shape, seed=9)
    assert_same_gradients(
        gradients(layer, (output * weight).sum(), x=x), gradients(layer, (torch.cat(alone, 1) * weight).sum(), x=x)
    )


def test_no_gradient_crosses_a_reset() -> None:
    layer = make(k_top=3, k_att=1, k_trunc=None)
    x = draw(10, 2, 3).requires_grad_()
    output = layer(x, reset=resets((6, 1), steps=10, rows=2))[0]
    (found,) = torch.autograd.grad(output[-1].sum(), x)
    assert not found[:6, 1].any()
    assert found[6:, 1].abs().sum(1).min() > 0
    assert found[:, 0].abs().sum(1).min() > 0


def test_reset_with_batch_first_unbatched_and_layers() -> None:
    options: dict[str, Any] = {"num_layers": 2, "k_top": 2, "k_att": 2, "k_trunc": 3}
    layer, other = make(**options), make(**options, batch_first=True)
    x, mask = draw(15, 3, 3), resets((4, 0), (7, 2))
    output, state = layer(x, reset=mask)
    y, after = other(x.transpose(0, 1), reset=mask.T)
    assert_equal(y, output.transpose(0, 1), "output, batch first")
    assert_same_state(after, state)
    alone, _ = layer(x[:, 2], reset=mask[:, 2])
    assert_equal(alone, output[:, 2], "output, unbatched")
    _, before = layer(x[:, 2])
    assert_equal(layer(x[:, 2], before, reset=torch.tensor(True))[0], layer(x[:, 2])[0], "unbatched, from the start")


@pytest.mark.parametrize("batch_first", [False, True])
def test_reset_within_packed_sequences(batch_first: bool) -> None:
    """The mask is padded like the sequences, in the caller's order. After a sequence's end it is ignored."""
    layer = make(k_top=2, k_att=2, k_trunc=3, capacity=2, batch_first=batch_first)
    lengths, mask = [6, 15, 3], resets((4, 0), (9, 0), (2, 1), (11, 1), (1, 2))
    rows = [draw(n, 3, seed=n) for n in lengths]
    given = mask.T if batch_first else mask
    output, state = layer(pack_sequence(rows, enforce_sorted=False), reset=given)
    padded, _ = pad_packed_sequence(output)
    plain = make(k_top=2, k_att=2, k_trunc=3, capacity=2)
    for i, x in enumerate(rows):
        wanted, after, _ = streams_alone(plain, x.unsqueeze(1), mask[: len(x), i : i + 1], 0)
        assert_equal(padded[: len(x), i : i + 1], wanted, f"sequence {i}")
        assert_same_state(row(state, i), after)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize("batched", [True, False], ids=["batched", "unbatched"])
def test_given_tensors_begin_a_stream_and_get_their_gradient(cell: str, batched: bool) -> None:
    layer = make(cell=cell, num_layers=2, k_top=2, k_att=2, k_trunc=3)
    shape = (2, 3, 4) if batched else (2, 4)
    parts = [draw(*shape, seed=s).requires_grad_() for s in ((1, 2) if cell == "lstm" else (1,))]
    x = draw(9, 3, 3) if batched else draw(9, 3)
    output, state = layer(x, tuple(parts) if cell == "lstm" else parts[0])
    assert state.step.tolist() == [9] * (3 if batched else 1)
    assert not torch.allclose(output, layer(x)[0])
    output.sum().backward()
    for part in parts:
        assert part.grad is not None
        assert part.grad.abs().flatten(1).sum(1).min() > 0, "every layer's start matters"


def test_given_zeros_are_no_state() -> None:
    layer = make(num_layers=2)
    x, zeros = draw(12, 2, 3), torch.zeros(2, 2, 4, dtype=torch.float64)
    output, state = layer(x, (zeros, zeros))
    wanted, after = layer(x)
    assert_equal(output, wanted, "output")
    assert_same_state(state, after)
    assert_equal(layer(x, [zeros, zeros])[0], wanted, "a list instead of a tuple")


def test_a_reset_row_forgets_given_tensors_too() -> None:
    layer = make()
    h, c = (draw(1, 2, 4, seed=s).requires_grad_() for s in (1, 2))
    x = draw(5, 2, 3)
    output = layer(x, (h, c), reset=torch.tensor([True, False]))[0]
    assert_equal(output[:, :1], layer(x[:, :1])[0], "the row that was reset")
    output.sum().backward()
    assert h.grad is not None
    assert not h.grad[:, 0].any()
    assert h.grad[:, 1].any()


def test_a_call_leaves_the_state_it_was_given_as_it_was() -> None:
    layer = make(k_top=2, k_att=1, capacity=3, evict="least_recalled")
    _, state = layer(draw(6, 2, 3))
    before = state.detach().clone()
    layer(draw(5, 2, 3, seed=2), state)
    layer(draw(5, 2, 3, seed=2), state, reset=torch.tensor([True, False]))
    assert_same_state(state, before)


def test_rows_in_different_phases_keep_their_own() -> None:
    """Rows that joined at different times store and are cut at different steps."""
    layer = make(k_top=2, k_att=3, k_trunc=4)
    x = draw(14, 2, 3).requires_grad_()
    output, state = layer(x, reset=resets((5, 1), steps=14, rows=2))
    stored: list[list[int]] = state.memory_step[0].tolist()
    assert stored == [[3, 6, 9, 12], [3, 6, 9, 0]]
    (found,) = torch.autograd.grad(output[8].sum(), x, retain_graph=True)
    assert found[:8, 0].abs().sum(1).min() == 0, "step 9 of row 0 begins a segment: its past counts as memory only"
    assert found[5:9, 1].abs().sum(1).min() > 0, "it is the fourth step of row 1's first segment"
