"""Static figures: curves, and maps of recalls and credit.

Shapes: T time, I input features, K recalled memories, N links.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reminding.lab.show.arguments import (
    check_clock,
    check_credit,
    count,
    curve_points,
    length_of,
    numbers,
    recalled,
    shades_of,
    texts,
    whole_numbers,
)
from reminding.lab.show.escaping import for_figure
from reminding.lab.show.figures import (
    COLOURS,
    LINE,
    STYLES,
    fading,
    finish,
    label_of,
    lines_of,
    new_figure,
    pyplot,
    save,
    thin_labels,
    title_of,
    whole_ticks,
)

DOTS = 6000
"""Above this number of links a map shows sums over squares."""
CROWD = 6
"""Above this number of lines the legend stands beside the figure."""
MARKS = 150
"""Above this number of steps there is no room for their texts."""
MARK_LETTERS = 100
"""Letters of marks that have room along the strip; more are smaller."""
LEGEND = 0.16, 0.3
"""Height and width of the legend of a map, as shares of the map."""
ROOM = 0.05
"""Height of a line of text, as a share of a map."""
TICKS = 5
"""The most times that are written along an axis."""
LETTERS = 75
"""Letters of times, and of the gaps between them, that have room along an axis."""


@dataclass(frozen=True)
class Curve:
    """One line of a figure: values at some numbers of updates or lengths, with a band from low to high.

    Args:
        look: number of the colour and style, the same for a method in every figure; None: its place in the figure.
    """

    label: str
    steps: Sequence[int]
    values: Sequence[float]
    band: Sequence[tuple[float, float]] | None = None
    look: int | None = None


def curve_look(curve: Curve, place: int) -> tuple[str, str]:
    """Colour and line style of a curve at a place in its figure, from 0."""
    look = place if curve.look is None else curve.look
    return COLOURS[look % len(COLOURS)], STYLES[look % len(STYLES)]


def time_ticks(times: Sequence[str], steps: int, first: int = 1) -> tuple[list[int], list[str]]:
    """A few steps, from the first to `steps`, with their times."""
    longest = max((len(times[step - 1]) for step in range(first, steps + 1)), default=0)
    room = max(2, min(TICKS, LETTERS // (longest + 3)))
    ticks = min(room, steps - first + 1)
    chosen: list[int] = np.unique(np.linspace(first, steps, ticks).round().astype(int)).tolist()
    return chosen, [for_figure(times[step - 1]) for step in chosen]


def learning_curves(
    curves: Sequence[Curve], ylabel: str, title: str, path: Path | str, level: tuple[float, str] | None = None
) -> None:
    """Draw a metric against updates, one line per method, with a band over its seeds.

    Args:
        level: a value to mark with a dotted line, such as chance, and its name.

    Raises:
        ValueError: there are no curves, or the values of one are not as many as its steps; the message names them.
    """
    _draw_curves(curves, {"xlabel": "updates", "ylabel": ylabel, "title": title}, path, level)


def length_curves(
    curves: Sequence[Curve], ylabel: str, title: str, path: Path | str, level: tuple[float, str] | None = None
) -> None:
    """Draw a metric against the length of the test sequences, on a logarithmic axis, one line per method."""
    look = {"xlabel": "T of the test sequences, steps", "ylabel": ylabel, "title": title, "xscale": "log"}
    _draw_curves(curves, look, path, level, marker="o")


def occlusion_curves(curves: Sequence[Curve], ylabel: str, title: str, path: Path | str) -> None:
    """Draw a metric against the blanked share of each sequence, in per cent, one line per order."""
    _draw_curves(curves, {"xlabel": "blanked, %", "ylabel": ylabel, "title": title}, path, None, marker="o")


def seed_dots(rows: Sequence[tuple[str, Sequence[float]]], xlabel: str, title: str, path: Path | str) -> None:
    """Draw every seed of some methods as a dot, one row per method, the first at the top; a bar marks the mean."""
    labels = [label_of(label) for label, _ in rows]
    height = 1.2 + max([0.26, *(LINE * lines for lines in lines_of(labels))]) * len(rows)
    figure, axes = pyplot().subplots(figsize=(7, height), layout="constrained")
    for place, (_, values) in enumerate(rows):
        axes.plot(values, [place] * len(values), "o", color=COLOURS[0], alpha=0.55, markersize=6, markeredgewidth=0)
        axes.plot([np.mean(values)], [place], "|", color=COLOURS[1], markersize=13, markeredgewidth=2.2)
    axes.set_yticks(range(len(rows)), labels)
    axes.set(xlabel=for_figure(xlabel), title=title_of(title), ylim=(len(rows) - 0.5, -0.5))
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    finish(figure, path)


def _draw_curves(
    curves: Sequence[Curve], look: dict[str, str], path: Path | str, level: tuple[float, str] | None, marker: str = ""
) -> None:
    if not curves:
        raise ValueError("curves must be at least one, got none")
    points = [curve_points(curve.label, curve.steps, curve.values, curve.band) for curve in curves]
    labels = [label_of(curve.label) for curve in curves]
    if level is not None:
        labels.append(label_of(level[1]))
    lines = sum(lines_of(labels))
    height = max(4, 0.8 + LINE * lines) if lines > CROWD else 4
    figure, axes = pyplot().subplots(figsize=(7, height), layout="constrained")
    for number, (curve, (steps, values, band)) in enumerate(zip(curves, points, strict=True)):
        colour, style = curve_look(curve, number)
        dots = {"marker": marker or ("o" if len(steps) == 1 else ""), "markersize": 3.5}
        axes.plot(steps, values, style, color=colour, label=labels[number], linewidth=1.8, **dots)
        if band is not None:
            axes.fill_between(steps, *band.T, color=colour, alpha=0.15, linewidth=0)
    if level is not None:
        axes.axhline(level[0], color="grey", linewidth=1, linestyle=":", label=labels[-1])
    axes.set(**{**look, "ylabel": for_figure(look["ylabel"]), "title": title_of(look["title"])})
    if look["ylabel"].startswith("accuracy"):
        axes.set_ylim(0, 1.02)
    axes.grid(alpha=0.25)
    if "xscale" not in look:
        whole_ticks(axes.xaxis)
    beside = {"loc": "center left", "bbox_to_anchor": (1, 0.5)} if lines > CROWD else {"loc": "best"}
    axes.legend(frameon=False, fontsize=9, **beside)
    finish(figure, path)


def recall_map(
    step: Any,
    weight: Any,
    *,
    first: int = 1,
    title: str = "",
    input: Any = None,
    marks: Sequence[str] | None = None,
    times: Sequence[str] | NDArray[Any] = (),
    path: Path | str | None = None,
) -> Any:
    """Draw which earlier step each step of one sequence recalled. Negative weights, the release's, are ringed.

        recall_map(recall.step[:, 0], recall.weight[:, 0])      # row 0 of the recall that a layer returned

    A later chunk of a stream needs `first`, as `Recall.step` counts from the stream's beginning:

        output, later, recall = layer(chunk, state, return_recall=True)
        recall_map(recall.step[:, 0], recall.weight[:, 0], first=int(state.step[0]) + 1)

    Args:
        step: stream step at which each recalled memory was stored, (T, K), an array or tensor; 0 where nothing was
            recalled.
        weight: of each recalled memory, (T, K).
        first: the stream step of row 0.
        title: of the figure.
        input: the input, (T,) or (T, I), drawn as a strip of shades along the time axis; blank where it is NaN.
        marks: a short text for each step, "" for none, (T,); drawn on the strip where there is room, which is for at
            most 150 steps. A text that would touch the one before it is left out.
        times: of the stream's steps from its beginning, (first - 1 + T,) or more, such as dates, as texts or
            datetime64; (): the axes show the numbers of the steps.
        path: a file to save the figure to.

    Returns:
        a matplotlib Figure; a notebook shows it.

    Raises:
        ValueError: an argument is not finite or has another shape, or a memory is later than the step that recalled
            it, as in a chunk without `first`. The message names the argument.
    """
    steps, weights = recalled(step, weight)
    first = count("first", first)
    at, slot = np.nonzero((steps > 0) & (weights != 0))
    signed = weights[at, slot]
    links = (at + first, steps[at, slot], np.abs(signed))
    check_clock(links[0], links[1], first)
    look = _Look(COLOURS[0], "weight", title, times=times, first=first, negative=signed < 0)
    return _map(links, len(steps), look, input, marks, path)


def credit_map(
    step: Any,
    memory_step: Any,
    amount: Any,
    *,
    steps: int | None = None,
    first: int = 1,
    title: str = "",
    input: Any = None,
    marks: Sequence[str] | None = None,
    times: Sequence[str] | NDArray[Any] = (),
    path: Path | str | None = None,
) -> Any:
    """Draw how much gradient each memory of one sequence received, through each recall and in total.

        credit_map(credit.step, credit.memory_step, credit.amount)      # one row of `SAB.credit`'s record

    Args:
        step: the stream step that recalled a memory, (N,), from 1.
        memory_step: the stream step at which the memory was stored, (N,).
        amount: norm of the gradient that the memory received, (N,).
        steps: length of the sequence, T; None: that of the input, or up to the last step in `step`.
        first: the stream step that the sequence begins with, as for `recall_map`. The gradient of a later chunk may
            have come through recalls of earlier ones: begin with the earliest of them.
        title, input, marks, times, path: as for `recall_map`.

    Returns:
        a matplotlib Figure; a notebook shows it.

    Raises:
        ValueError: an argument is not finite or has another shape, a step is outside the sequence, or a memory is
            later than the step that recalled it. The message names the argument.
    """
    links = (whole_numbers("step", step), whole_numbers("memory_step", memory_step), numbers("amount", amount))
    if len({each.shape for each in links}) > 1 or links[0].ndim != 1:
        raise ValueError(f"step, memory_step and amount must be (N,), got {[each.shape for each in links]}")
    first = count("first", first)
    if steps is None:
        steps = max(int(links[0].max(initial=first)) - first + 1, 1) if input is None else length_of(input)
    check_credit(links[0], links[1], first, first - 1 + count("steps", steps))
    look = _Look(COLOURS[1], "credit", title, totals=True, times=times, first=first)
    return _map(links, steps, look, input, marks, path)


@dataclass(frozen=True)
class _Look:
    colour: str
    measure: str
    title: str
    totals: bool = False
    times: Sequence[str] | NDArray[Any] = ()
    first: int = 1
    negative: NDArray[np.bool_] | None = None


_Links = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]
"""Later steps, earlier steps and the strength of each link, (N,) each."""


def _map(
    links: _Links, steps: int, look: _Look, input: Any, marks: Sequence[str] | None, path: Path | str | None
) -> Any:
    """A figure of links between steps, with the input below and the total of each earlier step on the right."""
    last = look.first - 1 + steps
    shades = None if input is None else shades_of(input, steps)
    marks, times = texts("marks", marks, steps), texts("times", look.times, last, more=True)
    lowest = int(links[1].min(initial=look.first))
    span, below = (look.first - 0.5, last + 0.5), (lowest - 0.5, last + 0.5)
    figure = new_figure(figsize=(8, 7.2 if input is not None else 6.8), layout="constrained")
    grid = figure.add_gridspec(2, 2, height_ratios=[14, 1], width_ratios=[8, 1])
    side = 1 if look.totals else 2
    rows = 1 if input is not None else 2
    main = figure.add_subplot(grid[:rows, :side])
    _draw_links(main, links, (span, below), look)
    names = {"ylabel": "recalled step (when the memory was stored)", "xlabel": "step", "title": title_of(look.title)}
    main.set(**names, xlim=span, ylim=(below[0], _top(span, below)))
    whole_ticks(main.xaxis, main.yaxis)
    _draw_now(main, span)
    if times:
        main.set_xticks(*time_ticks(times, last, look.first), fontsize=8)
        main.set_yticks(*time_ticks(times, last, max(lowest, 1)), fontsize=8)
    main.grid(alpha=0.25)
    if look.totals:
        aside = figure.add_subplot(grid[:rows, 1], sharey=main)
        received, edges = np.histogram(links[1], _bins(below), below, weights=links[2])
        aside.stairs(received, edges, orientation="horizontal", fill=True, color=look.colour)
        aside.set(xlabel="total", xticks=[])
        aside.tick_params(labelleft=False)
    if shades is not None:
        main.set_xlabel("")
        main.tick_params(labelbottom=False)
        strip = figure.add_subplot(grid[1, :side], sharex=main)
        _draw_strip(strip, shades, marks, span)
        strip.set_xlabel("" if times else "step")
        strip.tick_params(labelsize=8 if times else None)
    if times:
        thin_labels(figure)
    if path is not None:
        save(figure, path)
    return figure


_Span = tuple[float, float]


def _top(span: _Span, below: _Span) -> float:
    """The upper end of the axis of recalled steps, which leaves room for the legend above the line of now."""
    height, width = LEGEND
    lowest = span[0] + width * (span[1] - span[0])  # that the legend may reach down to
    return max(below[1], (lowest - height * below[0]) / (1 - height))


def _draw_now(axes: Any, span: _Span) -> None:
    """The line at which a recalled step would be the present one, with its name above it, where nothing is."""
    axes.plot(span, span, color="grey", linewidth=0.8)
    low, high = axes.get_ylim()
    rise = (span[1] - span[0]) / (high - low)
    above = (high - span[1]) / (high - low)
    place = {"xytext": (-6, 4)} if above > ROOM else {"xytext": (-18 / rise - 4, -4), "va": "top"}
    axes.annotate("now", (span[1], span[1]), textcoords="offset points", ha="right", color="grey", **place)


def _bins(span: _Span) -> int:
    """The number of bins along an axis: one for each step, unless they are too many to be told apart."""
    return min(round(span[1] - span[0]), 300)


def _draw_links(axes: Any, links: _Links, spans: tuple[_Span, _Span], look: _Look) -> None:
    """A dot for each link, with its strength as area; above `DOTS` links, sums over squares."""
    later, earlier, strength = links
    steps = round(spans[0][1] - spans[0][0])
    if not strength.any():
        axes.annotate(f"no {look.measure}", (0.03, 0.95), xycoords="axes fraction", va="center", color="grey")
        return
    if len(strength) > DOTS:
        bins = [_bins(span) for span in spans]
        sums, _, _ = np.histogram2d(later, earlier, bins, spans, weights=strength)
        shares = np.cbrt(sums.T / sums.max())  # the cube root makes weak ones visible beside strong ones
        extent = (*spans[0], *spans[1])
        axes.imshow(shares, origin="lower", aspect="auto", extent=extent, cmap=fading(look.colour), vmin=0, vmax=1)
        sides = [f"{(span[1] - span[0]) / count:.3g}" for span, count in zip(spans, bins, strict=True)]
        name = f"{look.measure}, summed over squares of {' x '.join(dict.fromkeys(sides))} steps"
        axes.plot([], [], "s", color=look.colour, label=name)
    else:
        dots = {"color": look.colour, "alpha": 0.75, "linewidths": 0}
        area = min(160.0, 9000.0 / steps)
        most = max(1.0, strength.max()) if look.measure == "weight" else strength.max()
        axes.scatter(later, earlier, s=area * strength / most, **dots)
        for share in (1.0, 0.5, 0.2):
            axes.scatter([], [], s=area * share, label=f"{look.measure} {share * most:.2g}", **dots)
        if look.negative is not None and look.negative.any():
            ringed = {"facecolors": "none", "edgecolors": "black", "linewidths": 0.8, "label": "negative"}
            sizes = area * strength[look.negative] / most
            axes.scatter(later[look.negative], earlier[look.negative], s=sizes, **ringed)
    axes.legend(loc="upper left", frameon=False)


def _draw_strip(axes: Any, shades: NDArray[np.float64], marks: Sequence[str], span: _Span) -> None:
    axes.imshow(shades.T, aspect="auto", cmap="cividis", extent=(*span, 0, 1))
    known = shades[np.isfinite(shades)]
    bright = ~(shades[:, 0] <= (known.min(initial=np.inf) + known.max(initial=-np.inf)) / 2)
    letters = max(1, MARK_LETTERS / max(len(marks), 1))  # that have room in a step
    size, free = min(7, 7 * MARK_LETTERS / max(len(marks), 1)), -np.inf
    for number, mark in enumerate(marks if len(marks) <= MARKS else ()):
        half = len(mark) / letters / 2
        if not mark or number - half < free:
            continue
        free = number + half
        colour = "black" if bright[number] else "white"
        place = {"ha": "center", "va": "center", "fontsize": size}
        axes.text(span[0] + 0.5 + number, 0.5, for_figure(mark), color=colour, **place)
    axes.set(yticks=[], ylabel="input")
