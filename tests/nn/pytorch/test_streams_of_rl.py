"""Streams in reinforcement learning and validation: one step per call, resets, and other calls in between.

Shapes: T time, B batch, H hidden.
"""

from __future__ import annotations

from typing import Any, cast

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from reminding import SAB
from tests.nn.pytorch.ways import WAYS, Case, cases, every_way, gathered, inputs, loss_of
from tests.nn.samples import assert_same_gradients, chunks, draw, make

every_k_top = pytest.mark.parametrize("k_top", [0, 2, None])


def run(layer: SAB, x: Tensor, mask: Tensor, size: int) -> dict[str, Tensor]:
    """The gradients of a stream in pieces, with streams that begin where the mask says, (T, B)."""
    layer.zero_grad()
    state: Any = None
    for start in range(0, len(x), size):
        part = slice(start, start + size)
        output, state = layer(x[part], state, reset=mask[part])
        (output * RATES[start : start + len(output), : x.shape[1]]).sum().backward()
    return gathered(layer)


RATES = draw(400, 3, 4, seed=9)


@given(
    case=cases,
    semantics=st.sampled_from(["paper", "release"]),
    rows=st.sampled_from([1, 3]),
    seed=st.integers(0, 100),
    rate=st.sampled_from([0.05, 0.3, 1.0]),
)
@settings(max_examples=25, deadline=None, derandomize=True)
def test_random_resets_in_chunks_are_those_of_one_call(
    case: Case, semantics: str, rows: int, seed: int, rate: float
) -> None:
    generator = torch.Generator().manual_seed(seed)
    mask = torch.rand(12, rows, generator=generator) < rate
    x = inputs(12, rows)
    got = run(case.layer(semantics=semantics), x, mask, case.size)
    assert_same_gradients(got, run(case.plain(semantics=semantics), x, mask, len(x)))


@every_way
@pytest.mark.parametrize("by", ["step", "row", "state"])
def test_a_mask_of_resets_may_be_used_again_before_the_backward_pass(way: dict[str, Any], by: str) -> None:
    def gradients(buffer: Tensor | None) -> dict[str, Tensor]:
        layer = make(k_top=2, k_att=2, k_trunc=5, **way)
        state, losses = None, list[Tensor]()
        for number, x in enumerate(chunks(inputs(), 4)):
            mask = torch.tensor([number == 1, number == 2, False])
            mask = mask if by != "step" else mask.expand(len(x), -1).clone()
            if buffer is not None:
                mask = buffer[: len(x)].copy_(mask) if by == "step" else buffer[0].copy_(mask)
            if state is not None and by == "state":
                state = state.reset(mask)
                losses.append(state.h.pow(2).sum())
            output, state = layer(x, state, reset=None if by == "state" else mask)
            losses.append(loss_of(output, 4 * number))
        torch.stack(losses).sum().backward()
        return gathered(layer)

    assert_same_gradients(gradients(torch.zeros(4, 3, dtype=torch.bool)), gradients(None))


@every_way
@every_k_top
def test_one_environment_step_by_step(way: dict[str, Any], k_top: int | None) -> None:
    """Hundreds of steps of one row, each with a call and a backward pass, in episodes of random length."""
    options: dict[str, Any] = {"k_top": k_top, "k_att": 3, "k_trunc": 5}
    steps = 120
    mask = torch.rand(steps, 1, generator=torch.Generator().manual_seed(2)) < 0.08
    mask[7:9] = True
    x = inputs(steps, 1)
    plain = make(3, 4, **options, backend="reference", engine="autograd")
    assert_same_gradients(run(make(3, 4, **options, **way), x, mask, 1), run(plain, x, mask, steps))


@every_way
@every_k_top
@pytest.mark.parametrize("semantics", ["paper", "release"])
@pytest.mark.parametrize("num_layers", [1, 2])
def test_rows_reset_before_anything_is_stored(
    way: dict[str, Any], k_top: int | None, semantics: str, num_layers: int
) -> None:
    options: dict[str, Any] = {"k_top": k_top, "k_att": 50, "k_trunc": 5, "semantics": semantics}
    x, mask = inputs(9), torch.ones(9, 3, dtype=torch.bool)
    mask[4] = False
    plain = make(3, 4, num_layers, **options, backend="reference", engine="autograd")
    got = run(make(3, 4, num_layers, **options, **way), x, mask, 1)
    assert_same_gradients(got, run(plain, x, mask, 9))


MODES = {"inference_mode": torch.inference_mode, "no_grad": torch.no_grad}


@pytest.mark.parametrize("mode", MODES.values(), ids=MODES.keys())
@given(case=cases, when=st.sampled_from(["after forward", "after backward", "before all"]), train=st.booleans())
@settings(max_examples=10, deadline=None, derandomize=True)
def test_validation_from_the_training_state_leaves_training_alone(
    mode: Any, case: Case, when: str, train: bool
) -> None:
    """Its states are discarded, or are a stream of their own beside the training stream."""

    def training(disturb: bool) -> dict[str, Tensor]:
        layer, own = case.layer(), None
        state: Any = None

        def validate() -> None:
            nonlocal own
            layer.train(train)
            with mode():
                _, _, recall = layer(inputs(9), state, return_recall=True)
                recall.summary.sum()
                _, own = layer(inputs(3), own)
                if state is not None:
                    assert state.nbytes > 0
                    layer(inputs(2, 1), state.rows(slice(0, 1)))
            layer.train()

        if disturb and when == "before all":
            validate()
        for start in range(0, 12, case.size):
            output, state = layer(inputs()[start : start + case.size], state)
            if disturb and when == "after forward":
                validate()
            loss_of(output, start).backward()
            if disturb and when == "after backward":
                validate()
        return gathered(layer)

    assert_same_gradients(training(disturb=True), training(disturb=False))


@pytest.mark.parametrize("mode", MODES.values(), ids=MODES.keys())
@given(case=cases)
@settings(max_examples=10, deadline=None, derandomize=True)
def test_training_goes_on_from_a_state_computed_without_gradient(mode: Any, case: Case) -> None:
    """Such a state is a constant, as after a burn-in."""

    def burnt_in(layer: SAB, way: Any) -> dict[str, Tensor]:
        with way():
            _, state = layer(inputs(9, seed=4))
        state = state.detach() if way is torch.enable_grad else state
        for start in range(0, 12, case.size):
            output, state = layer(inputs()[start : start + case.size], state)
            loss_of(output, start).backward()
        return gathered(layer)

    assert_same_gradients(burnt_in(case.layer(), mode), burnt_in(case.layer(), torch.enable_grad))


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS.keys())
@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_repackaged_hidden_warns_at_the_line_that_calls(way: dict[str, Any], cell: str) -> None:
    layer = make(3, 4, k_top=2, k_trunc=2, cell=cell, **way)
    _, state = layer(inputs())
    hidden = tuple(cast("Tensor", tensor).detach() for tensor in state)
    with pytest.warns(UserWarning, match=r"leaves its memory behind.*state\.detach\(\)") as caught:
        output, after = layer(inputs(), hidden if cell == "lstm" else hidden[0])
    assert len(caught) == 1
    assert caught[0].filename == __file__
    output.sum().backward()
    layer(inputs(), after)  # no warning: an error in these tests
    layer(inputs(), tuple(torch.zeros_like(tensor) for tensor in hidden) if cell == "lstm" else hidden[0] * 0)


def test_a_batch_that_is_smaller() -> None:
    """The error names what chooses rows, and following it works."""
    layer = make(3, 4, k_top=2, k_trunc=5)
    _, state = layer(inputs())
    with pytest.raises(ValueError, match=r"input's 2 rows, got 3; state\.rows\(index\)"):
        layer(inputs()[:, :2], state)
    got = layer(inputs()[:, :2], state.rows(slice(0, 2)))[0]
    torch.testing.assert_close(got, layer(inputs(), state)[0][:, :2], rtol=1e-12, atol=1e-12)
