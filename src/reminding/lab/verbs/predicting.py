"""The actions of the verbs `predict` and `sample`, with their output on the terminal."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from reminding.disk.writing import check_place
from reminding.lab.explain.decimals import told_by
from reminding.lab.predict.forecast import Rows, check_file
from reminding.lab.predict.frames import cells_of, check_spared, check_suffix, write_frame
from reminding.lab.predict.future import needs_inputs
from reminding.lab.predict.horizon import HorizonForecast
from reminding.lab.predict.predictor import Predictor, load
from reminding.lab.show.figures import check_figure
from reminding.lab.show.terminal import doing, say, show_table
from reminding.lab.train.data import tell_reading
from reminding.lab.verbs.commands import show_errors, show_files
from reminding.tasks.own import reading_of_series

MOST_COLUMNS = 12
"""Columns of a forecast that the terminal shows."""


@dataclass(frozen=True)
class PredictOptions:
    """What is predicted, and from which file.

    Args:
        input: the rows so far, with the columns of the training data; or series to label: a file as in training,
            where a label may be ?, an audio file, or a folder of audio files.
        steps: rows to predict; each is fed back as the input of the next. None: those held out, at least 1.
        future: a table with the known inputs of the next rows, if the run reads columns that it does not predict.
        held_out: rows at the end of a table that are not read, but forecast and compared.
        context: number of the last rows of a table that are read before the forecast; None: all, which takes minutes
            for millions of rows.
    """

    input: Path
    steps: int | None = None
    future: Path | None = None
    held_out: int = 0
    context: int | None = None

    @property
    def rows(self) -> int:
        """The number of rows to predict."""
        return max(self.held_out, 1) if self.steps is None else self.steps


def predict(folder: Path, options: PredictOptions, out: Path | None, figure: Path | None) -> None:
    """Predict a table's next rows, or labels; show them, or write them to a file.

    Args:
        out: a .csv or .parquet file for the predictions; None: the terminal.
        figure: a file for a picture of the forecast of a table; None: no picture.

    Raises:
        FileNotFoundError: there is no input, or the folder is no run.
        ValueError: a file cannot be read or written in this form, or an option is for another kind of run.
    """
    _check_files(options, out, figure)
    predictor = load(folder)
    if predictor.columns:
        check_file(options.input, "input")
    with _naming_input(), doing(f"reading {options.input}"):
        opened = predictor.opened(options.input)
    if isinstance(opened, Rows):
        tell_reading(opened.reading)
        found = _forecast(predictor, opened, options)
        _show_forecast(found, folder, options, out, figure)
        return
    idle = {"held_out": options.held_out or None, "figure": figure, "context": options.context}
    for name, given in idle.items():
        if given is not None:
            raise ValueError(f"{name} is for forecasts of tables, not for {folder}")
    with _naming_input():
        labels = predictor.predict(opened, options.rows, future=options.future)
    tell_reading(reading_of_series(predictor.config.task, options.input, len(labels)))
    _show_frame(labels, f"{folder}: {options.input}", out, lambda _, probability: f"{probability:.3f}")


def _check_files(options: PredictOptions, out: Path | None, figure: Path | None) -> None:
    """Refuse files that cannot be read or written, before the work."""
    if out is not None:
        check_suffix(out)
    if figure is not None:
        check_figure(figure)
    for path in (out, figure):
        if path is not None:
            check_place(path)
    check_spared({"out": out, "figure": figure}, {"input": options.input, "future": options.future})
    if not options.input.exists():
        raise FileNotFoundError(f"input: {options.input} is neither a file nor a folder")


@contextmanager
def _naming_input() -> Generator[None]:
    """Let an error about `data`, as the argument is called in Python, name the option `input`."""
    try:
        yield
    except ValueError as error:
        if (message := str(error)).startswith(("data: ", "data ")):
            raise ValueError(f"input{message.removeprefix('data')}") from error
        raise


def _forecast(predictor: Predictor, opened: Rows, options: PredictOptions) -> HorizonForecast:
    """The forecast of a table, with what was read of it shown."""
    if options.future is not None and not needs_inputs(predictor.config.task, options.rows):
        say(f"future: {options.future} is not needed, as every column is predicted or steps is 1")
    count = min(options.context or opened.total, opened.total - options.held_out)
    with _naming_input(), doing(f"reading {count:,} rows of {options.input}"):
        found = predictor.forecast(
            opened, options.rows, future=options.future, held_out=options.held_out, context=options.context
        )
    tell_reading(found.future)
    return found


def _show_forecast(
    found: HorizonForecast, folder: Path, options: PredictOptions, out: Path | None, figure: Path | None
) -> None:
    """Show or write a forecast, its errors if rows were held out, and its picture."""
    held, name = options.held_out, options.input.name
    place = f"after all but the last {held:,} rows of {name}" if held else f"after {name}"
    told = told_by(np.concatenate([found.measured.to_numpy(), found.predicted.to_numpy()]))
    _show_frame(found.predicted, f"{folder}: {place}", out, told)
    errors = found.errors()
    show_errors({} if errors is None else {"errors": errors})
    if figure is not None:
        found.figure(figure, f"Forecast of {folder} {place}")
        show_files([figure])


def _show_frame(frame: Any, title: str, out: Path | None, told: Callable[[int, float], str]) -> None:
    """Show a table's first columns with numbers as `told` makes text of them, or write all of it to a file."""
    if out is None:
        show_table(title, *cells_of(frame.iloc[:, :MOST_COLUMNS], told))
        if (more := frame.shape[1] - MOST_COLUMNS) > 0:
            say(f"and {more:,} more columns; --out writes all to a file")
        return
    write_frame(frame, out)
    show_files([out])


def sample(folder: Path, prompt: str, length: int, temperature: float, seed: int) -> None:
    """Continue a text, and show it with its prompt."""
    say(prompt + load(folder).sample(prompt, length, temperature=temperature, seed=seed))
