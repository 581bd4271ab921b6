"""Modules of a layer's user are themselves for everybody but the replay that runs them with other tensors."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from reminding import SAB, SABState
from reminding.nn.parts.user_modules import UserModules
from tests.nn.samples import draw, make

PATIENCE_SECONDS = 30.0


class Stopping(nn.Linear):
    """A linear map that stops in one thread until it is told to go on."""

    def __init__(self) -> None:
        super().__init__(3, 3, dtype=torch.float64)
        self.stops_in: threading.Thread | None = None
        self.there, self.go_on = threading.Event(), threading.Event()

    def forward(self, input: Tensor) -> Tensor:
        if threading.current_thread() is self.stops_in:
            self.there.set()
            self.go_on.wait(PATIENCE_SECONDS)
        return super().forward(input)


def _two_calls(layer: SAB, seed: int) -> tuple[Tensor, SABState]:
    state = layer(draw(5, 2, 3, seed=seed))[1]
    output, state = layer(draw(5, 2, 3, seed=seed + 1), state)
    return output.pow(2).sum(), state


@pytest.mark.parametrize("by", ["layer", "state"])
def test_credit_is_settled_while_another_thread_replays(by: str) -> None:
    """The tensors of the other thread's replay are then in the places of the encoder's parameters."""
    encoder = Stopping()
    weight = encoder.weight
    layer = make(encoder=encoder, k_trunc=3, credit_every=5)
    got: list[Tensor] = []
    for disturbed in (False, True):
        layer.credit_every, weight.grad = 5, None
        loss, state = _two_calls(layer, seed=1)
        loss.backward()
        layer.credit_every = 1
        other = _two_calls(layer, seed=3)[0]
        thread = threading.Thread(target=torch.autograd.grad, args=(other, weight))
        if disturbed:
            encoder.stops_in = thread
            thread.start()
            assert encoder.there.wait(PATIENCE_SECONDS)
            threading.Timer(0.2, encoder.go_on.set).start()
        before = torch.zeros_like(weight) if weight.grad is None else weight.grad.clone()
        if by == "layer":
            layer.settle(state)
        else:
            state.settle()
        assert weight.grad is not None and not torch.equal(weight.grad, before)
        got.append(weight.grad)
        if disturbed:
            thread.join(PATIENCE_SECONDS)
    assert torch.equal(*got)


class Scarce(Tensor):
    """A buffer for whose copy there is no memory."""

    def clone(self, *arguments: Any, **options: Any) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        raise MemoryError


def _watch(*_: Any) -> None:
    """A hook that changes nothing, which a replay leaves out."""


def test_modules_are_as_they_were_after_a_copy_of_a_buffer_failed() -> None:
    first, last = nn.Dropout(), nn.Linear(2, 2)
    module = nn.Sequential(first, last)
    last.register_buffer("scarce", torch.zeros(2).as_subclass(Scarce))
    hook = first.register_forward_hook(_watch)
    modules = UserModules([module])
    with pytest.raises(MemoryError):
        modules.run(lambda: None, modules.tensors, torch.zeros(3, dtype=torch.bool))
    assert all(each.training for each in module.modules())
    assert hook.id in vars(first)["_forward_hooks"]
