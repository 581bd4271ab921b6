"""The sequences to explain: which of a task's, or a file of one's own, with the times of their steps.

Shapes: T time, B rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reminding.checks import at_least, at_least_or_none, each_at_least, require
from reminding.lab.explain.gaps import gaps_of
from reminding.lab.explain.times import StepTimes, numbered, recorded, seconds
from reminding.tasks import Batch, EvalSplit
from reminding.tasks.characters import CharacterStream
from reminding.tasks.data.reading import Reading
from reminding.tasks.data.tables import TableSource
from reminding.tasks.files.labelled import LabelledTask
from reminding.tasks.filestream import FileStream
from reminding.tasks.kinds.asked import Asked
from reminding.tasks.own import read_own

STREAM_STEPS = 1000
"""Default number of steps to read of a stream."""


@dataclass(frozen=True)
class ExplainOptions:
    """What to explain.

    Args:
        input: a file of your own to explain, of the kind that the run's task reads; None: test sequences.
        split: the split that the sequences are from, test or valid.
        sequence: numbers of the sequences, from 0; on a stream, numbers of its rows; with `input`, numbers of the
            labelled series in a file of several. By default the first three sequences, or the first row.
        at: steps, from 1, whose loss the credit is of: why this output? By default the credit is of the whole loss.
        start: number of steps to skip at the beginning of `input`, if it is a stream.
        steps: number of steps to read of a stream; None: 1000.
        layer: the layer that the figures draw and the page shows first, from 1; None: the last.
    """

    input: Path | None = None
    split: EvalSplit = "test"
    sequence: tuple[int, ...] = ()
    at: tuple[int, ...] = ()
    start: int = 0
    steps: int | None = None
    layer: int | None = None

    def __post_init__(self) -> None:
        """Check the numbers."""
        each_at_least("sequence", self.sequence, 0)
        each_at_least("at", self.at, 1)
        require(len(set(self.at)) == len(self.at), "at", "be different steps", list(self.at))
        at_least("start", self.start, 0)
        at_least_or_none("steps", self.steps, 1)
        if self.start and self.input is None:
            raise ValueError(f"start must be 0 without input, got {self.start}")


class Excerpt(NamedTuple):
    """The steps of one sequence to explain, as a batch of one row; the target is None if it is unknown."""

    name: str
    input: Tensor
    target: Tensor | None
    times: StepTimes | None = None
    padding: int = 0
    absent: NDArray[np.bool_] | None = None
    reading: Reading | None = None


def excerpts(task: Any, options: ExplainOptions) -> list[Excerpt]:
    """The sequences to explain.

    Raises:
        FileNotFoundError: there is no such input.
        ValueError: an option does not fit; the message names it.
    """
    if options.input is not None:
        if not isinstance(task, LabelledTask) and options.sequence not in ((), (0,)):
            raise ValueError(f"sequence must be 0 with input, which is one sequence of {task.name}")
        numbers = options.sequence if isinstance(task, LabelledTask) else ()
        return [_own(task, options.input, options, number) for number in numbers or (None,)]
    if task.streamed:
        return _rows_of_streams(task, options)
    if options.steps is not None:
        raise ValueError(f"steps is for streams; a sequence of {task.name} is read whole")
    return [_whole_sequence(task, options.split, number) for number in options.sequence or (0, 1, 2)]


def _own(task: Any, path: Path, options: ExplainOptions, number: int | None) -> Excerpt:
    """The input, or one series of it by its number."""
    steps = (options.steps or STREAM_STEPS) if task.streamed and not isinstance(task, Asked) else options.steps
    own = read_own(task, path, options.start, steps, number)
    gaps = gaps_of(task, path, options.start, steps, number)
    target, absent = (own.target, None) if gaps is None else (gaps.target, gaps.absent)
    if isinstance(task, FileStream) and task.time is not None and own.times is not None:
        times = recorded(task.time, own.times)
        return Excerpt(path.name, own.input, target, times, absent=absent, reading=own.reading)
    times = _of_sound(task, len(own.input), options.start, own.padding)
    if times is None and isinstance(task, FileStream | CharacterStream):
        times = _numbers(task, path, options.start, len(own.input) + 1)
    name = path.name if number is None else f"{path.name} series {number}"
    return Excerpt(name, own.input, target, times, own.padding, absent, own.reading)


def _numbers(task: FileStream | CharacterStream, path: Path, start: int, steps: int) -> StepTimes | None:
    """The numbers of steps in their file; None if they are those of the excerpt. Rows may have been left out."""
    numbers: Any = np.arange(start, start + steps)
    if isinstance(task, FileStream) and task.missing == "drop" and task.vocabulary is None:
        source = task.open(path)
        assert isinstance(source, TableSource)
        numbers = source.numbers(start, start + steps)
    return None if numbers[-1] == steps - 1 else numbered((numbers + 1).tolist(), task.unit)


def _whole_sequence(task: Any, split: EvalSplit, number: int) -> Excerpt:
    batches: Iterator[Batch] = task.eval_batches(split, 1)
    batch = next(islice(batches, number, None), None)
    if batch is None:
        raise ValueError(f"sequence: the {split} split of {task.name} has no sequence {number}")
    steps = len(batch.input)
    padding = steps - int(task.examples(split).own[number]) if isinstance(task, LabelledTask) else 0
    times = _of_sound(task, steps, padding=padding)
    return Excerpt(f"{split} sequence {number}", batch.input, batch.target, times, padding)


def _rows_of_streams(task: Any, options: ExplainOptions) -> list[Excerpt]:
    """The first steps of some rows of a held-out stream."""
    steps, chosen = options.steps or STREAM_STEPS, options.sequence or (0,)
    chunks: Iterator[Batch] = task.eval_batches(options.split, max(chosen) + 1)
    batches: list[Batch] = []
    for batch in islice(chunks, -(-steps // task.chunk)):
        if batches and batch.reset is not None and bool(batch.reset.all()):
            break  # other rows follow
        batches.append(batch)
    input = torch.cat([batch.input for batch in batches])[:steps]
    target = torch.cat([batch.target for batch in batches])[:steps]
    rows = input.shape[1]
    if max(chosen) >= rows:
        raise ValueError(f"sequence must be below {rows}, the number of streams of {task.name}, got {max(chosen)}")
    return [
        Excerpt(
            f"{options.split} stream {row}",
            input[:, row : row + 1],
            target[:, row : row + 1],
            _of_stream(task, options.split, row, [len(batch.input) for batch in batches]),
        )
        for row in chosen
    ]


def _of_stream(task: Any, split: EvalSplit, row: int, lengths: list[int]) -> StepTimes | None:
    """The times of the chunks, of these lengths, that a row of a held-out part reads, or their places in the file."""
    if not isinstance(task, FileStream):
        return None
    found: list[Any] = []
    for number, length in enumerate(lengths):
        steps = task.held_out_row(split, row).chunk(number).steps
        times = (task.numbers if task.time is None else task.times)(steps.start, steps.stop)
        if times is None or len(times) <= length:  # the row is shorter than others
            return None
        found.append(times if number == len(lengths) - 1 else times[:-1])
    values = np.concatenate(found)
    if task.time is not None:
        return recorded(task.time, values)
    if task.known.rate is None:
        return numbered((values + 1).tolist(), task.unit)
    joined = bool((np.diff(values) == 1).all())
    return _of_sound(task, len(values), int(values[0])) if joined else None


def _of_sound(task: Any, steps: int, start: int = 0, padding: int = 0) -> StepTimes | None:
    """The times of the steps of a recording; None if it is none."""
    if isinstance(task, LabelledTask) and task.form.rate is not None:
        return seconds(steps, task.frame / task.form.rate, -padding)
    if isinstance(task, FileStream) and task.known.rate is not None:
        return seconds(steps, 1 / task.known.rate, start)
    return None
