"""Static figures. The one file that imports matplotlib.

Shapes: T time, I input features, K recalled memories, N links.
"""

from __future__ import annotations

import io
import textwrap
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reminding.disk.writing import write_file
from reminding.lab.show.escaping import for_figure

# Okabe and Ito's palette, which colour-blind readers can distinguish; in grey the line styles differ.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
STYLES = ("-", "--", "-.", ":")
DOTS = 6000
"""Above this number of links a map shows sums over squares."""
CROWD = 6
"""Above this number of curves the legend stands beside the figure."""
MARKS = 150
"""Above this number of steps there is no room for their texts."""
TICKS = 5
"""Times that are written along an axis."""
FIGURES = (".png", ".svg", ".pdf")
"""Suffixes of files that a figure can be written to."""
TITLE = 80
"""Characters of a line of a title."""


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


def title_of(text: str) -> str:
    """A title on as many lines as it needs."""
    return textwrap.fill(for_figure(text), TITLE, break_long_words=True) if text else ""


def time_ticks(times: Sequence[str], steps: int) -> tuple[list[int], list[str]]:
    """A few steps, from 1 to `steps`, with their times."""
    chosen: list[int] = np.unique(np.linspace(1, steps, min(TICKS, steps)).round().astype(int)).tolist()
    return chosen, [for_figure(times[step - 1]) for step in chosen]


def check_figure(path: Path) -> None:
    """Check that a figure can be written to a file.

    Raises:
        ValueError: the suffix is of no kind that is known.
    """
    if path.suffix.lower() not in FIGURES:
        raise ValueError(f"figure must end in {', '.join(FIGURES)}, got {path}")


def finish(figure: Any, path: Path) -> None:
    """Save a figure of pyplot and close it."""
    save(figure, path)
    pyplot().close(figure)


def save(figure: Any, path: Path) -> None:
    """Save a figure, of the kind that its suffix says. A character that the font lacks is a box in it."""
    content = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)
        figure.savefig(content, format=path.suffix.removeprefix("."), dpi=150)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_file(path, content.getvalue())


def pyplot() -> Any:
    """The module, without a screen.

    Raises:
        ImportError: matplotlib is missing; the message says what to install.
    """
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
    """Draw a metric against updates, one line per method, with a band over its seeds.

    Args:
        level: a value to mark with a dotted line, such as chance, and its name.
    """
    _draw_curves(curves, {"xlabel": "updates", "ylabel": ylabel, "title": title}, path, level)


def length_curves(
    curves: Sequence[Curve], ylabel: str, title: str, path: Path, level: tuple[float, str] | None = None
) -> None:
    """Draw a metric against the length of the test sequences, on a logarithmic axis, one line per method."""
    look = {"xlabel": "T of the test sequences, steps", "ylabel": ylabel, "title": title, "xscale": "log"}
    _draw_curves(curves, look, path, level, marker="o")


def occlusion_curves(curves: Sequence[Curve], ylabel: str, title: str, path: Path) -> None:
    """Draw a metric against the blanked share of each sequence, in per cent, one line per order."""
    _draw_curves(curves, {"xlabel": "blanked, %", "ylabel": ylabel, "title": title}, path, None, marker="o")


def seed_dots(rows: Sequence[tuple[str, Sequence[float]]], xlabel: str, title: str, path: Path) -> None:
    """Draw every seed of some methods as a dot, one row per method, the first at the top; a bar marks the mean."""
    height = 1.2 + 0.26 * len(rows)
    figure, axes = pyplot().subplots(figsize=(7, height), layout="constrained")
    for place, (_, values) in enumerate(rows):
        axes.plot(values, [place] * len(values), "o", color=COLOURS[0], alpha=0.55, markersize=6, markeredgewidth=0)
        axes.plot([np.mean(values)], [place], "|", color=COLOURS[1], markersize=13, markeredgewidth=2.2)
    axes.set_yticks(range(len(rows)), [for_figure(label) for label, _ in rows])
    axes.set(xlabel=for_figure(xlabel), title=title_of(title), ylim=(len(rows) - 0.5, -0.5))
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    finish(figure, path)


def _draw_curves(
    curves: Sequence[Curve], look: dict[str, str], path: Path, level: tuple[float, str] | None, marker: str = ""
) -> None:
    figure, axes = pyplot().subplots(figsize=(7, 4), layout="constrained")
    for number, curve in enumerate(curves):
        colour, style = curve_look(curve, number)
        line = {
            "color": colour,
            "label": for_figure(curve.label),
            "linewidth": 1.8,
            "marker": marker,
            "markersize": 3.5,
        }
        axes.plot(curve.steps, curve.values, style, **line)
        if curve.band:
            low, high = zip(*curve.band, strict=True)
            axes.fill_between(curve.steps, low, high, color=colour, alpha=0.15, linewidth=0)
    if level is not None:
        axes.axhline(level[0], color="grey", linewidth=1, linestyle=":")
        place = {"xycoords": ("axes fraction", "data"), "ha": "right", "va": "bottom"}
        axes.annotate(for_figure(level[1]), (0.995, level[0]), color="grey", **place)
    axes.set(**{**look, "ylabel": for_figure(look["ylabel"]), "title": title_of(look["title"])})
    if look["ylabel"].startswith("accuracy"):
        axes.set_ylim(0, 1.02)
    axes.grid(alpha=0.25)
    beside = {"loc": "center left", "bbox_to_anchor": (1, 0.5)} if len(curves) > CROWD else {"loc": "best"}
    axes.legend(frameon=False, fontsize=9, **beside)
    finish(figure, path)


def recall_map(
    step: Any,
    weight: Any,
    *,
    title: str = "",
    input: Any = None,
    marks: Sequence[str] | None = None,
    times: Sequence[str] = (),
    path: Path | None = None,
) -> Any:
    """Draw which earlier step each step of one sequence recalled.

        recall_map(recall.step[:, 0], recall.weight[:, 0])      # row 0 of the recall that a layer returned

    Args:
        step: stream step at which each recalled memory was stored, (T, K), an array or tensor; 0 where nothing was
            recalled.
        weight: of each recalled memory, (T, K).
        title: of the figure.
        input: the input, (T,) or (T, I), drawn as a strip of shades along the time axis.
        marks: a short text for each step, "" for none, (T,); drawn on the strip if there is room.
        times: of the steps, (T,) or more, such as dates; (): the axes show the numbers of the steps.
        path: a file to save the figure to.

    Returns:
        a matplotlib Figure; a notebook shows it.

    Raises:
        ValueError: the shapes do not fit.
    """
    steps, weights = _array(step), _array(weight)
    if steps.ndim != 2 or weights.shape != steps.shape:
        raise ValueError(f"step and weight must be (T, K), got {steps.shape} and {weights.shape}")
    at, slot = np.nonzero((steps > 0) & (weights > 0))
    links = (at + 1, steps[at, slot].astype(np.int64), weights[at, slot])
    look = _Look(COLOURS[0], "weight", title, times=times)
    return _map(links, len(steps), look, input, marks, path)


def credit_map(
    step: Any,
    memory_step: Any,
    amount: Any,
    *,
    steps: int | None = None,
    title: str = "",
    input: Any = None,
    marks: Sequence[str] | None = None,
    times: Sequence[str] = (),
    path: Path | None = None,
) -> Any:
    """Draw how much gradient each memory of one sequence received, through each recall and in total.

        credit_map(credit.step, credit.memory_step, credit.amount)      # one row of `SAB.credit`'s record

    Args:
        step: the step that recalled a memory, (N,), from 1.
        memory_step: the step at which the memory was stored, (N,).
        amount: norm of the gradient that the memory received, (N,).
        steps: length of the sequence, T; None: that of the input, or the last step in `step`.
        title, input, marks, times, path: as for `recall_map`.

    Returns:
        a matplotlib Figure; a notebook shows it.

    Raises:
        ValueError: the shapes do not fit, or a step is after the end.
    """
    links = (_array(step).astype(np.int64), _array(memory_step).astype(np.int64), _array(amount).astype(np.float64))
    if len({each.shape for each in links}) > 1 or links[0].ndim != 1:
        raise ValueError(f"step, memory_step and amount must be (N,), got {[each.shape for each in links]}")
    last = int(links[0].max(initial=1))
    length = steps or (last if input is None else len(input))
    if last > length:
        raise ValueError(f"step must be at most {length}, the length of the sequence, got {last}")
    look = _Look(COLOURS[1], "credit", title, totals=True, times=times)
    return _map(links, length, look, input, marks, path)


@dataclass(frozen=True)
class _Look:
    colour: str
    measure: str
    title: str
    totals: bool = False
    times: Sequence[str] = ()


_Links = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]
"""Later steps, earlier steps and the strength of each link, (N,) each."""


def _array(values: Any) -> NDArray[Any]:
    """A NumPy array of an array or of a tensor on any device."""
    return np.asarray(values.detach().cpu() if hasattr(values, "detach") else values)


def _map(links: _Links, steps: int, look: _Look, input: Any, marks: Sequence[str] | None, path: Path | None) -> Any:
    """A figure of links between steps, with the input below and the total of each earlier step on the right."""
    figure = new_figure(figsize=(8, 7.2 if input is not None else 6.8), layout="constrained")
    grid = figure.add_gridspec(2, 2, height_ratios=[14, 1], width_ratios=[8, 1])
    side = 1 if look.totals else 2
    rows = 1 if input is not None else 2
    main = figure.add_subplot(grid[:rows, :side])
    span = (0.5, steps + 0.5)
    _draw_links(main, links, steps, look)
    main.plot(span, span, color="grey", linewidth=0.8)
    main.annotate("now", (span[1], span[1]), textcoords="offset points", xytext=(-6, -16), ha="right", color="grey")
    main.set(
        ylabel="recalled step (when the memory was stored)",
        xlabel="step",
        title=title_of(look.title),
        xlim=span,
        ylim=span,
    )
    if look.times:
        main.set_xticks(*time_ticks(look.times, steps), fontsize=8)
        main.set_yticks(*time_ticks(look.times, steps), fontsize=8)
    main.grid(alpha=0.25)
    if look.totals:
        aside = figure.add_subplot(grid[:rows, 1], sharey=main)
        received, edges = np.histogram(links[1], min(steps, 300), span, weights=links[2])
        aside.stairs(received, edges, orientation="horizontal", fill=True, color=look.colour)
        aside.set(xlabel="total", xticks=[])
        aside.tick_params(labelleft=False)
    if input is not None:
        main.set_xlabel("")
        main.tick_params(labelbottom=False)
        strip = figure.add_subplot(grid[1, :side], sharex=main)
        _draw_strip(strip, _array(input), marks, span)
        strip.set_xlabel("" if look.times else "step")
    if path is not None:
        save(figure, path)
    return figure


def _draw_links(axes: Any, links: _Links, steps: int, look: _Look) -> None:
    """A dot for each link, with its strength as area; above `DOTS` links, sums over squares."""
    later, earlier, strength = links
    if len(strength) > DOTS:
        bins = min(steps, 300)
        sums, _, _ = np.histogram2d(later, earlier, bins, ((0.5, steps + 0.5),) * 2, weights=strength)
        shares = np.cbrt(sums.T / sums.max())  # the cube root makes weak ones visible beside strong ones
        extent = (0.5, steps + 0.5) * 2
        axes.imshow(shares, origin="lower", aspect="auto", extent=extent, cmap=_fading(look.colour), vmin=0, vmax=1)
        name = f"{look.measure}, summed over squares of {steps / bins:.3g} steps"
        axes.plot([], [], "s", color=look.colour, label=name)
    else:
        dots = {"color": look.colour, "alpha": 0.75, "linewidths": 0}
        area = min(160.0, 9000.0 / steps)
        most = 1.0 if look.measure == "weight" else strength.max(initial=1e-30)
        axes.scatter(later, earlier, s=area * strength / most, **dots)
        for share in (1.0, 0.5, 0.2):
            axes.scatter([], [], s=area * share, label=f"{look.measure} {share * most:.2g}", **dots)
    axes.legend(loc="upper left", frameon=False)


def _draw_strip(axes: Any, values: NDArray[Any], marks: Sequence[str] | None, span: tuple[float, float]) -> None:
    shades = values[:, None] if values.ndim == 1 else values
    if len(shades) != round(span[1] - span[0]):
        raise ValueError(f"input must have a value for each of {span[1] - span[0]:.0f} steps, got {values.shape}")
    axes.imshow(shades.T, aspect="auto", cmap="cividis", extent=(*span, 0, 1))
    bright = shades[:, 0] > (shades[:, 0].min() + shades[:, 0].max()) / 2
    for number, mark in enumerate(marks if marks is not None and len(marks) <= MARKS else (), 1):
        colour = "black" if bright[number - 1] else "white"
        axes.text(number, 0.5, for_figure(mark), ha="center", va="center", color=colour, fontsize=7)
    axes.set(yticks=[], ylabel="input")


def new_figure(**look: Any) -> Any:
    """A figure that pyplot does not manage, so that it need not be closed and a notebook's backend stays."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError('figures need matplotlib: pip install "reminding[experiments]"') from error
    return Figure(**look)


def _fading(colour: str) -> Any:
    """A colour map from white to a colour."""
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list(colour, ["white", colour])
