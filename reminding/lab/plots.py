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
    """One line of a figure: a value at some numbers of updates, or lengths; and a band from low to high."""

    label: str
    steps: Sequence[int]
    values: Sequence[float]
    band: Sequence[tuple[float, float]] | None = None


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
    """Draw a metric against updates, one line a method, with a band over its seeds.

    Args:
        level: a value to mark with a dotted line, such as chance, and what it is.
    """
    _draw_curves(curves, {"xlabel": "updates", "ylabel": ylabel, "title": title}, path, level)


def length_curves(
    curves: Sequence[Curve], ylabel: str, title: str, path: Path, level: tuple[float, str] | None = None
) -> None:
    """Draw a metric against the length of the sequences tested, on a logarithmic axis, a line a method."""
    look = {"xlabel": "T of the test sequences, steps", "ylabel": ylabel, "title": title, "xscale": "log"}
    _draw_curves(curves, look, path, level, marker="o")


def _draw_curves(
    curves: Sequence[Curve], look: dict[str, str], path: Path, level: tuple[float, str] | None, marker: str = ""
) -> None:
    figure, axes = _pyplot().subplots(figsize=(7, 4), layout="constrained")
    for number, curve in enumerate(curves):
        colour, style = COLOURS[number % len(COLOURS)], STYLES[number % len(STYLES)]
        line = {"color": colour, "label": curve.label, "linewidth": 1.8, "marker": marker, "markersize": 3.5}
        axes.plot(curve.steps, curve.values, style, **line)
        if curve.band:
            low, high = zip(*curve.band, strict=True)
            axes.fill_between(curve.steps, low, high, color=colour, alpha=0.15, linewidth=0)
    if level is not None:
        axes.axhline(level[0], color="grey", linewidth=1, linestyle=":")
        axes.annotate(
            level[1], (0.995, level[0]), xycoords=("axes fraction", "data"), ha="right", va="bottom", color="grey"
        )
    axes.set(**look)
    if look["ylabel"].startswith("accuracy"):
        axes.set_ylim(0, 1.02)
    axes.grid(alpha=0.25)
    axes.legend(loc="best", frameon=False, fontsize=9)
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


@dataclass(frozen=True)
class Growth:
    """One line of a growth figure: a cost at some sizes. Members of a family share a colour."""

    label: str
    family: str
    sizes: Sequence[float]
    values: Sequence[float]


@dataclass(frozen=True)
class Panel:
    """One kind of cost, and the lines that have it."""

    ylabel: str
    lines: Sequence[Growth]


def growth_curves(panels: Sequence[Panel], xlabel: str, title: str, path: Path) -> None:
    """Draw costs against a size, a panel for each kind of cost, on logarithmic axes.

    Each line is named at its end. The first family, what the others are compared with, is black.
    """
    drawn = [panel for panel in panels if panel.lines]
    figure, grid = _pyplot().subplots(
        1, len(drawn), figsize=(7.2 * len(drawn), 5.4), layout="constrained", squeeze=False
    )
    families = list(dict.fromkeys(line.family for panel in drawn for line in panel.lines))
    for axes, panel in zip(grid[0], drawn, strict=True):
        _draw_growth(axes, panel, families)
        axes.set_xlabel(xlabel)
    figure.suptitle(title, fontsize=10)
    figure.savefig(path, dpi=150)
    _pyplot().close(figure)


def _draw_growth(axes: Any, panel: Panel, families: Sequence[str]) -> None:
    axes.set(xscale="log", yscale="log", ylabel=panel.ylabel)
    axes.margins(y=0.1)
    seen: list[str] = []
    looks: list[dict[str, str]] = []
    for line in panel.lines:
        colour = COLOURS[families.index(line.family) % len(COLOURS) - 1]
        looks.append({"color": colour, "linestyle": STYLES[seen.count(line.family) % len(STYLES)]})
        seen.append(line.family)
        axes.plot(line.sizes, line.values, linewidth=1.8, marker="o", markersize=3.5, **looks[-1])
    ticks = sorted({size for line in panel.lines for size in line.sizes})
    axes.set_xticks(ticks, [f"{tick:,g}" for tick in ticks])
    axes.yaxis.set_major_locator(_pyplot().LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter("{x:,g}")
    axes.minorticks_off()
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    for tick in ticks:
        ending = [(line, look) for line, look in zip(panel.lines, looks, strict=True) if line.sizes[-1] == tick]
        _label_ends(axes, ending, aside=0.07 if tick == ticks[-1] else 0.02)


def _label_ends(axes: Any, lines: Sequence[tuple[Growth, dict[str, str]]], aside: float) -> None:
    """Write the names of lines that end at one size beside their last points, none over another.

    Args:
        aside: how far to the right of the points, a fraction of the axes' width.
    """
    (left, right), (low, high) = np.log(axes.get_xlim()), np.log(axes.get_ylim())
    ends = sorted(lines, key=lambda each: each[0].values[-1])
    heights = spread([float((np.log(line.values[-1]) - low) / (high - low)) for line, _ in ends], gap=0.05)
    for (line, look), height in zip(ends, heights, strict=True):
        axes.annotate(
            line.label,
            (line.sizes[-1], line.values[-1]),
            xytext=((np.log(line.sizes[-1]) - left) / (right - left) + aside, height),
            textcoords="axes fraction",
            va="center",
            fontsize=9,
            color=look["color"],
            bbox={"boxstyle": "square,pad=0.1", "color": "white", "alpha": 0.75, "linewidth": 0},
            arrowprops={"arrowstyle": "-", "linewidth": 0.7, "relpos": (0, 0.5), "shrinkB": 3, **look},
        )


def spread(heights: Sequence[float], gap: float) -> list[float]:
    """Move sorted heights as little as needs be, by least squares, to stand at least `gap` apart."""
    groups: list[list[float]] = []  # where the first of each run of touching labels would have each of them stand
    for number, height in enumerate(heights):
        groups.append([height - number * gap])
        while len(groups) > 1 and np.mean(groups[-2]) > np.mean(groups[-1]):
            groups[-2:] = [groups[-2] + groups[-1]]
    level = [float(np.mean(group)) for group in groups for _ in group]
    return [height + number * gap for number, height in enumerate(level)]
