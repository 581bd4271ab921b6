"""A layer that recalls nothing equals `nn.LSTM`, `nn.GRU` or `nn.RNN` in every respect.

Shapes: T time, B batch, I input, H hidden, L layers.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from reminding import SAB
from tests.nn.samples import CELLS, TORCH_LAYERS, assert_same_gradients, chunks, draw, gradients, make, spread
from tests.tolerance import assert_equal

BACKENDS = ("auto", "reference")


def torch_layer(cell: str, *sizes: int, **options: Any) -> nn.RNNBase:
    layer: Any = TORCH_LAYERS[cell]
    return layer(*sizes, dtype=torch.float64, **options)


def pair(cell: str, num_layers: int = 1, bias: bool = True, **options: Any) -> tuple[SAB, nn.RNNBase]:
    """A layer that recalls nothing, and PyTorch's layer with the same weights."""
    want = torch_layer(cell, 3, 4, num_layers, bias=bias)
    spread(want)
    options.setdefault("k_trunc", None)
    got = SAB(3, 4, num_layers, cell=cell, k_top=0, bias=bias, dtype=torch.float64, **options)
    got.load_state_dict(want.state_dict())
    return got, want


def tensors(state: Any) -> list[Tensor]:
    """h, or h and c, of a state of either library."""
    found = [state] if isinstance(state, Tensor) else list(state)
    return [tensor for tensor in found if tensor is not None]


def loss_of(output: Tensor, state: Any) -> Tensor:
    parts = [output, *tensors(state)]
    return torch.stack([(part * draw(*part.shape, seed=7 + i)).sum() for i, part in enumerate(parts)]).sum()


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("num_layers", [1, 2, 3])
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_without_memory_and_cuts_it_is_pytorchs_layer(cell: str, num_layers: int, bias: bool, backend: str) -> None:
    got, want = pair(cell, num_layers, bias, backend=backend)
    x = draw(11, 5, 3).requires_grad_()
    start = tuple(draw(num_layers, 5, 4, seed=s).requires_grad_() for s in ((2, 3) if cell == "lstm" else (2,)))
    given: Any = start if cell == "lstm" else start[0]
    output, state = got(x, given)
    wanted, wanted_state = want(x, given)
    assert_equal(output, wanted, "output")
    for mine, theirs in zip(tensors(state), tensors(wanted_state), strict=True):
        assert_equal(mine, theirs, "final state")
    further = {"x": x, **{f"start {i}": tensor for i, tensor in enumerate(start)}}
    assert_same_gradients(
        gradients(got, loss_of(output, state), **further), gradients(want, loss_of(wanted, wanted_state), **further)
    )


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("k_trunc", [1, 4, 11, 50])
def test_without_memory_it_is_truncated_bptt(cell: str, backend: str, k_trunc: int) -> None:
    """One call equals PyTorch's layer run in chunks of k_trunc steps whose state is detached in between."""
    got, want = pair(cell, 2, k_trunc=k_trunc, backend=backend)
    x = draw(11, 3, 3).requires_grad_()
    output, state = got(x)
    outputs: list[Tensor] = []
    carried: Any = None
    for chunk in chunks(x, k_trunc):
        y, carried = want(chunk, carried)
        outputs.append(y)
        final = carried
        carried = tuple(part.detach() for part in carried) if cell == "lstm" else carried.detach()
    wanted = torch.cat(outputs)
    assert_equal(output, wanted, "output")
    assert_same_gradients(
        gradients(got, loss_of(output, state), x=x),
        gradients(want, loss_of(wanted, final), x=x),  # pyright: ignore[reportPossiblyUnboundVariable]
    )


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("semantics", ["paper", "release"])
@pytest.mark.parametrize("k_trunc", [None, 1, 3, 7])
def test_fused_kernels_equal_the_loop_across_calls(cell: str, semantics: str, k_trunc: int | None) -> None:
    """The fused path must find the cuts within a call that begins in the middle of a segment."""
    layers = [
        make(cell=cell, k_top=0, k_trunc=k_trunc, semantics=semantics, backend=backend, num_layers=2)
        for backend in BACKENDS
    ]
    x = draw(20, 2, 3).requires_grad_()
    found: list[tuple[Tensor, dict[str, Tensor]]] = []
    for layer in layers:
        state: Any = None
        outputs: list[Tensor] = []
        for chunk in chunks(x, [5, 1, 8, 6]):
            output, state = layer(chunk, state)
            outputs.append(output)
        joined = torch.cat(outputs)
        found.append((joined, gradients(layer, loss_of(joined, state), x=x)))
    assert_equal(found[0][0], found[1][0], "output")
    assert_same_gradients(found[0][1], found[1][1])


def test_fused_kernels_step_aside_where_rows_are_out_of_phase() -> None:
    """After a reset, a row is cut at other steps than its neighbours."""
    x = draw(12, 3, 3).requires_grad_()
    reset = torch.zeros(12, 3, dtype=torch.bool)
    reset[2, 1] = True
    got, want = (make(k_top=0, k_trunc=4, backend=backend) for backend in BACKENDS)
    output, wanted = got(x, reset=reset)[0], want(x, reset=reset)[0]
    assert_equal(output, wanted, "output")
    assert_same_gradients(gradients(got, output[-1].sum(), x=x), gradients(want, wanted[-1].sum(), x=x))


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("num_layers", [1, 3])
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
def test_one_seed_gives_pytorchs_weights(cell: str, num_layers: int, bias: bool) -> None:
    torch.manual_seed(3)
    want = torch_layer(cell, 3, 4, num_layers, bias=bias)
    torch.manual_seed(3)
    got = SAB(3, 4, num_layers, cell=cell, bias=bias, k_top=2, dtype=torch.float64)
    names = [name for name, _ in got.named_parameters() if not name.startswith("score")]
    assert names == [name for name, _ in want.named_parameters()]
    for name, parameter in want.named_parameters():
        assert torch.equal(got.get_parameter(name), parameter), name


@pytest.mark.parametrize("cell", CELLS)
def test_pytorchs_weights_load(cell: str) -> None:
    """This includes a layer with memory: its recurrent weights are loaded, and only the scorer's are missing."""
    want = torch_layer(cell, 3, 4, 2)
    layer = SAB(3, 4, 2, cell=cell, k_top=2, dtype=torch.float64)
    result: Any = layer.load_state_dict(want.state_dict(), strict=False)
    assert not result.unexpected_keys
    assert sorted(result.missing_keys) == sorted(
        f"score_{part}_l{i}" for part in ("memory", "query", "out") for i in range(2)
    )
    for name, tensor in want.state_dict().items():
        assert torch.equal(layer.state_dict()[name], tensor), name
    SAB(3, 4, 2, cell=cell, k_top=0, dtype=torch.float64).load_state_dict(want.state_dict(), strict=True)


def test_without_memory_there_is_no_scorer() -> None:
    assert [name for name, _ in SAB(3, 4, k_top=0).named_parameters()] == [
        name for name, _ in nn.LSTM(3, 4).named_parameters()
    ]


def test_it_unpacks_like_an_lstm() -> None:
    got, want = pair("lstm", 2)
    x = draw(7, 2, 3)
    output, (h, c) = got(x)
    wanted, (wanted_h, wanted_c) = want(x)
    for mine, theirs in ((output, wanted), (h, wanted_h), (c, wanted_c)):
        assert_equal(mine, theirs, "result")


@pytest.mark.parametrize("cell", CELLS)
def test_before_the_first_memory_it_is_pytorchs_layer(cell: str) -> None:
    """Whatever k_top is, nothing can be recalled before something was stored."""
    layer = make(cell=cell, k_top=3, k_att=8, k_trunc=None)
    want = torch_layer(cell, 3, 4)
    want.load_state_dict({name: w for name, w in layer.state_dict().items() if not name.startswith("score")})
    x = draw(12, 2, 3)
    output = layer(x)[0]
    wanted = want(x)[0]
    assert_equal(output[:8], wanted[:8], "output before the memory")
    assert not torch.allclose(output[8:], wanted[8:])
