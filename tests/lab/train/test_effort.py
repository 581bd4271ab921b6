"""The count of backward steps equals the number of steps that gradient reaches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from reminding.lab.runs.config import ModelOptions
from reminding.lab.runs.model import SequenceModel
from reminding.lab.train.effort import SEQUENCES, backward_steps, visited
from reminding.tasks import Adding, Copying, Cue, FileStream

T = 37


def reached(model: SequenceModel, task: Adding) -> float:
    """The number of steps whose input receives gradient from the last prediction, averaged over sequences."""
    batch = next(iter(task.eval_batches("test", SEQUENCES, SEQUENCES)))
    input = batch.input.double().requires_grad_()
    model(input)[0][-1].square().sum().backward()
    assert input.grad is not None
    return float((input.grad != 0).any(-1).sum(0).double().mean())


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize(
    "options",
    [
        {"k_top": 1, "k_trunc": 5},
        {"k_top": 2, "k_trunc": 4, "k_att": 3},
        {"k_top": 1, "k_trunc": 3, "k_att": 2, "capacity": 3},
        {"k_top": 2, "k_trunc": 6, "backtrack": False},
        {"k_top": 1, "k_trunc": None, "k_att": 4},
        {"model": "tbptt", "k_trunc": 7},
        {"model": "lstm"},
        {"model": "mingru"},
        {"model": "rtu"},
    ],
)
def test_the_count_is_of_the_steps_that_get_a_gradient(options: dict[str, Any], seed: int) -> None:
    torch.manual_seed(seed)
    task = Adding(T)
    model = SequenceModel(task, ModelOptions(hidden_size=6, **options)).double()
    # Large weights, so that recalls differ from step to step.
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3)
    single = SequenceModel(task, ModelOptions(hidden_size=6, **options))
    single.load_state_dict(model.state_dict())
    assert backward_steps(single, task)["backward_steps_last"] == pytest.approx(reached(model, task))


def test_a_loss_at_every_step_visits_every_step() -> None:
    model = SequenceModel(Copying(T=8, symbols=2), ModelOptions(hidden_size=6, k_trunc=3))
    counts = backward_steps(model, Copying(T=8, symbols=2))
    assert counts["backward_steps"] == counts["forward_steps"] == 12


def test_a_loss_at_the_last_step_visits_what_it_needs() -> None:
    counts = backward_steps(SequenceModel(Adding(20), ModelOptions(model="tbptt", k_trunc=6)), Adding(20))
    assert counts["backward_steps"] == 2  # steps 19 and 20: the cut is after 18


def test_a_chain_of_recalls_is_followed_and_a_cut_is_not_crossed() -> None:
    step = np.zeros((6, 1, 1), dtype=np.int64)
    step[5], step[3] = 4, 2  # step 6 recalls step 4, whose segment is steps 3 and 4; step 4 recalls step 2
    asked = np.zeros((6, 1), dtype=bool)
    asked[5] = True
    assert visited(step, step > 0, asked, 2) == [6]
    assert visited(step, np.zeros_like(step, dtype=bool), asked, 2) == [2]
    assert visited(step, step > 0, asked, 2, first=2) == [4]


@pytest.mark.parametrize(("horizon", "most"), [(0, 10), (30, 40), (None, 210)])
def test_on_a_stream_credit_goes_back_as_far_as_the_horizon(tmp_path: Path, horizon: int | None, most: int) -> None:
    data = tmp_path / "text"
    data.write_bytes(bytes(np.random.default_rng(0).integers(0, 256, 60_000, dtype=np.uint8)))
    task = FileStream(data, chunk=10)
    options = ModelOptions(hidden_size=6, k_trunc=5, capacity=50, horizon=horizon)
    counts = backward_steps(SequenceModel(task, options), task)
    assert counts["forward_steps"] == 10
    assert 10 <= counts["backward_steps"] <= most
    assert (counts["backward_steps"] > 10) == (horizon != 0)


def test_a_stream_whose_first_answer_is_far_can_be_counted() -> None:
    """Its evaluation refuses a limit of so few chunks, none of which need hold an answer."""
    task = Cue(lag=300, gap=20, chunk=10)
    model = SequenceModel(task, ModelOptions(hidden_size=6, k_trunc=5, capacity=4))
    counts = backward_steps(model, task)
    assert counts["forward_steps"] == 10
    assert 1 <= counts["backward_steps_last"] <= 200
