"""The cue task: the target is the cue shown `lag` steps before, and any chunk can be reached directly.

Shapes: B batch, T time, C classes.
"""

from __future__ import annotations

import math
from itertools import islice
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from reminding.tasks import Batch, Cue, mean_metrics
from reminding.tasks.kinds.asked import EVAL_ROWS, UNASKED


def joined(batches: list[Batch]) -> tuple[Tensor, Tensor]:
    return torch.cat([batch.input for batch in batches]), torch.cat([batch.target for batch in batches])


def read(task: Cue, steps: int, rows: int = 3, seed: int = 0) -> tuple[Tensor, Tensor]:
    """The inputs and targets of the first steps of the training stream, (T, B) each."""
    return joined(list(islice(task.train_batches(rows, seed), math.ceil(steps / task.chunk))))


@settings(max_examples=25)
@given(
    lag=st.integers(1, 40),
    gap=st.integers(1, 20),
    chunk=st.integers(1, 70),
    noise=st.sampled_from([0.0, 0.3, 1.0]),
    seed=st.integers(0, 5),
)
def test_each_query_asks_for_the_cue_lag_steps_before(
    lag: int, gap: int, chunk: int, noise: float, seed: int
) -> None:
    task = Cue(lag=lag, gap=gap, alphabet=3, chunk=chunk, noise=noise, distractors=4)
    tokens, target = read(task, 20 * task.period, seed=seed)
    query = task.vocabulary - 1
    assert torch.equal(tokens == query, target != UNASKED)
    for row in range(3):
        asked = (tokens[:, row] == query).nonzero().flatten()
        shown = ((tokens[:, row] >= 1) & (tokens[:, row] <= 3)).nonzero().flatten()
        assert torch.equal(asked, shown[: len(asked)] + lag), "one cue a query, and none before the one asked for"
        assert torch.equal(target[asked, row], tokens[shown[: len(asked)], row] - 1)
        assert len(asked) >= 18


def test_a_cue_and_its_answer_are_never_in_one_chunk_of_at_most_lag_steps() -> None:
    task = Cue(lag=30, gap=5, chunk=30)
    for batch in islice(task.train_batches(8, 0), 50):
        for row in range(8):
            asked = (batch.target[:, row] != UNASKED).nonzero()
            shown = ((batch.input[:, row] >= 1) & (batch.input[:, row] <= 8)).nonzero()
            assert not torch.isin(asked - 30, shown).any()


def test_cues_and_rows_are_drawn_evenly() -> None:
    task = Cue(lag=5, gap=5, alphabet=4, chunk=1000)
    _, target = read(task, 20_000, rows=4)
    counts = torch.stack([torch.bincount(row[row != UNASKED], minlength=4) for row in target.T]).double()
    assert counts.sum() == pytest.approx(8000, rel=0.01)
    expected = counts.sum(1, keepdim=True) / 4
    assert ((counts - expected).abs() < 4.5 * expected.sqrt()).all()
    assert len({row[row != UNASKED][:50].numpy().tobytes() for row in target.T}) == 4


def test_any_chunk_is_reached_without_those_before() -> None:
    task = Cue(lag=70, gap=30, chunk=40, noise=0.2)
    batches = list(islice(task.train_batches(3, 1), 200))
    for start in (0, 1, 37, 199):
        again = next(task.train_batches(3, 1, start))
        assert torch.equal(again.input, batches[start].input)
        assert torch.equal(again.target, batches[start].target)
    other = next(task.train_batches(3, 2))
    assert not torch.equal(other.input, batches[0].input)


def test_all_rows_begin_with_the_first_chunk_and_go_on_after() -> None:
    batches = list(islice(Cue().train_batches(3, 0), 3))
    assert [None if batch.reset is None else batch.reset.sum().item() for batch in batches] == [3, 0, 0]


def test_noise_is_a_share_of_the_steps_and_of_no_cue() -> None:
    task = Cue(lag=50, gap=50, alphabet=3, noise=0.25, distractors=5)
    tokens, _ = read(task, 20_000)
    distractors = (tokens > 3) & (tokens < task.vocabulary - 1)
    assert distractors.double().mean() == pytest.approx(0.25, abs=0.01)
    assert torch.bincount(tokens[distractors], minlength=9).bool().tolist() == [False] * 4 + [True] * 5


@pytest.mark.parametrize("batch_size", [1, 7, 32, 100])
def test_evaluation_does_not_depend_on_the_batch_size(batch_size: int) -> None:
    task = Cue(lag=30, gap=5, chunk=20, noise=0.1)
    generator = torch.Generator().manual_seed(0)
    fixed = torch.randn(task.vocabulary, task.output_size, generator=generator)

    def metrics(batch_size: int) -> dict[str, float]:
        return mean_metrics(
            task.metrics(fixed[batch.input], batch) for batch in task.eval_batches("valid", batch_size)
        )

    assert metrics(batch_size) == pytest.approx(metrics(32), rel=1e-6)
    starts = torch.cat([b.reset for b in task.eval_batches("test", batch_size) if b.reset is not None])
    assert starts.sum() == EVAL_ROWS


def test_splits_differ_and_every_evaluation_asks_for_something() -> None:
    task = Cue(lag=30, gap=5, chunk=20)
    valid, test = (joined(list(task.eval_batches(split, 32)))[0] for split in ("valid", "test"))
    assert not torch.equal(valid, test)
    with pytest.raises(ValueError, match="limit must be at least 4 chunks of 20 steps, got 3"):
        task.eval_batches("valid", 32, limit=3)
    least = joined(list(task.eval_batches("valid", 32, limit=4)))[1]
    assert ((least != UNASKED).sum(0) >= 1).all()


def test_loss_and_metrics_are_over_the_queries_alone() -> None:
    task = Cue(lag=3, gap=2, alphabet=4, chunk=30)
    batch = next(task.train_batches(5, 0))
    asked = batch.target != UNASKED
    perfect = torch.zeros(30, 5, 4)
    perfect[asked] = torch.nn.functional.one_hot(batch.target[asked], 4).float() * 100
    assert task.loss(perfect, batch) < 1e-6
    assert mean_metrics([task.metrics(perfect, batch)])["accuracy"] == 1.0
    uniform = torch.zeros(30, 5, 4, requires_grad=True)
    assert task.loss(uniform, batch).item() == pytest.approx(math.log(4))
    assert task.metrics(uniform.detach(), batch)["accuracy"][1] == asked.sum()
    task.loss(uniform, batch).backward()
    assert uniform.grad is not None
    assert torch.equal(uniform.grad.abs().sum(2) > 0, asked)


def test_a_chunk_that_asks_for_nothing_has_no_gradient() -> None:
    task = Cue(lag=100, gap=10, chunk=10)
    batch = next(task.train_batches(2, 0))
    loss = task.loss(torch.zeros(10, 2, 8, requires_grad=True), batch)
    assert loss.item() == 0
    assert not loss.requires_grad
    assert task.metrics(torch.zeros(10, 2, 8), batch)["accuracy"] == (0.0, 0)


@pytest.mark.parametrize(
    ("option", "value"),
    [("lag", 0), ("gap", 0), ("alphabet", 1), ("distractors", 0), ("chunk", 0), ("noise", -0.1), ("noise", 1.5)],
)
def test_options_out_of_range_are_named(option: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"{option} must be"):
        Cue(**{option: value})
