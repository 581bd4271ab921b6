"""Static figures. The one file that imports matplotlib.

Shapes: T time, K recalled memories.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Okabe and Ito's palette: told apart by colour-blind readers, and in grey by the line styles beside it.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
STYLES = ("-", "--", "-.", ":")


@dataclass(frozen=True)
class Curve:
    """One line of a learning-curve figure: a value at some numbers of updates."""

    label: str
    steps: Sequence[int]
    values: Sequence[float]


def _pyplot() -> Any:
    try:
        import matplotlib as mpl
    except ImportError as error:
        raise ImportError('figures need matplotlib: pip install "reminding[experiments]"') from error
    mpl.use("Agg")
    from matplotlib import pyplot

    return pyplot


def learning_curves(
    curves: Sequence[Curve], ylabel: str, title: str, path: Path, level: tuple[float, str] | None = None
) -> None:
    """Draw a metric against updates, one line a run.

    Args:
        level: a value to mark with a dotted line, such as chance, and what it is.
    """
    figure, axes = _pyplot().subplots(figsize=(7, 4), layout="constrained")
    for number, curve in enumerate(curves):
        colour, style = COLOURS[number % len(COLOURS)], STYLES[number % len(STYLES)]
        axes.plot(curve.steps, curve.values, style, color=colour, label=curve.label, linewidth=1.8)
    if level is not None:
        axes.axhline(level[0], color="grey", linewidth=1, linestyle=":")
        axes.annotate(
            level[1], (0.995, level[0]), xycoords=("axes fraction", "data"), ha="right", va="bottom", color="grey"
        )
    axes.set(xlabel="updates", ylabel=ylabel, title=title)
    if ylabel.startswith("accuracy"):
        axes.set_ylim(0, 1.02)
    axes.grid(alpha=0.25)
    axes.legend(loc="best", frameon=False)
    figure.savefig(path, dpi=150)
    _pyplot().close(figure)


def recall_map(
    step: NDArray[np.int64],
    weight: NDArray[np.float64],
    path: Path,
    *,
    title: str,
    strip: NDArray[np.float64],
    marks: Sequence[str],
) -> None:
    """Draw which earlier step each step of one sequence recalled.

    Args:
        step: stream step each recalled memory was stored at, (T, K), 0 where nothing.
        weight: of each, (T, K).
        strip: one number a step that is drawn as a coloured strip along the time axis, (T,).
        marks: a short text for each step, "" for none, (T,).
    """
    span = (0.5, len(step) + 0.5)
    figure, (main, below) = _pyplot().subplots(
        2, 1, figsize=(8, 7.2), layout="constrained", sharex=True, height_ratios=[14, 1]
    )
    _draw_recalls(main, step, weight)
    main.plot(span, span, color="grey", linewidth=0.8)
    main.annotate("now", (span[1], span[1]), textcoords="offset points", xytext=(-6, -16), ha="right", color="grey")
    main.set(ylabel="recalled step (when the memory was stored)", title=title, xlim=span, ylim=span)
    main.grid(alpha=0.25)
    main.legend(loc="upper left", frameon=False)
    below.imshow(strip[None], aspect="auto", cmap="cividis", extent=(*span, 0, 1))
    bright = strip > (strip.min() + strip.max()) / 2
    for number, mark in enumerate(marks, 1):
        colour = "black" if bright[number - 1] else "white"
        below.text(number, 0.5, mark, ha="center", va="center", color=colour, fontsize=7)
    below.set(xlabel="step", yticks=[], ylabel="input")
    figure.savefig(path, dpi=150)
    _pyplot().close(figure)


def _draw_recalls(axes: Any, step: NDArray[np.int64], weight: NDArray[np.float64]) -> None:
    """A dot for each recalled memory, its area in proportion to the weight."""
    look = {"color": COLOURS[0], "alpha": 0.75, "linewidths": 0}
    area = min(160.0, 9000.0 / max(len(step), 1))
    at, slot = np.nonzero((step > 0) & (weight > 0))
    axes.scatter(at + 1, step[at, slot], s=area * weight[at, slot], **look)
    for share in (1.0, 0.5, 0.2):
        axes.scatter([], [], s=area * share, label=f"weight {share:g}", **look)
