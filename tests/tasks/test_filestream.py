"""Files as unbroken streams: nothing is read twice or left out, and reading can resume at any place.

Shapes: N steps of the file, B batch, T time, C columns or classes.
"""

from __future__ import annotations

import gzip
import math
import threading
import time
from dataclasses import replace
from itertools import islice, takewhile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reminding.tasks import Batch, EvalSplit, FileStream, mean_metrics
from reminding.tasks.data import sources
from reminding.tasks.data.sources import read_range
from reminding.tasks.data.tables.database import write_parquet


def write(path: Path, steps: int, seed: int = 0) -> Path:
    path.write_bytes(np.random.default_rng(seed).integers(0, 256, steps, dtype=np.uint8).tobytes())
    return path


def one_pass(task: FileStream, rows: int) -> list[Batch]:
    batches = task.train_batches(rows, 0)
    return [next(batches), *takewhile(lambda batch: batch.reset is not None and not batch.reset.any(), batches)]


@settings(max_examples=60)
@given(steps=st.integers(40, 400), rows=st.integers(1, 5), chunk=st.integers(1, 50))
def test_a_pass_reads_every_training_step_once(
    steps: int, rows: int, chunk: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = write(tmp_path_factory.mktemp("data") / "bytes", steps)
    task = FileStream(path, chunk=chunk, held_out=0.1)
    batches = one_pass(task, rows)
    train = np.frombuffer(path.read_bytes(), np.uint8)[: steps - 2 * int(0.1 * steps)]
    each = len(train) // rows
    wanted = torch.as_tensor(train[: each * rows].reshape(rows, each).T.astype(np.int64))  # (each, B)
    assert torch.equal(torch.cat([batch.input for batch in batches]), wanted[:-1])
    assert torch.equal(torch.cat([batch.target for batch in batches]), wanted[1:])
    assert all(len(batch.input) == chunk for batch in batches[:-1])


def test_passes_repeat_and_reset_all_rows(tmp_path: Path) -> None:
    task = FileStream(write(tmp_path / "bytes", 200), chunk=30)
    length = len(one_pass(task, 2))
    batches = list(islice(task.train_batches(2, 0), 2 * length))
    for first, second in zip(batches[:length], batches[length:], strict=True):
        assert torch.equal(first.input, second.input)
    assert [bool(batch.reset.all()) for batch in batches if batch.reset is not None] == [
        i % length == 0 for i in range(2 * length)
    ]


def test_start_is_a_place_and_costs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = FileStream(write(tmp_path / "bytes", 5000), chunk=10)
    batches = list(islice(task.train_batches(3, 0), 400))
    read: list[int] = []

    def noted(path: Path, start: int, stop: int) -> bytes:
        read.append(stop - start)
        return read_range(path, start, stop)

    monkeypatch.setattr(sources, "read_range", noted)
    for start in (0, 1, 149, 150, 399):
        again = next(task.train_batches(3, 0, start))
        assert torch.equal(again.input, batches[start].input)
        assert torch.equal(again.target, batches[start].target)
    assert max(read) == 11, "a chunk and the step after it, never the file"


def test_the_parts_follow_one_another_and_do_not_overlap(tmp_path: Path) -> None:
    path = write(tmp_path / "bytes", 1000)
    whole = np.frombuffer(path.read_bytes(), np.uint8).astype(np.int64)
    task = FileStream(path, chunk=64, held_out=0.05, eval_rows=2)
    splits: tuple[tuple[EvalSplit, int], ...] = (("valid", 900), ("test", 950))
    for split, begin in splits:
        found = torch.cat([batch.input for batch in task.eval_batches(split, 2)])  # (24, 2)
        assert torch.equal(found.T, torch.as_tensor(whole[begin : begin + 50].reshape(2, 25)[:, :-1]))
    assert FileStream(path, held_out=100)._pieces("train") == [range(800)]  # pyright: ignore[reportPrivateUsage]


@pytest.mark.parametrize("batch_size", [1, 3, 8, 100])
def test_evaluation_does_not_depend_on_the_batch_size(tmp_path: Path, batch_size: int) -> None:
    task = FileStream(write(tmp_path / "bytes", 4000), chunk=16, held_out=0.1, eval_rows=8)
    fixed = torch.randn(256, 256, generator=torch.Generator().manual_seed(0))

    def metrics(batch_size: int, limit: int | None = None) -> dict[str, float]:
        return mean_metrics(task.metrics(fixed[b.input], b) for b in task.eval_batches("valid", batch_size, limit))

    assert metrics(batch_size) == pytest.approx(metrics(8))
    assert metrics(batch_size, 2) == pytest.approx(metrics(8, 2))
    assert metrics(8, 2) != pytest.approx(metrics(8))


def test_bits_are_those_of_the_distribution(tmp_path: Path) -> None:
    task = FileStream(write(tmp_path / "bytes", 500))
    batch = next(task.train_batches(2, 0))
    uniform = torch.zeros(*batch.input.shape, 256)
    assert task.metric == "bits_per_byte"
    assert mean_metrics([task.metrics(uniform, batch)])["bits_per_byte"] == pytest.approx(8)
    assert task.loss(uniform, batch).item() == pytest.approx(8 * math.log(2))


def test_options_out_of_range_and_short_files_are_named(tmp_path: Path) -> None:
    path = write(tmp_path / "bytes", 100)
    bad: list[dict[str, Any]] = [{"chunk": 0}, {"eval_rows": 0}, {"window": 0}, {"held_out": 0.0}, {"held_out": 0.5}]
    for options in bad:
        with pytest.raises(ValueError, match=f"{next(iter(options))} must be"):
            FileStream(path, **options)
    with pytest.raises(FileNotFoundError, match=r"data: .*absent is not a file"):
        _ = FileStream(tmp_path / "absent").vocabulary
    with pytest.raises(
        ValueError,
        match=r"the train part of .* has 90 bytes, too few for 50 parallel streams of at least 2 bytes each",
    ):
        FileStream(path).train_batches(50, 0)
    with pytest.raises(ValueError, match=r"columns: .* is read as bytes"):
        FileStream(path, columns=("a",)).train_batches(1, 0)


def test_a_run_of_version_0_1_refuses_a_file_of_another_size(tmp_path: Path) -> None:
    path = write(tmp_path / "bytes", 100)
    assert FileStream(path, size=100).vocabulary == 256
    write(path, 120)
    with pytest.raises(ValueError, match=r"size: .* has 120 bytes, expected 100"):
        _ = FileStream(path, size=100).vocabulary


def test_a_growing_file_is_followed_to_its_end_and_beyond(tmp_path: Path) -> None:
    path = write(tmp_path / "log", 130)
    task = FileStream(path, chunk=40, follow=True, held_out=20, eval_rows=2)
    whole = np.random.default_rng(1).integers(0, 256, 1000, dtype=np.uint8).tobytes()
    batches = task.train_batches(1, 0)
    held = path.read_bytes()[:40]
    first = [next(batches) for _ in range(3)]
    assert [len(batch.input) for batch in first] == [40, 40, 0], "nothing yet: one step is missing for a third chunk"
    path.write_bytes(path.read_bytes() + whole)
    rest = list(islice(batches, 25))
    read = torch.cat([batch.input for batch in [*first[:2], *rest] if len(batch.input)]).flatten()
    wanted = torch.as_tensor(np.frombuffer(path.read_bytes(), np.uint8).astype(np.int64))[40:]
    assert len(read) == 40 * ((1130 - 41) // 40)
    assert torch.equal(read, wanted[: len(read)])
    assert torch.equal(next(task.train_batches(1, 0, 5)).input.flatten(), wanted[200:240])
    tokens = torch.cat([batch.input for batch in task.eval_batches("valid", 2)]).T
    assert tokens[0].numpy().astype(np.uint8).tobytes() == held[:9]


def test_a_reader_waits_for_a_writer(tmp_path: Path) -> None:
    path = write(tmp_path / "log", 30)
    task = FileStream(path, chunk=20, follow=True, held_out=5)
    whole = path.read_bytes() + bytes(range(100))

    def append() -> None:
        for begin in range(30, 130, 10):
            with path.open("ab") as file:
                file.write(whole[begin : begin + 10])
            time.sleep(0.01)

    writer = threading.Thread(target=append)
    writer.start()
    found = b""
    for batch in task.train_batches(1, 0):
        found += batch.input.numpy().astype(np.uint8).tobytes()
        if len(found) == 100:
            break
    writer.join()
    assert found == whole[10:110]


def test_what_following_needs_is_said(tmp_path: Path) -> None:
    path = write(tmp_path / "log", 30)
    with pytest.raises(ValueError, match=r"held_out must be a number of steps with follow, such as 10000, got 0\.05"):
        FileStream(path, follow=True)
    with pytest.raises(ValueError, match="batch_size must be 1 with follow, which reads a single stream, got 4"):
        FileStream(path, follow=True, held_out=5).train_batches(4, 0)
    with pytest.raises(ValueError, match="only 30 steps so far, expected at least 200"):
        FileStream(path, follow=True, held_out=100).eval_batches("valid", 1)


def test_new_data_of_a_run_that_followed_its_file_are_complete(tmp_path: Path) -> None:
    """Packed, in UTF-16, or without a last line end: they are read as new data of any other run."""
    lines = [f"{i % 7},{i % 5}" for i in range(60)]
    text = "\n".join(["a,b", *lines])
    (tmp_path / "log.csv").write_text(text + "\n")
    task = FileStream(tmp_path / "log.csv", chunk=10, follow=True, held_out=20, eval_rows=1)
    facts = task.facts()
    text = "\n".join(["a,b", *(f"{line}00" for line in lines)])
    (tmp_path / "a.csv").write_text(text)
    (tmp_path / "b.csv.gz").write_bytes(gzip.compress(text.encode()))
    (tmp_path / "c.csv").write_bytes(text.encode("utf-16"))
    write_parquet(pd.DataFrame({"a": [1.0] * 60, "b": [200.0] * 60}), tmp_path / "d.parquet")
    for name in ("a.csv", "b.csv.gz", "c.csv", "d.parquet"):
        new = replace(task, data=tmp_path / name).with_facts(facts).for_new_data()
        assert sum(len(batch.input) for batch in new.eval_batches("test", 1)) == 59, name
        assert any("b" in note for note in new.reading().notes), "b is far from the values of training"
