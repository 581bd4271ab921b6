"""The contestants of the benchmark: each trains, with the loss at the steps that it names."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from reminding.lab.bench.contestants import Problem, TrainingStep, build
from reminding.lab.bench.options import NAMES, BenchOptions, Name
from reminding.ops import cpu_op
from tests.lab.bench.conftest import SIZE, SMALL

OP = {name for name in NAMES if name.startswith("sab-")} - {"sab-additive-reference"}


def test_every_contestant_trains_at_a_small_size() -> None:
    """The contestants, including those on the C++ op if it is built."""
    problem = Problem.random(SIZE, BenchOptions())
    for name in NAMES:
        if cpu_op.missing() and name in OP:
            with pytest.raises(ValueError, match="cannot run"):
                build(name, SIZE, BenchOptions())
            continue
        module = build(name, SIZE, BenchOptions())
        output = TrainingStep(module, problem, "everywhere").forward()
        assert output.shape == (SIZE.T, SIZE.B, SIZE.H)
        TrainingStep(module, problem, "everywhere").run()
        assert all(parameter.grad is not None for parameter in module.parameters())


def test_the_loss_at_the_end_sees_the_last_step_alone() -> None:
    problem = Problem.random(SIZE, SMALL)
    gradients: dict[str, torch.Tensor] = {}
    module = build("lstm", SIZE, SMALL)
    weight = next(module.parameters())
    for loss in ("everywhere", "last"):
        TrainingStep(module, problem, loss).run()
        assert weight.grad is not None
        gradients[loss] = weight.grad.clone()
    alone = torch.zeros_like(problem.d_output)
    alone[-1] = problem.d_output[-1]
    TrainingStep(module, replace(problem, d_output=alone), "everywhere").run()
    torch.testing.assert_close(weight.grad, gradients["last"])
    assert not torch.allclose(gradients["everywhere"], gradients["last"])


def test_streams_that_begin_within_a_step_are_shorter_for_sab_alone() -> None:
    """A stream that begins at every step has nothing to recall; nn.LSTM has no streams."""
    options = replace(SMALL, resets=1.0)
    problem, plain = Problem.random(SIZE, options), Problem.random(SIZE, SMALL)
    assert problem.reset is not None and problem.reset.all() and torch.equal(problem.input, plain.input)
    expected: dict[Name, bool] = {"lstm": True, "sab-additive-reference": False}
    for name, alike in expected.items():
        module = build(name, SIZE, options)
        outputs = [TrainingStep(module, each).forward() for each in (problem, plain)]
        assert torch.equal(*outputs) == alike
        TrainingStep(module, problem).run()


def test_sab_alone_drops_a_part_of_its_state() -> None:
    options = replace(SMALL, recurrent_dropout=1.0)
    problem = Problem.random(SIZE, options)
    expected: dict[Name, bool] = {"lstm": True, "sab-additive-reference": False}
    for name, alike in expected.items():
        outputs = [TrainingStep(build(name, SIZE, each), problem).forward() for each in (options, SMALL)]
        assert torch.equal(*outputs) == alike


def test_packed_sequences_have_outputs_for_their_own_steps_alone() -> None:
    problem = Problem.random(SIZE, replace(SMALL, packed=True, models=("sab-additive-reference",)))
    assert problem.lengths is not None
    for name in ("lstm", "sab-additive-reference"):
        step = TrainingStep(build(name, SIZE, SMALL), problem)
        assert step.forward().shape == (int(problem.lengths.sum()), SIZE.H)
        step.run()
    shorter = problem.beginning(2).lengths
    assert shorter is not None and torch.equal(shorter, problem.lengths.clamp(max=2))
