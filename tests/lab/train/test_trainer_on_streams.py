"""Training on streams: the state is carried from chunk to chunk, and a stopped or killed run loses nothing.

Shapes: B batch, T time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from reminding import SABState, tbptt
from reminding.lab.runs import checkpoint
from reminding.lab.runs.config import ModelOptions
from reminding.lab.runs.model import SequenceModel
from reminding.lab.runs.runlog import read_log
from reminding.lab.train import trainer
from reminding.tasks import Batch, Cue, FileStream, MetricSums, mean_metrics
from tests.lab.stream_runs import assert_same_run, content, last, small, stream_state
from tests.lab.stream_runs import text as text


def table(path: Path) -> Path:
    values = np.random.default_rng(0).normal(size=(400, 2)).cumsum(0)
    path.write_text("a,b\n" + "\n".join(",".join(map(str, row)) for row in values) + "\n")
    return path


TASKS: dict[str, Callable[[Path], Any]] = {
    "bytes": lambda text: FileStream(text, chunk=10),
    "table": lambda text: FileStream(table(text.with_suffix(".csv")), chunk=10),
    "cue": lambda text: Cue(lag=7, gap=3, chunk=6, noise=0.2),
}


@pytest.mark.parametrize("name", sorted(TASKS))
@pytest.mark.parametrize("model", ["sab", "lstm", "tbptt", "mingru", "rtu"])
def test_resumed_equals_uninterrupted(text: Path, tmp_path: Path, name: str, model: str) -> None:
    task = TASKS[name](text)
    trainer.train(small(task, 12, model), tmp_path / "whole")
    trainer.train(small(task, 6, model), tmp_path / "parts")
    trainer.train(small(task, 12, model), tmp_path / "parts", resume=True)
    assert_same_run(tmp_path / "parts", tmp_path / "whole")


def test_the_numbers_are_those_of_a_loop_by_hand(text: Path, tmp_path: Path) -> None:
    """Six updates, past the end of the first pass, equal `tbptt` with an optimizer of its own."""
    task = FileStream(text, chunk=100)
    config = small(task, 6, "lstm", clip=0.0, lr=0.01)
    trainer.train(config, tmp_path / "run")
    torch.manual_seed(0)
    model = SequenceModel(task, config.model)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    batches = [batch for batch in islice(task.train_batches(3, 0), 6) if batch.reset is not None]
    assert [bool(batch.reset.any()) for batch in batches if batch.reset is not None] == [True, *[False] * 4, True]

    def step(x: Tensor, state: Any, reset: Tensor) -> tuple[Tensor, Any]:
        return model(x, state, reset=reset)[:2]

    for passed in (batches[:5], batches[5:]):  # the last chunk of a pass is shorter, so the passes are cut by hand
        items = [(batch.input, batch.target, batch.reset) for batch in passed]
        for output, target in tbptt(step, items, k=100, reset=True):  # pyright: ignore[reportArgumentType]
            optimizer.zero_grad()
            task.loss(output, Batch(target, target)).backward()
            optimizer.step()
    trained = content(tmp_path / "run")["model"]
    for name, want in model.state_dict().items():
        torch.testing.assert_close(trained[name], want, rtol=1e-5, atol=1e-6)


def test_the_state_of_a_run_is_a_state_to_go_on_with(text: Path, tmp_path: Path) -> None:
    task = FileStream(text, chunk=10)
    trainer.train(small(task), tmp_path / "run")
    state = SABState.load(last(tmp_path / "run") / checkpoint.STATE_NAME)
    assert state.step.tolist() == [60] * 3
    assert state.memory.shape[2] == 4, "the capacity, however long the stream"


def test_the_metric_of_training_is_taken_before_learning(text: Path, tmp_path: Path) -> None:
    task = FileStream(text, chunk=10)
    trainer.train(small(task, 3, lr=1e-9), tmp_path / "run")
    torch.manual_seed(0)
    model = SequenceModel(task, small(task).model)
    parts: list[MetricSums] = []
    state = None
    for batch in islice(task.train_batches(3, 0), 3):
        prediction, state = model.read(batch, state)
        parts.append(task.metrics(prediction.detach(), batch))
    record = read_log(tmp_path / "run")[0]
    assert record["bits_per_byte"] == pytest.approx(mean_metrics(parts)["bits_per_byte"], rel=1e-5)
    assert record["bits_per_byte"] == pytest.approx(record["loss"] / np.log(2), rel=1e-5)


def test_a_chunk_that_asks_for_nothing_is_read_and_changes_no_weight(tmp_path: Path) -> None:
    task = Cue(lag=100, gap=10, chunk=20)
    config = small(task, 3, eval_sequences=11, test_sequences=11)
    torch.manual_seed(0)
    before = SequenceModel(task, config.model).state_dict()
    trainer.train(config, tmp_path / "run")
    after = content(tmp_path / "run")["model"]
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert stream_state(tmp_path / "run")["step"].tolist() == [60] * 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": "sab"}, "capacity must be a number on a stream"),
        ({"model": "transformer"}, "model: transformer keeps everything it has read"),
        ({"model": "attention"}, "model: attention keeps everything it has read"),
    ],
)
def test_what_would_grow_without_end_is_refused(options: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SequenceModel(Cue(), ModelOptions(**options))
    SequenceModel(Cue(), ModelOptions(k_top=0))


def test_live_numbers_are_printed_where_there_is_no_terminal(
    text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trainer.train(small(FileStream(text, chunk=10), 3), tmp_path / "run")
    lines = capsys.readouterr().out.splitlines()
    assert any("3/3" in line and "bits_per_byte" in line and "steps/s" in line for line in lines)


def test_credit_that_waits_is_learned_from_when_the_run_ends(text: Path, tmp_path: Path) -> None:
    """Ten chunks, sent on every fourth: the credit of the last two waits, and takes a step of its own."""
    task = FileStream(text, chunk=10)
    learned: list[dict[str, Tensor]] = []
    for every, steps in ((4, 10), (1, 10)):
        config = small(task, steps)
        config = replace(config, model=replace(config.model, horizon=None, credit_every=every))
        folder = tmp_path / f"every-{every}"
        trainer.train(config, folder)
        assert not SABState.load(last(folder) / checkpoint.STATE_NAME).history.waits
        kept = content(folder)["optimizer"]
        steps_taken = {int(tensor) for name, tensor in kept.items() if name.endswith(".step")}
        assert max(steps_taken) == (steps + 1 if every > 1 else steps)
        learned.append(content(folder)["model"])
    assert any(not torch.equal(learned[0][name], learned[1][name]) for name in learned[0])


@pytest.mark.parametrize("name", ["eval_sequences", "test_sequences"])
def test_too_short_an_evaluation_is_refused_before_training(tmp_path: Path, name: str) -> None:
    config = small(Cue(lag=100, gap=10, chunk=20), 3, **{"eval_sequences": 11, "test_sequences": 11, name: 10})
    with pytest.raises(ValueError, match="limit must be at least 11 chunks of 20 steps, got 10"):
        trainer.train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()
