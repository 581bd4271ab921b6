"""Truncated BPTT over a stream: the gradient, the carried state, and how far it reads ahead.

Shapes: L layers, B batch, T time, I input, H hidden.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count, islice, pairwise
from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_sequence
from torch.utils.data import DataLoader, IterableDataset

from reminding import SAB, tbptt
from reminding.nn.tbptt import detached, reset_rows
from tests.nn.samples import assert_same_gradients, assert_same_state, chunks, draw, gradients, make, row, spread
from tests.tolerance import assert_equal

LAYERS: dict[str, Callable[..., nn.RNNBase]] = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}


def torch_layer(name: str, **options: Any) -> nn.RNNBase:
    options = {"num_layers": 2, "dtype": torch.float64, **options}
    layer = LAYERS[name](3, 4, **options)
    spread(layer)
    return layer


def by_hand(layer: nn.Module, x: Tensor, k: int) -> list[Tensor]:
    """The usual loop: detach the state, run k steps."""
    outputs: list[Tensor] = []
    state: Any = None
    for piece in x.split(k):  # pyright: ignore[reportUnknownVariableType]
        if isinstance(state, tuple):
            state = (state[0].detach(), state[1].detach())
        elif state is not None:
            state = state.detach()
        output, state = layer(piece, state)
        outputs.append(output)
    return outputs


@pytest.mark.parametrize("k", [1, 4, 7, 20, 50])
@pytest.mark.parametrize("name", sorted(LAYERS))
def test_outputs_and_gradients_are_those_of_the_loop_by_hand(name: str, k: int) -> None:
    layer, x = torch_layer(name), draw(20, 3, 3)
    wanted = by_hand(layer, x, k)
    got = list(tbptt(layer, [x], k))
    assert [len(output) for output in got] == [len(output) for output in wanted]
    for output, want in zip(got, wanted, strict=True):
        assert_equal(output, want, "output")
        for name_, gradient in gradients(layer, want.pow(2).sum()).items():
            assert_equal(gradients(layer, output.pow(2).sum())[name_], gradient, f"gradient of {name_}")


def test_training_in_five_lines_is_training_by_hand() -> None:
    x, wanted = draw(30, 2, 3), draw(30, 2, 4, seed=5)
    one, other = torch_layer("lstm"), torch_layer("lstm")
    optimizer = torch.optim.SGD(one.parameters(), lr=0.1)
    for output, target in tbptt(one, zip(chunks(x, 6), chunks(wanted, 6), strict=True), k=10):
        (output - target).pow(2).mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    optimizer, state = torch.optim.SGD(other.parameters(), lr=0.1), None
    for piece, target in zip(chunks(x, 10), chunks(wanted, 10), strict=True):
        output, (h, c) = other(piece, state)
        (output - target).pow(2).mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        state = h.detach(), c.detach()
    for parameter, want in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.equal(parameter, want)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(st.lists(st.integers(0, 9), max_size=8), st.integers(1, 7), st.booleans())
def test_items_of_any_length_are_cut_into_chunks_of_k(sizes: list[int], k: int, batch_first: bool) -> None:
    x = draw(sum(sizes), 2, 3)
    items = [piece.transpose(0, 1) if batch_first else piece for piece in chunks(x, sizes)] if sizes else []
    layer = torch_layer("gru", batch_first=batch_first)
    got = list(tbptt(layer, ((item, item) for item in items), k))
    axis = int(batch_first)
    full, left = divmod(sum(sizes), k)
    assert [output.shape[axis] for output, _ in got] == [k] * full + [left] * (left > 0)
    if got:
        joined = torch.cat([target for _, target in got], axis)
        assert torch.equal(joined.transpose(0, 1) if batch_first else joined, x)
        whole, _ = layer(joined)
        assert_equal(torch.cat([output for output, _ in got], axis), whole, "output")


def test_a_stream_is_read_only_as_far_as_the_chunk_under_way() -> None:
    read: list[int] = []

    def endless() -> Iterator[Tensor]:
        for number in count():
            read.append(number)
            yield draw(4, 2, 3, seed=number)

    outputs = tbptt(torch_layer("lstm"), endless(), k=6)
    assert read == []
    next(outputs)
    assert read == [0, 1]
    next(outputs)
    assert read == [0, 1, 2]


def test_nothing_read_is_kept() -> None:
    alive: list[weakref.ref[Tensor]] = []

    def items() -> Iterator[Tensor]:
        for number in count():
            item = draw(5, 2, 3, seed=number)
            alive.append(weakref.ref(item))
            yield item
            del item

    for output in islice(tbptt(torch_layer("lstm"), items(), k=5), 50):
        output.sum().backward()
    assert sum(each() is not None for each in alive) <= 3


def test_the_state_goes_on_later() -> None:
    layer, x = torch_layer("lstm"), draw(20, 2, 3)
    first = tbptt(layer, [x[:10]], k=5)
    outputs = [*first, *tbptt(layer, [x[10:]], k=5, state=first.state)]
    assert_equal(torch.cat(outputs), layer(x)[0], "output")
    assert not any(tensor.requires_grad for tensor in first.state)


class Numbers(IterableDataset[tuple[Tensor, Tensor]]):
    """A data set that stands for a file of any length."""

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return ((piece, piece) for piece in chunks(draw(12, 2, 3), 3))


def test_a_data_loader_is_a_stream() -> None:
    layer = torch_layer("lstm")
    outputs = [output for output, _ in tbptt(layer, DataLoader(Numbers(), batch_size=None), k=5)]
    assert_equal(torch.cat(outputs), layer(draw(12, 2, 3))[0], "output")


class Pair(NamedTuple):
    fast: Tensor
    slow: Tensor


@dataclass(frozen=True)
class Held:
    pair: Pair
    note: str = "kept"


class Nested(nn.Module):
    """A user's module with a state of tuples, lists, dicts and dataclasses."""

    def __init__(self) -> None:
        super().__init__()
        self.cells = nn.ModuleList(nn.GRUCell(3, 3, dtype=torch.float64) for _ in range(4))
        spread(self)

    def forward(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        parts = [x.new_zeros(x.shape[1], 3) for _ in self.cells] if state is None else self.parts(state)
        outputs: list[Tensor] = []
        for x_t in x:
            for number, cell in enumerate(self.cells):
                x_t = parts[number] = cell(x_t, parts[number])
            outputs.append(x_t)
        a, b, c, d = parts
        return torch.stack(outputs), {"list": [a, (b,)], "held": Held(Pair(c, d)), "calls": 1, "nothing": None}

    def parts(self, state: Any) -> list[Tensor]:
        a, (b,) = state["list"]
        assert isinstance(state["held"], Held), "kinds are kept"
        return [a, b, *state["held"].pair]


def test_a_nested_state_is_carried_and_detached() -> None:
    module, x = Nested(), draw(12, 2, 3).requires_grad_()
    stream = tbptt(module, [x], k=4)
    first, second = next(stream), next(stream)
    assert not any(part.requires_grad for part in module.parts(stream.state))
    assert stream.state["held"].note == "kept"
    assert_equal(torch.cat([first, second]), module(x[:8])[0], "output")
    (found,) = torch.autograd.grad(second.sum(), x)
    assert not found[:4].any()
    assert found[4:8].any()


def resets(steps: int, *places: tuple[int, int], rows: int = 3) -> Tensor:
    mask = torch.zeros(steps, rows, dtype=torch.bool)
    for place in places:
        mask[place] = True
    return mask


MODULES: dict[str, Any] = {
    "lstm": lambda: torch_layer("lstm"),
    "gru": lambda: torch_layer("gru"),
    "nested": Nested,
    "sab": lambda: make(k_top=2, k_att=2, k_trunc=3),
}


@pytest.mark.parametrize("name", sorted(MODULES))
@pytest.mark.parametrize("k", [4, 5, 30])
def test_reset_rows_are_new_streams_and_the_others_go_on(name: str, k: int) -> None:
    module, x = MODULES[name](), draw(15, 3, 3).requires_grad_()
    mask = resets(15, (0, 0), (6, 0), (7, 0), (6, 2), (10, 1))
    items = zip(chunks(x, 5), chunks(mask, 5), strict=True)
    axis = 0 if name == "nested" else None  # H is 3 there, the same as B
    outputs = list(tbptt(module, items, k, reset=True, state_axis=axis))
    assert [len(output) for output in outputs] == [min(k, 15 - start) for start in range(0, 15, k)]
    output = torch.cat(outputs)
    for index, borders in enumerate([(0, 6, 7, 15), (0, 10, 15), (0, 6, 15)]):
        for start, stop in pairwise(borders):
            alone, _ = module(x[start:stop, index : index + 1])
            assert_equal(output[start:stop, index : index + 1], alone, f"row {index} from step {start}")


def test_no_gradient_crosses_a_reset_and_the_other_rows_keep_theirs() -> None:
    x = draw(8, 2, 3).requires_grad_()
    (output,) = tbptt(torch_layer("lstm"), [(x, resets(8, (5, 1), rows=2))], k=8, reset=True)
    (found,) = torch.autograd.grad(output[-1].sum(), x)
    assert not found[:5, 1].any()
    assert found[5:, 1].abs().sum(1).min() > 0
    assert found[:, 0].abs().sum(1).min() > 0


def test_a_mask_of_rows_speaks_of_the_items_first_step() -> None:
    layer, x = torch_layer("lstm", batch_first=True), draw(3, 12, 3)
    rows = torch.tensor([False, True, False])
    items = [(x[:, :5], torch.zeros(3, dtype=torch.bool)), (x[:, 5:], rows)]
    outputs = torch.cat(list(tbptt(layer, items, k=4, reset=True)), 1)
    assert_equal(outputs[:1], layer(x[:1])[0], "a row that goes on")
    assert_equal(outputs[1:2, 5:], layer(x[1:2, 5:])[0], "the row that was reset")


def test_sab_states_are_carried_and_reset() -> None:
    layer, x = make(k_top=2, k_att=2, k_trunc=3), draw(12, 2, 3)
    stream = tbptt(layer, [(x, resets(12, (7, 1), rows=2))], k=5, reset=True)
    list(stream)
    assert_same_state(row(stream.state, 0), layer(x[:, :1])[1])
    assert_same_state(row(stream.state, 1), layer(x[7:, 1:])[1])


def test_a_state_with_a_reset_of_its_own_uses_it() -> None:
    _, state = make(k_top=2, k_att=2)(draw(6, 2, 3))
    nested = reset_rows([state], torch.tensor([True, False]))
    assert nested[0].step.tolist() == [0, 6]


class Wrapped(nn.Module):
    """A layer and its readout, like most models. It declares neither batch_first nor its state."""

    def __init__(self, layers: int) -> None:
        super().__init__()
        self.layer = nn.LSTM(3, 4, layers, dtype=torch.float64)

    def forward(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        return self.layer(x, state)


def test_rows_of_a_state_are_found_or_asked_for_never_guessed() -> None:
    x, mask = draw(6, 3, 3), resets(6, (4, 0))
    found, layer = Wrapped(layers=2), Wrapped(layers=3)
    output = torch.cat(list(tbptt(found, [(x, mask)], k=3, reset=True)))
    assert_equal(output[4:, :1], found(x[4:, :1])[0], "the row that was reset")
    with pytest.raises(ValueError, match=r"\(3, 3, 4\), and both of its first axes could be the 3 rows.*state_axis"):
        list(tbptt(layer, [(x, mask)], k=3, reset=True))
    output = torch.cat(list(tbptt(layer, [(x, mask)], k=3, reset=True, state_axis=1)))
    assert_equal(output[4:, :1], layer(x[4:, :1])[0], "the row that was reset, with its axis told")
    with pytest.raises(ValueError, match="neither of its first axes is the 3 rows"):
        reset_rows(torch.zeros(2, 2), torch.zeros(3, dtype=torch.bool))
    with pytest.raises(ValueError, match="does not have 3 rows on axis 1"):
        reset_rows(torch.zeros(3), torch.zeros(3, dtype=torch.bool), axis=1)


def test_what_cannot_be_detached_is_named() -> None:
    with pytest.raises(ValueError, match=r"state holds a object, which has no method detach\(\)"):
        detached([torch.zeros(2), object()])


@pytest.mark.parametrize("k", [0, -1, 2.5, True])
def test_k_is_checked_at_the_call(k: Any) -> None:
    for name in ("reset", "detach", "batch_first"):
        with pytest.raises(ValueError, match=f"{name} must be True or False, got 'no'"):
            tbptt(nn.LSTM(3, 4), [draw(4, 2)], 3, **{name: "no"})  # pyright: ignore
    with pytest.raises(ValueError, match="state_axis must be an integer of at least 0, or None, got -1"):
        tbptt(nn.LSTM(3, 4), [draw(4, 2)], 3, state_axis=-1)
    with pytest.raises(ValueError, match=r"module must be callable as module\(input, state\), got 3"):
        tbptt(3, [draw(4, 2)], 3)  # pyright: ignore
    with pytest.raises(ValueError, match="k must be an integer of at least 1"):
        tbptt(torch_layer("lstm"), [], k)


@pytest.mark.parametrize(
    ("item", "reset", "message"),
    [
        ((draw(4, 2, 3), draw(5, 2)), False, r"element 1 .* as many steps as the input, 4 on axis 0; got .*\(5, 2\)"),
        ((draw(4, 2, 3), 1.0), False, "element 1 of an item must be a tensor, got float"),
        (draw(4), False, r"must have shape \(T, B, \.\.\.\), got \(4,\)"),
        (draw(4, 2, 3), True, r"each item must be \(input, \.\.\., mask\) with reset=True, got 1 tensor$"),
        ((), False, r"each item must be \(input, \.\.\.\), got 0 tensors"),
        (5, False, "an item must be a tensor or a tuple of tensors, got int"),
        ({"x": draw(4, 2, 3)}, False, "an item must be a tensor or a tuple of tensors, got dict"),
        (pack_sequence([draw(4, 3)]), False, "an item must be a tensor or a tuple of tensors, got PackedSequence"),
        ((draw(4, 2, 3), draw(4, 2)), True, r"must be bool of shape \(2,\) or \(4, 2\), got torch.float64"),
        (
            (draw(4, 2, 3), torch.zeros(3, dtype=torch.bool)),
            True,
            r"must be bool of shape .* got torch.bool .*\(3,\)",
        ),
    ],
)
def test_items_that_do_not_fit_are_named(item: Any, reset: bool, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        list(tbptt(torch_layer("lstm"), [item], 2, reset=reset))


@pytest.mark.parametrize(
    ("stream", "message"),
    [
        (draw(9, 2, 3), r"got one tensor of shape \(9, 2, 3\): \[tensor\] is a stream of one item"),
        (None, "stream must be an iterable of items .* got NoneType"),
    ],
)
def test_what_is_no_stream_is_named(stream: Any, message: str) -> None:
    """Of a tensor (T, B, I) the items would be (B, I), which `nn.LSTM` takes for B steps."""
    with pytest.raises(ValueError, match=message):
        tbptt(torch_layer("lstm"), stream, 2)


def test_rows_that_change_within_a_chunk_are_named() -> None:
    with pytest.raises(ValueError, match=r"after tensors of shapes \[\(4, 2, 3\)\] came \[\(4, 3, 3\)\]"):
        list(tbptt(torch_layer("lstm"), [draw(4, 2, 3), draw(4, 3, 3)], 6))


def test_a_sab_layer_trains_in_the_same_five_lines() -> None:
    layer = SAB(3, 8, k_trunc=4, capacity=5)
    optimizer = torch.optim.Adam(layer.parameters())
    before = [parameter.detach().clone() for parameter in layer.parameters()]
    stream = ((draw(7, 2, 3, seed=n, dtype=torch.float32), torch.zeros(7, 2, 8)) for n in range(5))
    for output, target in tbptt(layer, stream, k=10):
        (output - target).pow(2).mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    assert not any(map(torch.equal, layer.parameters(), before))


@pytest.mark.parametrize("every", [1, 3, 10])
def test_without_detach_credit_crosses_the_borders_and_is_settled_at_the_end(every: int) -> None:
    layer = make(3, 4, k_top=2, k_att=2, k_trunc=3, credit_every=every)
    x, weight = draw(33, 2, 3), draw(33, 2, 4, seed=2)
    want = gradients(layer, (layer(x)[0] * weight).sum())
    layer.zero_grad()
    chunks = tbptt(layer, [(x, weight)], 5, detach=False)
    for output, w in chunks:
        (output * w).sum().backward()
    assert_same_gradients({name: p.grad for name, p in layer.named_parameters() if p.grad is not None}, want)
    assert not chunks.state.history.waits


def test_a_state_without_a_past_has_to_be_detached() -> None:
    with pytest.raises(ValueError, match=r"detach=False needs a state that keeps its past.*got a tuple"):
        next(tbptt(torch.nn.LSTM(3, 4), [torch.zeros(4, 2, 3)], 2, detach=False))


@pytest.mark.parametrize("name", ["lstm", "sab"])
def test_an_item_without_steps_resets_rows_before_the_next_step(name: str) -> None:
    layer: Any = torch_layer("lstm") if name == "lstm" else SAB(3, 4, k_trunc=2).double()
    x, mask, none = draw(9, 2, 3), torch.tensor([True, False]), torch.zeros(2, dtype=torch.bool)
    items = [(x[:5], none), (x[:0], mask), (x[:0], none), (x[5:], none)]
    outputs = torch.cat(list(tbptt(layer, items, k=3, reset=True)))
    assert_equal(outputs, torch.cat(list(tbptt(layer, [(x, resets(9, (5, 0), rows=2))], k=3, reset=True))), name)
    ended = tbptt(layer, items[:2], k=3, reset=True)
    list(ended)
    assert_equal(layer(x[5:], ended.state)[0], outputs[5:], "reset at the end of the stream")
