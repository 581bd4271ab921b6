"""Credit that waits: sent on every few calls, it is the gradient of one call over all of their inputs.

Shapes: T time, B batch, H hidden.
"""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_sequence

from reminding import SAB, SABState
from reminding.nn.state.merging import join_rows
from tests.drawn import drawn
from tests.nn.credit.test_op_sweep import options
from tests.nn.samples import BUILT, assert_same_gradients, draw, make, spread

Gradients = dict[str, Tensor]


def grads_of(layer: nn.Module) -> Gradients:
    found = {name: p.grad.clone() for name, p in layer.named_parameters() if p.grad is not None}
    layer.zero_grad()
    return found


def of_calls(layer: SAB, x: list[Tensor], reset: list[Tensor], weight: list[Tensor]) -> Gradients:
    """Of a stream whose losses are differentiated call by call, with nothing left waiting at the end."""
    state: Any = None
    for part, mask, w in zip(x, reset, weight, strict=True):
        output, state = layer(part, state, reset=mask)
        (output * w).sum().backward()
    state.settle()
    assert not state.history.waits
    return grads_of(layer)


def grouped(parts: list[Tensor], every: int) -> list[Tensor]:
    return [torch.cat(parts[first : first + every]) for first in range(0, len(parts), every)]


@drawn(150)
@given(
    options(),
    st.lists(st.integers(1, 8), min_size=2, max_size=6),
    st.integers(2, 7),
    st.integers(0, 99),
    st.sampled_from(BUILT),
    st.sampled_from([1, 1, 2, 3]),
    st.booleans(),
    st.sampled_from([0.0, 0.0, 0.1]),
)
def test_calls_send_together_what_one_call_over_their_inputs_sends(
    chosen: dict[str, Any],
    sizes: list[int],
    every: int,
    seed: int,
    backend: str,
    layers: int,
    encoded: bool,
    resets: float,
) -> None:
    def build(credit_every: int) -> SAB:
        encoder = nn.Linear(3, 3, dtype=torch.float64) if encoded else None
        layer = make(3, 4, layers, encoder=encoder, backend=backend, credit_every=credit_every, **chosen)
        spread(layer, 1, 0.4)
        return layer

    generator = torch.Generator().manual_seed(seed)
    x = [draw(size, 3, 3, seed=seed + number) for number, size in enumerate(sizes)]
    weight = [draw(size, 3, 4, seed=seed + 50 + number) for number, size in enumerate(sizes)]
    reset = [torch.rand(size, 3, generator=generator) < resets for size in sizes]
    got = of_calls(build(every), x, reset, weight)
    want = of_calls(build(1), *(grouped(parts, every) for parts in (x, reset, weight)))
    assert_same_gradients(got, want)


def stream(layer: SAB, calls: int, weight: Tensor | None = None) -> Any:
    """Some calls, each with a backward pass; the state after them."""
    state: Any = None
    for number in range(calls):
        output, state = layer(draw(6, 2, 3, seed=number), state)
        (output if weight is None else output * weight).sum().backward()
    return state


def deferring(every: int = 10, **chosen: Any) -> SAB:
    return make(3, 4, k_top=2, k_att=2, k_trunc=3, credit_every=every, **chosen)


def test_credit_waits_until_it_is_settled() -> None:
    layer = deferring()
    state = stream(layer, 4)
    assert state.history.waits
    before = grads_of(layer)
    state.settle()
    assert not state.history.waits
    settled = grads_of(layer)
    assert all(bool(gradient.abs().max() > 0) for gradient in settled.values())
    state.settle()
    assert grads_of(layer) == {}, "what was sent on does not wait any more"
    at_once = deferring(1)
    stream(at_once, 4)
    total = {name: before[name] + settled[name] for name in before}
    assert_same_gradients(total, grads_of(at_once))


def test_every_so_many_calls_a_backward_pass_sends_it_on() -> None:
    layer = deferring(3)
    assert [stream(layer, calls).history.waits for calls in range(1, 8)] == [
        False, True, False, True, True, False, True,
    ]  # fmt: skip


def test_the_past_of_a_call_whose_loss_was_never_differentiated_is_owed_on() -> None:
    """The backward pass that was to send credit on does not come; the next one does."""
    layer, at_once = deferring(3), deferring(1)
    for each in (layer, at_once):
        state: Any = None
        for number in range(6):
            output, state = each(draw(6, 2, 3, seed=number), state)
            if number != 2:
                output.sum().backward()
        state.settle()
    assert_same_gradients(grads_of(layer), grads_of(at_once))


def test_calls_without_backward_passes_do_not_add_up() -> None:
    layer = deferring(3)
    state: Any = None
    for number in range(30):
        _, state = layer(draw(6, 2, 3, seed=number), state)
        assert len(state.history.calls) <= 3
        assert len(state.history.owing) <= 3


def test_losses_differentiated_together_lose_nothing() -> None:
    """The credit of an early call comes when a later call's backward pass has sent on what waited."""
    found: list[Gradients] = []
    for every in (1, 3, 10):
        layer = deferring(every)
        losses: list[Tensor] = []
        state: Any = None
        for number in range(5):
            output, state = layer(draw(6, 2, 3, seed=number), state)
            losses.append(output.pow(2).sum())
        torch.stack(losses).sum().backward()
        state.settle()
        found.append(grads_of(layer))
    assert_same_gradients(found[1], found[0])
    assert_same_gradients(found[2], found[0])


def test_a_graph_kept_for_a_second_backward_pass_sends_credit_twice() -> None:
    layer = deferring()
    state = stream(layer, 3)
    layer.zero_grad()
    output, after = layer(draw(6, 2, 3, seed=9), state)
    for _ in range(2):
        output.sum().backward(retain_graph=True)
        after.settle()
    twice = grads_of(layer)
    other = deferring()
    state = stream(other, 3)
    state.settle()
    other.zero_grad()
    output, after = other(draw(6, 2, 3, seed=9), state)
    output.sum().backward()
    after.settle()
    once = grads_of(other)
    first = deferring()
    state = stream(first, 3)
    first.zero_grad()
    state.settle()
    waited = grads_of(first)
    assert_same_gradients(twice, {name: 2 * once[name] + waited[name] for name in once})


def _same(state: SABState) -> SABState:
    return state


@pytest.mark.parametrize("copied", ["file", "pickle", "rows", "clone", "deepcopy"])
@pytest.mark.parametrize("chosen", [{}, {"num_layers": 2, "capacity": 4}, {"semantics": "release"}], ids=str)
def test_what_is_owed_goes_with_a_copy(copied: str, chosen: dict[str, Any], tmp_path: Path) -> None:
    ways: dict[str, Callable[[SABState], SABState]] = {
        "file": lambda state: (state.save(tmp_path / "s"), SABState.load(tmp_path / "s"))[1],
        "pickle": lambda state: pickle.loads(pickle.dumps(state.without_graph())),
        "rows": lambda state: state.rows(torch.tensor([1, 0])).rows(torch.tensor([1, 0])),
        "clone": SABState.clone,
        "deepcopy": copy.deepcopy,
    }
    found: list[Gradients] = []
    for change in (ways[copied], _same):
        layer = deferring(**chosen)
        state = change(stream(layer, 3))
        mask = torch.tensor([True, False])
        output, state = layer(draw(6, 2, 3, seed=7), state, reset=mask)
        output.sum().backward()
        layer.settle(change(state))
        found.append(grads_of(layer))
    assert_same_gradients(*found)


@pytest.mark.parametrize("copied", [SABState.clone, copy.deepcopy])
@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("calls", [0, 1, 2, 3, 4])
def test_a_copy_and_its_original_each_send_on_what_is_owed(
    copied: Callable[[SABState], SABState], late: bool, calls: int
) -> None:
    """Also what comes after the copy was made, from the backward pass of the call before it."""
    layer = deferring(every=3)
    state = stream(layer, calls) if calls else None
    output, state = layer(draw(6, 2, 3, seed=7), state)
    loss = output.pow(2).sum()
    if not late:
        loss.backward()
    states = [state, copied(state), copied(copied(state))]
    if late:
        loss.backward()
    found: list[Gradients] = []
    for each in states:
        layer.zero_grad()
        further, after = layer(draw(6, 2, 3, seed=8), each)
        further.sum().backward()
        layer.settle(after)
        assert not after.history.waits
        found.append(grads_of(layer))
    assert_same_gradients(found[1], found[0])
    assert_same_gradients(found[2], found[0])


@pytest.mark.parametrize("backend", BUILT)
@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
def test_what_waits_is_saved_in_the_type_of_a_converted_state(
    kind: torch.dtype, backend: str, tmp_path: Path
) -> None:
    layer = deferring(backend=backend)
    state = stream(layer, 3).to(kind)
    state.save(tmp_path / "s")
    found: list[Gradients] = []
    for each in (SABState.load(tmp_path / "s"), state):
        layer.to(kind).zero_grad()
        layer.settle(each)
        found.append(grads_of(layer))
    assert_same_gradients(*found)


def test_a_state_from_a_file_does_not_know_its_layer(tmp_path: Path) -> None:
    stream(deferring(), 3).save(tmp_path / "s")
    state = SABState.load(tmp_path / "s")
    assert state.history.waits
    with pytest.raises(ValueError, match=r"layer\.settle\(state\) does it"):
        state.settle()
    with pytest.raises(ValueError, match=r"a layer with hidden_size=4, this layer has hidden_size=5"):
        make(3, 5, k_top=2, k_att=2, k_trunc=3).settle(state)


def test_hooks_and_parametrizations_see_what_is_settled() -> None:
    layer = deferring()
    torch.nn.utils.parametrizations.weight_norm(layer, "weight_hh_l0")
    seen: list[Tensor] = []
    layer.get_parameter("weight_ih_l0").register_hook(seen.append)
    state = stream(layer, 3)
    layer.zero_grad()
    before = len(seen)
    state.settle()
    assert len(seen) == before + 1
    assert all(parameter.grad is not None for parameter in layer.parameters())


def test_what_waits_is_bounded() -> None:
    layer = deferring(4, capacity=3)
    sizes: list[int] = []
    state: Any = None
    for number in range(24):
        output, state = layer(draw(6, 2, 3, seed=number), state)
        output.sum().backward()
        sizes.append(state.nbytes)
    assert sizes[12:16] == sizes[16:20] == sizes[20:24]


def test_streams_of_unequal_length_keep_what_they_are_owed() -> None:
    """Packed chunks: rows are sorted inside, wait aside when they end, and come back in the caller's order."""
    lengths = [[6, 15, 3], [9, 2, 12], [4, 8, 8]]
    found: list[Gradients] = []
    for every in (1, 2, 5):
        layer = deferring(every, num_layers=2, capacity=None)
        state: Any = None
        for number, sizes in enumerate(lengths):
            rows = [draw(n, 3, seed=10 * number + i) for i, n in enumerate(sizes)]
            output, state = layer(pack_sequence(rows, enforce_sorted=False), state)
            output.data.pow(2).sum().backward()
        state.settle()
        found.append(grads_of(layer))
    assert_same_gradients(found[1], found[0])
    assert_same_gradients(found[2], found[0])


def test_with_weights_that_change_it_is_sent_through_them() -> None:
    """The gradients of the states are old, the segments are run again with the new weights."""
    layer = deferring()
    state = stream(layer, 3)
    layer.zero_grad()
    waiting = copy.deepcopy(state)
    with torch.no_grad():
        for number, parameter in enumerate(layer.parameters()):
            parameter += 0.2 * draw(*parameter.shape, seed=number)
    fresh = make(3, 4, k_top=2, k_att=2, k_trunc=3)
    fresh.load_state_dict(layer.state_dict())
    fresh.settle(pickle.loads(pickle.dumps(waiting)))
    want = grads_of(fresh)
    state.settle()
    assert_same_gradients(grads_of(layer), want)


@pytest.mark.parametrize("sizes", [[0, 3, 2, 1, 8, 3], [3, 0, 2, 1, 0, 0, 8, 3], [0, 0, 3, 2, 0, 1, 8, 0, 3]])
def test_calls_without_steps_are_not_counted(sizes: list[int]) -> None:
    """The horizon shows it: it is counted from the first of the calls whose credit is sent on together."""
    layer = make(3, 4, k_top=2, k_att=1, k_trunc=4, horizon=2, credit_every=3)
    found: list[Gradients] = []
    for lengths in ([3, 2, 1, 8, 3], sizes):
        state: Any = None
        for number, length in enumerate(lengths):
            output, state = layer(draw(length, 2, 3, seed=sum(lengths[:number])), state)
            if length:
                output.square().sum().backward()
        state.settle()
        found.append(grads_of(layer))
    assert_same_gradients(found[1], found[0])


@pytest.mark.parametrize("credit_every", [1, 3])
def test_rows_of_states_without_a_common_past_are_not_joined(credit_every: int) -> None:
    """They would take each other's past for theirs."""
    layer = make(3, 4, k_top=2, credit_every=credit_every)
    _, one = layer(draw(4, 1, 3))
    _, other = layer(draw(4, 1, 3, seed=2))
    with pytest.raises(ValueError, match="one past in common"):
        join_rows([one, other])
    assert join_rows([one.detach(), other.detach()]).batch_size == 2


def test_what_is_recorded_of_credit_names_the_rows_of_the_present() -> None:
    layer = deferring()
    state = stream(layer, 2)
    output, state = layer(draw(6, 2, 3, seed=5), state, reset=torch.tensor([True, False]))
    output.sum().backward()
    with layer.credit() as credit:
        output, state = layer(draw(6, 2, 3, seed=6), state)
        output.sum().backward()
    assert not state.history.waits, "a call that is watched sends on what waits"
    assert {int(row) for row in credit.row} == {0, 1}
    assert int(credit.step[credit.row == 0].max()) <= 12


def test_a_stream_may_go_two_ways_where_no_credit_waits_for_several_calls() -> None:
    state = stream(deferring(), 2)
    twice = torch.tensor([0, 0])
    with pytest.raises(ValueError, match=r"no row twice where credit waits.*credit_every=1"):
        state.rows(twice)
    first = state.rows(torch.tensor([0]))
    with pytest.raises(ValueError, match=r"no row twice where credit waits.*credit_every=1"):
        join_rows([first, first])
    assert state.detach().rows(twice).batch_size == 2
    ended = stream(make(3, 4, k_top=2, k_att=2, k_trunc=3, credit_every=3, horizon=0), 2)
    assert ended.rows(twice).batch_size == 2, "without credit into past calls none waits"
    assert state.rows(torch.tensor([1, 0])).batch_size == 2
    layer, found = make(3, 4, k_top=2, k_att=2, k_trunc=3), list[dict[str, Tensor]]()
    for begun in (slice(None), slice(0, 1)):
        layer.zero_grad()
        x = draw(7, 1, 3).expand(7, 2, 3)
        _, now = layer(x[:, begun])
        now = now if begun == slice(None) else now.rows(twice)
        layer(draw(5, 2, 3, seed=1), now)[0].sum().backward()
        found.append(grads_of(layer))
    assert_same_gradients(found[1], found[0])
