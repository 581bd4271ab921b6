"""Segments replayed in the backward pass give the gradient of a kept graph, for any cell and scorer.

Shapes: T time, B batch, I input, H hidden, M memory slots, D score width.
"""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from reminding import SAB
from reminding.ops import backends
from reminding.ops.cpu_op import missing
from tests.nn.samples import LAYERS, assert_same_gradients, draw, gradients, make, needs_op, spread


def both_engines(layer: SAB, x: Tensor, **further: Any) -> list[dict[str, Tensor]]:
    """Gradients of all that a call returns, with a kept graph and replayed, from the same random numbers."""
    found: list[dict[str, Tensor]] = []
    for engine in ("autograd", "replay"):
        layer.engine = engine
        torch.manual_seed(3)
        output, state, recall = layer(x, return_recall=True, **further)
        loss = (output * draw(*output.shape, seed=8)).sum() + recall.summary.pow(2).sum()
        loss = loss + state.h.pow(2).sum() + (state.memory * draw(*state.memory.shape, seed=9)).sum()
        loss = loss + state.c.sum() if isinstance(state.c, Tensor) else loss
        found.append(gradients(layer, loss, x=x))
    return found


@pytest.mark.parametrize("options", LAYERS.values(), ids=LAYERS.keys())
@pytest.mark.parametrize("further", [{}, {"backtrack": False}, {"capacity": 2}], ids=["", "no backtrack", "capacity"])
def test_replay_gives_the_gradient_of_the_kept_graph(options: dict[str, Any], further: dict[str, Any]) -> None:
    layer = make(backend="reference", **options, **further)
    kept, replayed = both_engines(layer, draw(37, 3, 3).requires_grad_())
    assert_same_gradients(replayed, kept)


def test_replay_where_streams_begin_within_a_call() -> None:
    layer = make(backend="reference", k_top=2, k_att=3, k_trunc=4)
    reset = torch.zeros(25, 3, dtype=torch.bool)
    reset[7, 1] = reset[8, 0] = reset[20, 1] = True
    kept, replayed = both_engines(layer, draw(25, 3, 3).requires_grad_(), reset=reset)
    assert_same_gradients(replayed, kept)


class Minimal(nn.Module):
    """A user's cell with a second state of another shape than h, and dropout of its inputs."""

    state_shapes = ((2, 2),)

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.inner = nn.Linear(3 + 4 + 4, 4)
        self.outer = nn.Linear(4, 4)
        self.drop = nn.Dropout(rate)

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        h, extra = state
        new = torch.tanh(self.inner(torch.cat([self.drop(x), h, extra.flatten(1)], 1)))
        return new, (0.5 * extra + self.outer(new).view(-1, 2, 2)).tanh()


class Distance(nn.Module):
    """A user's scorer: the distance between a projection of the memory and one of the query."""

    def __init__(self) -> None:
        super().__init__()
        self.project = nn.Linear(4, 5)

    def keys(self, memory: Tensor) -> Tensor:
        return self.project(memory)

    def scores(self, keys: Tensor, query: Tensor) -> Tensor:
        return -(keys - self.project(query).unsqueeze(1)).pow(2).sum(2)


@pytest.mark.parametrize("rate", [0.0, 0.5])
@pytest.mark.parametrize("k_top", [2, None])
def test_replay_of_ones_own_cell_and_scorer(rate: float, k_top: int | None) -> None:
    """A module that draws random numbers draws the same ones again, and the generator continues undisturbed."""
    layer = SAB(3, 4, cell=Minimal(rate), score=Distance(), k_top=k_top, k_att=2, k_trunc=5, dtype=torch.float64)
    spread(layer)
    kept, replayed = both_engines(layer, draw(23, 2, 3).requires_grad_())
    after = torch.get_rng_state()
    assert_same_gradients(replayed, kept)
    layer.engine = "autograd"
    torch.manual_seed(3)
    layer(draw(23, 2, 3))
    assert torch.equal(torch.get_rng_state(), after)


def test_dropout_between_layers_is_replayed() -> None:
    layer = make(num_layers=3, dropout=0.4, k_top=2, k_att=2, k_trunc=5, backend="reference")
    kept, replayed = both_engines(layer, draw(23, 2, 3).requires_grad_())
    assert_same_gradients(replayed, kept)


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("p", [0.001, 0.25])
def test_dropout_lets_its_share_through(kind: torch.dtype, p: float) -> None:
    """Of 320,000 numbers; the count is within 4 standard deviations."""
    torch.manual_seed(0)
    seen: list[Tensor] = []

    class Spy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one = nn.Parameter(torch.ones(()))

        def forward(self, x: Tensor, h: Tensor) -> Tensor:
            seen.append(x)
            return self.one.expand_as(h)

    spied = SAB(3, 400, 2, cell=[Spy(), Spy()], dropout=p, k_top=0, k_trunc=None, dtype=kind)
    spied(torch.randn(8, 100, 3, dtype=kind))
    dropped = torch.stack([x for x in seen if x.shape == (100, 400)]) == 0  # what comes to the upper cell
    assert abs(float(dropped.double().mean()) - p) < 4 * (p * (1 - p) / 320_000) ** 0.5


def test_replay_keeps_no_graph() -> None:
    """Autograd would save steps times memories; a replay saves the input, the state before, and the memories."""
    layer = make(backend="reference", engine="replay", k_top=2, k_att=1, k_trunc=5)
    kept: list[int] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor.numel()) or tensor, lambda t: t):
        layer(draw(100, 2, 3).requires_grad_())
    entering = 2 * 2 * layer.hidden_size  # h and c for both rows
    memories = 100 * 2 * layer.hidden_size
    assert sum(kept) <= 100 * 2 * 3 + entering + memories + sum(p.numel() for p in layer.parameters())


def test_only_segments_that_received_credit_are_run_again() -> None:
    """With a loss at one step, these are its own segment and those whose memories were read."""
    calls: list[int] = []

    class Counting(nn.RNNCell):
        def forward(self, x: Tensor, h: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
            calls.append(len(x))
            return super().forward(x, h)

    layer = SAB(3, 4, cell=Counting(3, 4), k_top=1, k_att=10, k_trunc=10, engine="replay", dtype=torch.float64)
    output, _, recall = layer(draw(100, 2, 3), return_recall=True)
    calls.clear()
    output[34, 0].sum().backward()
    assert set(calls) == {1}, "one row had a loss"
    own = 5
    reached, open_steps = set[int](), [(int(s), 10) for s in recall.step[30:35, 0].flatten() if s]
    while open_steps:
        step, _ = open_steps.pop()
        if step not in reached:
            reached.add(step)
            open_steps += [(int(s), 10) for s in recall.step[step - 10 : step, 0].flatten() if s]
    assert len(calls) == own + 10 * len(reached)


def test_a_graph_may_be_used_twice() -> None:
    layer = make(backend="reference", engine="replay", k_top=2, k_att=2, k_trunc=3)
    output, state = layer(draw(20, 2, 3))
    output, _ = layer(draw(20, 2, 3, seed=2), state)
    loss = output.sum()
    first, second = gradients(layer, loss), gradients(layer, loss)
    for name, gradient in first.items():
        assert torch.equal(second[name], gradient)


def test_weights_changed_before_the_backward_pass_are_noticed() -> None:
    layer = make(backend="reference", engine="replay", k_top=2, k_att=2, k_trunc=3)
    output, _ = layer(draw(20, 2, 3))
    with torch.no_grad():
        next(layer.parameters()).add_(1.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        output.sum().backward()


def test_memories_changed_before_the_backward_pass_are_noticed() -> None:
    """Without it the sweep would read the new numbers."""
    layer = make(backend="reference", engine="replay", k_top=2, k_att=2, k_trunc=3)
    output, state = layer(draw(20, 2, 3))
    with torch.no_grad():
        state.layers[0].memory.value.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        output.sum().backward()


@pytest.mark.parametrize("engine", ["autograd", "replay"])
@pytest.mark.parametrize("backend", ["reference", pytest.param("cpu", marks=needs_op)])
def test_step_counts_changed_before_the_backward_pass_change_nothing(backend: str, engine: str) -> None:
    layer = make(backend=backend, engine=engine, k_top=2, k_att=2, k_trunc=3)
    found: list[dict[str, Tensor]] = []
    for changes in (False, True):
        first, between = layer(draw(7, 2, 3))
        second, after = layer(draw(20, 2, 3, seed=2), between)
        if changes:
            between.step.zero_()
            after.step.zero_()
        found.append(gradients(layer, first.sum() + second.pow(2).sum()))
    assert_same_gradients(found[1], found[0])


@pytest.mark.parametrize("weight", [None, 2.0], ids=["of a sum", "of squares"])
def test_a_gradient_penalty_has_the_derivative_that_a_kept_graph_gives(weight: float | None) -> None:
    x = draw(20, 2, 3).requires_grad_()
    penalties: list[dict[str, Tensor]] = []
    for engine in ("autograd", "replay"):
        layer = make(backend="reference", engine=engine, k_top=2, k_att=2, k_trunc=3)
        output = layer(x)[0]
        loss = output.sum() if weight is None else output.pow(weight).sum()
        (found,) = torch.autograd.grad(loss, x, create_graph=True)
        penalties.append(gradients(layer, found.pow(2).sum()))
    assert_same_gradients(penalties[1], penalties[0])
    assert penalties[0]["weight_ih_l0"].abs().max() > 1e-3


def test_replay_under_autocast() -> None:
    layer = SAB(3, 8, k_top=2, k_att=2, k_trunc=5, engine="autograd")
    found: list[dict[str, Tensor]] = []
    for engine in ("autograd", "replay"):
        layer.engine = engine
        with torch.autocast("cpu", dtype=torch.bfloat16):
            output, _ = layer(draw(30, 2, 3, dtype=torch.float32))
        found.append(gradients(layer, output.float().pow(2).sum()))
    for name, gradient in found[0].items():
        # Autograd adds up the lower type's gradients in that type, the replay only within a segment.
        torch.testing.assert_close(
            found[1][name], gradient, rtol=0, atol=0.02 * float(gradient.abs().max()), msg=name
        )


def with_large_scores(**options: Any) -> SAB:
    """A layer in which W1 m and W2 h_hat are large and of opposite signs."""
    layer = make(k_top=2, k_att=2, k_trunc=5, **options)
    with torch.no_grad():
        layer.get_parameter("score_memory_l0").mul_(4000)
        layer.get_parameter("score_query_l0").mul_(-4000)
    return layer


@pytest.mark.skipif(missing() is not None, reason=str(missing()))
def test_scores_beyond_the_range_of_the_op_are_replayed_in_plain_pytorch() -> None:
    """engine="replay" falls back as engine="autograd" does: same numbers, and still no graph is kept."""
    x = draw(40, 2, 3)
    found: list[dict[str, Tensor]] = []
    for options in ({"backend": "reference", "engine": "autograd"}, {"engine": "replay"}, {"engine": "autograd"}):
        layer = with_large_scores(**options)
        output, state, recall = layer(x, return_recall=True)
        found.append(gradients(layer, output.pow(2).sum() + recall.summary.sum() + state.memory.sum()))
    assert_same_gradients(found[1], found[0])
    assert_same_gradients(found[2], found[0])
    refusing = with_large_scores(backend="cpu", engine="replay")
    with pytest.raises(ValueError, match="backend='cpu' cannot run this input"):
        refusing(x)


def with_scores_that_grow(backend: str) -> tuple[SAB, Tensor]:
    """A layer whose scores left the op's range after its first call, and the loss of its second call.

    Its states are near 1 in the first call and near 0 in the second, whose own scores stay small.
    """
    torch.manual_seed(0)
    layer = make(2, 8, cell="rnn", score_size=8, k_top=2, k_att=2, k_trunc=4, backend=backend, engine="replay")
    with torch.no_grad():
        for name in ("weight_hh_l0", "bias_ih_l0", "bias_hh_l0"):
            layer.get_parameter(name).zero_()
        layer.get_parameter("weight_ih_l0").copy_(3 * torch.randn(8, 2))
        layer.get_parameter("score_query_l0").copy_(25 * torch.eye(8))
        layer.get_parameter("score_memory_l0").copy_(0.1 * torch.eye(8))
    _, state = layer(5 * draw(8, 1, 2))
    with torch.no_grad():
        layer.get_parameter("score_memory_l0").copy_(2500 * torch.eye(8))
        layer.get_parameter("score_query_l0").copy_(-2500 * torch.eye(8))
    output, _ = layer(torch.zeros(1, 1, 2, dtype=torch.float64), state)
    return layer, output.sum()


@pytest.mark.skipif(missing() is not None, reason=str(missing()))
def test_past_calls_beyond_the_range_of_the_op_are_not_left_in_silence(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """By a backend asked for by name they are refused, as a call is; "auto" says that it leaves them."""
    backends._log_leaving.cache_clear()  # pyright: ignore[reportPrivateUsage]
    with caplog.at_level(logging.INFO, "reminding"):
        found = [gradients(*with_scores_that_grow(backend)) for backend in ("auto", "auto", "reference")]
    assert_same_gradients(found[0], found[2])
    told = [record.message for record in caplog.records if "leaves" in record.message]
    assert len(told) == 1
    assert "backend 'cpu' leaves the past calls that credit goes to to plain PyTorch" in told[0]
    loss = with_scores_that_grow("cpu")[1]
    with pytest.raises(ValueError, match="backend='cpu' cannot run the past calls that credit goes to"):
        loss.backward()


def of_last_call(lengths: list[int], options: dict[str, Any]) -> dict[str, Tensor]:
    layer = make(3, 4, normalizer="softmax1", score="dot", evict="least_recalled", backend="reference", **options)
    state: Any = None
    for seed, steps in enumerate(lengths):
        layer.zero_grad()
        output, state = layer(2 * draw(steps, 1, 3, seed=seed), state)
        output[-1].sum().backward()
    return {name: p.grad.clone() for name, p in layer.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("lengths", [[6, 1], [7, 2], [8, 1], [9, 3], [12, 1]], ids=str)
@pytest.mark.parametrize(("k_att", "k_trunc", "capacity"), [(1, 4, 3), (2, 5, 3), (1, 6, 4), (2, 7, 2)])
def test_a_state_that_is_stored_and_evicted_within_a_segment_is_a_constant(
    lengths: list[int], k_att: int, k_trunc: int, capacity: int
) -> None:
    """Recalling all is recalling more than there are."""
    options = {"k_att": k_att, "k_trunc": k_trunc, "capacity": capacity}
    assert_same_gradients(
        of_last_call(lengths, options | {"k_top": None}), of_last_call(lengths, options | {"k_top": 7})
    )
