"""A file read as unbroken streams: predict the next byte, audio sample or table row.

Shapes: N steps of the file, B batch (rows, one stream each), T steps of a chunk, C columns or classes.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from reminding.tasks.base import (
    Batch,
    EvalSplit,
    MetricSums,
    check_at_least,
    check_eval_split,
    check_prediction,
    full_precision,
)
from reminding.tasks.sources import BytesSource, Source, WavSource
from reminding.tasks.tables import CsvSource, ParquetSource

Format = Literal["auto", "bytes", "wav", "csv", "parquet"]
SUFFIXES: dict[str, Format] = {".wav": "wav", ".csv": "csv", ".tsv": "csv", ".parquet": "parquet", ".pq": "parquet"}
POLL_SECONDS = 0.2
"""Between two looks at a file that is still being written."""


@dataclass(frozen=True)
class FileStream:
    """Predict the next step of a file, read from beginning to end as unbroken streams.

    A file of N steps is cut into a training part, a validation part and a test part, in this order. The
    training part is read by the B rows of a batch side by side, each its own B-th of it, in chunks of `chunk`
    steps; state goes from chunk to chunk, and all rows begin anew at the end of a pass. The file is never in
    memory as a whole.

    Bytes and audio are tokens, (T, B) int64, with a target of the same shape; the metric is the mean surprise
    in bits. Columns are real values, (T, B, C), scaled to mean 0 and deviation 1 over the first `window`
    rows; the metric is the mean squared error on that scale.

    With `follow` the file may still be growing: one row reads on behind the writer and waits for more. There
    is no end then to hold a part out from, so the first steps are held out.

    Args:
        data: the file.
        format: what it is; auto: by its suffix, bytes for any other.
        columns: of a table; none given: every column of numbers.
        chunk: steps of a batch.
        held_out: of the validation part, and of the test part: a share of the file below 1, or a number of steps.
        eval_rows: a held-out part is read as this many streams side by side.
        window: first rows that set the scale of a table's columns: training rows, with `follow` held-out ones.
        follow: whether the file is still being written.
        size: bytes that the file must have; None: what it has now, so that a run is not resumed on another file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: an option is out of range, or the file is too short or cannot be read; the message says what.
    """

    name: ClassVar[str] = "stream"
    streamed: ClassVar[bool] = True
    maximize: ClassVar[bool] = False

    data: Path
    format: Format = "auto"
    columns: tuple[str, ...] = ()
    chunk: int = 100
    held_out: float = 0.05
    eval_rows: int = 8
    window: int = 10_000
    follow: bool = False
    size: int | None = None

    def __post_init__(self) -> None:
        """Check the options, and that the file is there."""
        for name in ("chunk", "eval_rows", "window"):
            check_at_least(name, getattr(self, name), 1)
        if not self.held_out > 0 or 0.5 <= self.held_out < 1:
            raise ValueError(f"held_out: got {self.held_out}, expected a share below 0.5 or a number of steps")
        if self.follow and self.held_out < 1:
            raise ValueError(
                f"held_out: got {self.held_out}; a file that is followed has no end to take a share of: say how "
                "many of its first steps to hold out, such as 10000"
            )
        object.__setattr__(self, "columns", tuple(self.columns))
        if not self.data.is_file():
            raise FileNotFoundError(f"data: {self.data} is not a file")
        found = None if self.follow else self.data.stat().st_size
        if self.size is not None and self.size != found:
            raise ValueError(f"size: {self.data} has {found} bytes, expected {self.size}; None takes it as it is")
        object.__setattr__(self, "size", found)

    @cached_property
    def source(self) -> Source:
        """The file, opened."""
        kind = SUFFIXES.get(self.data.suffix.lower(), "bytes") if self.format == "auto" else self.format
        if self.columns and kind in ("bytes", "wav"):
            raise ValueError(f"columns: {self.data} is read as {kind}, which has none; see format")
        if kind == "bytes":
            return BytesSource(self.data, self.follow)
        if kind == "wav":
            return WavSource(self.data, self.follow)
        return (CsvSource if kind == "csv" else ParquetSource)(self.data, self.columns, self.follow)

    @property
    def metric(self) -> str:
        """bits_per_byte, bits_per_sample, or mse."""
        return "mse" if self.vocabulary is None else f"bits_per_{self.source.unit}"

    @property
    def vocabulary(self) -> int | None:
        """256 for bytes and audio, None for tables."""
        return self.source.vocabulary

    @property
    def input_size(self) -> int:
        """C: 256 tokens, or the columns."""
        return self.source.features

    @property
    def output_size(self) -> int:
        """C: logits of the next token, or the next value of each column."""
        return self.source.features

    def train_batches(self, batch_size: int, seed: int, start: int = 0) -> Iterator[Batch]:
        """Chunks of the training part, pass after pass; see `Task.train_batches`. The seed plays no part."""
        check_at_least("batch_size", batch_size, 1)
        check_at_least("seed", seed, 0)
        check_at_least("start", start, 0)
        if self.follow:
            if batch_size != 1:
                raise ValueError(f"batch_size: got {batch_size}; a file that is followed is read by 1 row")
            return self._following(start)
        return self._passes(self._sections("train", batch_size), start)

    def eval_batches(self, split: EvalSplit, batch_size: int, limit: int | None = None) -> Iterator[Batch]:
        """A held-out part as `eval_rows` streams in chunks, `limit` of each; see `Task.eval_batches`."""
        check_eval_split(split)
        check_at_least("batch_size", batch_size, 1)
        if limit is not None:
            check_at_least("limit", limit, 1)
        sections = self._sections(split, self.eval_rows)
        chunks = math.ceil((len(sections[0]) - 1) / self.chunk)
        groups = [sections[i : i + batch_size] for i in range(0, len(sections), batch_size)]
        return (
            self._chunk(group, number)
            for group in groups
            for number in range(chunks if limit is None else min(limit, chunks))
        )

    def loss(self, prediction: Tensor, batch: Batch) -> Tensor:
        """Mean over all steps: cross-entropy, nats, of logits (T, B, C); or squared error of values (T, B, C)."""
        check_prediction(prediction, batch, self.output_size)
        if self.vocabulary is None:
            return F.mse_loss(prediction, batch.target.to(prediction.dtype))
        return F.cross_entropy(prediction.flatten(0, 1), batch.target.flatten())

    def metrics(self, prediction: Tensor, batch: Batch) -> MetricSums:
        """Of tokens "bits_per_byte" or "bits_per_sample", and "accuracy"; of values "mse" and "mse_unchanged".

        "mse_unchanged" is what predicting no change gives: an error above it has learned nothing.
        """
        check_prediction(prediction, batch, self.output_size)
        precise, steps = full_precision(prediction), batch.target.numel()
        if self.vocabulary is None:
            error = F.mse_loss(precise, batch.target.to(precise.dtype), reduction="sum")
            unchanged = F.mse_loss(batch.input, batch.target, reduction="sum")
            return {"mse": (float(error), steps), "mse_unchanged": (float(unchanged), steps)}
        surprise = F.cross_entropy(precise.flatten(0, 1), batch.target.flatten(), reduction="sum")
        right = (precise.argmax(-1) == batch.target).sum()
        return {self.metric: (float(surprise) / math.log(2), steps), "accuracy": (float(right), steps)}

    def _part(self, split: str) -> range:
        """The steps of a split; with `follow`, training has no end."""
        total = self.source.steps()
        held = int(self.held_out * total) if self.held_out < 1 else int(self.held_out)
        if self.follow:
            parts = {"valid": range(held), "test": range(held, 2 * held), "train": range(2 * held, 2**62)}
            if split != "train" and total < 2 * held:
                raise ValueError(f"held_out: {self.data} has only {total} steps by now, expected {2 * held} at least")
        else:
            train = max(total - 2 * held, 0)
            parts = {"train": range(train), "valid": range(train, total - held), "test": range(total - held, total)}
        return parts[split]

    def _sections(self, split: str, rows: int) -> list[range]:
        """A split cut into one section a row."""
        part = self._part(split)
        each = len(part) // rows
        if each < 2:
            raise ValueError(
                f"data: the {split} part of {self.data} has {len(part)} steps of a {self.source.unit}, too few for "
                f"{rows} rows; a row needs 2 at least"
            )
        return [part[row * each : (row + 1) * each] for row in range(rows)]

    def _passes(self, sections: list[range], start: int) -> Iterator[Batch]:
        chunks = math.ceil((len(sections[0]) - 1) / self.chunk)
        return (self._chunk(sections, i % chunks) for i in count(start))

    def _following(self, start: int) -> Iterator[Batch]:
        """One row behind the writer; batches of 0 steps while there is nothing to read."""
        part = self._part("train")
        for number in count(start):
            end = part[(number + 1) * self.chunk]
            while self.source.steps() <= end:
                time.sleep(POLL_SECONDS)
                yield Batch(torch.zeros(0, 1), torch.zeros(0, 1))
            yield self._chunk([part], number)

    def _chunk(self, sections: list[range], number: int) -> Batch:
        """Chunk `number` of each section, and the step after it."""
        first = number * self.chunk
        spans = [section[first : first + self.chunk + 1] for section in sections]
        values = np.stack([self.source.read(span[0], span[-1] + 1) for span in spans], axis=1)
        return next_step(self._scaled(values), begins=number == 0)

    def _scaled(self, values: NDArray[Any]) -> NDArray[Any]:
        if self.vocabulary is not None:
            return values
        mean, deviation = self._scale
        return (values - mean) / deviation

    @cached_property
    def _scale(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Mean and deviation of each column over the first training rows, (C,); a constant column keeps 1."""
        part = self._part("train")
        known = (
            part.start if self.follow else part.stop
        )  # behind a writer, only what was held out is sure to be there
        first = self.source.read(0, min(self.window, known))
        deviation = first.std(0)
        return first.mean(0), np.where(deviation > 0, deviation, 1.0)


def next_step(values: NDArray[Any], begins: bool) -> Batch:
    """A chunk whose target is its input one step later.

    Args:
        values: tokens (T + 1, B), integers, or real values (T + 1, B, C).
        begins: whether all rows begin a new stream with it.
    """
    tensor = torch.as_tensor(values)
    tensor = tensor.float() if tensor.is_floating_point() else tensor.long()
    return Batch(tensor[:-1], tensor[1:], torch.full((tensor.shape[1],), begins))


def next_step_batches(rows: Sequence[Iterable[Any]], chunk: int) -> Iterator[Batch]:
    """Training batches of next-step prediction from iterators that may have no end, one a row.

    Args:
        rows: each gives one stream in pieces of any length, one behind the other: tokens (n,), integers, or real
            values (n, C); arrays or tensors. No piece is kept longer than it takes to give it out.
        chunk: steps of a batch.

    Returns:
        chunks until one of the streams ends; what does not fill a chunk is left out. The first one resets all rows.

    Raises:
        ValueError: there is no row, or chunk is below 1.
    """
    check_at_least("chunk", chunk, 1)
    check_at_least("the number of rows", len(rows), 1)
    streams = [_spans(iter(row), chunk + 1) for row in rows]
    # zip stops at the first stream that ends; strict would call streams of unequal length an error.
    return (next_step(np.stack(spans, axis=1), begins=i == 0) for i, spans in enumerate(zip(*streams, strict=False)))


def _spans(pieces: Iterator[Any], length: int) -> Iterator[NDArray[Any]]:
    """A stream in spans of `length` steps, each beginning with the last step of the one before."""
    waiting: list[NDArray[Any]] = []
    for piece in pieces:
        waiting.append(np.asarray(piece))
        if sum(map(len, waiting)) < length:
            continue
        whole, begin = np.concatenate(waiting), 0
        while begin + length <= len(whole):
            yield whole[begin : begin + length]
            begin += length - 1
        waiting = [whole[begin:].copy()]
