"""Credit that waits for several calls is neither lost nor piled up, whenever backward passes come, or fail.

Shapes: T time, B batch.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from reminding import SAB, SABState
from reminding.nn import merge_states
from tests.nn.credit.test_deferred import deferring, grads_of, stream
from tests.nn.samples import BUILT, assert_same_gradients, draw


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("backend", BUILT)
@pytest.mark.parametrize("every", [2, 3, 10])
def test_a_call_without_a_graph_before_the_backward_pass_loses_nothing(
    every: int, backend: str, mode: Callable[[], Any]
) -> None:
    """The stream goes on, for a look ahead, say, before the loss of the call before is differentiated."""
    found: list[dict[str, Tensor]] = []
    for looks, credit_every in ((False, 1), (False, every), (True, every), (True, 1)):
        layer = deferring(credit_every, backend=backend)
        state: Any = None
        ahead: Any = None
        for number in range(5):
            output, state = layer(draw(6, 2, 3, seed=number), state)
            ahead = state
            if looks:
                with mode():
                    _, ahead = layer(draw(6, 2, 3, seed=9), state)
            output.square().sum().backward()
        ahead.settle()
        found.append(grads_of(layer))
    for other in found[1:]:
        assert_same_gradients(other, found[0])


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("backend", BUILT)
@pytest.mark.parametrize("every", [2, 3, 10])
def test_a_stream_goes_on_from_calls_without_a_graph_as_with_credit_at_once(
    every: int, backend: str, late: bool
) -> None:
    """Credit passes by them: their memories are constants, and those before are not."""
    found: list[dict[str, Tensor]] = []
    for credit_every in (1, every):
        layer = deferring(credit_every, backend=backend)
        state: Any = None
        waiting: Tensor | None = None
        for number in range(9):
            with torch.set_grad_enabled(number not in (2, 3, 6)):
                output, state = layer(draw(5, 2, 3, seed=number), state)
            if waiting is not None:
                waiting.backward()
            waiting = output.square().sum() if output.requires_grad else None
            if waiting is not None and not late:
                waiting.backward()
                waiting = None
        if waiting is not None:
            waiting.backward()
        state.settle()
        found.append(grads_of(layer))
    assert_same_gradients(*found)


@pytest.mark.parametrize("late", [0, 1, 2, 3, 5])
@pytest.mark.parametrize("every", [2, 3, 4])
def test_backward_passes_some_calls_late_neither_lose_credit_nor_pile_up_calls(every: int, late: int) -> None:
    """As where the value of the next chunk is part of a chunk's loss."""
    found: list[dict[str, Tensor]] = []
    for credit_every in (1, every):
        layer, losses, kept = deferring(credit_every), list[Tensor](), list[int]()
        state: Any = None
        for number in range(40):
            output, state = layer(draw(2, 2, 3, seed=number), state)
            losses.append(output.square().sum())
            if len(losses) > late:
                losses.pop(0).backward()
            kept.append(len(state.history.calls))
        assert max(kept) <= every + 1 + 2 * late
        for loss in losses:
            loss.backward()
        state.settle()
        assert not state.history.waits
        found.append(grads_of(layer))
    assert_same_gradients(*found)


class Failing(nn.Module):
    """An encoder that fails as often as it is told to, as one that is out of memory."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(3, 3, dtype=torch.float64)
        self.failures = [0]

    def forward(self, x: Tensor) -> Tensor:
        if self.failures[0]:
            self.failures[0] -= 1
            raise RuntimeError("out of memory")
        return self.inner(x)


@pytest.mark.parametrize("backend", BUILT)
@pytest.mark.parametrize("settled", [True, False], ids=["settle", "backward"])
def test_an_error_while_credit_is_sent_leaves_it_waiting(settled: bool, backend: str) -> None:
    found: list[dict[str, Tensor]] = []
    for failures in (0, 1):
        torch.manual_seed(0)
        encoder = Failing()
        layer = deferring(4, encoder=encoder, backend=backend)
        state = stream(layer, 3)
        output, state = layer(draw(6, 2, 3, seed=3), state)
        layer.zero_grad()

        def send(state: Any = state, output: Tensor = output) -> None:
            state.settle() if settled else output.square().sum().backward(retain_graph=True)

        if failures:
            encoder.failures[0] = failures
            with pytest.raises(RuntimeError, match="out of memory"):
                send()
            assert state.history.waits
            layer.zero_grad()
        send()
        assert not state.history.waits
        found.append(grads_of(layer))
    assert_same_gradients(*found)


@pytest.mark.parametrize("every", [1, 3])
@pytest.mark.parametrize("engine", ["autograd", "replay"])
@pytest.mark.parametrize("backend", BUILT)
def test_the_gradient_of_a_sparse_embedding_stays_sparse(backend: str, engine: str, every: int) -> None:
    """SparseAdam takes no other."""
    found: list[Tensor] = []
    for sparse in (False, True):
        torch.manual_seed(0)
        encoder = nn.Embedding(7, 3, sparse=sparse, dtype=torch.float64)
        layer = deferring(every, encoder=encoder, backend=backend, engine=engine)
        state: Any = None
        for number in range(4):
            tokens = torch.randint(0, 7, (6, 2), generator=torch.Generator().manual_seed(number))
            output, state = layer(tokens, state)
            output[-1].sum().backward()
        state.settle()
        gradient = encoder.weight.grad
        assert gradient is not None
        assert gradient.is_sparse == sparse
        found.append(gradient.to_dense())
    torch.testing.assert_close(found[0], found[1], rtol=1e-9, atol=1e-12)


def test_a_layer_with_a_sparse_embedding_trains_with_sparse_adam() -> None:
    layer = SAB(3, 4, encoder=nn.Embedding(7, 3, sparse=True))
    assert layer.encoder is not None
    optimizer = torch.optim.SparseAdam(layer.encoder.parameters())
    layer(torch.randint(0, 7, (30, 2)))[0].sum().backward()
    optimizer.step()


def copied(state: SABState) -> SABState:
    return copy.deepcopy(state)


def merged(state: SABState) -> SABState:
    return merge_states([state])


@pytest.mark.parametrize("backend", BUILT)
@pytest.mark.parametrize("change", [SABState.clone, copied, merged])
@pytest.mark.parametrize("every", [2, 3, 10])
def test_credit_that_comes_after_a_copy_has_sent_its_own_on_is_not_lost(
    every: int, change: Callable[[SABState], SABState], backend: str
) -> None:
    """The stream goes on from copies. In one backward pass for all losses, the last call's credit comes first."""
    found: list[dict[str, Tensor]] = []
    for going_on in (SABState.without_graph, change):
        layer = deferring(every, backend=backend)
        losses: list[Tensor] = []
        state: Any = None
        for number in range(5):
            output, state = layer(draw(6, 2, 3, seed=number), state)
            losses.append(output.square().sum())
            state = going_on(state)
        torch.stack(losses).sum().backward()
        layer.settle(state)
        found.append(grads_of(layer))
    assert_same_gradients(found[1], found[0])


def test_late_credit_of_a_settled_state_goes_to_its_copy_as_well() -> None:
    """Each sends on what comes: the settled state at once, the copy when it is settled."""
    layer = deferring()
    before = stream(layer, 2)
    before.settle()
    output, state = layer(draw(6, 2, 3, seed=7), before)
    other = state.clone()
    further, after = layer(draw(6, 2, 3, seed=8), state)
    further.sum().backward()
    after.settle()
    layer.zero_grad()
    output.square().sum().backward()
    at_once = grads_of(layer)
    layer.settle(other)
    waited = grads_of(layer)
    assert waited, "the copy has got it"
    again, _ = layer(draw(6, 2, 3, seed=7), before.detach())
    again.square().sum().backward()
    own = grads_of(layer)
    assert_same_gradients(at_once, {name: own[name] + waited[name] for name in own})
