"""Two processes that train together do what one does."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import socket
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from reminding.lab.runs import checkpoint
from reminding.lab.runs.config import ModelOptions, RunConfig, TrainOptions
from reminding.lab.runs.runlog import read_log
from reminding.lab.train import trainer
from reminding.lab.train.finite import NotFiniteError
from reminding.lab.train.group import Group, GroupEndedError, join
from reminding.lab.train.run import Run
from reminding.tasks import Adding, Batch, Copying, Cue, FileStream
from tests.lab.conftest import small

PROCESSES = 2
STREAM = Cue(lag=7, gap=3, chunk=5)
MEMORY = ModelOptions(hidden_size=6, embedding_size=4, k_top=2, k_trunc=3, capacity=6, horizon=None)


def table(folder: Path) -> FileStream:
    """A table whose target is missing in most rows, so that the processes have unequal numbers of targets."""
    path = folder.with_suffix(".csv")
    rows = [f"{t % 7},{t % 5 if t % 3 == 0 else ''}" for t in range(400)]
    if not path.is_file():
        path.write_text("flow,level\n" + "\n".join(rows) + "\n")
    return FileStream(path, target=("level",), missing="carry", held_out=40, eval_rows=1, chunk=5)


LEARNING: dict[str, tuple[Any, ModelOptions]] = {
    "whole sequences": (Copying(T=4, symbols=2, balanced=True), replace(MEMORY, capacity=None, horizon=0)),
    "streams": (STREAM, MEMORY),
    "deferred credit": (STREAM, replace(MEMORY, credit_every=3)),
    "streams, lstm": (STREAM, replace(MEMORY, model="lstm")),
    "a table": (table, MEMORY),
}
"""Streams whose processes have unequal numbers of questions in a chunk, and chunks without any."""

needs_accelerate = pytest.mark.skipif(
    not torch.distributed.is_available(), reason="this PyTorch has no torch.distributed"
)
pytest.importorskip("accelerate")


def together(work: Callable[..., Any], *arguments: Any, processes: int = PROCESSES) -> list[Any]:
    """Run a function in processes that are started as torchrun starts them; its results by rank."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["reminding.lab.train.trainer", "accelerate", "torch._dynamo", "rich.progress"])
    pipes = [context.Pipe(duplex=False) for _ in range(processes)]
    started = [
        context.Process(target=_started, args=(rank, processes, port, pipe[1], work, arguments))
        for rank, pipe in enumerate(pipes)
    ]
    for process in started:
        process.start()
    for _, writing in pipes:
        writing.close()
    try:
        results = [pickle.loads(reading.recv_bytes()) for reading, _ in pipes]
    finally:
        for process in started:
            process.join(60)
            process.kill()
    for result in results:
        if isinstance(result, str) and result.startswith("Traceback"):
            raise AssertionError(result)
    return results


def _started(rank: int, processes: int, port: int, pipe: Any, work: Callable[..., Any], arguments: Any) -> None:
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "OMP_NUM_THREADS": "1"}
    os.environ |= {"WORLD_SIZE": str(processes), "LOCAL_WORLD_SIZE": str(processes)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    try:
        result = work(*arguments)
    except BaseException:
        result = traceback.format_exc()
    pipe.send_bytes(pickle.dumps(result))
    pipe.close()
    os._exit(0)  # shutting down gloo's threads while the other process exits may abort this one


def learned(task: Any, model: ModelOptions, folder: Path) -> list[dict[str, Tensor]]:
    """The gradients of some updates in float64, the last one of settling, and the weights in the end."""
    torch.set_num_threads(1)
    task = task(folder) if callable(task) else task
    config = RunConfig(task, model, TrainOptions(batch_size=4, device="cpu", steps=9)).essential()
    run = Run.prepare(config, folder)
    run.model.double()
    run.optimizer = torch.optim.SGD(run.model.parameters(), lr=0.1)
    batches = task.train_batches(4, seed=0)
    found: list[dict[str, Tensor]] = []
    for _ in range(11):
        batch = next(batches)
        if batch.input.is_floating_point():
            batch = replace(batch, input=batch.input.double(), target=batch.target.double())
        trainer.learn(run, batch)
        found.append(gradients(run))
    trainer.settle(run)
    found.append(gradients(run))
    found.append({name: parameter.detach().clone() for name, parameter in run.model.named_parameters()})
    return found


def gradients(run: Run) -> dict[str, Tensor]:
    return {name: each.grad.clone() for name, each in run.model.named_parameters() if each.grad is not None}


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, list[dict[str, Tensor]]]]:
    folder = tmp_path_factory.mktemp("both")
    table(folder / "a table")  # before there are two that would write it
    return together(learned_all, folder)


def learned_all(folder: Path) -> dict[str, list[dict[str, Tensor]]]:
    return {name: learned(*case, folder / name) for name, case in LEARNING.items()}


@needs_accelerate
@pytest.mark.parametrize("name", LEARNING)
def test_the_gradients_of_two_processes_are_those_of_one(
    name: str, both: list[dict[str, list[dict[str, Tensor]]]], tmp_path: Path
) -> None:
    alone = learned(*LEARNING[name], tmp_path)
    assert sum(any(bool(each.abs().max() > 0) for each in step.values()) for step in alone) > 3
    for rank in range(PROCESSES):
        for number, (want, got) in enumerate(zip(alone, both[rank][name], strict=True)):
            assert set(want) <= set(got), number
            for key, value in got.items():
                expected = want.get(key, torch.zeros_like(value))
                scale = float(expected.abs().max().clamp(min=1e-3))
                assert float((value - expected).abs().max()) <= 1e-9 * scale, (number, key)
    for mine, others in zip(both[0][name], both[1][name], strict=True):
        assert all(torch.equal(mine[key], others[key]) for key in mine)


def trained(config: RunConfig, folder: Path, resume: bool = False) -> dict[str, Any]:
    return trainer.train(config, folder, resume=resume)


def stream_run(steps: int, **model: Any) -> RunConfig:
    config = small(steps, STREAM, batch_size=4, eval_every=4)
    return replace(config, model=replace(MEMORY, **model))


def same_numbers(mine: dict[str, Any], others: dict[str, Any], tolerance: float) -> None:
    """The metrics and the course of two runs agree; times, memory and commands may differ."""
    names = ("valid_accuracy", "accuracy", "cross_entropy")
    assert {name: mine[name] for name in names} == pytest.approx(
        {name: others[name] for name in names}, rel=tolerance, abs=tolerance
    )
    assert (mine["steps"], mine["best_step"], mine["stopped"]) == (
        others["steps"],
        others["best_step"],
        others["stopped"],
    )


def course(folder: Path) -> list[float]:
    """The losses and validation results of a run, in order."""
    names = {"train": "loss", "valid": "cross_entropy"}
    return [each[names[each["kind"]]] for each in read_log(folder) if each["kind"] in names]


@needs_accelerate
@pytest.mark.parametrize("streamed", [False, True], ids=["whole sequences", "streams"])
def test_the_summary_of_two_processes_is_that_of_one_within_rounding(streamed: bool, tmp_path: Path) -> None:
    config = stream_run(12) if streamed else small(12, eval_every=4)
    alone = trained(config, tmp_path / "alone")
    first, second = together(trained, config, tmp_path / "both")
    assert second == {}
    assert first["processes"] == PROCESSES
    assert first["cross_entropy"] == pytest.approx(alone["cross_entropy"], rel=1e-4)
    assert course(tmp_path / "both") == pytest.approx(course(tmp_path / "alone"), rel=1e-4)
    steps = [each["step"] for each in read_log(tmp_path / "both") if each["kind"] != "warning"]
    assert steps == [4, 4, 8, 8, 12, 12]
    assert checkpoint.read_summary(tmp_path / "both")["processes"] == PROCESSES


def killed(config: RunConfig, folder: Path, at: int) -> None:
    """Train until an update at which process 1 dies without a word."""
    steps = 0

    def learn(run: Run, batch: Batch) -> Any:
        nonlocal steps
        steps += 1
        if steps == at:
            os._exit(9 if run.group.rank == 1 else 0)
        return original(run, batch)

    original = trainer.learn
    trainer.learn = learn
    trainer.train(config, folder)


def killed_and_gone(config: RunConfig, folder: Path, at: int) -> None:
    """Start both processes, and wait for their end."""
    with pytest.raises(EOFError):
        together(killed, config, folder, at)


@needs_accelerate
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_a_stream_goes_on_after_the_death_of_a_process_as_if_it_had_lived(dropout: float, tmp_path: Path) -> None:
    config = stream_run(12, num_layers=2, dropout=dropout)
    whole = together(trained, config, tmp_path / "whole")[0]
    killed_and_gone(config, tmp_path / "killed", at=7)
    assert checkpoint.newest(tmp_path / "killed") == tmp_path / "killed" / "checkpoints" / "4"
    resumed = together(trained, config, tmp_path / "killed", True)[0]
    same_numbers(resumed, whole, tolerance=1e-6)
    assert course(tmp_path / "killed") == pytest.approx(course(tmp_path / "whole"), rel=1e-6)


@needs_accelerate
def test_a_stream_goes_on_in_another_number_of_processes(tmp_path: Path) -> None:
    config = stream_run(12)
    alone = trained(config, tmp_path / "alone")
    killed_and_gone(config, tmp_path / "run", at=7)
    resumed = trained(config, tmp_path / "run", resume=True)
    assert resumed["cross_entropy"] == pytest.approx(alone["cross_entropy"], rel=1e-4)
    assert course(tmp_path / "run") == pytest.approx(course(tmp_path / "alone"), rel=1e-4)


def apart(config: RunConfig, folder: Path) -> str:
    """Resume where each process has a folder of its own, as on machines that share none."""
    with pytest.raises(ValueError, match="resume:") as caught:
        trained(config, folder / os.environ["RANK"] / "run", resume=True)
    return str(caught.value)


@needs_accelerate
def test_processes_that_do_not_see_the_same_checkpoint_are_refused(tmp_path: Path) -> None:
    trained(small(), tmp_path / "0" / "run")
    for rank, told in enumerate(together(apart, small(8), tmp_path)):
        assert told == (
            f"resume: the processes do not find the same checkpoint in {tmp_path / str(rank) / 'run'}: "
            "that of update 6 in process 0 and none in process 1; all machines must see the run's folder"
        )


def refused(config: RunConfig, folder: Path) -> str:
    with pytest.raises(ValueError, match="batch_size must be divisible by 2") as caught:
        trainer.train(config, folder)
    return str(caught.value)


@needs_accelerate
def test_a_batch_that_cannot_be_divided_is_refused_by_all(tmp_path: Path) -> None:
    told = together(refused, small(batch_size=3), tmp_path / "run")
    assert set(told) == {"batch_size must be divisible by 2, the number of processes, got 3"}
    assert not (tmp_path / "run").exists()


def saved_when_it_ended(config: RunConfig, folder: Path) -> bool:
    save = checkpoint.save_checkpoint

    def slowly(*arguments: Any) -> None:
        time.sleep(0.3)
        save(*arguments)

    checkpoint.save_checkpoint = slowly
    with pytest.raises(NotFiniteError):
        trainer.train(config, folder)
    return (folder / checkpoint.WEIGHTS_NAME).is_file()


@needs_accelerate
def test_no_process_ends_before_the_last_finite_weights_are_saved(tmp_path: Path) -> None:
    """A launcher ends all processes when the first one has failed."""
    config = small(60, task=Adding(T=4), lr=1e30, clip=0)
    assert together(saved_when_it_ended, config, tmp_path / "run") == [True, True]


def left_alone() -> str:
    group = join("cpu")
    group.wait()
    if group.rank == 0:
        return ""
    with pytest.raises(GroupEndedError) as caught:
        group.wait()
    return str(caught.value)


@needs_accelerate
def test_the_end_of_another_process_is_told_in_words() -> None:
    assert "nothing came from the other processes of the group" in together(left_alone)[1]


def test_several_processes_need_what_they_find_each_other_by(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where WORLD_SIZE is left over from other work."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    for name in ("RANK", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    with pytest.raises(ValueError, match="WORLD_SIZE must be 1 without RANK, MASTER_PORT, got 2"):
        join("cpu")


def test_rows_are_divided_without_a_rest() -> None:
    batch = Batch(torch.arange(12).view(2, 6), torch.arange(6), torch.arange(6) > 2)
    parts: list[Batch] = []
    for rank in range(3):
        group = Group(torch.device("cpu"))
        group.rank, group.size = rank, 3
        parts.append(group.part(batch))
    assert torch.equal(torch.cat([part.input for part in parts], 1), batch.input)
    assert torch.equal(torch.cat([part.target for part in parts]), batch.target)
    assert [part.reset.tolist() for part in parts if part.reset is not None] == [
        [False] * 2,
        [False, True],
        [True] * 2,
    ]
    values = Batch(torch.zeros(2, 6, 3), torch.arange(36).view(2, 6, 3))
    assert torch.equal(values.rows(slice(2, 4)).target, values.target[:, 2:4])


@pytest.mark.parametrize(
    ("restarts", "said"),
    [("0", "nothing came from the other processes"), ("1", "TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1")],
)
def test_processes_that_do_not_find_each_other_say_what_to_do(
    restarts: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As torchrun's do that were started again, which look for each other at the addresses of the old ones."""
    accelerate = pytest.importorskip("accelerate")

    def refused(cpu: bool) -> None:
        raise RuntimeError("Gloo connectFullMesh failed with a refused connection")

    monkeypatch.setattr(accelerate, "PartialState", refused)
    found = {"WORLD_SIZE": "2", "RANK": "1", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}
    for name, value in {**found, "TORCHELASTIC_RESTART_COUNT": restarts}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(GroupEndedError, match=said):
        join("cpu")
