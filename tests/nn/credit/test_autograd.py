"""Credit into past calls of a stream: the gradient that later calls send, and the records kept for it.

Shapes: T time, B batch, I input, H hidden.
"""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_sequence

from reminding import SABState
from reminding.ops import cpu_op
from reminding.ops.contract import PastSteps
from tests import oracle
from tests.nn.samples import (
    LAYERS,
    added,
    assert_same_gradients,
    assert_same_state,
    chunks,
    draw,
    gradients,
    make,
    row,
    streamed,
)
from tests.oracle import Config
from tests.tolerance import assert_equal

Gradients = dict[str, Tensor]


@pytest.mark.parametrize("options", LAYERS.values(), ids=LAYERS.keys())
@pytest.mark.parametrize("engine", ["autograd", "replay"])
@pytest.mark.parametrize("backend", ["auto", "reference"])
def test_chunks_give_the_gradient_of_the_whole(options: dict[str, Any], engine: str, backend: str) -> None:
    layer = make(backend=backend, engine=engine, **options)
    for size, steps in ((1, 16), (7, 30), (64, 70)):
        x, weight = draw(steps, 2, 3), draw(steps, 2, 4, seed=2)
        whole = gradients(layer, (layer(x)[0] * weight).sum())
        assert_same_gradients(streamed(layer, x, weight, size)[0], whole)


def by_hand(config: Config, old: dict[str, Tensor], new: dict[str, Tensor], x: Tensor, steps: int) -> Tensor:
    """The outputs (T - steps, H) of one row whose first `steps` steps had old weights, differentiable as documented.

    Memories stored before keep their values. Their gradient is that of replaying their segment with the new weights,
    from the state that entered it, with the recorded reads.
    """
    start = oracle.begin(config, *x.new_zeros(2, 4))
    oracle.run_row(list(x[:steps]), start, old, config)
    stream = oracle.begin(config, *x.new_zeros(2, 4))
    again: list[oracle.Slot] = []
    for begin, end in pairwise(range(0, steps + 1, config.k_trunc or steps)):
        entering = oracle.Stream(stream.h.detach(), stream.c.detach(), list(again), begin)
        oracle.run_row(list(x[begin:end]), stream, old, config)
        oracle.run_row(list(x[begin:end]), entering, new, config)
        value = stream.memory[-1].value.detach()
        replayed = entering.memory[-1].value
        again.append(oracle.Slot(value + (replayed - replayed.detach()), end))
    later = oracle.Stream(stream.h.detach(), stream.c.detach(), again, steps)
    return torch.stack(oracle.run_row(list(x[steps:]), later, new, config).output)


@pytest.mark.parametrize("backend", ["auto", "reference"])
def test_weights_changed_between_calls_replay_as_they_are_now(backend: str) -> None:
    """Each segment stores one memory and all are read, so that what is read does not depend on the weights."""
    config = Config(k_top=8, k_att=4, k_trunc=4)
    layer = make(k_top=8, k_trunc=4, backend=backend)
    x, weight = draw(20, 1, 3), draw(8, 4, seed=2)

    def named() -> dict[str, Tensor]:
        return {name.removesuffix("_l0"): parameter for name, parameter in layer.named_parameters()}

    _, state = layer(x[:12])
    old = {name: parameter.detach().clone() for name, parameter in named().items()}
    with torch.no_grad():
        for number, parameter in enumerate(layer.parameters()):
            parameter += 0.2 * draw(*parameter.shape, seed=number)
    output, _ = layer(x[12:], state)
    wanted = by_hand(config, old, named(), x[:, 0], 12)
    assert_equal(output[:, 0], wanted, "output")
    got = gradients(layer, (output[:, 0] * weight).sum())
    want = gradients(layer, (wanted * weight).sum())
    assert_same_gradients(got, want)
    assert want["weight_ih_l0"].abs().max() > 1e-3


@pytest.mark.skipif(cpu_op.missing() is not None, reason=f"{cpu_op.missing()}")
def test_what_set_the_threshold_gets_no_weight_by_rounding(monkeypatch: pytest.MonkeyPatch) -> None:
    """The record has it in place of all memories with weight 0, and its score may differ in the last digits."""
    seen: list[PastSteps] = []
    differentiate = cpu_op.differentiate_past

    def watched(d: Any, parameters: Any, passed: PastSteps, *further: Any) -> Any:
        seen.append(passed)
        return differentiate(d, parameters, passed, *further)

    monkeypatch.setattr(cpu_op, "differentiate_past", watched)
    layer = make(3, 5, k_top=2, k_att=2, k_trunc=3, normalizer="threshold")
    streamed(layer, draw(14, 2, 3), draw(14, 2, 5, seed=2), 5)
    assert any((passed.edges >= 0).any() for passed in seen)
    for passed in seen:
        edge = passed.edges.unsqueeze(2)
        assert not ((passed.slots == edge) & (edge >= 0)).any()


def test_the_horizon_ends_credit_at_a_step() -> None:
    """The simplest form of the identity: an encoder gives each step's input weights of its own."""

    class StepWise(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.at = nn.Parameter(draw(30, 3))

        def forward(self, number: Tensor) -> Tensor:
            return self.at[number]

    for horizon in (1, 4, 7, 12):
        layer = make(k_top=2, k_att=1, k_trunc=None, horizon=horizon, encoder=StepWise())
        _, state = layer(torch.arange(0, 10).view(10, 1))
        _, state = layer(torch.arange(10, 20).view(10, 1), state)
        output, _ = layer(torch.arange(20, 30).view(10, 1), state)
        found = gradients(layer, output.sum())["encoder.at"]
        reached = found.abs().sum(1) > 0
        assert reached.tolist() == [step > 20 - horizon for step in range(1, 31)]


def test_without_a_horizon_nothing_is_kept() -> None:
    layer = make(horizon=0, k_top=2, k_att=2, k_trunc=3)
    _, state = layer(draw(20, 2, 3))
    assert not state.past.segments
    output, after = layer(draw(5, 2, 3, seed=2), state)
    assert not after.past.segments
    alone = gradients(layer, output.sum())
    assert_same_gradients(alone, gradients(layer, layer(draw(5, 2, 3, seed=2), state.detach())[0].sum()))


def test_detach_ends_credit() -> None:
    layer = make(k_top=2, k_att=2, k_trunc=3)
    _, state = layer(draw(20, 2, 3))
    assert state.past.segments
    y = draw(5, 2, 3, seed=2)
    cut, carried = (gradients(layer, layer(y, given)[0].sum()) for given in (state.detach(), state))
    layer.rule = replace(layer.rule, horizon=0)
    assert_same_gradients(cut, gradients(layer, layer(y, state)[0].sum()))
    assert not torch.allclose(cut["weight_ih_l0"], carried["weight_ih_l0"])


def test_steps_without_gradient_are_constants_later() -> None:
    layer = make(k_top=2, k_att=2, k_trunc=3)
    with torch.no_grad():
        _, state = layer(draw(20, 2, 3))
    assert not state.past.segments
    assert state.memory.shape[2] == 10


@pytest.mark.parametrize("evict", ["fifo", "least_recalled"])
def test_a_full_history_stays_of_one_size(evict: str) -> None:
    layer = make(k_top=2, k_trunc=5, capacity=4, evict=evict)
    state: Any = None
    sizes: list[int] = []
    for seed in range(12):
        _, state = layer(draw(10, 2, 3, seed=seed), state)
        sizes.append(state.nbytes)
        kept = [segment.row.tolist().count(0) for segment in state.past.segments]
        assert sum(kept) <= 4, "no more segments than memories"
    if evict == "fifo":
        assert len(set(sizes[4:])) == 1
    assert max(sizes[4:]) <= 4 * min(sizes[4:])


def test_a_stream_that_is_never_cut_is_bounded_by_its_horizon_alone() -> None:
    """Without k_trunc the gradient flows through every h, so that every past call counts, whatever is remembered."""
    sizes: dict[int | None, list[int]] = {}
    for horizon in (None, 20):
        layer = make(k_top=2, k_att=5, k_trunc=None, capacity=4, horizon=horizon)
        state: Any = None
        sizes[horizon] = []
        for seed in range(8):
            _, state = layer(draw(10, 2, 3, seed=seed), state)
            sizes[horizon].append(state.nbytes)
    assert len(set(sizes[20][4:])) == 1
    assert sizes[None] == sorted(set(sizes[None]))


def test_nothing_kept_holds_a_graph_or_a_chunk() -> None:
    layer = make(k_top=2, k_trunc=5, capacity=3, num_layers=2)
    state: Any = None
    for seed in range(4):
        output, state = layer(draw(20, 2, 3, seed=seed), state)
        output.sum().backward()
    inputs = [segment.x for segment in state.past.segments if segment.x is not None]
    assert inputs
    storages = {x.untyped_storage().data_ptr(): x.untyped_storage().nbytes() for x in inputs}
    assert sum(storages.values()) <= 2 * sum(x.nbytes for x in inputs)
    for segment in state.past.segments:
        for passage in segment.layers:
            assert all(not tensor.requires_grad for tensor in (passage.entering.h, *passage.entering.cell_state))


def test_a_buffer_filled_anew_does_not_change_the_past() -> None:
    layer = make(k_top=2, k_trunc=5)
    x, weight = draw(30, 2, 3), draw(30, 2, 4, seed=2)
    want, _ = streamed(layer, x, weight, 10)
    buffer = torch.empty(10, 2, 3, dtype=torch.float64)
    total: Gradients = {}
    state: Any = None
    for part, w in zip(chunks(x, 10), chunks(weight, 10), strict=True):
        buffer.copy_(part)
        output, state = layer(buffer, state)
        total = added(total, gradients(layer, (output * w).sum()))
    assert_same_gradients(total, want)


OTHER_WAYS: dict[str, Callable[[SABState], SABState]] = {
    "copy": copy.deepcopy,
    "clone": SABState.clone,
    "pickle": lambda given: pickle.loads(pickle.dumps(given)),
}


@pytest.mark.parametrize("way", ["file", "copy", "pickle", "clone"])
@pytest.mark.parametrize(
    "options",
    [
        {"k_top": 2, "k_trunc": 5, "capacity": 3, "num_layers": 2, "dropout": 0.5},
        {"k_top": None, "k_att": 1, "k_trunc": None},
        {"k_top": 2, "k_trunc": 5, "cell": "gru", "encoder": nn.Embedding(5, 3, dtype=torch.float64)},
    ],
    ids=["bounded", "dense", "encoder"],
)
def test_a_state_goes_on_after_a_restart_with_its_past(way: str, options: dict[str, Any], tmp_path: Path) -> None:
    layer = make(**options)
    tokens = torch.arange(40).view(20, 2) % 5
    x, y = (tokens, tokens.flip(0)) if "encoder" in options else (draw(20, 2, 3), draw(20, 2, 3, seed=2))
    _, state = layer(x)
    if way == "file":
        state.save(tmp_path / "state")
        other = SABState.load(tmp_path / "state")
    else:
        other = OTHER_WAYS[way](state.without_graph())
    assert other.nbytes == state.nbytes
    found: list[Gradients] = []
    for given in (state, other):
        torch.manual_seed(0)
        found.append(gradients(layer, layer(y, given)[0].sum()))
    for name, gradient in found[0].items():
        assert torch.equal(found[1][name], gradient), name


def test_a_reset_row_owes_nothing_to_its_old_stream() -> None:
    layer = make(k_top=2, k_att=2, k_trunc=3)
    x, y = draw(11, 3, 3), draw(8, 3, 3, seed=2)
    _, state = layer(x)
    output, after = layer(y, state, reset=torch.tensor([False, True, False]))
    found = gradients(layer, output[:, 1].sum())
    assert_same_gradients(found, gradients(layer, layer(y[:, 1:2])[0].sum()))
    other = gradients(layer, output[:, 0].sum())
    assert_same_gradients(other, gradients(layer, layer(y[:, 0:1], row(state, 0))[0].sum()))
    assert not any(1 in segment.row and segment.steps_done[segment.row == 1] > 8 for segment in after.past.segments)


def test_streams_of_unequal_length_owe_to_their_own_past() -> None:
    """Packed chunks: rows are sorted inside the layer, end at different steps, and continue in the caller's order."""
    layer = make(k_top=2, k_att=2, k_trunc=3, num_layers=2)
    lengths = [[6, 15, 3], [9, 2, 12]]
    rows = [[draw(n, 3, seed=10 * number + i) for i, n in enumerate(sizes)] for number, sizes in enumerate(lengths)]
    state: Any = None
    total: Gradients = {}
    for sequences in rows:
        output, state = layer(pack_sequence(sequences, enforce_sorted=False), state)
        total = added(total, gradients(layer, output.data.pow(2).sum()))
    whole = [layer(torch.cat([rows[0][i], rows[1][i]]).unsqueeze(1))[0].pow(2).sum() for i in range(3)]
    assert_same_gradients(total, gradients(layer, torch.stack(whole).sum()))


def test_an_embedding_is_replayed_and_its_tokens_stay_integers() -> None:
    layer = make(k_top=2, k_att=2, k_trunc=3, encoder=nn.Embedding(7, 3, dtype=torch.float64))
    tokens, weight = torch.arange(60).view(30, 2) * 5 % 7, draw(30, 2, 4, seed=2)
    whole = gradients(layer, (layer(tokens)[0] * weight).sum())
    total, state = streamed(layer, tokens, weight, 7)
    assert_same_gradients(total, whole)
    assert whole["encoder.weight"].abs().max() > 0
    sources = [segment.encoder_input for segment in state.past.segments]
    assert all(source is not None and source.input.dtype == torch.int64 for source in sources)


def test_an_encoder_that_drops_inputs_drops_the_same_when_replayed() -> None:
    """This holds in training; the generator continues as if nothing had been replayed."""
    wide = make(k_top=2, k_trunc=5, encoder=nn.Dropout(0.5))
    plain = make(k_top=2, k_trunc=5)
    x, weight = draw(20, 2, 3), draw(20, 2, 4, seed=2)
    torch.manual_seed(5)
    got, _ = streamed(wide, x, weight, 5)
    after = torch.get_rng_state()
    torch.manual_seed(5)
    dropped = torch.cat([F.dropout(part, 0.5) for part in chunks(x, 5)])
    assert torch.equal(torch.get_rng_state(), after)
    assert_same_gradients(got, gradients(plain, (plain(dropped)[0] * weight).sum()))


class Front(nn.Module):
    """A convolution over time that halves the number of steps, for batch_first input (B, T, 1)."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(draw(3, 1, 2, seed=5))

    def forward(self, wave: Tensor) -> Tensor:
        return F.conv1d(wave.transpose(1, 2), self.weight, stride=2).transpose(1, 2)


def test_a_front_end_over_time_is_replayed_chunk_by_chunk() -> None:
    layer = make(k_top=2, k_att=2, k_trunc=3, batch_first=True, encoder=Front())
    wave, weight = draw(2, 48, 1), draw(2, 24, 4, seed=2)
    whole = gradients(layer, (layer(wave)[0] * weight).sum())
    total: Gradients = {}
    state: Any = None
    for part, w in zip(chunks(wave.transpose(0, 1), 16), chunks(weight.transpose(0, 1), 8), strict=True):
        output, state = layer(part.transpose(0, 1), state)
        total = added(total, gradients(layer, (output * w.transpose(0, 1)).sum()))
    assert_same_gradients(total, whole)


def test_credit_of_frozen_weights_is_none() -> None:
    layer = make(k_top=2, k_att=2, k_trunc=3).requires_grad_(False)
    _, state = layer(draw(10, 2, 3))
    output, _ = layer(draw(5, 2, 3, seed=2), state)
    assert not output.requires_grad


def test_a_call_with_a_past_leaves_the_state_as_it_was() -> None:
    layer = make(k_top=2, k_att=2, k_trunc=3, capacity=3)
    _, state = layer(draw(10, 2, 3))
    before = state.clone()
    output, _ = layer(draw(5, 2, 3, seed=2), state)
    output.sum().backward()
    assert_same_state(state, before)
    assert state.nbytes == before.nbytes


def test_a_memory_device_holds_the_memory_between_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is only one device here, so the test records the moves; they change no number."""
    moves: list[str] = []
    move = SABState.with_memory_on

    def watched(state: SABState, device: torch.device | str) -> SABState:
        moves.append(str(device))
        return move(state, device)

    monkeypatch.setattr(SABState, "with_memory_on", watched)
    x, weight = draw(30, 2, 3), draw(30, 2, 4, seed=2)
    want = streamed(make(), x, weight, 7)[0]
    assert moves == []
    got, state = streamed(make(memory_device="cpu"), x, weight, 7)
    assert moves == ["cpu"] * 9, "to where it is kept after each of 5 calls, to the layer before each but the first"
    assert_same_gradients(got, want)
    assert state.memory.device.type == "cpu"
