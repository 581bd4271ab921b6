"""A file read as unbroken streams: predict the next byte, audio sample or table row.

Shapes: N steps of the file, B batch (rows, one stream each), T steps of a chunk, C columns or classes.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from reminding.tasks.data.sources import BytesSource, Source, WavSource
from reminding.tasks.data.tables import CsvSource, ParquetSource
from reminding.tasks.kinds.base import DERIVED, Batch, Split
from reminding.tasks.kinds.checks import at_least
from reminding.tasks.kinds.nextstep import NextStep

Format = Literal["auto", "bytes", "wav", "csv", "parquet"]
SUFFIXES: dict[str, Format] = {".wav": "wav", ".csv": "csv", ".tsv": "csv", ".parquet": "parquet", ".pq": "parquet"}
POLL_SECONDS = 0.2
"""Seconds between two checks of a file that is still being written."""


@dataclass(frozen=True)
class FileStream(NextStep):
    """Predict the next step of a file, read from beginning to end as unbroken streams.

    A file of N steps is cut into a training part, a validation part and a test part, in this order. The B rows of a
    batch read the training part in parallel, one B-th each, in chunks of `chunk` steps. State is carried from chunk
    to chunk, and all rows begin anew after a pass. The file is never in memory as a whole.

    Bytes and audio are tokens, (T, B) int64, with a target of the same shape; the metric is the mean number of bits
    per token. Columns are real values, (T, B, C), scaled to mean 0 and deviation 1 over the first `window` rows; the
    metric is the mean squared error on that scale.

    With `follow` the file may still be growing: a single row follows the writer and waits for more. Such a file has
    no end, so that its first steps are held out.

    Args:
        data: the file.
        format: of the file; auto: by its suffix, and bytes for an unknown suffix.
        columns: of a table; by default every column of numbers.
        chunk: steps per batch.
        held_out: size of the validation part, and of the test part: a share of the file, or a number of steps.
        eval_rows: number of parallel streams into which a held-out part is cut.
        window: number of rows, from the first, that set the scale of a table's columns: training rows or, with
            `follow`, held-out rows.
        follow: whether the file is still being written.
        size: required size of the file, bytes; None: its present size. A run is thus not resumed on another file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: an option is out of range, or the file is too short or cannot be read; the message says which.
    """

    name: ClassVar[str] = "stream"

    data: Path
    format: Format = "auto"
    columns: tuple[str, ...] = ()
    chunk: int = 100
    held_out: float = 0.05
    eval_rows: int = 8
    window: int = 10_000
    follow: bool = False
    size: int | None = field(default=None, metadata={DERIVED: True})

    def __post_init__(self) -> None:
        """Check the options, and that the file exists."""
        for name in ("chunk", "eval_rows", "window"):
            at_least(name, getattr(self, name), 1)
        if not self.held_out > 0 or 0.5 <= self.held_out < 1:
            raise ValueError(f"held_out must be a share below 0.5 or a number of steps, got {self.held_out}")
        if self.follow and self.held_out < 1:
            raise ValueError(
                f"held_out must be a number of steps with follow, such as 10000, got {self.held_out}: a growing file "
                "has no length to take a share of"
            )
        object.__setattr__(self, "columns", tuple(self.columns))
        if not self.data.is_file():
            raise FileNotFoundError(f"data: {self.data} is not a file")
        size = None if self.follow else self.data.stat().st_size
        if self.size is not None and self.size != size:
            raise ValueError(f"size: {self.data} has {size} bytes, expected {self.size}; None accepts any size")
        object.__setattr__(self, "size", size)

    @cached_property
    def source(self) -> Source:
        """The file, opened."""
        kind = SUFFIXES.get(self.data.suffix.lower(), "bytes") if self.format == "auto" else self.format
        if self.columns and kind in ("bytes", "wav"):
            raise ValueError(f"columns: {self.data} is read as {kind}, which has no columns; see format")
        if kind == "bytes":
            return BytesSource(self.data, self.follow)
        if kind == "wav":
            return WavSource(self.data, self.follow)
        return (CsvSource if kind == "csv" else ParquetSource)(self.data, self.columns, self.follow)

    @property
    def vocabulary(self) -> int | None:
        """256 for bytes and audio, None for tables."""
        return self.source.vocabulary

    @property
    def input_size(self) -> int:
        """C: 256 tokens, or the columns."""
        return self.source.features

    @property
    def unit(self) -> str:
        """The name of a step: "byte", "sample" or "row"."""
        return self.source.unit

    @property
    def _where(self) -> str:
        return str(self.data)

    def _part(self, split: Split) -> range:
        """The steps of a split; with `follow`, training has no end."""
        total = self.source.steps()
        held = int(self.held_out * total) if self.held_out < 1 else int(self.held_out)
        if self.follow:
            parts: dict[Split, range] = {
                "valid": range(held),
                "test": range(held, 2 * held),
                "train": range(2 * held, 2**62),
            }
            if split != "train" and total < 2 * held:
                raise ValueError(f"held_out: {self.data} has only {total} steps so far, expected at least {2 * held}")
        else:
            train = max(total - 2 * held, 0)
            parts = {"train": range(train), "valid": range(train, total - held), "test": range(total - held, total)}
        return parts[split]

    def _training(self, batch_size: int, start: int) -> Iterator[Batch]:
        if not self.follow:
            return super()._training(batch_size, start)
        if batch_size != 1:
            raise ValueError(f"batch_size must be 1 with follow, which reads a single stream, got {batch_size}")
        return self._following(start)

    def _following(self, start: int) -> Iterator[Batch]:
        """One row that follows the writer; batches have 0 steps while there is no data."""
        part = self._part("train")
        for number in count(start):
            end = part[(number + 1) * self.chunk]
            while self.source.steps() <= end:
                time.sleep(POLL_SECONDS)
                yield Batch(torch.zeros(0, 1), torch.zeros(0, 1))
            yield self._chunk([part], number)

    def _read(self, start: int, stop: int) -> NDArray[Any]:
        values = self.source.read(start, stop)
        if self.vocabulary is not None:
            return values
        mean, deviation = self.scale
        return (values - mean) / deviation

    @cached_property
    def scale(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Mean and deviation of each column over the first rows, (C,); the deviation of a constant column is 1."""
        part = self._part("train")
        known = part.start if self.follow else part.stop  # of a growing file only the held-out part is complete
        first = self.source.read(0, min(self.window, known))
        deviation = first.std(0)
        return first.mean(0), np.where(deviation > 0, deviation, 1.0)
