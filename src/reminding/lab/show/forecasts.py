"""A figure of forecasts over the truth, one row per column, in the columns' own units.

Shapes: T time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reminding.lab.show.figures import COLOURS, label_of, new_figure, save, thin_labels, title_of, whole_ticks
from reminding.lab.show.plots import time_ticks

MOST_COLUMNS = 12
"""Columns that a figure has room for."""


@dataclass(frozen=True)
class Lines:
    """The values of a column at each step, and their forecasts, nan where there is none: (T,)."""

    name: str
    truth: NDArray[np.float64]
    forecast: NDArray[np.float64]


def forecast_figure(
    columns: Sequence[Lines], times: Sequence[str], title: str, path: Path | None = None, *, origin: int | None = None
) -> Any:
    """Draw forecasts over the truth.

    Args:
        columns: at least one; the first `MOST_COLUMNS` are drawn.
        times: of the steps, (T,), or perhaps of more; (): the steps are numbered from 1.
        path: a file to save the figure to.
        origin: the last step before the forecasts, if all were made there; it is marked. None: each forecast was made
            by the step before it.

    Returns:
        a matplotlib Figure; a notebook shows it.
    """
    label = "forecast by the step before" if origin is None else "forecast"
    drawn = columns[:MOST_COLUMNS]
    steps = np.arange(1, len(drawn[0].truth) + 1)
    figure = new_figure(figsize=(10, 1.4 + 1.15 * len(drawn)), layout="constrained")
    grid = figure.subplots(len(drawn), 1, sharex=True, squeeze=False)[:, 0]
    for axes, column in zip(grid, drawn, strict=True):
        axes.plot(steps, column.truth, color="black", linewidth=1.1, label="measured", **_dots(column.truth))
        look = {"color": COLOURS[3], "linewidth": 1.1, "label": label, **_dots(column.forecast)}
        axes.plot(steps, column.forecast, "--", **look)
        if origin is not None:
            axes.axvline(origin + 0.5, color="grey", linewidth=0.8, linestyle=":")
        axes.set_ylabel(label_of(column.name), rotation=0, ha="right", va="center")
        axes.margins(x=0)
        axes.grid(alpha=0.25)
    figure.align_ylabels(grid)
    grid[0].legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, frameon=False, fontsize=9)
    more = f" (the first {len(drawn)} of {len(columns)} columns)" if len(columns) > len(drawn) else ""
    figure.suptitle(title_of(title + more), fontsize=10)
    if times:
        grid[-1].set_xticks(*time_ticks(times, len(steps)), fontsize=8)
        thin_labels(figure)
    else:
        grid[-1].set_xlabel("step")
        whole_ticks(grid[-1].xaxis)
    if path is not None:
        save(figure, path)
    return figure


def _dots(values: NDArray[np.float64]) -> dict[str, Any]:
    """The look of a line with a dot for each value whose neighbours are missing, which a line does not reach."""
    known = np.pad(~np.isnan(values), 1)
    alone = np.flatnonzero(known[1:-1] & ~known[:-2] & ~known[2:])
    return {"marker": ".", "markersize": 4, "markevery": alone.tolist()} if len(alone) else {}
