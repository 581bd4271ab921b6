"""Charts of cost and reach: measured values from results/bench, and counts by formula."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from docs.figures import reach
from docs.figures.svg import write_if_changed

# The colours of the drawing, and the colours of the page that replace them.
COLOURS = {
    "#010203": "currentColor",
    "#0072b2": "var(--picture-recall)",
    "#d55e00": "var(--picture-credit)",
    "#00795a": "var(--picture-third)",
    "#a8487f": "var(--picture-fourth)",
}
INK, *LINES = COLOURS
LOOK: dict[str, Any] = {
    **{"svg.fonttype": "none", "svg.hashsalt": "reminding", "font.size": 11},
    **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), INK),
}
"""Of all charts; matplotlib's names."""
STYLES = ("-", "--", "-.", ":")


def write(folder: Path, results: Path) -> None:
    """Write every chart as an SVG file that a page takes in."""
    import matplotlib as mpl

    mpl.use("Agg")
    with mpl.rc_context(cast("Any", LOOK)):
        charts = {"cost-measured": measured(results), "cost-counted": counted(), "reach-counted": creditable()}
    for name, (svg, about) in charts.items():
        write_if_changed(folder / f"{name}.svg", _own_colours(svg, name, about))


def ratios(path: Path, model: str, cost: str) -> tuple[list[int], list[float]]:
    """Lengths, and a model's cost at each as a ratio to nn.LSTM's, from a measured.json."""
    points = [point for point in json.loads(path.read_text())["results"] if model in point["measured"]]
    return [point["size"]["T"] for point in points], [point["measured"][model][cost] for point in points]


def measured(results: Path) -> tuple[str, str]:
    """Time as a ratio to nn.LSTM's, for two settings and two scorers."""
    lines = (
        ("k_att=2, k_trunc=5, additive", "lengths", "sab-additive"),
        ("k_att=2, k_trunc=5, separable", "lengths", "sab-separable"),
        ("k_att=10, k_trunc=10, additive", "defaults", "sab-additive"),
        ("the same, replay", "defaults", "sab-additive-replay"),
    )
    figure, axes = _axes("T, steps", "time of a training step / nn.LSTM's", "measured")
    for number, (label, folder, model) in enumerate(lines):
        _line(axes, number, *ratios(results / "bench" / folder / "measured.json", model, "ratio"), label)
    axes.axhline(1, color=INK, linewidth=0.8)
    _finish(axes, [100, 400, 1600])
    axes.set_ylim(0, None)
    return _svg(figure), "Measured: time of a training step beside nn.LSTM's at T = 100, 400 and 1,600"


def counted() -> tuple[str, str]:
    """The number of scores that a row computes."""
    lengths = [100, 200, 400, 800, 1600, 3200, 6400]
    lines = (
        ("k_att=2", 2, None),
        ("k_att=10", 10, None),
        ("k_att=50", 50, None),
        ("k_att=10, capacity=64", 10, 64),
    )
    figure, axes = _axes("T, steps", "scores a row computes", "counted")
    for number, (label, k_att, capacity) in enumerate(lines):
        _line(axes, number, lengths, [reach.scores(steps, k_att, capacity) for steps in lengths], label)
    axes.set_yscale("log")
    _finish(axes, [100, 400, 1600, 6400])
    return _svg(figure), "Counted: scores a row computes grow with the square of T, without a capacity"


def creditable() -> tuple[str, str]:
    """The share of steps that a later recall can credit."""
    figure, axes = _axes("k_att, steps between memories", "share of steps that can be credited", "counted")
    for number, k_trunc in enumerate((5, 10, 20)):
        spacings = list(range(1, 31))
        shares = [reach.creditable_share(k_att, k_trunc) for k_att in spacings]
        look = {"color": LINES[number], "linewidth": 0}
        axes.plot(spacings, shares, "osD"[number], label=f"k_trunc={k_trunc}", markersize=4, **look)
        axes.plot(spacings, shares, "-", color=LINES[number], linewidth=1, alpha=0.3)
        axes.plot([k_trunc], [1.0], "osD"[number], color=LINES[number], markersize=8)
    axes.set(ylim=(0, 1.05), xticks=[1, 5, 10, 15, 20, 25, 30])
    _finish(axes, None)
    return _svg(figure), "Counted: all steps can be credited where k_att divides k_trunc; fewer where it does not"


def _axes(xlabel: str, ylabel: str, kind: str) -> tuple[Any, Any]:
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(5.4, 3.6), layout="constrained")
    axes.set(xlabel=xlabel, ylabel=ylabel)
    axes.set_title(kind, loc="right", fontsize=11, style="italic")
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _line(axes: Any, number: int, x: Sequence[float], y: Sequence[float], label: str) -> None:
    look = {"color": LINES[number % len(LINES)], "linestyle": STYLES[number % len(STYLES)], "marker": "o"}
    axes.plot(x, y, label=label, linewidth=2, markersize=4, **look)


def _finish(axes: Any, lengths: Sequence[int] | None) -> None:
    axes.grid(color=INK, alpha=0.15)
    if lengths is not None:
        axes.set_xscale("log")
        axes.set_xticks(lengths, [f"{length:,}" for length in lengths])
        axes.minorticks_off()
    axes.legend(frameon=False, fontsize=10)


def _svg(figure: Any) -> str:
    from matplotlib import pyplot

    drawn = io.StringIO()
    figure.savefig(drawn, format="svg", transparent=True, metadata={"Date": None})
    pyplot.close(figure)
    return drawn.getvalue()


def _own_colours(svg: str, name: str, about: str) -> str:
    """The drawing as part of a page: the page's colours and width, and ids that no other drawing has."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*pt"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*pt"', r"\1", svg, count=1)
    svg = svg.replace("<svg", f'<svg class="picture" role="img" aria-label="{about}"', 1)
    svg = re.sub(r'id="([^"]+)"', rf'id="{name}-\1"', svg)
    svg = re.sub(r'(url\(#|href="#)', rf"\1{name}-", svg)
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    for drawn, own in COLOURS.items():
        svg = svg.replace(drawn, own)
    return svg
