"""The trace units: their equations by a loop, and exact gradients on streams, with unchanged and changing weights.

Shapes: T time, B batch, I input, H hidden.
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from reminding.nn import RTU
from tests.nn.baselines.makers import baseline, rtu
from tests.nn.samples import added, assert_same_gradients, chunks, draw, gradients
from tests.tolerance import assert_equal

STEPS = 23


def make() -> RTU:
    layer = baseline(rtu)
    assert isinstance(layer, RTU)
    with torch.no_grad():
        layer.nu.sub_(3)  # |lambda| near 1: the past matters
    return layer


def looped(layer: RTU, x: Tensor, begins: Tensor) -> Tensor:
    """The whole sequence, step by step, with autograd through all of it: full BPTT."""
    decay = torch.exp(-layer.nu.exp() + 1j * layer.theta.exp())
    scale = (1 - decay.abs() ** 2).sqrt()
    weight = torch.complex(layer.input_weight[0], layer.input_weight[1])
    h = torch.zeros(x.shape[1], len(decay), dtype=torch.complex128)
    outputs: list[Tensor] = []
    for t in range(len(x)):
        h = torch.where(begins[t].unsqueeze(1), 0, h)
        h = decay * h + scale * (x[t].to(weight.dtype) @ weight.T)
        mixed = torch.cat([h.real, h.imag], 1) @ layer.mix.weight.T + layer.mix.bias + x[t] @ layer.skip.weight.T
        outputs.append(F.gelu(mixed))
    return torch.stack(outputs)


def stream(seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Input, weights of the loss, and where rows begin anew: at first steps of chunks, and in their midst."""
    generator = torch.Generator().manual_seed(seed)
    begins = torch.rand(STEPS, 3, generator=generator) < 0.06
    return draw(STEPS, 3, 3, seed=seed + 1), draw(STEPS, 3, 4, seed=seed + 2), begins


@settings(max_examples=25, deadline=None)
@given(cuts=st.sets(st.integers(0, STEPS), max_size=8), seed=st.integers(0, 20))
def test_chunks_of_a_stream_have_the_gradient_of_full_bptt(cuts: set[int], seed: int) -> None:
    """With unchanged weights; outputs, and the sum of the gradients of each chunk's loss."""
    layer = make()
    x, weight, begins = stream(seed)
    whole = looped(layer, x, begins)
    want = gradients(layer, (whole * weight).sum())
    borders = [0, *sorted(cuts), STEPS]
    total: dict[str, Tensor] = {}
    state: Any = None
    for start, stop in pairwise(borders):
        part = slice(start, stop)
        output, state = layer(x[part], state, reset=begins[part])
        assert_equal(output, whole[part], "output")
        if start < stop:
            total = added(total, gradients(layer, (output * weight[part]).sum()))
    assert_same_gradients(total, want)


def test_a_loss_today_credits_a_step_of_long_ago() -> None:
    """Chunks of one step: all of the first input's gradient comes through the traces."""
    layer = make()
    x = torch.zeros(30, 1, 3, dtype=torch.float64)
    x[0] = 1.0
    state: Any = None
    for step in chunks(x[:-1], 1):
        state = layer(step, state)[1]
    found = gradients(layer, layer(x[-1:], state)[0].sum())
    want = gradients(layer, looped(layer, x, torch.zeros(30, 1, dtype=torch.bool))[-1].sum())
    assert want["input_weight"].abs().max() > 1e-3
    assert_same_gradients(found, want)


def test_after_an_update_the_traces_are_those_of_real_time_recurrent_learning() -> None:
    """The recursion of the traces, step by step, each step with the weights of its own time."""
    layer = make()
    x, weight, _ = stream()
    state: Any = None
    with torch.no_grad():
        h = torch.zeros(3, 2, dtype=torch.complex128)
        by_nu, by_theta = h, h
        by_weight = torch.zeros(3, 2, 3, dtype=torch.complex128)
    for part in (slice(0, 5), slice(5, 12), slice(12, STEPS)):
        with torch.no_grad():
            for t in range(part.start, part.stop):
                rate, angle = layer.nu.exp(), layer.theta.exp()
                decay = torch.exp(-rate + 1j * angle)
                scale = (1 - torch.exp(-2 * rate)).sqrt()
                driven = x[t].to(decay.dtype) @ torch.complex(layer.input_weight[0], layer.input_weight[1]).T
                by_nu = decay * by_nu - rate * decay * h + rate * torch.exp(-2 * rate) / scale * driven
                by_theta = decay * by_theta + 1j * angle * decay * h
                by_weight = decay.unsqueeze(1) * by_weight + scale.unsqueeze(1) * x[t].unsqueeze(1)
                h = decay * h + scale * driven
        output, state = layer(x[part], state)
        wanted = {"h": h, "by_nu": by_nu, "by_theta": by_theta, "by_weight": by_weight}
        for name, want in wanted.items():
            assert_equal(state.tensors[name], torch.view_as_real(want), name)
        found = gradients(layer, (output * weight[part]).sum())
        with torch.no_grad():
            for name, parameter in layer.named_parameters():
                parameter -= 0.05 * found[name]


def test_a_state_made_without_gradient_is_the_same() -> None:
    layer = make()
    x, _, begins = stream()
    states: list[Any] = []
    for mode in (torch.enable_grad, torch.no_grad, torch.inference_mode):
        with mode():
            states.append(layer(x[:9], reset=begins[:9])[1])
    for state in states:
        found = gradients(layer, layer(x[9:], state)[0].sum())
        assert_same_gradients(found, gradients(layer, layer(x[9:], states[0])[0].sum()))


def test_inputs_of_past_calls_get_no_gradient() -> None:
    layer = make()
    first, second = draw(6, 2, 3).requires_grad_(), draw(6, 2, 3, seed=2).requires_grad_()
    _, state = layer(first)
    found = gradients(layer, layer(second, state)[0].sum(), first=first, second=second)
    assert not found["first"].any()
    assert found["second"].any()


@pytest.mark.parametrize("least", [0.0, 0.9, 0.999])
def test_the_radius_at_initialisation(least: float) -> None:
    torch.manual_seed(0)
    layer = RTU(2, 2000, min_radius=least)
    radius = torch.exp(-layer.nu.detach().exp())
    assert radius.min() >= least - 1e-6
    assert radius.max() < 1
    assert float(radius.square().mean()) == pytest.approx((least**2 + 1) / 2, abs=0.02)


@pytest.mark.parametrize("dtype", [torch.float32, pytest.param(torch.float64, marks=pytest.mark.slow)])
def test_it_runs_in_single_precision_and_learns_a_delay(dtype: torch.dtype) -> None:
    """The input of 12 steps before, read in chunks of 4: the credit crosses three borders."""
    torch.manual_seed(0)
    layer, readout = RTU(1, 32, min_radius=0.9).to(dtype), nn.Linear(32, 1).to(dtype)
    optimizer = torch.optim.Adam([*layer.parameters(), *readout.parameters()], lr=1e-2)
    x = torch.randint(0, 2, (6000, 16, 1)).to(dtype)
    wanted = torch.cat([torch.zeros(12, 16, 1, dtype=dtype), x[:-12]])
    state: Any = None
    errors: list[float] = []
    for part, target in zip(chunks(x, 4), chunks(wanted, 4), strict=True):
        output, state = layer(part, state)
        loss = F.mse_loss(readout(output), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        errors.append(float(loss.detach()))
    assert sum(errors[-50:]) / 50 < 0.05, "the variance of the target is 0.25"


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "odd": ({"hidden_size": 5}, "hidden_size must be even, two features per complex unit, got 5"),
    "radius": ({"min_radius": 1.0}, "min_radius must be at least 0 and below 1, got 1.0"),
    "encoder": ({"encoder": nn.Embedding(7, 3)}, "encoder must have no parameters"),
}


@pytest.mark.parametrize(("options", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_wrong_settings(options: dict[str, Any], message: str) -> None:
    settings: dict[str, Any] = {"input_size": 3, "hidden_size": 4, **options}
    with pytest.raises(ValueError, match=re.escape(message)):
        RTU(**settings)


def test_half_precision_is_refused() -> None:
    with pytest.raises(ValueError, match=r"dtype must be float32 or float64 for an RTU, got .*bfloat16"):
        RTU(3, 4).to(torch.bfloat16)(draw(2, 1, 3, dtype=torch.bfloat16))
