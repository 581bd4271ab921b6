"""Training on streams: the state goes from chunk to chunk, and nothing is lost when a run is stopped or killed.

Shapes: B batch, T time.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from reminding import SABState, tbptt
from reminding.cli import main
from reminding.lab.runs import checkpoint
from reminding.lab.runs.config import ModelOptions, RunConfig, TrainOptions
from reminding.lab.runs.model import SequenceModel
from reminding.lab.runs.runlog import read_log
from reminding.lab.train import trainer
from reminding.lab.train.evaluate import evaluate
from reminding.nn.state.storage import load_tensors
from reminding.tasks import Batch, Cue, FileStream, MetricSums, mean_metrics

TINY: dict[str, Any] = {"hidden_size": 8, "k_trunc": 3, "k_top": 2}


def small(task: Any, steps: int = 6, model: Any = "sab", **train: Any) -> RunConfig:
    options: dict[str, Any] = {"batch_size": 3, "eval_every": 3, "eval_sequences": 4, **train}
    return RunConfig(
        task, ModelOptions(model=model, capacity=4, **TINY), TrainOptions(steps=steps, device="cpu", **options)
    )


@pytest.fixture
def text(tmp_path: Path) -> Path:
    """1,500 bytes of few kinds."""
    path = tmp_path / "text"
    path.write_bytes(np.random.default_rng(0).integers(97, 105, 1500, dtype=np.uint8).tobytes())
    return path


def table(path: Path) -> Path:
    values = np.random.default_rng(0).normal(size=(400, 2)).cumsum(0)
    path.write_text("a,b\n" + "\n".join(",".join(map(str, row)) for row in values) + "\n")
    return path


TASKS: dict[str, Callable[[Path], Any]] = {
    "bytes": lambda text: FileStream(text, chunk=10),
    "table": lambda text: FileStream(table(text.with_suffix(".csv")), chunk=10),
    "cue": lambda text: Cue(lag=7, gap=3, chunk=6, noise=0.2),
}


def content(folder: Path) -> dict[str, Any]:
    return torch.load(folder / checkpoint.CHECKPOINT_NAME, weights_only=True)


def stream_state(folder: Path) -> dict[str, Tensor]:
    (path,) = folder.glob(checkpoint.STATE_NAMES)
    assert content(folder)["state"] == path.name
    return load_tensors(path)[0]


def assert_same_run(one: Path, other: Path) -> None:
    """Weights, stream states and every number logged agree, bit for bit; only the time taken may differ."""
    for got, want in (
        (content(one)["model"], content(other)["model"]),
        (stream_state(one), stream_state(other)),
        (load_tensors(one / checkpoint.WEIGHTS_NAME)[0], load_tensors(other / checkpoint.WEIGHTS_NAME)[0]),
    ):
        assert got.keys() == want.keys()
        assert all(torch.equal(got[name], want[name]) for name in want)
    logs = [[{**record, "seconds": 0} for record in read_log(folder)] for folder in (one, other)]
    assert logs[0] == logs[1]
    took = {"seconds", "ms_per_update", "peak_resident_bytes", "command"}
    summaries = [checkpoint.read_summary(folder) for folder in (one, other)]
    assert {k: v for k, v in summaries[0].items() if k not in took} == {
        k: v for k, v in summaries[1].items() if k not in took
    }


@pytest.mark.parametrize("name", sorted(TASKS))
@pytest.mark.parametrize("model", ["sab", "lstm", "tbptt"])
def test_resumed_equals_uninterrupted(text: Path, tmp_path: Path, name: str, model: str) -> None:
    task = TASKS[name](text)
    trainer.train(small(task, 12, model), tmp_path / "whole")
    trainer.train(small(task, 6, model), tmp_path / "parts")
    trainer.train(small(task, 12, model), tmp_path / "parts", resume=True)
    assert_same_run(tmp_path / "parts", tmp_path / "whole")


def test_the_numbers_are_those_of_a_loop_by_hand(text: Path, tmp_path: Path) -> None:
    """Six updates over one pass and into the next, against `tbptt` with an optimizer of its own."""
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

    for passed in (batches[:5], batches[5:]):  # a chunk of the last is shorter, so the passes are cut by hand
        items = [(batch.input, batch.target, batch.reset) for batch in passed]
        for output, target in tbptt(step, items, k=100, reset=True):  # pyright: ignore[reportArgumentType]
            optimizer.zero_grad()
            task.loss(output, Batch(target, target)).backward()
            optimizer.step()
    trained = content(tmp_path / "run")["model"]
    for name, want in model.state_dict().items():
        torch.testing.assert_close(trained[name], want, rtol=1e-5, atol=1e-6)


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


def test_the_state_of_a_run_is_a_state_to_go_on_with(text: Path, tmp_path: Path) -> None:
    task = FileStream(text, chunk=10)
    trainer.train(small(task), tmp_path / "run")
    (path,) = (tmp_path / "run").glob(checkpoint.STATE_NAMES)
    state = SABState.load(path)
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
        ({"model": "sab"}, "capacity must be a number of memories on a stream"),
        ({"model": "transformer"}, "model: transformer keeps all it has read"),
        ({"model": "attention"}, "model: attention keeps all it has read"),
    ],
)
def test_what_would_grow_without_end_is_refused(options: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SequenceModel(Cue(), ModelOptions(**options))
    SequenceModel(Cue(), ModelOptions(k_top=0))


def test_another_file_in_its_place_is_refused(text: Path, tmp_path: Path) -> None:
    trainer.train(small(FileStream(text, chunk=10), 3), tmp_path / "run")
    text.write_bytes(text.read_bytes() * 2)
    with pytest.raises(ValueError, match=r"size: .* has 3000 bytes, expected 1500"):
        trainer.train(small(FileStream(text, chunk=10), 6), tmp_path / "run", resume=True)


OPTIONS = ["--hidden-size", "8", "--k-trunc", "3", "--k-top", "2", "--capacity", "4", "--device", "cpu"]
EVALUATION = ["--eval-sequences", "3", "--eval-every", "5"]


def command(task: list[str], out: Path, *further: str) -> list[str]:
    return [sys.executable, "-m", "reminding.cli", "train", *task, *OPTIONS, *EVALUATION, "--out", str(out), *further]


def wait_for(holds: Callable[[], bool], what: str, seconds: float = 120) -> None:
    until = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < until, f"waited {seconds} s for {what}"
        time.sleep(0.005)


@pytest.mark.parametrize("kind", ["stream", "cue"])
def test_killed_and_resumed_gives_the_numbers_of_uninterrupted(text: Path, tmp_path: Path, kind: str) -> None:
    data = ["--data", str(text)] if kind == "stream" else ["--lag", "7", "--gap", "3"]
    task = [kind, *data, "--chunk", "10", "--batch-size", "3", "--steps", "100"]
    folder = tmp_path / "killed"
    process = subprocess.Popen(command(task, folder), stdout=subprocess.DEVNULL)
    wait_for(lambda: len(read_log(folder)) >= 6, "three evaluations")
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    begun = content(folder)["standing"]["step"]
    assert 0 < begun < 100, "it was killed on the way"
    main(command(task, folder, "--resume")[3:])
    main(command(task, tmp_path / "whole")[3:])
    assert content(folder)["standing"]["step"] == 100
    assert_same_run(folder, tmp_path / "whole")


def test_ctrl_c_while_waiting_for_a_writer_leaves_a_run_that_goes_on(text: Path, tmp_path: Path) -> None:
    folder, whole = tmp_path / "run", text.read_bytes()
    text.write_bytes(whole[: 200 + 40 * 20 + 5])  # what is held out, 40 chunks, and too little for another
    data = ["--data", str(text), "--follow", "--held-out", "100", "--eval-rows", "2"]
    task = ["stream", *data, "--chunk", "20", "--batch-size", "1", "--steps", "60"]
    process = subprocess.Popen(command(task, folder), stdout=subprocess.PIPE, text=True)
    wait_for(lambda: any(record["step"] == 40 for record in read_log(folder)), "the end of what is there")
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "--resume goes on" in said
    assert content(folder)["standing"]["step"] == 40
    with text.open("ab") as file:
        file.write(whole[200 + 40 * 20 + 5 :])
    main(command(task, folder, "--resume")[3:])
    main(command(task, tmp_path / "whole")[3:])
    for name, want in content(tmp_path / "whole")["model"].items():
        assert torch.equal(content(folder)["model"][name], want)


def test_the_command_line_knows_streams(text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["train", "stream", "--help"])
    shown = capsys.readouterr().out
    assert all(option in shown for option in ("--data", "--chunk", "--follow", "--capacity", "default: 128"))
    folder = tmp_path / "run"
    main(command(["stream", "--data", str(text), "--chunk", "50", "--steps", "5"], folder)[3:])
    assert "bits_per_byte" in capsys.readouterr().out
    main(["eval", str(folder), "--sequences", "2"])
    assert "bits_per_byte" in capsys.readouterr().out
    main(["report", str(folder), "--out", str(tmp_path / "report")])
    assert (tmp_path / "report" / "recall-run.png").exists()


def test_live_numbers_are_printed_where_there_is_no_terminal(
    text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trainer.train(small(FileStream(text, chunk=10), 3), tmp_path / "run")
    lines = capsys.readouterr().out.splitlines()
    assert any("3/3" in line and "bits_per_byte" in line and "steps/s" in line for line in lines)
