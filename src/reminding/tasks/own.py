"""A user's own sequence, read as a task reads its data.

Shapes: T time, I values of a step, C columns.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reminding.checks import at_least, at_least_or_none
from reminding.tasks.characters import CharacterStream
from reminding.tasks.data.audio import SUFFIXES
from reminding.tasks.data.labelled.files import One, is_number, numbers, read_series
from reminding.tasks.data.reading import FileSteps, Reading
from reminding.tasks.data.tables import TableSource
from reminding.tasks.data.tables.cells import plain_float
from reminding.tasks.data.text import find_encoding, open_text, suffix_of
from reminding.tasks.files.labelled import Form, LabelledTask
from reminding.tasks.filestream import FileStream
from reminding.tasks.kinds.classification import PixelClassification
from reminding.tasks.kinds.nextstep import NextStep

PICTURES = (".png", ".jpg", ".jpeg", ".gif", ".bmp", ".webp", ".tif", ".tiff")
"""Suffixes of pictures, which are not read."""


class Own(NamedTuple):
    """One sequence, as a batch of one row.

    Attributes:
        input: tokens (T, 1), or values (T, 1, I).
        target: the next steps, if the file is a stream; the number of its class, (1,), if it is a series with its
            label; None: unknown.
        times: of a table with a time column: its values at these steps and the next, (T + 1,); else None.
        padding: number of the first steps that stand in front of a labelled series which is shorter than others.
        reading: what was read of the file.
    """

    input: Tensor
    target: Tensor | None
    times: NDArray[Any] | None = None
    padding: int = 0
    reading: Reading | None = None


def read_own(task: Any, path: Path, start: int = 0, steps: int | None = None, number: int | None = None) -> Own:
    """Read a file as input for a model that was trained on `task`.

    A stream is read from a file of the same kind as the training data: bytes, text, WAV, or a table, whose columns
    are scaled as in training. A series is standardised as in training; it is a WAV file, or numbers: one step a line,
    or one line with the label first as in the files of training, ? if it is not known; or one of the series of such a
    file, by its number. Other sequences are numbers in the form of the task: one token per step, or one row of values
    per step. Numbers are text, separated by white space, commas or semicolons, with one line per step if a step has
    several; or an .npy file.

    Args:
        path: the file.
        start: number of steps to skip at the beginning of a stream.
        steps: number of steps to read of a stream; None: to the end.
        number: of the series in a file of labelled series, from 0; None: the file holds one.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file does not hold such data; the message says what it holds and what was expected.
    """
    if not path.is_file():
        raise FileNotFoundError(f"input: {path} is not a file")
    try:
        if isinstance(task, FileStream | CharacterStream):
            return _stream(task, _steps_of(task, path), start, steps, path)
        if start or steps is not None:
            raise ValueError(f"start and steps are for streams; a sequence of {task.name} is read whole")
        if isinstance(task, LabelledTask):
            return _labelled(task, path, number)
        input = _tokens(task, path) if task.vocabulary is not None else _values(task, path)
        return Own(input, None, reading=Reading((FileSteps(str(path), len(input)),), "numbers", "step"))
    except ValueError as error:
        raise ValueError(f"input: {str(error).removeprefix('data: ')}") from error


@dataclass(frozen=True)
class _Steps:
    """The steps of a file in the form that a model reads: functions of begin and end, and what was read."""

    reading: Reading
    read: Callable[[int, int], NDArray[Any]]
    times: Callable[[int, int], NDArray[Any] | None] | None = None


def _labelled(task: LabelledTask, path: Path, number: int | None) -> Own:
    """One series as the model reads it, with its class if the file says it."""
    form, series = task.form, _series_of(task, path)
    one = _chosen(series, path, number, form.dimensions)
    label = form.class_of(one)
    values = form.prepared(one.values, one.where)
    target = None if label is None else torch.tensor([label])
    padding = len(values) - form.cut.own_steps(one.values)
    reading = reading_of_series(task, path, len(series))
    return Own(torch.as_tensor(values).unsqueeze(1), target, padding=padding, reading=reading)


def reading_of_series(task: Any, path: Path, count: int) -> Reading:
    """What was read of a file or folder of so many series or images to label."""
    labelled = isinstance(task, LabelledTask)
    kind = ("labelled series" if task.form.rate is None else "audio") if labelled else "numbers"
    return Reading((FileSteps(str(path), count),), kind, "example")


def _chosen(series: Sequence[One], path: Path, number: int | None, dimensions: int) -> One:
    """The series of a number, or the only one."""
    count = len(series)
    if number is None and count > 1:
        one = "" if suffix_of(path) == ".ts" else f"; a file of one has one step a line, {dimensions} values each"
        raise ValueError(f"{path} holds {count} series; choose by --sequence, 0 to {count - 1}{one}")
    if number is not None and number >= count:
        raise ValueError(f"{path} holds {count} series, so sequence must be below {count}, got {number}")
    return series[number or 0]


def _series_of(task: LabelledTask, path: Path) -> Sequence[One]:
    """All series of a file: of an audio file or an array one, of a .ts file those in it, or those of its lines."""
    form = task.form
    if path.suffix.lower() in SUFFIXES:
        return [One("", form.recording(path), str(path))]
    if suffix_of(path) == ".npy":
        return [One("", numbers_of_file(path), str(path))]
    if suffix_of(path) == ".ts":
        return read_series(path, unlabelled=True)
    return _series_of_text(path, form)


def _series_of_text(path: Path, form: Form) -> Sequence[One]:
    """One series, (n, D), one step a line; or one a line with its label first, as in the files of training.

    Where all classes are words, a line of numbers alone has no label. Elsewhere its first number is its label, as it
    is where labels are predicted.
    """
    with open_text(path, find_encoding(path)) as text:
        cells = {i: re.split(r"[\s,;]+", line.strip()) for i, line in enumerate(text, 1)}
    lines = {i: line for i, line in cells.items() if line[0][:1] not in ("#", "%")}
    full = [i for i, line in lines.items() if any(line)]
    if not full:
        raise ValueError(f"{path} holds no numbers")
    if form.dimensions > 1 or len(full) == 1:
        lines = {i: lines[i] for i in full}
    else:  # a blank line between values is a missing one, as in a table of one column
        lines = {i: line for i, line in lines.items() if full[0] <= i <= full[-1]}
    if len(lines) > 1 and {len(line) for line in lines.values()} == {form.dimensions}:
        return [One("", np.stack([numbers(line, f"{path}, line {i}") for i, line in lines.items()]), str(path))]
    place, first = next(iter(lines.items()))
    if len(lines) == 1 and is_number(first[0]) and not any(map(is_number, form.classes)):
        return [One("", numbers(first, f"{path}, line {place}").reshape(-1, form.dimensions), str(path))]
    return read_series(path, unlabelled=True)


def _stream(task: NextStep, steps_of: _Steps, start: int, steps: int | None, path: Path) -> Own:
    """Some steps of a stream, each with the next step as its target."""
    at_least("start", start, 0)
    at_least_or_none("steps", steps, 1)
    total = steps_of.reading.steps
    end = total if steps is None else min(total, start + steps + 1)
    if end - start < 2:
        raise ValueError(f"{path} has {total} steps, expected at least {start + 2}: step {start} and the next")
    batch = task.batch_of(np.stack([steps_of.read(start, end)], axis=1))
    times = None if steps_of.times is None else steps_of.times(start, end)
    return Own(batch.input, batch.target, times, reading=steps_of.reading)


def _steps_of(task: FileStream | CharacterStream, path: Path) -> _Steps:
    if isinstance(task, CharacterStream):
        raw = path.read_bytes()
        if b"\n" not in task.symbols:
            raw = raw.rstrip(b"\r\n")  # the line end that an editor adds
        tokens = task.tokens_of(np.frombuffer(raw, np.uint8), path)

        def symbols(begin: int, end: int) -> NDArray[Any]:
            return tokens[begin:end]

        return _Steps(Reading((FileSteps(str(path), len(tokens)),), "text", task.unit), symbols)
    source = task.open(path)

    def prepared(begin: int, end: int) -> NDArray[Any]:
        return task.prepared(source.read(begin, end))

    return _Steps(task.reading_of(source), prepared, source.times if isinstance(source, TableSource) else None)


def _tokens(task: Any, path: Path) -> Tensor:
    values = numbers_of_file(path).reshape(-1)
    wrong = np.flatnonzero((values != np.round(values)) | (values < 0) | (values >= task.vocabulary))
    if len(wrong):
        place = int(wrong[0])
        raise ValueError(
            f"{path}: step {place + 1} is {values[place]:g}, expected a token from 0 to {task.vocabulary - 1}"
        )
    return torch.as_tensor(values).long().unsqueeze(1)  # (T, 1)


def _values(task: Any, path: Path) -> Tensor:
    features = task.input_size
    if isinstance(task, PixelClassification) and path.suffix.lower() in PICTURES:
        raise ValueError(
            f"{path} is a picture, expected its pixels as numbers from 0 to 1, {task.shape[0]} steps of {features}: "
            "text, or an .npy file, which numpy.save writes"
        )
    values = numbers_of_file(path)
    if isinstance(task, PixelClassification):
        steps, _ = task.shape
        if values.size != steps * features:
            raise ValueError(f"{path} has shape {values.shape}, expected {steps} steps of {features} values")
        if values.min() < 0 or values.max() > 1:
            raise ValueError(f"{path} has values from {values.min():g} to {values.max():g}, expected 0 to 1")
        values = values.reshape(steps, features)
    values = values.reshape(-1, 1) if features == 1 else values
    if values.ndim != 2 or values.shape[1] != features:
        raise ValueError(f"{path} has shape {values.shape}, expected (T, {features}): {features} values a step")
    return torch.as_tensor(values, dtype=torch.float32).unsqueeze(1)  # (T, 1, I)


def numbers_of_file(path: Path) -> NDArray[np.float64]:
    """All numbers of a file: an .npy array; of text one row per line, or a single row if lengths differ.

    Raises:
        ValueError: it holds no numbers, other text, or numbers that are not finite; the message names the file.
    """
    values = array_of_file(path) if path.suffix.lower() == ".npy" else _rows(path)
    if not values.size or not np.isfinite(values).all():
        raise ValueError(f"{path} holds {'numbers that are not finite' if values.size else 'no numbers'}")
    return values


def array_of_file(path: Path) -> NDArray[np.float64]:
    """The array in an .npy file, which is mapped first: a damaged header may claim any size.

    Raises:
        ValueError: it holds no array of numbers; the message names the file.
    """
    try:
        mapped = np.load(path, mmap_mode="r", allow_pickle=False)
        if mapped.dtype.kind not in "biuf":
            raise ValueError(f"it holds {mapped.dtype}")
        return np.array(mapped, np.float64)
    except OSError:
        raise
    except Exception as error:  # NumPy parses the header as Python, and so raises almost anything
        raise ValueError(f"{path} holds no array of numbers that NumPy can read: {error}") from error


def _rows(path: Path) -> NDArray[np.float64]:
    rows: list[list[float]] = []
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not text, expected numbers as text or in an .npy file: {error}") from error
    for number, line in enumerate(text.splitlines(), 1):
        cells = line.replace(",", " ").replace(";", " ").split()
        try:
            rows.append([plain_float(cell) for cell in cells])
        except ValueError as error:
            raise ValueError(f"{path}, line {number}: {error}; expected numbers alone") from error
    rows = [row for row in rows if row]
    if len({len(row) for row in rows}) == 1:
        return np.array(rows)
    return np.array([value for row in rows for value in row])
