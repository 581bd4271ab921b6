"""The baselines: they share one interface, and each is the method that it is named after.

Shapes: T time, B batch, I input, H hidden, P past steps.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_sequence, pad_packed_sequence

from reminding import SAB
from reminding.nn import Transformer, full_attention, full_bptt, truncated_bptt
from tests.nn.samples import assert_same_gradients, chunks, draw, gradients, make, spread
from tests.tolerance import assert_equal

Maker = Callable[..., Any]
MAKERS: dict[str, Maker] = {
    "full_bptt": full_bptt,
    "truncated_bptt": truncated_bptt,
    "full_attention": full_attention,
    "Transformer": Transformer,
}
every_baseline = pytest.mark.parametrize("maker", MAKERS.values(), ids=MAKERS.keys())


def baseline(maker: Maker, **options: Any) -> nn.Module:
    layer: nn.Module = maker(3, 4, **options).double().eval()
    spread(layer, 1, 0.4)
    return layer


@every_baseline
def test_one_interface(maker: Maker) -> None:
    layer = baseline(maker, num_layers=2)
    x = draw(9, 2, 3)
    output, state, recall = layer(x, return_recall=True)
    assert output.shape == recall.summary.shape == (9, 2, 4)
    assert recall.step.shape[-3:-1] == recall.weight.shape[-3:-1] == (9, 2)
    assert torch.equal(layer(x)[0], output)
    assert layer(draw(5, 2, 3), state.detach())[0].shape == (5, 2, 4)
    assert layer(draw(9, 3))[0].shape == (9, 4)
    assert layer(draw(9, 0, 3))[0].shape == (9, 0, 4)
    assert layer(draw(0, 2, 3), state)[0].shape == (0, 2, 4)
    output.sum().backward()
    scorer = maker is full_attention
    assert all(p.grad is not None for name, p in layer.named_parameters() if scorer or not name.startswith("score"))


@every_baseline
@pytest.mark.parametrize("sizes", [1, 4, [0, 3, 0, 8]], ids=str)
def test_chunks_give_what_the_whole_gives(maker: Maker, sizes: int | list[int]) -> None:
    layer = baseline(maker, num_layers=2)
    x = draw(11, 2, 3)
    state: Any = None
    outputs: list[Tensor] = []
    for piece in chunks(x, sizes):
        output, state = layer(piece, state)
        outputs.append(output)
    assert_equal(torch.cat(outputs), layer(x)[0], "output")


@every_baseline
def test_the_future_does_not_change_the_past(maker: Maker) -> None:
    layer = baseline(maker, num_layers=2)
    x = draw(9, 2, 3).requires_grad_()
    output = layer(x)[0]
    for t in (0, 3, 7):
        (found,) = torch.autograd.grad(output[t].sum(), x, retain_graph=True)
        assert not found[t + 1 :].any()
        assert found[t].any()
        changed = x.detach().clone()
        changed[t + 1 :] = 5
        assert_equal(layer(changed)[0][: t + 1], output[: t + 1], "output before the change")


@pytest.mark.parametrize(
    ("maker", "back"), [(full_bptt, 9), (truncated_bptt, 1), (full_attention, 9), (Transformer, 9)]
)
def test_how_far_credit_goes_back(maker: Maker, back: int) -> None:
    layer = baseline(maker, **({"k_trunc": 4} if maker is truncated_bptt else {}))
    x = draw(9, 1, 3).requires_grad_()
    (found,) = torch.autograd.grad(layer(x)[0][8].sum(), x)
    assert [bool(step.any()) for step in found] == [False] * (9 - back) + [True] * back


@every_baseline
@pytest.mark.parametrize("batch_first", [False, True])
def test_reset_begins_new_streams(maker: Maker, batch_first: bool) -> None:
    """Resets fall in the second of two chunks: before its first step, and in its middle."""
    layer = baseline(maker, batch_first=batch_first)
    x, before = draw(9, 3, 3), draw(4, 3, 3, seed=7)
    mask = torch.zeros(9, 3, dtype=torch.bool)
    mask[0, 1] = mask[5, 1] = mask[5, 2] = True

    def run(x: Tensor, state: Any, **options: Any) -> tuple[Tensor, Any]:
        output, state = layer(x.transpose(0, 1) if batch_first else x, state, **options)
        return output.transpose(0, 1) if batch_first else output, state

    _, state = run(before, None)
    output, after = run(x, state, reset=mask.T if batch_first else mask)
    row_0 = run(torch.cat([before, x])[:, :1], None)[0][4:]
    row_2 = run(torch.cat([before, x[:5]])[:, 2:], None)[0][4:]
    assert_equal(output[:, :1], row_0, "a row that went on")
    assert_equal(output[:5, 1:2], run(x[:5, 1:2], None)[0], "a row that began anew")
    assert_equal(output[5:, 1:], run(x[5:, 1:], None)[0], "two rows that began in the midst")
    assert_equal(output[:5, 2:], row_2, "one of them, before")
    nxt = draw(3, 3, 3, seed=9)
    whole = run(torch.cat([x[5:], nxt])[:, 1:], None)[0][4:]
    assert_equal(run(nxt, after)[0][:, 1:], whole, "the chunk after")
    assert_equal(run(nxt, after, reset=torch.tensor([True] * 3))[0], run(nxt, None)[0], "all begin anew")


@every_baseline
def test_batch_first_only_moves_axes(maker: Maker) -> None:
    layer, other = baseline(maker), baseline(maker, batch_first=True)
    x = draw(9, 2, 3)
    output, _, recall = layer(x, return_recall=True)
    y, _, read = other(x.transpose(0, 1), return_recall=True)
    assert_equal(y, output.transpose(0, 1), "output")
    assert_equal(read.summary, recall.summary.transpose(0, 1), "summary")


@every_baseline
@pytest.mark.parametrize("enforce_sorted", [False, True])
def test_packed_sequences_are_each_alone(maker: Maker, enforce_sorted: bool) -> None:
    layer = baseline(maker)
    lengths = [9, 5, 5, 2] if enforce_sorted else [5, 2, 9, 5]
    rows = [draw(n, 3, seed=i).requires_grad_() for i, n in enumerate(lengths)]
    padded, sizes = pad_packed_sequence(layer(pack_sequence(rows, enforce_sorted=enforce_sorted))[0])
    assert sizes.tolist() == lengths
    alone = [layer(x)[0] for x in rows]
    for i, y in enumerate(alone):
        assert_equal(padded[: len(y), i], y, f"sequence {i}")
    further = {f"sequence {i}": x for i, x in enumerate(rows)}
    loss = torch.stack([(y * y.detach().cos()).sum() for y in alone]).sum()
    got = gradients(layer, (padded * padded.detach().cos()).sum(), **further)
    assert_same_gradients(got, gradients(layer, loss, **further))


@every_baseline
def test_an_encoder_comes_first(maker: Maker) -> None:
    embedding = nn.Embedding(7, 3)
    layer = baseline(maker, encoder=embedding)
    tokens = torch.arange(6).reshape(3, 2)
    output = layer(tokens)[0]
    output.sum().backward()
    assert output.shape == (3, 2, 4)
    assert embedding.weight.grad is not None
    assert embedding.weight.grad[:6].abs().sum(1).min() > 0


def test_full_bptt_is_an_lstm() -> None:
    layer, want = full_bptt(3, 4, 2).double(), nn.LSTM(3, 4, 2).double()
    layer.load_state_dict(want.state_dict())
    assert_equal(layer(draw(9, 2, 3))[0], want(draw(9, 2, 3))[0], "output")
    assert full_bptt(3, 4, cell="gru").cell == "gru"


def test_truncated_bptt_is_the_layer_without_memory() -> None:
    assert truncated_bptt(3, 4).k_trunc == 10
    layer, want = truncated_bptt(3, 4, k_trunc=3).double(), make(k_top=0, k_trunc=3)
    want.load_state_dict(layer.state_dict())
    output, wanted = (module(draw(9, 2, 3))[0] for module in (layer, want))
    assert_same_gradients(gradients(layer, output.sum()), gradients(want, wanted.sum()))


def test_full_attention_is_softmax_over_all_past_states() -> None:
    layer = full_attention(3, 4).double()
    spread(layer)
    assert isinstance(layer, SAB)
    output, _, recall = layer(draw(9, 2, 3), return_recall=True)
    assert recall.step.shape == (9, 2, 8)
    for t in range(9):
        assert sorted(recall.step[t, 0].tolist()) == [0] * (8 - t) + list(range(1, t + 1))
        if t:
            assert_equal(recall.weight[t].sum(1), torch.ones(2, dtype=torch.float64), "sum of weights")
        told = recall.weight[t, 0] @ output[recall.step[t, 0] - 1, 0]
        assert_equal(recall.summary[t, 0], told, "summary")


def test_a_transformer_knows_where_it_is() -> None:
    """The same input at each step gives different outputs, since the sinusoidal positions differ."""
    layer = baseline(Transformer)
    assert isinstance(layer, Transformer)
    x = torch.ones(6, 1, 3, dtype=torch.float64)
    output = layer(x)[0]
    assert not torch.allclose(output[1:], output[:-1])
    seen = layer._positions(torch.zeros(6, 1, dtype=torch.int64))  # pyright: ignore[reportPrivateUsage]
    for t in range(6):
        expected = [math.sin(t), math.sin(t / 100), math.cos(t), math.cos(t / 100)]
        assert_equal(seen[t, 0], torch.tensor(expected, dtype=torch.float64), "position", floor=1e3)


def test_a_transformers_recall_is_empty() -> None:
    recall = baseline(Transformer)(draw(9, 2, 3), return_recall=True)[2]
    assert recall.step.shape == recall.weight.shape == (9, 2, 0)
    assert not recall.summary.any()


def test_a_transformers_credit_stops_at_the_border_of_two_calls() -> None:
    layer = baseline(Transformer)
    first, second = draw(6, 2, 3).requires_grad_(), draw(6, 2, 3, seed=2).requires_grad_()
    _, state = layer(first)
    found = gradients(layer, layer(second, state)[0].sum(), first=first, second=second)
    assert not found["first"].any()
    assert found["second"].any()


def test_a_transformers_dropout_is_for_training() -> None:
    layer = baseline(Transformer, dropout=0.5)
    x = draw(9, 2, 3)
    assert torch.equal(layer(x)[0], layer(x)[0])
    layer.train()
    assert not torch.allclose(layer(x)[0], layer(x)[0])


ERRORS: dict[str, tuple[dict[str, Any], str]] = {
    "heads": ({"heads": 3}, "heads must divide hidden_size=4, got 3"),
    "no heads": ({"heads": 0}, "heads must be an integer of at least 1, got 0"),
    "dropout": ({"dropout": 2}, "dropout must be a probability from 0 to 1, got 2"),
    "layers": ({"num_layers": 0}, "num_layers must be an integer of at least 1, got 0"),
    "input": ({"input_size": -1}, "input_size must be an integer of at least 1, got -1"),
    "hidden": ({"hidden_size": 2.5}, "hidden_size must be an integer of at least 1, got 2.5"),
}


@pytest.mark.parametrize(("options", "message"), ERRORS.values(), ids=ERRORS.keys())
def test_wrong_settings_of_a_transformer(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        MAKERS["Transformer"](**{"input_size": 3, "hidden_size": 4, **options})


def test_wrong_input_of_a_transformer() -> None:
    layer = baseline(Transformer)
    _, state = layer(draw(4, 2, 3))
    packed = pack_sequence([draw(4, 3), draw(2, 3)])
    carried = "state cannot be carried into or out of a PackedSequence by the Transformer baseline"
    with pytest.raises(ValueError, match=carried):
        layer(packed, state)
    with pytest.raises(ValueError, match=carried):
        layer(draw(4, 2, 3), layer(packed)[1].detach())
    with pytest.raises(ValueError, match=r"state must be of 5 rows and 3 features, got \(2, 3\)"):
        layer(draw(4, 5, 3), state)
    with pytest.raises(ValueError, match="state must be a TransformerState, got int"):
        layer(draw(4, 2, 3), 5)
    with pytest.raises(ValueError, match="input must have input_size=3 features in its last axis, got 2"):
        layer(draw(4, 2, 2))
    with pytest.raises(
        ValueError, match=r"reset must be bool of shape \(2,\) or \(4, 2\), got .*bool of shape \(4,\)"
    ):
        layer(draw(4, 2, 3), reset=torch.zeros(4, dtype=torch.bool))
