"""Properties of every task: disjoint streams, reproducible batches, and metrics that add up."""

from __future__ import annotations

import inspect
import math
import re
from dataclasses import FrozenInstanceError, fields, is_dataclass
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reminding.tasks import TASKS, Adding, Batch, Copying, Digits, Split, mean_metrics
from reminding.tasks.kinds.base import stream

SPLITS: tuple[Split, ...] = ("train", "valid", "test")
needs_sklearn = pytest.mark.skipif(find_spec("sklearn") is None, reason="needs scikit-learn")
every_task = pytest.mark.parametrize(
    "task",
    [Copying(T=5, symbols=3), Adding(T=9), pytest.param(Digits(), marks=needs_sklearn)],
    ids=["copying", "adding", "digits"],
)


def same(one: Batch, other: Batch) -> bool:
    return torch.equal(one.input, other.input) and torch.equal(one.target, other.target)


def cut(batch: Batch, prediction: torch.Tensor, rows: slice) -> tuple[torch.Tensor, Batch]:
    return prediction[:, rows], Batch(batch.input[:, rows], batch.target[..., rows])


def test_table_holds_every_task_under_its_own_name() -> None:
    assert set(TASKS) == {
        "copying",
        "selective",
        "adding",
        "digits",
        "mnist",
        "pmnist",
        "cifar10",
        "noisy-cifar10",
        "series",
        "spoken",
        "ptb",
        "text8",
        "enwik8",
        "cue",
        "nback",
        "match",
        "stream",
    }
    for name, cls in TASKS.items():
        assert cls.name == name
        assert is_dataclass(cls)
        said = "\n".join(inspect.getdoc(parent) or "" for parent in cls.__mro__)
        for option in fields(cls):
            line = rf"(?m)^ +(\w+, )*{option.name}(, \w+)*: \S"
            assert re.search(line, said), f"{name} says what {option.name} is, where --help reads it"
        with pytest.raises(FrozenInstanceError):
            (cls(data=Path(__file__)) if name == "stream" else cls()).T = 3


@every_task
def test_main_metric_is_among_the_metrics(task: Any) -> None:
    batch = next(task.train_batches(4, seed=0))
    prediction = torch.zeros(*batch.input.shape[:2], task.output_size)
    assert task.metric in task.metrics(prediction, batch)


@every_task
@pytest.mark.parametrize("start", [0, 1, 7, 50])
def test_start_equals_skipping(task: Any, start: int) -> None:
    # 50 batches of 100 pass four epochs of the digits' 1,297.
    skipped = islice(task.train_batches(100, seed=3), start, start + 3)
    resumed = task.train_batches(100, seed=3, start=start)
    for one, other in zip(skipped, resumed, strict=False):
        assert same(one, other)


@every_task
def test_seeds_give_different_training_batches(task: Any) -> None:
    first = [next(task.train_batches(8, seed=seed)) for seed in range(5)]
    assert not any(same(first[i], first[j]) for i in range(5) for j in range(i))


@every_task
@pytest.mark.parametrize("split", ["valid", "test"])
def test_evaluation_is_the_same_every_time_at_any_batch_size(task: Any, split: Split) -> None:
    def together(batch_size: int) -> Batch:
        batches = list(task.eval_batches(split, batch_size, limit=50))
        assert [b.input.shape[1] for b in batches[:-1]] == [batch_size] * (len(batches) - 1)
        inputs = torch.cat([b.input for b in batches], dim=1)
        return Batch(inputs, torch.cat([b.target for b in batches], dim=-1))

    whole = together(50)
    assert whole.input.shape[1] == 50
    assert same(whole, together(50))
    assert same(whole, together(7))


@every_task
def test_valid_and_test_differ(task: Any) -> None:
    assert not same(next(task.eval_batches("valid", 20)), next(task.eval_batches("test", 20)))


@every_task
@settings(max_examples=20)
@given(rows=st.integers(1, 12), at=st.integers(0, 12), seed=st.integers(0, 100))
def test_metrics_of_parts_add_up_to_the_whole(task: Any, rows: int, at: int, seed: int) -> None:
    batch = next(task.train_batches(rows, seed))
    generator = torch.Generator().manual_seed(seed)
    prediction = torch.randn(*batch.input.shape[:2], task.output_size, generator=generator)
    whole = mean_metrics([task.metrics(prediction, batch)])
    parts = [slice(None, at), slice(at, None)] if 0 < at < rows else [slice(None)]
    split = mean_metrics([task.metrics(*cut(batch, prediction, part)) for part in parts])
    assert split == pytest.approx(whole, rel=1e-5)


@every_task
def test_half_precision_predictions_are_measured_in_full(task: Any) -> None:
    batch = next(task.train_batches(64, 0))
    prediction = torch.randn(*batch.input.shape[:2], task.output_size).bfloat16()
    assert task.metrics(prediction, batch) == task.metrics(prediction.float(), batch)


@every_task
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_loss_is_a_scalar_with_a_gradient(task: Any, dtype: torch.dtype) -> None:
    batch = next(task.train_batches(3, 0))
    prediction = torch.zeros(*batch.input.shape[:2], task.output_size, dtype=dtype, requires_grad=True)
    loss = task.loss(prediction, batch)
    loss.backward()
    assert loss.shape == ()
    assert prediction.grad is not None
    assert prediction.grad.abs().sum() > 0


@every_task
def test_a_prediction_of_another_shape_is_refused(task: Any) -> None:
    batch = next(task.train_batches(3, 0))
    steps = batch.input.shape[0]
    for shape in [(steps, 3), (steps, 3, task.output_size + 1), (1, 3, task.output_size)]:
        for measure in (task.loss, task.metrics):
            with pytest.raises(ValueError, match=r"prediction must be \(T, B, C\) = .* got shape"):
                measure(torch.zeros(shape), batch)


@every_task
def test_bad_arguments_are_named_at_the_call(task: Any) -> None:
    with pytest.raises(ValueError, match="batch_size must be an integer of at least 1, got 0"):
        task.train_batches(0, 0)
    with pytest.raises(ValueError, match="seed must be an integer of at least 0, got -1"):
        task.train_batches(1, -1)
    with pytest.raises(ValueError, match="start must be an integer of at least 0, got -2"):
        task.train_batches(1, 0, start=-2)
    with pytest.raises(ValueError, match=r"batch_size must be an integer of at least 1, got 1\.5"):
        task.eval_batches("test", 1.5)
    with pytest.raises(ValueError, match="limit must be an integer of at least 1, or None, got 0"):
        task.eval_batches("test", 1, limit=0)
    with pytest.raises(ValueError, match=r"split must be one of \['valid', 'test'\], got 'train'"):
        task.eval_batches("train", 1)


def test_no_two_streams_are_the_same() -> None:
    seeds = (0, 1, 2, 2**32, 2**32 + 1, 2**64)
    starts = [
        stream(task, split, seed, index).integers(0, 2**63, size=2).tobytes()
        for task in TASKS
        for split in SPLITS
        for seed in seeds
        for index in (*range(20), 10**6)
    ]
    assert len(set(starts)) == len(starts)


def test_no_evaluated_sequence_is_ever_trained_on() -> None:
    # Float values: 20 of them coincide by chance with probability 2**-480.
    task = Adding(T=20)

    def sequences(batches: list[Batch]) -> list[bytes]:
        inputs = torch.cat([b.input for b in batches], dim=1)
        return [inputs[:, row].numpy().tobytes() for row in range(inputs.shape[1])]

    trained = [s for seed in range(5) for s in sequences(list(islice(task.train_batches(32, seed), 20)))]
    valid = sequences(list(task.eval_batches("valid", 100)))
    test = sequences(list(task.eval_batches("test", 100)))
    assert len(valid) == len(test) == 1000
    assert len(set(trained + valid + test)) == 5 * 20 * 32 + 2000


def test_mean_metrics_weighs_by_count() -> None:
    parts = [{"a": (3.0, 3.0), "b": (1.0, 4.0)}, {"a": (0.0, 1.0)}, {"c": (0.0, 0.0)}]
    means = mean_metrics(parts)
    assert means["a"] == 0.75
    assert means["b"] == 0.25
    assert math.isnan(means["c"])
    assert mean_metrics([]) == {}


def test_batch_moves_both_tensors() -> None:
    moved = Batch(torch.zeros(2, 3), torch.zeros(3)).to("meta")
    assert moved.input.device.type == moved.target.device.type == "meta"
