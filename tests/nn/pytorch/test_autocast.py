"""Autocast on the CPU: plain PyTorch runs the cells in the lower precision, the C++ op in the parameters' type.

Shapes: T time, B batch, H hidden.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from reminding import SAB, SABState
from tests.nn.pytorch.ways import every_way, gathered, inputs, trained
from tests.nn.samples import BUILT, chunks, draw, make, needs_op

LOWERED = torch.autocast("cpu", torch.bfloat16)
OPTIONS: dict[str, Any] = {"k_top": 2, "k_att": 2, "k_trunc": 5}
SETTINGS: list[dict[str, Any]] = [{}, {"k_top": None}, {"k_top": 0}, {"cell": "gru", "num_layers": 2, "dropout": 0.5}]
ENGINES = pytest.mark.parametrize("engine", ["autograd", "replay"])


@every_way
def test_in_chunks_the_gradient_is_near_that_of_one_call(way: dict[str, Any]) -> None:
    layer = make(3, 4, **OPTIONS, **way, dtype=torch.float32)
    x = inputs().float()
    with LOWERED:
        want, got = trained(layer, [x]), trained(layer, chunks(x, 4))
    near = 0.02 if way["backend"] == "reference" else 1e-5  # the op computes in the parameters' type
    for name, gradient in want.items():
        torch.testing.assert_close(got[name], gradient, rtol=0, atol=near * float(gradient.abs().max()))


@needs_op
@ENGINES
@pytest.mark.parametrize(
    "options", [{}, {"k_top": None}, {"k_top": 0}, {"cell": "gru", "num_layers": 2, "dropout": 0.5}]
)
def test_the_op_computes_as_without_autocast(engine: str, options: dict[str, Any]) -> None:
    """To the last digit, in chunks with credit and resets, and where an input comes in the lower precision."""
    layer = make(3, 4, **{**OPTIONS, **options}, engine=engine, dtype=torch.float32)
    x = draw(12, 2, 3, dtype=torch.bfloat16)
    reset = torch.zeros(4, 2, dtype=torch.bool)
    reset[2, 1] = True

    def run(x: Tensor) -> list[Tensor]:
        torch.manual_seed(0)
        layer.zero_grad()
        state: Any = None
        found: list[Tensor] = []
        for chunk in chunks(x, 4):
            output, state, recall = layer(chunk, state, reset=reset, return_recall=True)
            (output.sum() + recall.summary.pow(2).sum()).backward()
            found += [output, recall.summary, recall.step, recall.weight]
        return [*found, *(p.grad.clone() for p in layer.parameters() if p.grad is not None)]

    plan, want = layer.plan(4), run(x.float())
    with LOWERED:
        assert layer.plan(4) == plan
        got = run(x)
    assert plan.backend != "reference"
    assert all(torch.equal(*pair) for pair in zip(got, want, strict=True))


@needs_op
def test_scores_beyond_the_range_of_the_op_have_full_precision_too() -> None:
    layer = make(k_top=2, k_att=2, k_trunc=5, dtype=torch.float32)
    with torch.no_grad():
        layer.get_parameter("score_memory_l0").mul_(4000)
        layer.get_parameter("score_query_l0").mul_(-4000)
    x = draw(12, 2, 3, dtype=torch.float32)
    want = layer(x)[0]
    with LOWERED:
        got = layer(x)[0]
    assert torch.equal(got, want)


@needs_op
def test_served_steps_have_full_precision() -> None:
    layer = make(3, 4, **OPTIONS, dtype=torch.float32).eval()
    x = draw(12, 2, 3, dtype=torch.bfloat16)

    def run(x: Tensor) -> list[Tensor]:
        state: Any = None
        outputs: list[Tensor] = []
        stepper = layer.stepper()
        with torch.no_grad():
            for step in x:
                output, state = layer(step.unsqueeze(0), state)
                outputs += [output, stepper(step)]
        return outputs

    want = run(x.float())
    with LOWERED:
        got = run(x)
    assert all(torch.equal(*pair) for pair in zip(got, want, strict=True))


@ENGINES
@pytest.mark.parametrize("backend", ["reference", pytest.param("cpu", marks=needs_op)])
@pytest.mark.parametrize("credit_every", [1, 2])
def test_a_backward_pass_within_autocast_is_that_outside_of_it(engine: str, backend: str, credit_every: int) -> None:
    """Where our own backward passes run; autograd's of plain PyTorch has the precision that autocast gives it."""
    layer = make(3, 4, 2, **OPTIONS, engine=engine, backend=backend, credit_every=credit_every, dtype=torch.float32)
    own = backend == "cpu" or engine == "replay"

    def run(lowered: bool) -> dict[str, Tensor]:
        layer.zero_grad()
        state: Any = None
        for chunk in chunks(draw(12, 2, 3, dtype=torch.float32), 4):
            output, state = layer(chunk, state)
            with torch.autocast("cpu", torch.bfloat16, enabled=lowered):
                output.pow(2).sum().backward()
        return gathered(layer)

    for name, gradient in run(lowered=True).items():
        wanted = run(lowered=False)[name]
        torch.testing.assert_close(gradient, wanted, rtol=0, atol=0 if own else 0.02 * float(wanted.abs().max()))


@pytest.mark.parametrize("backend", ["reference", pytest.param("cpu", marks=needs_op)])
def test_what_waits_is_settled_within_autocast_as_outside_of_it(backend: str) -> None:
    layer = make(3, 4, **OPTIONS, backend=backend, credit_every=9, dtype=torch.float32)

    def run(lowered: bool) -> dict[str, Tensor]:
        state: Any = None
        for chunk in chunks(draw(12, 2, 3, dtype=torch.float32), 4):
            output, state = layer(chunk, state)
            output.pow(2).sum().backward()
        layer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=lowered):
            layer.settle(state)
        return gathered(layer)

    want, got = run(lowered=False), run(lowered=True)
    assert want["weight_hh_l0"].any()
    assert all(torch.equal(got[name], gradient) for name, gradient in want.items())


@every_way
@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16], ids=["whole weights", "lowered weights"])
def test_an_encoder_is_run_again_in_the_precision_of_its_call(
    way: dict[str, Any], kind: torch.dtype, tmp_path: Path
) -> None:
    layer = make(3, 4, **OPTIONS, **way, dtype=torch.float32, encoder=nn.Linear(3, 3))
    assert layer.encoder is not None
    layer.encoder.to(kind)
    x = inputs().bfloat16()

    def run(size: int) -> dict[str, Tensor]:
        layer.zero_grad()
        state: Any = None
        for chunk in chunks(x, size):
            with LOWERED:
                output, state = layer(chunk, state)
            output.pow(2).sum().backward()
            state.save(tmp_path / "state")
            state = SABState.load(tmp_path / "state")
        return gathered(layer)

    want, got = run(12), run(4)
    for name, gradient in want.items():
        near = 0.02 if way["backend"] == "reference" or name.startswith("encoder") else 1e-5
        torch.testing.assert_close(got[name], gradient, rtol=0, atol=near * float(gradient.abs().max()))


@every_way
@pytest.mark.parametrize("end", ["a call outside of autocast", "settle"])
def test_an_input_in_the_lower_precision_gets_credit_from_outside_of_autocast(way: dict[str, Any], end: str) -> None:
    layer = make(3, 4, **OPTIONS, **way, dtype=torch.float32, credit_every=9 if end == "settle" else 1)
    first, second = chunks(inputs().bfloat16(), 6)

    def run(first: Tensor) -> dict[str, Tensor]:
        layer.zero_grad()
        with LOWERED:
            output, state = layer(first)
        output.sum().backward()
        output, state = layer(second.float(), state)
        output.sum().backward()
        layer.settle(state)
        return gathered(layer)

    want, got = run(first.float()), run(first)
    assert all(torch.equal(got[name], gradient) for name, gradient in want.items())


def test_beside_modules_in_the_lower_precision_a_model_trains() -> None:
    embed, layer, head = nn.Linear(5, 3), SAB(3, 8, k_att=2), nn.Linear(8, 2)
    with LOWERED:
        between = embed(torch.randn(9, 4, 5))
        output, state = layer(between)
        loss = head(output).float().square().mean()
    loss.backward()
    assert between.dtype == torch.bfloat16
    assert {output.dtype, state.h.dtype, state.memory.dtype} == {torch.float32}
    assert all(p.grad is not None and p.grad.isfinite().all() for p in (*embed.parameters(), *layer.parameters()))
    assert layer.plan(9).backend == BUILT[-1]
