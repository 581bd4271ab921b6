"""A file read as unbroken streams: predict the next byte, audio sample or table row.

Shapes: N steps of the file, B batch (rows, one stream each), T steps of a chunk, C columns or classes.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
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
from reminding.tasks.kinds.facts import DATA
from reminding.tasks.kinds.nextstep import NextStep
from reminding.tasks.kinds.tallies import Columns, ColumnTally, season_of

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
    metric is the mean squared error on that scale. Split and scale are those of the file at the start of a run.

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
        size: required size of the file, bytes; None: any. Runs of version 0.1 recorded it.

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
        """Check the options. The file is opened when something of it is first asked for."""
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

    @cached_property
    def source(self) -> Source:
        """The file, opened."""
        source = self._opened(self.data, self.columns if self._facts is None else self.column_names)
        if self.size is not None and not self.new_data and self.size != (found := self.data.stat().st_size):
            raise ValueError(f"size: {self.data} has {found} bytes, expected {self.size}; None accepts any size")
        return source

    def open(self, path: Path, columns: Sequence[str] | None = None) -> Source:
        """Open another file of the kind of the data. A table may be of another kind, but has the same columns.

        Args:
            columns: to read; None: those of the data.
        """
        return self._opened(path, self.column_names if columns is None else columns)

    def _opened(self, path: Path, columns: Sequence[str]) -> Source:
        kind, own = self._kind_of(path), self._kind_of(self.data) if self._facts is None else self._known["kind"]
        if path != self.data or self._facts is not None:
            kind = kind if {kind, own} <= {"csv", "parquet"} else own
        if self._facts is not None and self.columns and self.columns != self.column_names:
            known = ", ".join(self.column_names)
            raise ValueError(f"columns must be those of the training data, {known}, got {', '.join(self.columns)}")
        if self.columns and kind in ("bytes", "wav"):
            raise ValueError(f"columns: {path} is read as {kind}, which has no columns; see format")
        if kind == "bytes":
            return BytesSource(path, self.follow)
        if kind == "wav":
            return WavSource(path, self.follow)
        return (CsvSource if kind == "csv" else ParquetSource)(path, columns, self.follow)

    def _kind_of(self, path: Path) -> Format:
        return SUFFIXES.get(path.suffix.lower(), "bytes") if self.format == "auto" else self.format

    def learn(self) -> dict[str, Any]:
        """Read the kind of the file, its columns, their scale and season, and its number of steps."""
        source = self.source
        kinds: dict[type[Source], Format] = {
            BytesSource: "bytes",
            WavSource: "wav",
            CsvSource: "csv",
            ParquetSource: "parquet",
        }
        columns = list(getattr(source, "columns", ()))
        facts: dict[str, Any] = {"kind": kinds[type(source)], "unit": source.unit, "columns": columns}
        if source.vocabulary is None:
            first = self._first_rows()
            deviation = first.std(0)
            facts |= {
                "targets": columns,
                "mean": first.mean(0).tolist(),
                "deviation": np.where(deviation > 0, deviation, 1.0).tolist(),
                "season": season_of(first),
            }
        return {**facts, "vocabulary": source.vocabulary, DATA: {} if self.follow else {"steps": source.steps()}}

    def files(self) -> dict[str, Path]:
        """The file."""
        return {"data": self.data}

    @cached_property
    def _known(self) -> dict[str, Any]:
        return self.facts()

    @property
    def vocabulary(self) -> int | None:
        """256 for bytes and audio, None for tables."""
        return self.source.vocabulary if self._facts is None else self._known["vocabulary"]

    @property
    def input_size(self) -> int:
        """C: 256 tokens, or the columns."""
        return self.vocabulary or len(self.column_names)

    @property
    def output_size(self) -> int:
        """Logits of the next token, or the next value of each target column."""
        return self.vocabulary or len(self.targets)

    @property
    def unit(self) -> str:
        """The name of a step: "byte", "sample" or "row"."""
        return self.source.unit if self._facts is None else self._known["unit"]

    @property
    def column_names(self) -> tuple[str, ...]:
        """The columns that are read, in their order; none for bytes and audio."""
        return tuple(getattr(self.source, "columns", ()) if self._facts is None else self._known["columns"])

    @property
    def targets(self) -> tuple[str, ...]:
        """The columns that are predicted."""
        return self.column_names if self._facts is None else tuple(self._known["targets"])

    @property
    def _where(self) -> str:
        return str(self.data)

    def _part(self, split: Split) -> range:
        """The steps of a split; with `follow`, training has no end. Of a file with new data, all steps."""
        if self.new_data:
            return range(self.source.steps())
        total = self.source.steps() if self._facts is None or self.follow else int(self._facts[DATA]["steps"])
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
        return np.array(self._known["mean"]), np.array(self._known["deviation"])

    def tally(self) -> ColumnTally | None:
        """Errors by column, in its own unit; None for bytes and audio."""
        if self.vocabulary is not None:
            return None
        place = tuple(self.column_names.index(name) for name in self.targets)
        mean, deviation = (values[list(place)] for values in self.scale)
        return ColumnTally(Columns(self.targets, place, mean, deviation, self._known["season"]))

    def _first_rows(self) -> NDArray[np.float64]:
        """The rows that set the scale, (n, C)."""
        part = self._part("train")
        known = part.start if self.follow else part.stop  # of a growing file only the held-out part is complete
        return self.source.read(0, min(self.window, known))
