"""Names, legends and marks of static figures leave room for the data, and cover neither it nor each other."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reminding.lab.show import plots
from reminding.lab.show.figures import TITLE, label_lines, title_of
from reminding.lab.show.forecasts import Lines, forecast_figure
from reminding.lab.show.plots import Curve, credit_map, learning_curves, length_curves, recall_map, seed_dots

LONG = "a method whose name says of every option what it was, and so goes on for 80 signs"


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The figures that would be saved, laid out."""
    figures: list[Any] = []

    def keep(figure: Any, path: Path | str) -> None:
        figure.draw_without_rendering()
        figures.append(figure)
        plots.pyplot().close(figure)

    monkeypatch.setattr(plots, "finish", keep)
    return figures


def width(figure: Any) -> float:
    """Of the first axes, as a share of the figure."""
    return figure.axes[0].get_window_extent().width / figure.bbox.width


def later_chunk(reach: int, steps: int = 50, first: int = 1001) -> Any:
    """A map of a chunk whose steps recall memories as far back as `reach` steps, with dots everywhere below now."""
    memories = np.linspace(first - reach, first - 1, 30).round().astype(int)
    step = np.tile(memories, (steps, 1))
    return recall_map(step, np.full(step.shape, 0.5), first=first)


def test_many_long_names_leave_room_for_curves_and_dots(drawn: list[Any]) -> None:
    curves = [Curve(f"{place} {LONG}", [100, 200], [0.1 * place, 0.5]) for place in range(12)]
    learning_curves(curves, "accuracy", "a title", "a.png")
    seed_dots([(curve.label, curve.values) for curve in curves], "accuracy", "a title", "b.png")
    columns = [Lines(curve.label, np.zeros(9), np.ones(9)) for curve in curves]
    forecast = forecast_figure(columns, (), "a title")
    forecast.draw_without_rendering()
    for figure in (*drawn, forecast):
        assert width(figure) > 0.45
    legend, first = drawn[0].axes[0].get_legend(), drawn[0].axes[0]
    box = legend.get_window_extent()
    assert box.x0 >= first.get_window_extent().x1, "beside the curves"
    assert drawn[0].bbox.y0 <= box.y0 and box.y1 <= drawn[0].bbox.y1, "not cut"
    names = [label.get_window_extent() for label in drawn[1].axes[0].get_yticklabels()]
    names = sorted((box.y0, box.y1) for box in names)
    assert all(below[1] <= above[0] for below, above in pairwise(names))
    edges = {axes.yaxis.label.get_window_extent().x1 for axes in forecast.axes}
    assert max(edges) - min(edges) < 1, "the names of columns end at one place"


def test_short_names_stand_within_the_figure(drawn: list[Any]) -> None:
    learning_curves([Curve("sab", [1, 2], [0.1, 0.5])], "accuracy", "", "a.png")
    assert width(drawn[0]) > 0.8
    assert drawn[0].get_size_inches().tolist() == [7, 4]


def test_the_name_of_chance_covers_no_curve(drawn: list[Any]) -> None:
    """A method that learns nothing runs along the line of chance."""
    learning_curves([Curve("lstm", [1, 2], [0.125, 0.125])], "accuracy", "", "a.png", (0.125, "chance $"))
    (axes,) = drawn[0].axes
    names = [text.get_text() for text in axes.get_legend().get_texts()]
    assert (names, list(axes.texts)) == (["lstm", r"chance \$"], [])
    curve = axes.transData.transform((1, 0.125))[1]
    assert not axes.get_legend().get_window_extent().y0 <= curve <= axes.get_legend().get_window_extent().y1


def test_a_curve_of_one_evaluation_is_a_dot(drawn: list[Any]) -> None:
    learning_curves([Curve("one", [100], [0.5]), Curve("two", [100, 200], [0.1, 0.2])], "mse", "", "a.png")
    assert [line.get_marker() for line in drawn[0].axes[0].get_lines()] == ["o", ""]


def test_steps_and_updates_are_numbered_by_whole_numbers(drawn: list[Any]) -> None:
    learning_curves([Curve("one", [1, 2, 3], [0.5, 0.4, 0.3])], "mse", "", "a.png")
    length_curves([Curve("one", [1, 10, 100], [0.5, 0.4, 0.3])], "mse", "", "b.png")
    nothing = np.zeros((1, 1))
    maps = [recall_map([[0], [1]], [[0], [1]]), recall_map(nothing, nothing), credit_map([2], [1], [1.0], steps=2)]
    forecast = forecast_figure([Lines("a", np.zeros(3), np.zeros(3))], (), "")
    axes = [drawn[0].axes[0].xaxis, forecast.axes[0].xaxis]
    axes += [axis for each in maps for axis in (each.axes[0].xaxis, each.axes[0].yaxis)]
    for axis in axes:
        ticks = [tick for tick in axis.get_majorticklocs() if axis.get_view_interval()[0] <= tick]
        assert ticks == [round(tick) for tick in ticks]
        assert ticks


@pytest.mark.parametrize("reach", [10, 50, 100, 200, 300, 1000])
def test_the_legend_and_the_name_of_now_lie_above_the_line(reach: int) -> None:
    """There nothing can be, as a memory is older than the step that recalls it."""
    figure = later_chunk(reach)
    figure.draw_without_rendering()
    axes = figure.axes[0]
    (now,) = (text for text in axes.texts if text.get_text() == "now")
    map_box = axes.get_window_extent()
    for box in (axes.get_legend().get_window_extent(), now.get_window_extent()):
        right, _ = axes.transData.inverted().transform((box.x1, box.y0))
        _, line = axes.transData.transform((0, right))
        assert box.y0 > line
        assert map_box.x0 <= box.x0 and box.x1 <= map_box.x1 and box.y1 <= map_box.y1


def test_the_whole_map_of_a_sequence_ends_with_its_last_step() -> None:
    step = np.arange(20)[:, None] // 5 * 5
    assert recall_map(step, np.ones((20, 1))).axes[0].get_ylim() == (0.5, 20.5)


@pytest.mark.parametrize("marks", [["word"] * 60, ["0a"] * 100, list("0123456789") * 14, ["", "seven", "8"] * 20])
def test_no_mark_covers_another(marks: list[str]) -> None:
    nothing = np.zeros((len(marks), 1))
    figure = recall_map(nothing, nothing, input=nothing, marks=marks)
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in figure.axes[1].texts]
    assert all(before.x1 <= after.x0 + 1 for before, after in pairwise(boxes))
    assert len(boxes) > len(marks) / 5
    if max(map(len, marks)) == 1:
        assert len(boxes) == len(marks)


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("temperature_of_the_outer_wall_south", ["temperature_of_the_outer_wall_", "south"]),
        ("temperature of the outer wall, north", ["temperature of the outer wall,", "north"]),
        ("runs/etth1/sab-horizon-0-seed1-and-more", ["runs/etth1/sab-horizon-0-seed1-", "and-more"]),
        ("a rate of -0.001 and a decay of 1e-3", ["a rate of -0.001 and a decay of", "1e-3"]),
        ("x" * 40, ["x" * 32, "x" * 8]),
        ("short_name", ["short_name"]),
    ],
)
def test_a_name_is_broken_between_its_words(name: str, lines: list[str]) -> None:
    assert label_lines(name) == lines


def test_a_dollar_at_the_end_of_a_line_begins_no_formula() -> None:
    shown = title_of("x" * (TITLE - 1) + "$" + "y" * (TITLE - 1) + "$ and more")
    assert shown.replace(r"\$", "").count("$") == 0
    assert shown.replace("\n", "").startswith("x" * (TITLE - 1) + r"\$y")
