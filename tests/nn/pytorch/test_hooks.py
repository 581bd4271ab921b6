"""Parameter hooks run once per backward pass, on the whole gradient; module hooks run once per call.

Shapes: T time, B batch, H hidden.
"""

# pyright: reportUnknownLambdaType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false
# torch and lightning annotate their callback parameters only partly.

from __future__ import annotations

from typing import Any, cast

import pytest
import torch
from hypothesis import given, settings
from torch import Tensor, nn

from reminding import SAB
from tests.nn.pytorch.ways import INPUT, Case, cases, inputs, loss_of, trained
from tests.nn.samples import assert_same_gradients, chunks

LIMIT = 0.05


def gradients_by_pass(layer: SAB, pieces: list[Tensor]) -> list[dict[str, Tensor]]:
    """The gradient of each backward pass of a stream, without hooks."""
    found: list[dict[str, Tensor]] = []
    state: Any = None
    start = 0
    for piece in pieces:
        layer.zero_grad()
        output, state = layer(piece, state)
        loss_of(output, start).backward()
        start += len(piece)
        found.append(
            {
                name: torch.zeros_like(parameter) if parameter.grad is None else parameter.grad.clone()
                for name, parameter in layer.named_parameters()
            }
        )
    return found


@given(case=cases)
@settings(max_examples=12, deadline=None, derandomize=True)
def test_clipping_by_a_hook_clips_the_whole_gradient_of_a_backward_pass(case: Case) -> None:
    pieces = chunks(inputs(), case.size)
    by_pass = gradients_by_pass(case.plain(), pieces)
    want = {name: cast("Tensor", sum(each[name].clamp(-LIMIT, LIMIT) for each in by_pass)) for name in by_pass[0]}
    layer, calls = case.layer(), dict.fromkeys(want, 0)

    def clip(name: str, gradient: Tensor) -> Tensor:
        calls[name] += 1
        return gradient.clamp(-LIMIT, LIMIT)

    for name, parameter in layer.named_parameters():
        parameter.register_hook(lambda gradient, name=name: clip(name, gradient))
    assert_same_gradients(trained(layer, pieces), want)
    for name, number in calls.items():
        assert number <= len(pieces)
        assert number == len(pieces) or name.startswith("score"), "without memories there is nothing to score"


@given(case=cases)
@settings(max_examples=12, deadline=None, derandomize=True)
def test_hooks_after_accumulation_see_the_whole_gradient(case: Case) -> None:
    """An optimizer step inside the backward pass, the purpose of `register_post_accumulate_grad_hook`."""
    pieces = chunks(inputs(), case.size)
    want = gradients_by_pass(case.plain(), pieces)
    layer = case.layer()
    seen: list[dict[str, Tensor]] = []
    names = {parameter: name for name, parameter in layer.named_parameters()}

    def take(parameter: Tensor) -> None:
        assert parameter.grad is not None
        assert names[cast("nn.Parameter", parameter)] not in seen[-1], "once a backward pass"
        seen[-1][names[cast("nn.Parameter", parameter)]] = parameter.grad.clone()
        parameter.grad = None

    for parameter in layer.parameters():
        parameter.register_post_accumulate_grad_hook(take)
    state: Any = None
    start = 0
    for piece in pieces:
        seen.append({})
        output, state = layer(piece, state)
        loss_of(output, start).backward()
        start += len(piece)
    for got, wanted in zip(seen, want, strict=True):
        for name in wanted.keys() - got.keys():
            assert not wanted[name].any(), f"{name} had a gradient"
        assert_same_gradients(got, {name: wanted[name] for name in got})


@given(case=cases)
@settings(max_examples=12, deadline=None, derandomize=True)
def test_hooks_of_the_input_and_the_layer(case: Case) -> None:
    layer, calls = case.layer(), {"input": 0, "output": 0, "forward": 0, "pre": 0, "backward": 0}

    def count(name: str) -> None:
        calls[name] += 1

    layer.register_forward_hook(lambda *_: count("forward"))
    layer.register_forward_pre_hook(lambda *_: count("pre"))
    x = inputs().requires_grad_()
    x.register_hook(lambda _: count("input"))
    output, _ = layer(x)
    output.register_hook(lambda _: count("output"))
    loss_of(output).backward()
    assert calls == {"input": 1, "output": 1, "forward": 1, "pre": 1, "backward": 0}


def mapped(module: nn.Module, answers: bool) -> list[int]:
    """Register hooks before and after a module's forward. With `answers`, they change its input and output."""
    seen = [0, 0]

    def before(_: nn.Module, arguments: tuple[Tensor, ...]) -> Any:
        seen[0] += 1
        return (arguments[0] * 1.5, *arguments[1:]) if answers else None

    def after(_: nn.Module, __: Any, output: Any) -> Any:
        seen[1] += 1
        if not answers:
            return None
        return torch.tanh(output) if isinstance(output, Tensor) else tuple(torch.tanh(part) for part in output)

    module.register_forward_pre_hook(before)
    module.register_forward_hook(after)
    return seen


@pytest.mark.parametrize("answers", [False, True], ids=("watching", "answering"))
@given(case=cases.filter(lambda case: case.encoder or case.cell == "own"))
@settings(max_examples=10, deadline=None, derandomize=True)
def test_hooks_of_modules_run_in_a_call_and_not_in_its_replay(answers: bool, case: Case) -> None:
    """Hooks that return a value take part in the gradient and are replayed. Hooks that only observe are not."""
    layer, plain = case.layer(), case.plain()
    parts = [part for part in (layer.encoder, *getattr(layer, "cells", [])) if part is not None]
    seen = [mapped(part, answers) for part in parts]
    for part in (plain.encoder, *getattr(plain, "cells", [])):
        if part is not None:
            mapped(part, answers)
    pieces = chunks(inputs(), case.size)
    assert_same_gradients(trained(layer, pieces), trained(plain, [inputs()]))
    if answers:
        return
    for part, numbers in zip(parts, seen, strict=True):
        assert numbers == [len(pieces)] * 2 if part is layer.encoder else [len(inputs())] * 2


class Counting(nn.Module):
    """A linear map that counts its calls in a Python attribute and in a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(INPUT, INPUT, dtype=torch.float64)
        self.calls = 0
        self.register_buffer("counted", torch.zeros((), dtype=torch.int64))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        cast("Tensor", self.counted).add_(1)
        return self.linear(x) * (1 + self.calls % 2)


class CountingCell(nn.Module):
    """A cell that counts its calls."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.inner = nn.LSTMCell(size, 4, dtype=torch.float64)
        self.calls = 0
        self.register_buffer("counted", torch.zeros((), dtype=torch.int64))

    def forward(self, x: Tensor, state: Any) -> Any:
        self.calls += 1
        self.counted = self.counted + 1
        return self.inner(x, state)


@given(case=cases.filter(lambda case: case.encoder))
@settings(max_examples=12, deadline=None, derandomize=True)
def test_attributes_and_buffers_count_calls_alone(case: Case) -> None:
    options: dict[str, Any] = {"encoder": Counting()}
    if case.cell == "own":
        options["cell"] = [CountingCell(size) for size in (INPUT, 4)[: case.num_layers]]
    layer = case.layer(**options)
    cells = list(getattr(layer, "cells", []))
    begun = [cell.calls for cell in cells]
    pieces = chunks(inputs(), case.size)
    trained(layer, pieces)
    encoder = cast("Counting", layer.encoder)
    assert encoder.calls == int(cast("Tensor", encoder.counted)) == len(pieces)
    for cell, first in zip(cells, begun, strict=True):
        assert cell.calls - first == len(inputs())
        assert int(cell.counted) == cell.calls
