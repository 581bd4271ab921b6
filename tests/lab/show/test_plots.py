"""Static maps of a layer's recalls and credit."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from reminding.lab.show.forecasts import Lines, forecast_figure
from reminding.lab.show.growth import spread
from reminding.lab.show.plots import DOTS, credit_map, recall_map
from reminding.nn import SAB


def dots(figure: Any) -> int:
    return len(figure.axes[0].collections[0].get_offsets())


def test_maps_take_what_the_layer_returns(tmp_path: Path) -> None:
    torch.manual_seed(0)
    layer = SAB(3, 4, k_top=2, k_trunc=2)
    with layer.credit() as credit:
        output, _, recall = layer(torch.randn(12, 1, 3), return_recall=True)
        output.square().sum().backward()
    drawn = recall_map(recall.step[:, 0], recall.weight[:, 0], path=tmp_path / "recall.png")
    assert dots(drawn) == int((recall.weight > 0).sum())
    assert (tmp_path / "recall.png").stat().st_size > 5000
    paid = credit_map(credit.step, credit.memory_step, credit.amount, steps=12)
    assert dots(paid) == len(credit) > 0
    assert paid.axes[0].get_xlim() == (0.5, 12.5)
    heights = paid.axes[1].patches[0].get_data().values
    assert heights.sum() == pytest.approx(float(credit.amount.sum()), rel=1e-5)


def test_many_links_are_summed_over_squares(tmp_path: Path) -> None:
    steps = 20_000
    step = np.arange(steps)[:, None] // 10 * 10
    drawn = recall_map(step, np.ones((steps, 1)), input=np.zeros(steps), marks=["x"] * steps, path=tmp_path / "a.png")
    assert len(drawn.axes[0].images) == 1
    assert not drawn.axes[0].collections
    assert not drawn.axes[1].texts, "no room for a text each"
    assert (tmp_path / "a.png").stat().st_size < 300_000
    few = recall_map(step[: DOTS // 2], np.ones((DOTS // 2, 1)))
    assert not few.axes[0].images


def test_nothing_recalled_is_an_empty_map() -> None:
    recalls, credit = recall_map(np.zeros((5, 2)), np.zeros((5, 2))), credit_map([], [], [], input=np.zeros(5))
    for figure, said in ((recalls, "no weight"), (credit, "no credit")):
        assert not figure.axes[0].collections and figure.axes[0].get_legend() is None
        assert said in [text.get_text() for text in figure.axes[0].texts]


def test_negative_weights_are_drawn_and_ringed() -> None:
    """Those of the release are raw scores where it has few memories."""
    drawn = recall_map([[0, 0], [1, 0], [1, 2]], [[0, 0], [-3.0, 0], [0.5, 2.0]]).axes[0]
    sizes = drawn.collections[0].get_sizes()
    np.testing.assert_allclose(sizes / sizes.max(), [1, 0.5 / 3, 2 / 3])
    (ring,) = (each for each in drawn.collections if each.get_label() == "negative")
    assert ring.get_offsets().tolist() == [[2, 1]]


def test_long_times_are_fewer() -> None:
    for time, ticks in (("12:00", 5), ("2024-03-01 12:00:00.123456", 2)):
        drawn = recall_map(np.zeros((50, 1)), np.zeros((50, 1)), times=[time] * 50)
        assert len(drawn.axes[0].get_xticks()) == ticks


@pytest.mark.parametrize("letters", [5, 10, 14, 16, 19, 26])
@pytest.mark.parametrize("steps", [3, 5, 40])
def test_no_time_covers_another(letters: int, steps: int) -> None:
    times, nothing = ["0" * letters] * steps, np.zeros((steps, 1))
    figures = [
        recall_map(nothing, nothing, times=times, input=nothing),
        credit_map([], [], [], steps=steps, times=times, input=nothing),
        forecast_figure([Lines("the name of a column", nothing[:, 0], nothing[:, 0])], times, "a title"),
    ]
    for figure in figures:
        figure.draw_without_rendering()
        for axis in (figure.axes[-1].xaxis, figure.axes[0].yaxis):
            shown = [label for label in axis.get_ticklabels() if label.get_visible() and label.get_text()]
            boxes = [label.get_window_extent() for label in shown]
            along = [(box.x0, box.x1) if axis is figure.axes[-1].xaxis else (box.y0, box.y1) for box in boxes]
            assert all(before[1] < after[0] for before, after in pairwise(along))
            assert along


def test_what_does_not_fit_is_named() -> None:
    with pytest.raises(ValueError, match=r"step and weight must be \(T, K\), got \(5, 2\) and \(5, 3\)"):
        recall_map(np.zeros((5, 2)), np.zeros((5, 3)))
    with pytest.raises(ValueError, match=r"step, memory_step and amount must be \(N,\)"):
        credit_map([1, 2], [1], [1.0])
    with pytest.raises(ValueError, match="step must be at most 8, the end of the sequence, got 9"):
        credit_map([9], [1], [1.0], steps=8)
    with pytest.raises(ValueError, match="input must have a value for each of 5 steps"):
        recall_map(np.zeros((5, 1)), np.ones((5, 1)), input=np.zeros(4))


@given(st.lists(st.floats(0, 1), max_size=12).map(sorted))
def test_labels_are_moved_apart_and_no_further(heights: list[float]) -> None:
    gap = 0.05
    placed = spread(heights, gap)
    assert all(upper - lower > gap - 1e-9 for lower, upper in pairwise(placed))
    assert sum(placed) == pytest.approx(sum(heights))
    if all(upper - lower >= gap for lower, upper in pairwise(heights)):
        assert placed == pytest.approx(heights)
