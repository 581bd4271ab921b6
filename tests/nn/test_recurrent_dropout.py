"""Recurrent dropout: one mask on h on its way into the cell, the same at every step of a call.

`test_oracle` tests its numbers and gradients; these tests are about the masks and where they apply.

Shapes: T time, B batch, I input, H hidden.
"""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_sequence

from reminding import SAB, SABState
from reminding.ops.cpu_op import missing, past
from reminding.ops.cuda_op import able
from tests import oracle
from tests.nn.samples import CELLS, assert_same_gradients, chunks, data_of, draw, gradients, make, streamed
from tests.nn.test_oracle import watch_factors
from tests.oracle import Config
from tests.tolerance import assert_equal


class Watched(nn.Module):
    """A cell that records the h that it is given."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.inner = nn.LSTMCell(input_size, hidden_size)
        self.state_shapes = ((hidden_size,),)
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor]) -> Any:
        self.seen.append(state[0].detach())
        return self.inner(x, state)


def watched(*sizes: int, **options: Any) -> tuple[SAB, Watched]:
    cell = Watched(*sizes[:2])
    return make(*sizes, cell=cell, **options), cell


def seen_masks(layer: SAB, cell: Watched, x: Tensor, state: Any = None, **options: Any) -> tuple[Tensor, Tensor]:
    """The masks of all steps of a call but the first, as factors (T - 1, B, H), and the h that they masked."""
    cell.seen.clear()
    output = data_of(layer(x, state, **options)[0])
    return torch.stack(cell.seen[1:]) / output[:-1], output


def test_the_mask_is_the_same_at_every_step_of_a_call_and_another_at_the_next() -> None:
    layer, cell = watched(3, 50, recurrent_dropout=0.25, k_top=2, k_att=2, k_trunc=3)
    first, _ = seen_masks(layer, cell, draw(9, 4, 3))
    second, _ = seen_masks(layer, cell, draw(9, 4, 3))
    for factor in (first, second):
        assert_equal(factor, factor[:1].expand_as(factor), "factors of the steps")
        assert_equal(factor * (factor - 1 / 0.75), torch.zeros_like(factor), "0 or 1 / (1 - p)")
    assert not torch.allclose(first[0], second[0])
    assert not torch.allclose(first[0, 0], first[0, 1]), "each row has its own"


def test_the_mask_drops_its_share() -> None:
    """Each of 20,000 features is dropped with probability p; the count is within 4 standard deviations."""
    torch.manual_seed(0)
    for p in (0.1, 0.5, 0.9):
        layer, cell = watched(3, 400, recurrent_dropout=p, k_top=0, k_trunc=None)
        factor, _ = seen_masks(layer, cell, draw(2, 50, 3))
        dropped = float((factor == 0).double().mean())
        assert abs(dropped - p) < 4 * (p * (1 - p) / 20_000) ** 0.5
        assert abs(float(factor.detach().mean()) - 1) < 4 * (p / (1 - p) / 20_000) ** 0.5, "the mean of h is kept"


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16, torch.float16])
def test_coarse_numbers_are_dropped_as_rarely_as_fine_ones(kind: torch.dtype) -> None:
    torch.manual_seed(0)
    layer = SAB(3, 400, recurrent_dropout=0.001, dtype=kind)
    (factor,) = layer.draw_factors(layer.fresh(800))
    assert abs(float((factor == 0).double().mean()) - 0.001) < 4 * (0.001 / 320_000) ** 0.5


def test_each_layer_has_a_mask_of_its_own() -> None:
    layer = make(num_layers=2, hidden_size=40, recurrent_dropout=0.5)
    lower, upper = layer.draw_factors(layer(draw(3, 2, 3))[1])
    assert not torch.equal(lower, upper)


@pytest.mark.parametrize("cell", CELLS)
def test_in_evaluation_nothing_is_dropped(cell: str) -> None:
    layer, plain = (make(cell=cell, recurrent_dropout=p, k_top=2, k_att=2) for p in (0.5, 0.0))
    x = draw(9, 2, 3)
    assert not torch.allclose(layer(x)[0], plain(x)[0])
    layer.eval()
    assert_equal(layer(x)[0], plain(x)[0], "output in evaluation")


def test_the_first_step_of_a_stream_has_nothing_to_drop() -> None:
    """The h that enters the cell is zero; memory, scores and output have the whole h."""
    layer, plain = (make(recurrent_dropout=p, k_top=2, k_att=1, k_trunc=4) for p in (1.0, 0.0))
    assert_equal(layer(draw(1, 2, 3))[0], plain(draw(1, 2, 3))[0], "output")
    with torch.no_grad():
        for module in (layer, plain):
            module.get_parameter("weight_hh_l0").zero_()
    x = draw(9, 2, 3)
    got, want = layer(x, return_recall=True), plain(x, return_recall=True)
    assert_equal(got[0], want[0], "output where the cell does not look at h")
    assert_equal(got[1].memory, want[1].memory, "memory")
    assert_equal(got[2].weight, want[2].weight, "recall weights")


def test_a_gru_carries_h_on_as_it_is() -> None:
    """If h were also scaled there, it would double at every step with p = 0.5 and the update gate open."""
    layer = make(cell="gru", k_top=0, k_trunc=None, recurrent_dropout=0.5)
    with torch.no_grad():
        layer.get_parameter("bias_ih_l0")[4:8] = 60.0
    h = draw(1, 2, 4, seed=3)
    output, _ = layer(draw(30, 2, 3), h)
    assert_equal(output, h.expand_as(output), "h under an open update gate")


def test_a_gru_cell_of_pytorchs_is_refused() -> None:
    for cell in (nn.GRUCell(3, 4), [nn.GRUCell(3, 4)], nn.ModuleList([nn.GRUCell(3, 4)])):
        with pytest.raises(ValueError, match=r"recurrent_dropout must be 0 with an nn\.GRUCell"):
            SAB(3, 4, cell=cell, recurrent_dropout=0.1)
    SAB(3, 4, cell=nn.GRUCell(3, 4))


@pytest.mark.parametrize("value", [-0.1, 1.5, "no", True, None])
def test_it_must_be_a_probability(value: Any) -> None:
    with pytest.raises(ValueError, match="recurrent_dropout must be a number from 0 to 1"):
        SAB(3, 4, recurrent_dropout=value)


@pytest.mark.parametrize("backend", ["auto", "reference"])
@pytest.mark.parametrize("engine", ["autograd", "replay"])
@pytest.mark.parametrize("num_layers", [1, 2])
def test_packed_sequences_and_resets_keep_each_rows_mask(backend: str, engine: str, num_layers: int) -> None:
    """Each row equals the row run alone with the mask that it has in the batch."""
    options: dict[str, Any] = {"k_top": 2, "k_att": 2, "k_trunc": 3, "num_layers": num_layers, "engine": engine}
    layer = make(recurrent_dropout=0.5, backend=backend, **options)
    sequences = [draw(length, 3, seed=length) for length in (4, 9, 6)]
    drawn: list[tuple[Tensor, ...]] = []

    def fixed(state: SABState) -> tuple[Tensor, ...]:
        if not drawn:
            drawn.append(type(layer).draw_factors(layer, state))
        return drawn[0]

    layer.draw_factors = fixed
    packed, _ = layer(pack_sequence(sequences, enforce_sorted=False))
    order = packed.sorted_indices.tolist()
    padded, lengths = nn.utils.rnn.pad_packed_sequence(packed)
    whole = drawn[0]
    total: dict[str, Tensor] = {}
    for place, number in enumerate(order):
        drawn[0] = tuple(factor[place : place + 1] for factor in whole)
        alone, _ = layer(sequences[number].unsqueeze(1))
        assert_equal(padded[: lengths[number], number], alone[:, 0], f"row {number}")
        found = gradients(layer, alone.pow(2).sum())
        total = {name: gradient + total.get(name, 0) for name, gradient in found.items()}
    assert_same_gradients(gradients(layer, packed.data.pow(2).sum()), total)

    drawn[0] = tuple(factor[:2] for factor in whole)
    x, mask = draw(10, 2, 3), torch.zeros(10, 2, dtype=torch.bool)
    mask[6, 1] = True
    output, _ = layer(x, reset=mask)
    drawn[0] = tuple(factor[1:2] for factor in whole)
    again, _ = layer(x[6:, 1:])
    assert_equal(output[6:, 1:], again, "a stream that begins within the call")


def one_graph(layer: SAB, x: Tensor, factors: list[tuple[Tensor, ...]], sizes: list[int]) -> Tensor:
    """The last chunk's output from the loop. Its graph goes back through all chunks, each with its own masks."""
    config = Config(k_top=2, k_att=2, k_trunc=6, num_layers=layer.num_layers)
    zeros = x.new_zeros(layer.hidden_size)
    streams = [[oracle.begin(config, zeros, zeros) for _ in range(x.shape[1])] for _ in range(layer.num_layers)]
    output = x
    for part, masks in zip(chunks(x, sizes), factors, strict=True):
        for number, peers in enumerate(streams):
            for row, stream in enumerate(peers):
                stream.factor = masks[number][row] if masks else None
        output = oracle.run(part, dict(layer.named_parameters()), streams, config)[0]
    return output


@pytest.mark.parametrize("backend", ["auto", "reference"])
@pytest.mark.parametrize("num_layers", [1, 2])
@pytest.mark.parametrize("trained", [(True, False), (False, True)], ids=["then evaluated", "then trained"])
@pytest.mark.parametrize("saved", [False, True], ids=["kept", "saved"])
def test_past_calls_keep_their_masks_whatever_later_calls_do(
    backend: str, num_layers: int, trained: tuple[bool, bool], saved: bool, tmp_path: Path
) -> None:
    """A call in either mode sends its credit into a past call in the mode that this had."""
    layer = make(recurrent_dropout=0.5, backend=backend, k_top=2, k_att=2, k_trunc=6, num_layers=num_layers)
    x, weight, sizes = draw(10, 2, 3), draw(6, 2, 4, seed=2), [4, 6]
    seen: list[tuple[Tensor, ...]] = []
    watch_factors(layer, seen)
    before, after = chunks(x, sizes)
    _, state = layer.train(trained[0])(before)
    if saved:
        state.save(tmp_path / "state")
        state = SABState.load(tmp_path / "state")
    layer.recurrent_dropout = 0.25  # as with a schedule: the past call had 0.5
    output, _ = layer.train(trained[1])(after, state)
    want = one_graph(layer, x, seen, sizes)
    assert_equal(output, want, "output")
    assert_same_gradients(gradients(layer, (output * weight).sum()), gradients(layer, (want * weight).sum()))


@pytest.mark.skipif(missing() is not None, reason=str(missing()))
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("kept", [0, past.MOST_KEPT], ids=["gates made again", "gates kept"])
@pytest.mark.parametrize(
    "options", [{}, {"stored": "proposal", "num_layers": 2}, {"capacity": 3, "recall_scale": 0.5}]
)
def test_the_op_sends_credit_into_past_calls_under_their_masks(
    cell: str, kept: int, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings: dict[str, Any] = {"k_top": 2, "k_att": 2, "k_trunc": 6, "cell": cell, **options}
    x, weight = draw(30, 3, 3), draw(30, 3, 4, seed=2)
    found: list[dict[str, Tensor]] = []
    for backend in ("reference", "cpu"):
        layer = make(recurrent_dropout=0.4, backend=backend, **settings)
        torch.manual_seed(5)
        found.append(streamed(layer, x, weight, 4)[0])
        monkeypatch.delattr("reminding.nn.credit.past.Sweep", raising=False)  # so that plain PyTorch cannot step in
        monkeypatch.setattr(past, "MOST_KEPT", kept)
    assert_same_gradients(found[1], found[0])


@pytest.mark.parametrize("engine", ["autograd", "replay"])
def test_a_cell_of_ones_own_is_replayed_under_its_masks(engine: str) -> None:
    """The same weights in an nn.LSTMCell, with the same draws."""
    options: dict[str, Any] = {"k_top": 2, "k_att": 2, "k_trunc": 6, "recurrent_dropout": 0.5, "engine": engine}
    built_in = make(**options)
    own = make(cell=nn.LSTMCell(3, 4), **options)
    own.load_state_dict(
        {
            ("cells.0." + name.removesuffix("_l0") if "score" not in name else name): w
            for name, w in built_in.state_dict().items()
        }
    )
    x, weight = draw(20, 2, 3), draw(20, 2, 4, seed=2)
    found: list[list[Tensor]] = []
    for layer in (built_in, own):
        torch.manual_seed(5)
        gradient = streamed(layer, x, weight, 4)[0]
        found.append([gradient[name] for name in sorted(gradient, key=lambda name: name.replace("cells.0.", ""))])
    for got, want in zip(*found, strict=True):
        assert_equal(got, want, "gradient", floor=1e-1)


def test_second_derivatives_are_taken_under_the_same_masks() -> None:
    found: list[dict[str, Tensor]] = []
    for backend, engine in product(("reference", "auto"), ("autograd", "replay")):
        layer = make(k_top=2, k_att=2, k_trunc=6, recurrent_dropout=0.5, backend=backend, engine=engine)
        x = draw(20, 2, 3).requires_grad_()
        torch.manual_seed(5)
        (d_x,) = torch.autograd.grad(layer(x)[0].pow(2).sum(), x, create_graph=True)
        found.append(gradients(layer, d_x.pow(2).sum()))
    for other in found[1:]:
        assert_same_gradients(other, found[0])


@pytest.mark.skipif(missing() is not None, reason=str(missing()))
def test_the_cpu_op_runs_it_in_training() -> None:
    layer = make(recurrent_dropout=0.5)
    assert (layer.plan(20).backend, layer.eval().plan(20).backend) == ("cpu", "cpu")
    without = make(recurrent_dropout=0.5, k_top=0)
    assert (without.plan(20).backend, without.eval().plan(20).backend) == ("cpu", "torch")


@pytest.mark.parametrize("engine", ["autograd", "replay"])
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("k_top", [0, 2, None])
def test_every_backend_draws_and_drops_the_same(cell: str, k_top: int | None, engine: str) -> None:
    """Outputs and gradients of two calls of nine rows each."""
    found: list[tuple[Tensor, dict[str, Tensor]]] = []
    for backend in ("auto", "reference"):
        layer = make(
            cell=cell, k_top=k_top, k_att=2, k_trunc=4, recurrent_dropout=0.5, backend=backend, engine=engine
        )
        x = draw(40, 9, 3)
        torch.manual_seed(5)
        output, state = layer(x[:20])
        again, _ = layer(x[20:], state.detach())
        loss = output.pow(2).sum() + again.pow(2).sum()
        found.append((torch.cat([output, again]).detach(), gradients(layer, loss)))
    (output, gradient), (want, right) = found
    assert_equal(output, want, "output")
    assert_same_gradients(gradient, right)


def test_the_triton_kernels_cannot_run_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(able, "missing", lambda: None)
    monkeypatch.setattr(able, "interpreted", lambda: True)
    with pytest.raises(ValueError, match="backend='cuda' cannot run: it does not run recurrent_dropout in training"):
        SAB(3, 4, recurrent_dropout=0.5, backend="cuda")


def test_without_it_nothing_is_drawn() -> None:
    """p=0 draws no random numbers and changes nothing in the record of a call."""
    layer = make(recurrent_dropout=0.0)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    _, state = layer(draw(9, 2, 3))
    assert torch.equal(torch.get_rng_state(), before)
    assert not any(segment.drops_state for segment in state.past.segments)
