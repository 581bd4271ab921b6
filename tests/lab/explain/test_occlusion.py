"""Occlusion of the credited input equals loops over single sequences, and known answers of constructed runs."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from reminding.lab.explain.occlusion import ORDERS, SHARES, Occlusion, occlude, write_occlusion
from reminding.lab.runs import checkpoint
from reminding.nn import SAB
from reminding.tasks import Adding, Batch, Copying, Cue, Digits, Text8
from tests.lab.explain.test_explanation import untrained

PIECE = 4


def credited(model: Any, layer: SAB, task: Any, batch: Batch) -> Tensor:
    """The credit of each piece of one sequence, (P,), from the ledger's own sums."""
    with layer.credit() as credit:
        task.loss(model(batch.input)[0], batch).backward()
    amounts = torch.zeros(-(-len(batch.input) // PIECE), dtype=torch.float64)
    for step, amount in zip(*credit.received(), strict=True):
        amounts[(int(step) - 1) // PIECE] += float(amount)
    return amounts


def recalled(model: Any, layer: SAB, task: Any, batch: Batch) -> Tensor:
    recall = model(batch.input)[2]
    amounts = torch.zeros(-(-len(batch.input) // PIECE), dtype=torch.float64)
    for step, weight in zip(recall.step.flatten().tolist(), recall.weight.flatten().tolist(), strict=True):
        if step:
            amounts[(step - 1) // PIECE] += weight
    return amounts


def sums(values: Tensor) -> Tensor:
    return torch.stack([values[start : start + PIECE].double().sum() for start in range(0, len(values), PIECE)])


def gradient(model: Any, layer: SAB, task: Any, batch: Batch) -> Tensor:
    x = batch.input.clone().requires_grad_()
    task.loss(model(x)[0], Batch(x, batch.target)).backward()
    assert x.grad is not None
    return sums((x * x.grad).detach().abs())


def loudest(model: Any, layer: SAB, task: Any, batch: Batch) -> Tensor:
    return sums(batch.input.square())


def first(model: Any, layer: SAB, task: Any, batch: Batch) -> Tensor:
    return -torch.arange(float(-(-len(batch.input) // PIECE)))


def last(model: Any, layer: SAB, task: Any, batch: Batch) -> Tensor:
    return -first(model, layer, task, batch)


BY_HAND: dict[str, Callable[..., Tensor]] = {
    "credit": credited,
    "recall": recalled,
    "gradient": gradient,
    "loudest": loudest,
    "earliest": first,
    "latest": last,
}


@pytest.fixture(scope="module")
def adding(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return untrained(tmp_path_factory.mktemp("adding") / "run", Adding(T=30), k_trunc=PIECE, k_top=5)


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return untrained(tmp_path_factory.mktemp("digits") / "run", Digits(), k_trunc=PIECE, k_top=3)


@pytest.fixture(scope="module")
def found(digits: Path) -> Occlusion:
    return occlude(digits, 30)


@pytest.mark.parametrize("order", BY_HAND)
def test_an_order_is_what_its_name_says(adding: Path, order: str) -> None:
    """Rank the pieces of each sequence by hand, blank them one by one, and evaluate."""
    config, model = checkpoint.load_run(adding)
    task, layer = config.task, model.layer
    assert isinstance(layer, SAB)
    errors: dict[float, list[float]] = {share: [] for share in SHARES}
    for batch in task.eval_batches("test", 1, 20):
        amounts = BY_HAND[order](model, layer, task, batch)
        ranked = sorted(range(len(amounts)), key=lambda number: -float(amounts[number]))
        for share in SHARES:
            x = batch.input.clone()
            for number in ranked[: math.ceil(share * len(amounts))]:
                x[number * PIECE : (number + 1) * PIECE] = 0
            errors[share].append(float((model(x)[0][-1, 0] - batch.target).detach().square().sum()))
    found = occlude(adding, 20)
    assert found.interval == PIECE
    for share, value in zip(SHARES, found.blanked[order], strict=True):
        assert value == pytest.approx(sum(errors[share]) / 20, rel=1e-4)


def test_what_is_blank_already_is_counted_and_left_alone(digits: Path, found: Occlusion) -> None:
    config, model = checkpoint.load_run(digits)
    assert isinstance(model.layer, SAB)
    all_credit = on_blank = 0.0
    right = 0
    for batch in config.task.eval_batches("test", 1, 30):
        amounts = credited(model, model.layer, config.task, batch)
        filled = [number for number, piece in enumerate(batch.input.split(PIECE)) if piece.any()]
        all_credit += float(amounts.sum())
        on_blank += float(amounts.sum() - amounts[filled].sum())
        x = batch.input.clone()
        for number in filled[: math.ceil(SHARES[-1] * len(filled))]:
            x[number * PIECE : (number + 1) * PIECE] = 0
        right += int(model(x)[0][-1, 0].argmax() == batch.target[0])
    assert 0 < found.on_blank < 1
    assert found.on_blank == pytest.approx(on_blank / all_credit, rel=1e-4)
    assert found.blanked["earliest"][-1] == pytest.approx(right / 30)


def test_tokens_have_a_blank_and_no_gradient(tmp_path: Path) -> None:
    found = occlude(untrained(tmp_path / "run", Copying(T=20, symbols=3)), 20)
    assert set(found.blanked) == {"credit", "recall", "earliest", "latest", "random"}
    assert found.sequences == 20


def test_the_same_pieces_are_drawn_again(digits: Path, found: Occlusion) -> None:
    assert occlude(digits, 30) == found


def test_all_batches_count(digits: Path, found: Occlusion, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reminding.lab.explain.occlusion.ROWS", 7)
    again = occlude(digits, 30)
    assert again.sequences == found.sequences == 30
    assert again.blanked["earliest"] == pytest.approx(found.blanked["earliest"])


def test_layers_are_added_up(tmp_path: Path) -> None:
    folder = untrained(tmp_path / "run", Adding(T=20), num_layers=2)
    found = occlude(folder, 10)
    assert found.metric == "mse"
    assert set(found.blanked) == set(ORDERS)


@pytest.mark.parametrize(
    ("task", "options", "message"),
    [
        (Text8(), {}, "whole sequences, and text8 is a stream"),
        (Cue(lag=20, chunk=10), {}, "whole sequences, and cue is a stream"),
        (Copying(T=8, symbols=3), {"model": "lstm"}, "does not select memories"),
    ],
)
def test_what_cannot_be_judged_is_said(tmp_path: Path, task: Any, options: dict[str, Any], message: str) -> None:
    folder = untrained(tmp_path / "run", task, **options)
    with pytest.raises(ValueError, match=message):
        occlude(folder, 2)


def test_a_number_of_sequences_is_at_least_one(digits: Path) -> None:
    with pytest.raises(ValueError, match="occlude must be an integer of at least 1, got 0"):
        occlude(digits, 0)


def test_files_are_written_from_what_was_found(found: Occlusion, tmp_path: Path) -> None:
    files = write_occlusion(found, tmp_path, "a run")
    assert [file.name for file in files] == ["occlusion.png", "occlusion.json"]
    assert json.loads(files[1].read_text(encoding="utf-8"))["untouched"] == found.untouched
