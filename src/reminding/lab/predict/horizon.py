"""Forecasts of several rows from one origin, beside the rows that were measured.

Shapes: S rows forecast, n rows measured, K columns predicted.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reminding.checks import at_least, at_least_or_none
from reminding.lab.predict.forecast import Rows, Scaling, next_rows
from reminding.lab.predict.frames import LATEST, frame_of, index_after, index_at, joined, times_after, times_index
from reminding.lab.predict.future import known_inputs
from reminding.lab.runs.model import SequenceModel
from reminding.lab.show.forecasts import Lines, forecast_figure
from reminding.lab.show.times import time_texts
from reminding.tasks import FileStream
from reminding.tasks.data.reading import Reading
from reminding.tasks.data.tables.store import carried

SHOWN = 3
"""Rows before the forecast that are drawn, for each row of the forecast."""
LEAST_SHOWN = 48
"""Rows before the forecast that are drawn at least, if there are as many."""


@dataclass(frozen=True)
class HorizonForecast:
    """The rows that follow some rows, all forecast from the last of these.

    Attributes:
        predicted: the forecast rows, a pandas table of the target columns in their own units, (S, K).
        measured: the rows before the forecast that a picture shows, then those of the forecast that are known: a
            pandas table like `predicted`, (n, K), NaN where a value is missing.
        origin: number of rows of `measured` before the forecast.
        units: of the columns, "" where unknown, (K,).
        baselines: name -> what it predicts of the forecast rows, (S, K). "unchanged" repeats the last known values,
            NaN where there are none in the last 1,000 rows. "seasonal" repeats the last season, with those values
            where one is missing; it is left out where no season is known.
        season: rows of a season; None: none is known.
        future: what was read of a file with the known inputs of the forecast rows; None: none was read.
    """

    predicted: Any
    measured: Any
    origin: int
    units: tuple[str, ...]
    baselines: dict[str, NDArray[np.float64]]
    season: int | None
    future: Reading | None = None

    def errors(self) -> dict[str, Any] | None:
        """The errors over the forecast rows that are known, as `reminding.tasks.kinds.tallies` records them.

        Returns:
            None if no such row is known.
        """
        truth = self.measured.to_numpy()[self.origin :]
        known = ~np.isnan(truth)
        if not known.any():
            return None
        methods = {"model": self.predicted.to_numpy(), **self.baselines}
        off = {name: np.where(known, values[: len(truth)] - truth, 0) for name, values in methods.items()}
        return {
            "kind": "columns",
            "season": self.season,
            "horizon": len(self.predicted),
            "predictions": int(known.sum(0).max()),
            "columns": {
                column: {name: _errors(each[:, i], int(known[:, i].sum())) for name, each in off.items()}
                for i, column in enumerate(self.predicted.columns)
            },
        }

    def figure(self, path: Path | str | None = None, title: str = "") -> Any:
        """Draw the last measured rows, the forecast, and the truth where it is known: a panel a column.

        Args:
            path: a .png, .svg or .pdf file to write; None: no file.

        Returns:
            a matplotlib Figure; a notebook shows it.
        """
        lines = [
            Lines(f"{name}, {unit}" if unit else str(name), *self._line(i))
            for i, (name, unit) in enumerate(zip(self.predicted.columns, self.units, strict=True))
        ]
        times = time_texts(self._index().to_numpy())
        return forecast_figure(lines, times, title, None if path is None else Path(path), origin=self.origin)

    def _index(self) -> Any:
        """The index of all rows that are drawn: the measured ones, and those of the forecast that are not known."""
        known = len(self.measured) - self.origin
        return joined(self.measured.index, self.predicted.index[known:])

    def _line(self, column: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """A column measured and forecast at each row that is drawn."""
        measured, predicted = (frame.iloc[:, column].to_numpy() for frame in (self.measured, self.predicted))
        unknown = np.full(self.origin + len(predicted) - len(measured), np.nan)
        return np.append(measured, unknown), np.append(np.full(self.origin, np.nan), predicted)


def horizon_forecast(
    model: SequenceModel,
    task: FileStream,
    data: Any,
    rows: Rows,
    steps: int,
    future: Any,
    held_out: int,
    context: int | None = None,
) -> HorizonForecast:
    """Forecast the rows that follow some rows.

    Args:
        data: what the user gave, whose index names the rows if they have no times.
        rows: of the data.
        steps: S, at least 1.
        future: the known inputs of the forecast rows; None: there are none, or the rows held out have them.
        held_out: the last rows, which are not read but compared with the forecast.
        context: number of the last rows that are read before the forecast; None: all.

    Raises:
        ValueError: there are no rows, or known inputs are missing; or held_out is not below the number of rows, or
            context is below 1.
    """
    at_least("held_out", held_out, 0)
    at_least_or_none("context", context, 1)
    before = rows.without_last(held_out) if held_out else rows
    origin = before.total
    known = known_inputs(task, rows, origin, steps, future)
    values = next_rows(model, task, before, steps, known.values, context)
    end = origin + min(steps, held_out)
    first = max(0, origin - max(SHOWN * steps, LEAST_SHOWN))
    measured = task.target_of(rows.read(first, end))
    further = None if known.times is None else known.times[end - origin :]
    index = _index_of(data, rows, first, end, steps - (end - origin), further)
    season = task.facts()["season"]
    return HorizonForecast(
        frame_of(task.targets, values, index[origin - first :]),
        frame_of(task.targets, measured, index[: end - first]),
        origin - first,
        tuple(task.unit_of(name) for name in task.targets),
        _baselines(task, before, steps, season),
        season if season is not None and season <= origin else None,
        known.reading,
    )


def _index_of(data: Any, rows: Rows, first: int, end: int, further: int, future: Any) -> Any:
    """The index of rows first to end - 1, and of so many that follow them.

    Args:
        future: the index of the first of those that follow; None: it is not known.
    """
    if rows.times is None:
        known = index_at(data, rows.numbers_of(first, end))
        return joined(known, index_after(data, rows.numbers_of(0, end), further))
    name = rows.time or "time"
    known, latest = (times_index(rows.times(max(0, begin), end), name) for begin in (first, end - LATEST))
    if future is not None:
        known, latest, further = joined(known, future), joined(latest, future), further - len(future)
    return joined(known, times_after(latest, name, further, rows.timing))


def _baselines(task: FileStream, rows: Rows, steps: int, season: int | None) -> dict[str, NDArray[np.float64]]:
    """What no change and a season before predict of the rows that follow, (S, K); see `HorizonForecast`."""
    places = Scaling(task).targets
    last = carried(rows.read(max(0, rows.total - LATEST), rows.total)[:, places], None)[-1]
    found = {"unchanged": np.repeat(last[None], steps, axis=0)}
    if season is not None and season <= rows.total:
        cycle = task.target_of(rows.read(rows.total - season, rows.total))
        found["seasonal"] = np.where(np.isnan(cycle), last, cycle)[np.arange(steps) % season]
    return found


def _errors(off: NDArray[np.float64], count: int) -> dict[str, float | None]:
    if not count:
        return {"rmse": None, "mae": None}
    errors = {"rmse": float(np.sqrt(np.square(off).sum() / count)), "mae": float(np.abs(off).sum() / count)}
    return {name: value if math.isfinite(value) else None for name, value in errors.items()}
