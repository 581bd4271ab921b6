"""The initial bias of the gate by which a cell keeps its state."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from reminding import SAB
from reminding.nn import full_attention, full_bptt, truncated_bptt

HIDDEN = 200
GATES = {"lstm": 4, "gru": 3}
MAKERS = (SAB, full_bptt, truncated_bptt, full_attention)


def seeded(maker: Callable[..., SAB], **options: Any) -> SAB:
    torch.manual_seed(3)
    return maker(5, HIDDEN, 2, **options)


def gates_of(layer: SAB, number: int) -> list[Tensor]:
    """What each gate of a layer adds, (H,): the sum of its two biases."""
    total = getattr(layer, f"bias_ih_l{number}") + getattr(layer, f"bias_hh_l{number}")
    return list(total.detach().view(GATES[layer.cell], HIDDEN))


@pytest.mark.parametrize("maker", MAKERS)
@pytest.mark.parametrize("cell", GATES)
@pytest.mark.parametrize("value", [1.5, -2, "1.5"])
def test_a_number_is_the_bias_of_the_keeping_gate_alone(maker: Callable[..., SAB], cell: str, value: Any) -> None:
    layer, plain = seeded(maker, cell=cell, forget_bias=value), seeded(maker, cell=cell)
    for number in range(2):
        gates, drawn = gates_of(layer, number), gates_of(plain, number)
        assert (gates[1] == float(value)).all()
        for gate in {0, 2, len(gates) - 1}:
            assert torch.equal(gates[gate], drawn[gate])
    for name, parameter in layer.named_parameters():
        if "bias" not in name:
            assert torch.equal(parameter, dict(plain.named_parameters())[name]), name


@pytest.mark.parametrize("maker", MAKERS)
def test_chrono_biases_are_spread_over_the_times_up_to_the_longest(maker: Callable[..., SAB]) -> None:
    layer = seeded(maker, forget_bias="chrono:120")
    for number in range(2):
        inward, keeps, *_ = gates_of(layer, number)
        assert torch.equal(inward, -keeps)
        times = keeps.exp()  # log U(1, T - 1) is the logit of keeping over U steps
        assert 1 - 1e-4 <= float(times.min()) < 10
        assert 110 < float(times.max()) <= 119 + 1e-2
        assert abs(float(times.mean()) - 60) < 4 * 118 / math.sqrt(12 * HIDDEN)
    assert not torch.equal(gates_of(layer, 0)[1], gates_of(layer, 1)[1])


def test_chrono_in_a_gru_sets_z_alone() -> None:
    layer, plain = seeded(SAB, cell="gru", forget_bias="chrono:50"), seeded(SAB, cell="gru")
    reset, keeps, new = gates_of(layer, 0)
    assert 0 <= float(keeps.min()) < float(keeps.max()) <= math.log(49)
    assert torch.equal(reset, gates_of(plain, 0)[0])
    assert torch.equal(new, gates_of(plain, 0)[2])


@pytest.mark.parametrize("forget_bias", [1.0, "chrono:30"])
def test_a_seed_gives_the_same_biases_again(forget_bias: Any) -> None:
    one, other = (seeded(SAB, forget_bias=forget_bias).state_dict() for _ in range(2))
    assert all(torch.equal(one[name], other[name]) for name in one)
    layer = seeded(SAB, forget_bias=forget_bias)
    torch.manual_seed(3)
    layer.reset_parameters()
    assert all(torch.equal(one[name], tensor) for name, tensor in layer.state_dict().items())


def test_a_layer_says_how_it_began() -> None:
    assert "forget_bias='chrono:30'" in repr(SAB(3, 4, forget_bias="chrono:30"))
    assert "forget_bias=1.5" in repr(SAB(3, 4, forget_bias="1.5"))
    assert "forget_bias" not in repr(SAB(3, 4))
