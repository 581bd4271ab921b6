"""(h, c) as PyTorch's users give and unpack them: learned, reused, in lower precision, transformed, by threads."""

# pyright: reportUnknownLambdaType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false
# torch annotates its callback parameters only partly.

from __future__ import annotations

import copy
import gc
import sys
import threading
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.func import functional_call

from reminding import SAB

WAYS: list[dict[str, Any]] = [
    {},
    {"backend": "reference"},
    {"engine": "replay"},
    {"k_top": 0},
    {"k_top": None},
    {"cell": "gru"},
    {"k_trunc": None},
    {"credit_every": 2},
    {"num_layers": 2},
    {"encoder": nn.Linear(3, 3).double()},
]


def two_chunks(options: dict[str, Any], copied: bool, in_place: bool) -> list[Tensor]:
    """The gradients of two chunks; after the first, what it began with changes: a parameter, or a buffer in place."""
    torch.manual_seed(0)
    settings: dict[str, Any] = {"k_top": 2, "k_trunc": 3, **options}
    layer = SAB(3, 4, **settings).double()
    layers, cell = options.get("num_layers", 1), options.get("cell", "lstm")
    start = [nn.Parameter(torch.randn(layers, 2, 4).double()) for _ in range(1 if cell == "gru" else 2)]
    optimizer, x = torch.optim.SGD(start, lr=1.0), torch.randn(2, 7, 2, 3).double()
    given: list[Tensor] = [tensor.clone() for tensor in start] if copied else list(start)
    if in_place:
        given = [tensor.detach() for tensor in given]
    output, state = layer(x[0], tuple(given) if len(given) > 1 else given[0])
    output.square().sum().backward()
    if in_place:
        for tensor in start:
            tensor.data.fill_(3.0)
    else:
        optimizer.step()
    output, state = layer(x[1], state)
    output.square().sum().backward()
    state.settle()
    return [parameter.grad for parameter in layer.parameters() if parameter.grad is not None]


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("options", WAYS, ids=str)
def test_credit_goes_back_to_the_numbers_that_a_stream_began_with(options: dict[str, Any], in_place: bool) -> None:
    changed, kept = (two_chunks(options, copied, in_place) for copied in (False, True))
    assert len(kept) > 3
    for one, other in zip(changed, kept, strict=True):
        torch.testing.assert_close(one, other)


def of_chunks(layer: SAB, x: Tensor, parameters: dict[str, Tensor], cut: bool = False) -> Tensor:
    _, state = functional_call(layer, parameters, (x[:3],))
    return functional_call(layer, parameters, (x[3:], state.detach() if cut else state))[0].sum()


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")  # torch.func.jvp calls it
@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_a_stream_within_a_transform_is_refused(cell: str) -> None:
    layer = SAB(3, 4, cell=cell, k_top=2, k_trunc=20, k_att=2).double()
    x, parameters = torch.randn(6, 1, 3).double(), {n: p.detach() for n, p in layer.named_parameters()}
    with pytest.raises(ValueError, match=r"state has past calls.*torch\.func"):
        torch.func.grad(lambda given: of_chunks(layer, x, given))(parameters)
    with pytest.raises(ValueError, match=r"state has past calls"):
        torch.func.jvp(lambda given: of_chunks(layer, x, given), (parameters,), (parameters,))
    with torch.no_grad(), forward_ad.dual_level():
        dual = {name: forward_ad.make_dual(p, torch.ones_like(p)) for name, p in parameters.items()}
        _, state = functional_call(layer, dual, (x[:3],))
        with pytest.raises(ValueError, match=r"state has past calls.*forward-mode"):
            layer(x[3:], state)
        layer(x[3:], state.detach())


@pytest.mark.parametrize("cut", [False, True])
def test_without_credit_between_calls_a_stream_runs_within_a_transform(cut: bool) -> None:
    layer = SAB(3, 4, k_top=2, horizon=None if cut else 0).double()
    x, parameters = torch.randn(6, 1, 3).double(), {n: p.detach() for n, p in layer.named_parameters()}
    found = torch.func.grad(lambda given: of_chunks(layer, x, given, cut))(parameters)
    of_chunks(layer, x, dict(layer.named_parameters()), cut).backward()
    for name, parameter in layer.named_parameters():
        torch.testing.assert_close(found[name], parameter.grad)


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")  # torch.func.jvp calls it
@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_an_initial_state_may_be_transformed(cell: str) -> None:
    layer, x, h = SAB(3, 4, cell=cell).double(), torch.randn(5, 2, 3).double(), torch.randn(1, 2, 4).double()

    def of(h: Tensor) -> Tensor:
        output, state = layer(x, (h, h) if cell == "lstm" else h)
        return output.sum() + sum(tensor.sum() for tensor in state)

    found, (leaf,) = torch.func.grad(of)(h), [h.clone().requires_grad_()]
    of(leaf).backward()
    torch.testing.assert_close(found, leaf.grad)
    tangent = torch.randn_like(h)
    torch.testing.assert_close(torch.func.jvp(of, (h,), (tangent,))[1], (found * tangent).sum())


def test_an_initial_state_may_have_the_lower_precision_of_autocast() -> None:
    layer, x = SAB(3, 4), torch.randn(5, 2, 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        h = nn.Linear(5, 4)(torch.randn(1, 2, 5))
        assert h.dtype == torch.bfloat16
        output, _ = layer(x, (h, h))
        torch.testing.assert_close(output, layer(x, (h.float(), h.float()))[0])
    output.sum().backward()
    with pytest.raises(ValueError, match=r"state must be torch\.float32"):
        layer(x, (h, h))


def test_an_initial_state_on_the_meta_device() -> None:
    layer, x = SAB(3, 4, k_trunc=3, device="meta"), torch.randn(5, 2, 3, device="meta")
    _, state = layer(x)
    h, c = state
    assert layer(x, (h, c))[0].shape == (5, 2, 4)


def test_threads_may_unpack_states_of_their_own() -> None:
    failed: list[BaseException] = []

    def work() -> None:
        layer, x, zeros = SAB(3, 4), torch.randn(2, 1, 3), torch.zeros(1, 1, 4)
        try:
            for _ in range(150):
                _, state = layer(x, (zeros, zeros))
                h, c = state
                assert h.shape == c.shape
        except BaseException as error:
            failed.append(error)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert not failed


def test_a_tensor_in_the_place_of_one_that_a_state_of_a_layer_now_gone_unpacked_into_begins_a_stream() -> None:
    """No warning, which is an error in these tests: the place and the numbers may be the same by chance."""
    layer, x = SAB(3, 4, k_att=1), torch.randn(5, 2, 3)
    h, c = layer(x)[1]
    twin = copy.deepcopy(layer)
    del layer
    gc.collect()
    assert twin(x, (h, c))[0].shape == (5, 2, 4)
