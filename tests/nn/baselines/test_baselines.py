"""The baselines: they share one interface, and each is the method that it is named after.

Shapes: T time, B batch, I input, H hidden, P past steps.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_sequence, pad_packed_sequence

from reminding import SAB
from reminding.nn import CarriedState, full_attention, full_bptt, truncated_bptt
from reminding.nn.baselines.carried import CarriedLayer
from reminding.nn.state.storage import save_tensors
from tests.nn.baselines.makers import MAKERS, Maker, baseline
from tests.nn.samples import assert_same_gradients, chunks, draw, gradients, make, spread
from tests.tolerance import assert_equal

every_baseline = pytest.mark.parametrize("maker", MAKERS.values(), ids=MAKERS.keys())


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
@pytest.mark.parametrize("lost", [torch.nan, torch.inf])
@pytest.mark.parametrize("sizes", [12, 5, 1], ids=str)
def test_a_stream_that_is_lost_ends_where_the_next_begins(maker: Maker, lost: float, sizes: int) -> None:
    """Steps before it, later streams and other rows have the numbers of a call without it.

    So have their gradients, but for those of SAB with other settings, whose weights get NaN, as an LSTM's do.
    """
    layer = baseline(maker, num_layers=2)
    x = draw(12, 2, 3)
    bad = x.clone()
    bad[3, 0, 1] = lost
    reset = torch.zeros(12, 2, dtype=torch.bool)
    reset[7, 0] = True

    def read(values: Tensor) -> Tensor:
        state: Any = None
        found: list[Tensor] = []
        for piece, mask in zip(chunks(values, sizes), chunks(reset, sizes), strict=True):
            output, state = layer(piece, state, reset=mask)
            found.append(output)
        return torch.cat(found)

    got, wanted = read(bad), read(x)
    alive = torch.ones(12, 2, dtype=torch.bool)
    alive[3:7, 0] = False
    assert got[~alive].isnan().all()
    assert_equal(got[alive], wanted[alive], "other steps")
    weights = [] if isinstance(layer, SAB) else list(layer.parameters())
    if not weights:
        return
    asked = [torch.autograd.grad(y[alive].square().sum(), weights, allow_unused=True) for y in (got, wanted)]
    for found, right in zip(*asked, strict=True):
        if right is not None:
            assert_equal(found, right, "gradient")


@pytest.mark.parametrize("name", ["Transformer", "MinGRU", "RTU"])
def test_lost_steps_leave_no_gradient_without_a_reset_in_the_call(name: str) -> None:
    layer = baseline(MAKERS[name])
    x = draw(6, 2, 3)
    bad = x.clone()
    bad[3, 0] = torch.nan
    alive = ~(layer(bad)[0].isnan().all(2))
    assert (~alive).nonzero().tolist() == [[3, 0], [4, 0], [5, 0]]
    got, wanted = (
        torch.autograd.grad(layer(values)[0][alive].sum(), list(layer.parameters())) for values in (bad, x)
    )
    for found, right in zip(got, wanted, strict=True):
        assert_equal(found, right, "gradient")


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
@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad])
def test_tensors_of_a_call_may_be_changed_after_it(maker: Maker, mode: Any) -> None:
    """The state is of the numbers of then: an input, a mask and an output may be used as buffers."""
    layer = baseline(maker, num_layers=2)
    masks = [torch.rand(4, 2, generator=torch.Generator().manual_seed(seed)) < 0.2 for seed in (1, 2)]
    pieces = [(draw(4, 2, 3, seed=seed), mask) for seed, mask in enumerate(masks)]

    def outputs(reuses: bool) -> Tensor:
        x, reset, state, found = draw(4, 2, 3), masks[0].clone(), None, list[Tensor]()
        for piece, mask in pieces:
            x, reset = (x.copy_(piece), reset.copy_(mask)) if reuses else (piece, mask)
            output, state = layer(x, state, reset=reset)
            found.append(output.detach().clone())
            if reuses:
                output.detach().zero_()
        return torch.cat(found)

    with mode():
        assert torch.equal(outputs(reuses=True), outputs(reuses=False))
    output, _ = layer(pieces[0][0], reset=masks[0])
    masks[0].logical_not_()
    output.sum().backward()


@every_baseline
def test_a_state_made_in_inference_mode_goes_on_in_training(maker: Maker) -> None:
    layer, x = baseline(maker, num_layers=2), draw(8, 2, 3)
    with torch.inference_mode():
        _, state = layer(x[:4])
    output, _ = layer(x[4:], state)
    output.sum().backward()
    assert_equal(output, layer(x)[0][4:], "output")


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
    ("maker", "back"),
    [(maker, 1 if maker is truncated_bptt else 9) for maker in MAKERS.values()],
    ids=MAKERS.keys(),
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


@pytest.mark.parametrize("maker", [each for name, each in MAKERS.items() if name != "RTU"])
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


CARRIED = {name: MAKERS[name] for name in ("MinGRU", "RTU")}
every_carried = pytest.mark.parametrize("maker", CARRIED.values(), ids=CARRIED.keys())


@every_carried
def test_a_carried_state_is_saved_moved_and_reset(maker: Maker, tmp_path: Path) -> None:
    layer = baseline(maker)
    _, state = layer(draw(6, 3, 3))
    state.save(tmp_path / "state")
    loaded = CarriedState.load(tmp_path / "state")
    assert loaded.nbytes == state.nbytes == sum(tensor.numel() * 8 for tensor in state.tensors.values())
    x = draw(4, 3, 3, seed=2)
    assert torch.equal(layer(x, loaded)[0], layer(x, state)[0])
    mask = torch.tensor([False, True, False])
    assert_equal(layer(x, state.reset(mask))[0], layer(x, state, reset=mask)[0], "rows that were reset")
    assert state.to(torch.float32).tensors["h" if maker is MAKERS["RTU"] else "h0"].dtype == torch.float32
    save_tensors(tmp_path / "other", state.tensors, {"format": "anotherState", "packed": "0"})
    with pytest.raises(ValueError, match=r"other holds no reminding\.CarriedState"):
        CarriedState.load(tmp_path / "other")


@every_carried
def test_a_carried_state_takes_the_masks_that_sab_s_takes(maker: Maker) -> None:
    """A mask of one row for three marked all of them."""
    _, state = baseline(maker)(draw(6, 3, 3))
    marked = state.reset(torch.tensor([False, True, False])).tensors
    for name, tensor in state.reset([False, True, False]).tensors.items():
        assert torch.equal(tensor, marked[name]) and not torch.equal(tensor, state.tensors[name])
    assert all(not tensor.any() for tensor in state.reset().tensors.values())
    for wrong in (torch.tensor([True]), torch.tensor([1, 0, 0])):
        with pytest.raises(ValueError, match=r"mask must be bool of shape \(3,\)"):
            state.reset(wrong)


@every_carried
def test_rows_are_chosen_by_a_list_and_by_no_single_number(maker: Maker) -> None:
    _, state = baseline(maker)(draw(6, 3, 3))
    for name, tensor in state.rows(torch.tensor([2, 0])).tensors.items():
        assert torch.equal(tensor, state.tensors[name][[2, 0]])
    for wrong in (1, torch.tensor([[0, 1]])):
        with pytest.raises(ValueError, match="index must choose a list of rows"):
            state.rows(wrong)  # pyright: ignore[reportArgumentType]


@every_carried
def test_torch_func_gives_the_gradients_of_autograd(maker: Maker) -> None:
    layer, x = baseline(maker), draw(6, 3, 3)
    parameters: dict[str, Tensor] = dict(layer.named_parameters())

    def loss_of(parameters: dict[str, Tensor]) -> Tensor:
        return torch.func.functional_call(layer, parameters, (x,))[0].pow(2).sum()

    assert_same_gradients(torch.func.grad(loss_of)(parameters), gradients(layer, loss_of(parameters)))


@every_carried
def test_a_state_that_does_not_fit_is_refused(maker: Maker) -> None:
    layer = baseline(maker)
    assert isinstance(layer, CarriedLayer)
    _, state = layer(draw(4, 2, 3))
    packed = pack_sequence([draw(4, 3), draw(2, 3)])
    name = type(layer).__name__
    with pytest.raises(ValueError, match=f"state cannot be carried into or out of a PackedSequence by the {name}"):
        layer(packed, state)
    with pytest.raises(ValueError, match="state cannot be carried"):
        layer(draw(4, 2, 3), layer(packed)[1])
    with pytest.raises(ValueError, match=r"state must have 'h.*, torch.float64 of shape \(5, .*, got .*\(2, "):
        layer(draw(4, 5, 3), state)
    with pytest.raises(ValueError, match=r"state must have 'h.*, got nothing"):
        layer(draw(4, 2, 3), CarriedState({}))
    more = CarriedState({**state.tensors, "h9": draw(2, 4)})
    with pytest.raises(ValueError, match=r"state must have \['.*'\], got also \['h9'\]: another layer's"):
        layer(draw(4, 2, 3), more)
    with pytest.raises(ValueError, match="state must be a CarriedState, got int"):
        layer(draw(4, 2, 3), 5)
    with pytest.raises(ValueError, match="input must have input_size=3 features in its last axis, got 2"):
        layer(draw(4, 2, 2))


@every_carried
def test_the_size_of_a_carried_state_is_constant(maker: Maker) -> None:
    layer, state = baseline(maker), None
    sizes: set[int] = set()
    for number in range(5):
        _, state = layer(draw(7, 2, 3, seed=number), state)
        sizes.add(state.nbytes)
    assert len(sizes) == 1


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("name", list(MAKERS))
def test_a_call_without_steps_resets_rows(name: str, batch_first: bool) -> None:
    layer: Any = baseline(MAKERS[name], batch_first=batch_first)
    first, empty, rest = (draw(steps, 2, 3, seed=steps) for steps in (6, 0, 5))
    if batch_first:
        first, empty, rest = (x.transpose(0, 1) for x in (first, empty, rest))
    mask = torch.tensor([True, False])
    _, state = layer(first)
    wanted, _ = layer(rest, state, reset=mask)
    output, after = layer(empty, state, reset=mask)
    assert output.numel() == 0
    _, again = layer(empty, after)
    for state in (after, again):
        assert_equal(layer(rest, state)[0], wanted, name)
    _, apart = layer(empty, layer(empty, layer(first)[1], reset=mask)[1], reset=~mask)
    assert_equal(layer(rest, apart)[0], layer(rest)[0], "reset in two calls")
