"""Figures of a cost that grows with a size, on logarithmic axes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from reminding.lab.show.escaping import for_figure
from reminding.lab.show.figures import COLOURS, STYLES, finish, pyplot, title_of


@dataclass(frozen=True)
class Growth:
    """One line of a growth figure: a cost at some sizes. Members of a family share a colour."""

    label: str
    family: str
    sizes: Sequence[float]
    values: Sequence[float]


@dataclass(frozen=True)
class Panel:
    """One kind of cost, with its lines."""

    ylabel: str
    lines: Sequence[Growth]


def growth_curves(panels: Sequence[Panel], xlabel: str, title: str, path: Path) -> None:
    """Draw costs against a size, one panel per kind of cost, on logarithmic axes.

    Each line is named at its end. The first family, the baseline, is black.
    """
    drawn = [panel for panel in panels if panel.lines]
    figure, grid = pyplot().subplots(
        1, len(drawn), figsize=(7.2 * len(drawn), 5.4), layout="constrained", squeeze=False
    )
    families = list(dict.fromkeys(line.family for panel in drawn for line in panel.lines))
    for axes, panel in zip(grid[0], drawn, strict=True):
        _draw_growth(axes, panel, families)
        axes.set_xlabel(for_figure(xlabel))
    figure.suptitle(title_of(title), fontsize=10)
    finish(figure, path)


def growth_looks(panel: Panel, families: Sequence[str]) -> list[tuple[str, str]]:
    """Colour and line style of each line: one colour per family, black for the first; one style per member."""
    seen: Counter[str] = Counter()
    looks: list[tuple[str, str]] = []
    for line in panel.lines:
        colour = COLOURS[families.index(line.family) % len(COLOURS) - 1]
        looks.append((colour, STYLES[seen[line.family] % len(STYLES)]))
        seen[line.family] += 1
    return looks


def _draw_growth(axes: Any, panel: Panel, families: Sequence[str]) -> None:
    axes.set(xscale="log", yscale="log", ylabel=for_figure(panel.ylabel))
    axes.margins(y=0.1)
    looks = [{"color": colour, "linestyle": style} for colour, style in growth_looks(panel, families)]
    for line, look in zip(panel.lines, looks, strict=True):
        axes.plot(line.sizes, line.values, linewidth=1.8, marker="o", markersize=3.5, **look)
    ticks = sorted({size for line in panel.lines for size in line.sizes})
    axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    axes.yaxis.set_major_locator(pyplot().LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter("{x:,g}")
    axes.minorticks_off()
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    for tick in ticks:
        ending = [(line, look) for line, look in zip(panel.lines, looks, strict=True) if line.sizes[-1] == tick]
        _label_ends(axes, ending, aside=0.07 if tick == ticks[-1] else 0.02)


def _label_ends(axes: Any, lines: Sequence[tuple[Growth, dict[str, str]]], aside: float) -> None:
    """Write the names of lines that end at one size beside their last points, without overlap.

    Args:
        aside: distance to the right of the points, a fraction of the axes' width.
    """
    (left, right), (low, high) = np.log(axes.get_xlim()), np.log(axes.get_ylim())
    ends = sorted(lines, key=lambda each: each[0].values[-1])
    heights = spread([float((np.log(line.values[-1]) - low) / (high - low)) for line, _ in ends], gap=0.05)
    for (line, look), height in zip(ends, heights, strict=True):
        axes.annotate(
            for_figure(line.label),
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
    """Move sorted heights as little as possible, by least squares, so that they are at least `gap` apart."""
    groups: list[list[float]] = []  # for each run of touching labels, where each label would put the run's first one
    for number, height in enumerate(heights):
        groups.append([height - number * gap])
        while len(groups) > 1 and np.mean(groups[-2]) > np.mean(groups[-1]):
            groups[-2:] = [groups[-2] + groups[-1]]
    level = [float(np.mean(group)) for group in groups for _ in group]
    return [height + number * gap for number, height in enumerate(level)]
