"""Evaluation: the metrics do not depend on the pieces, and the share of recall that goes to one memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from reminding.lab.runs.model import SequenceModel
from reminding.lab.train.evaluate import evaluate, recall_share, recall_shares, state_norms
from reminding.tasks import Batch, Copying, Cue, FileStream, mean_metrics
from tests.lab.runs.conftest import MODELS, build
from tests.lab.stream_runs import small
from tests.lab.stream_runs import text as text


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("chunk", [1, 3, 100])
def test_whole_sequences_read_in_pieces_give_the_same_metrics(model: str, chunk: int) -> None:
    task = Copying(T=6, symbols=2)
    network = build(task, model=model)
    whole = evaluate(network, task, "test", batch_size=4, limit=6)
    pieces = evaluate(network, task, "test", batch_size=4, limit=6, steps_at_once=chunk)
    assert pieces == pytest.approx(whole, abs=1e-6)


def test_a_piece_of_no_steps_is_refused() -> None:
    with pytest.raises(ValueError, match="steps_at_once must be an integer of at least 1, got 0"):
        evaluate(build(Copying(T=4)), Copying(T=4), "test", batch_size=2, limit=2, steps_at_once=0)
    with pytest.raises(ValueError, match="steps_at_once is for whole sequences"):
        evaluate(build(Cue(lag=20), capacity=4), Cue(lag=20), "test", batch_size=2, limit=2, steps_at_once=5)


def test_the_share_of_the_most_recalled_memory_by_hand() -> None:
    step = torch.tensor([[0, 0], [5, 0], [10, 5], [5, 10], [10, 15]])
    weight = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.75, 0.25], [0.5, 0.5], [1.0, 0.0]])
    # the last three steps had a choice; memory 10 receives 0.75 + 0.5 + 1 of 3
    assert recall_share(step, weight) == pytest.approx(0.75)
    assert recall_share(step[:2], weight[:2]) is None
    assert recall_share(step, torch.zeros_like(weight)) is None
    # late in a stream, where step 0 is an ordinary memory: the second step also had a choice, and recalled memory 5
    assert recall_share(step + 10**12, weight) == pytest.approx((0.75 + 0.5 + 1) / 4)


@pytest.mark.parametrize("batch_size", [2, 3, 5])
def test_statistics_of_the_state_and_its_recalls_do_not_depend_on_the_batches(batch_size: int) -> None:
    """Five sequences: the last batch is smaller. Each sequence has a norm of its own, and recalls of its own."""
    task = Copying(T=6, symbols=2)
    network = build(task)
    with state_norms(network) as norms, recall_shares(network) as shares:
        evaluate(network, task, "test", batch_size=batch_size, limit=5)
    found = mean_metrics([*norms, *shares])
    with torch.no_grad():
        (batch,) = task.eval_batches("test", 5, 5)
        h, _, recall = network.layer(batch.input, return_recall=True)
    known = [recall_share(recall.step[:, row], recall.weight[:, row]) for row in range(5)]
    wanted = {"state_norm": float(h[-1].norm(dim=-1).mean()), "recall_share": np.mean([x for x in known if x])}
    assert found == pytest.approx(wanted, rel=1e-5)


def test_the_few_steps_of_a_last_chunk_weigh_less_in_the_share_of_recall(text: Path) -> None:
    """50 steps a row in chunks of 48: a last chunk of one step has the whole share, or nearly."""
    task = FileStream(text, chunk=48, held_out=0.1, eval_rows=3)
    network = SequenceModel(task, small(task).model)
    with recall_shares(network) as shares:
        evaluate(network, task, "valid", batch_size=100)
    (long, count), (short, one) = (each["recall_share"] for each in shares)
    assert (count, one) == (3 * 48, 3)
    assert mean_metrics(shares)["recall_share"] == pytest.approx((long + short) / (count + one))
    assert abs(mean_metrics(shares)["recall_share"] - long / count) < 0.03 < abs(short / one - long / count)


@pytest.mark.parametrize("model", ["sab", "lstm"])
def test_evaluation_reads_each_part_as_unbroken_streams(text: Path, model: Any) -> None:
    task = FileStream(text, chunk=7, held_out=0.1, eval_rows=3)
    network = SequenceModel(task, small(task, model=model).model)
    sections = np.frombuffer(text.read_bytes(), np.uint8)[1200:1350].reshape(3, 50).T.astype(np.int64)  # (T, B)
    x, target = torch.as_tensor(sections[:-1]), torch.as_tensor(sections[1:])
    with torch.no_grad():
        wanted = mean_metrics([task.metrics(network(x)[0], Batch(x, target))])
    for batch_size in (1, 2, 100):
        assert evaluate(network, task, "valid", batch_size=batch_size) == pytest.approx(wanted, rel=1e-5)
