"""The page of a table's forecasts, and of sequences with missing values and padding, in a browser."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reminding.lab.explain.legend import Legend
from reminding.lab.explain.times import numbered
from reminding.tasks.data.scale import Scale
from tests.lab.explain.pages import Shown, made_up, of_a_table, written

UNSCALED = Scale(np.zeros(2), np.ones(2))


def drawing(shown: Shown) -> ElementTree.Element:
    """The strip as it is drawn, in SVG."""
    return ElementTree.fromstring(
        shown.ask("""(() => {
        const painter = new SvgPainter(scene.width, scene.height);
        drawStrip(painter, scene, state.colours);
        return painter.written();
    })()""")
    )


SVG = "{http://www.w3.org/2000/svg}"


def test_the_forecast_is_drawn_over_the_truth(browser: Any, tmp_path: Path) -> None:
    explanation = of_a_table(1, steps=40)
    shown = Shown(browser, written(tmp_path, explanation))
    lines = [line for line in drawing(shown).findall(f".//{SVG}polyline") if len(line.get("points", "").split()) > 40]
    (truth,) = (line for line in lines if line.get("stroke-dasharray") is None)
    (forecast,) = (line for line in lines if line.get("stroke-dasharray") == "5 3")
    own, told = (np.array(line.get("points", "").split(), float).reshape(-1, 2) for line in (truth, forecast))
    assert (len(own), len(told)) == (40, 39)
    np.testing.assert_allclose(told[:, 0], own[1:, 0], atol=0.02)
    per_unit = (own[:, 1].max() - own[:, 1].min()) / np.ptp(explanation.input)
    np.testing.assert_allclose(own[1:, 1] - told[:, 1], per_unit, atol=0.05)  # 1 degC higher
    words = [text.text for text in drawing(shown).findall(f".//{SVG}text")]
    assert "column 0, degC" in words
    high = max(explanation.input.max(), float(explanation.input[1:].max()) + 1)
    assert f"{high:.2f}" in words
    assert "2024-03-03" in words
    assert shown.complaints == []


def test_details_have_dates_and_units(browser: Any, tmp_path: Path) -> None:
    explanation = of_a_table(2, reached=np.arange(200.0))
    assert explanation.forecast is not None
    shown = Shown(browser, written(tmp_path, explanation))
    captions = shown.tab.locator("#details caption").all_text_contents()
    assert captions == ["Where the gradient met the input", "Memories with the most credit"], "the input comes first"
    first = shown.tab.locator("table:has(caption.met) tbody tr").first.locator("td").all_text_contents()
    assert first == ["200", "2024-04-19 18:00", "1.0%"]
    shown.press("Home", "ArrowRight")
    assert "Row 2 · 2024-03-01 06:00" in shown.tab.inner_text("#details")
    (cells,) = (row.split("\t") for row in shown.tab.locator("table.forecast tbody").inner_text().split("\n"))
    numbers = (explanation.input[1, 0], explanation.forecast.predicted[1, 0], explanation.input[2, 0])
    digits = explanation.forecast.decimals()[0]
    assert cells == ["column 0, degC", *(f"{number:.{digits}f}" for number in numbers)]
    assert shown.tab.get_attribute("#figure", "aria-valuetext") == "row 2 · 2024-03-01 06:00"


def test_missing_values_are_gaps_and_are_told(browser: Any, tmp_path: Path) -> None:
    explanation = of_a_table(2, steps=40)
    given = np.concatenate([explanation.input, np.zeros((40, 1))], axis=1)
    given[10:15, 2] = 1
    legend = replace(explanation.legend, channels=("a", "a missing"), masked=(0,), units=(), scale=UNSCALED)
    assert explanation.forecast is not None
    truth = explanation.forecast.truth.copy()
    truth[11] = np.nan
    forecast = replace(explanation.forecast, truth=truth)
    found = replace(explanation, input=given, legend=legend, forecast=forecast)
    shown = Shown(browser, written(tmp_path, found))
    assert shown.ask("scene.sequence.lanes.map((lane) => lane.name)") == ["a", "a missing"], "the latter is a column"
    lines = [line for line in drawing(shown).findall(f".//{SVG}polyline") if line.get("stroke-dasharray") is None]
    lengths = [len(line.get("points", "").split()) // 2 for line in lines]
    assert {10, 25, 40} <= set(lengths), "the first column has a gap of five steps, the second has none"
    shown.press("Home", *["ArrowRight"] * 11)
    (cells,) = (row.split("\t") for row in shown.tab.locator("table.forecast tbody").inner_text().split("\n"))
    assert (cells[1], cells[3]) == ("missing", "missing")
    assert ", target missing. Recalled" in shown.tab.inner_text("#said")
    assert shown.complaints == []


def test_the_missing_values_of_a_step_with_many_are_counted(browser: Any, tmp_path: Path) -> None:
    found = replace(made_up(20, legend=Legend("wave", classes=("knock", "rattle"), channels=("value",))), target=None)
    given = np.random.default_rng(0).random((20, 8))
    given[3, 2:5] = np.nan
    shown = Shown(browser, written(tmp_path, replace(found, input=given, prediction=found.prediction[:, :2])))
    shown.press("Home", "ArrowRight", "ArrowRight", "ArrowRight")
    assert "8 values, 3 of them missing" in shown.tab.inner_text("#details")
    shown.press("ArrowRight")
    assert "8 values\n" in shown.tab.inner_text("#details")


def test_padding_is_told_from_a_sequence(browser: Any, tmp_path: Path) -> None:
    legend = Legend("wave", classes=("knock", "rattle"), channels=("value",))
    found = made_up(30, legend=legend)
    found = replace(found, input=found.input[:, :1], prediction=found.prediction[:, :2], target=None, padding=12)
    shown = Shown(browser, written(tmp_path, found))
    assert "padding" in [text.text for text in drawing(shown).findall(f".//{SVG}text")]
    lines = [line.get("points", "").split() for line in drawing(shown).findall(f".//{SVG}polyline")]
    assert 18 in {len(points) // 2 for points in lines}
    shown.press("Home")
    assert "Step 1 · padding" in shown.tab.inner_text("#details")
    assert shown.complaints == []


def test_negative_weights_keep_their_sign_in_tables(browser: Any, tmp_path: Path) -> None:
    found = made_up(30)
    weight = found.layers[0].weight.copy()
    weight[25] = [-0.75, 0.25, 0, 0, 0]
    shown = Shown(browser, written(tmp_path, replace(found, layers=(replace(found.layers[0], weight=weight),))))
    shown.press("Home", *["ArrowRight"] * 25)
    weights = shown.tab.locator("table:has(caption.recall) tbody td:nth-child(3)").all_text_contents()
    assert weights[0] == "-0.750"
    assert shown.ask("scene.layer.recall.amount.every((amount) => amount > 0)")
    assert "Recalled step 20 (-75%)" in shown.tab.inner_text("#said")


@pytest.mark.parametrize("arcs", ["0", "6"], ids=["bundled", "single"])
def test_arcs_of_negative_weights_are_dashed(browser: Any, tmp_path: Path, arcs: str) -> None:
    found = made_up(60)
    layer = replace(found.layers[0], weight=np.where(found.layers[0].step == 20, -3, 1) * found.layers[0].weight)
    shown = Shown(browser, written(tmp_path, found, replace(found, layers=(layer,))))
    for sequence, dashed in (("0", False), ("1", True)):
        shown.tab.select_option("#sequence", sequence)
        shown.tab.locator("#most").fill(arcs)
        shown.press("Home", "Escape")
        drawn = ElementTree.fromstring(
            shown.ask("""(() => {
            const painter = new SvgPainter(scene.width, scene.height);
            drawAll(painter, scene, state.colours, null);
            return painter.written();
        })()""")
        )
        paths = [path for path in drawn.findall(f".//{SVG}path") if path.get("fill") == "none"]
        ends = shown.ask(
            "scene.arcs.recall.arcs.concat(scene.arcs.credit.arcs).map((arc) => Math.abs(arc[1] - 20) < 0.5)"
        )
        kinds = shown.ask("scene.arcs.recall.arcs.map(() => true).concat(scene.arcs.credit.arcs.map(() => false))")
        want = [dashed and recall and negative for recall, negative in zip(kinds, ends, strict=True)]
        assert [path.get("stroke-dasharray") == "6 3" for path in paths] == want
        assert any(want) == dashed
        words = [text.text for text in drawn.findall(f".//{SVG}text")]
        assert ("recalled, by weight (dashed: negative)" in words) == dashed


def test_a_tone_of_many_samples_a_pixel_is_a_band(browser: Any, tmp_path: Path) -> None:
    """Each pixel has a stroke from its least to its greatest sample; one a step drew a row of boxes."""
    legend = Legend("wave", classes=("knock", "rattle"), channels=("value",))
    found = made_up(100, legend=legend)
    samples = np.sin(np.arange(6400) * 0.3 * 2 * np.pi) * np.repeat([0.1, 1.0], 3200)
    found = replace(found, input=samples.reshape(100, 64), prediction=found.prediction[:, :2], target=None)
    shown = Shown(browser, written(tmp_path, found))
    lines = [line.get("points", "").split() for line in drawing(shown).findall(f".//{SVG}polyline")]
    x, y = np.array(max(lines, key=len), float).reshape(-1, 2).T
    assert np.diff(x).max() < 1.3, "pixels"
    tall = np.abs(y[::2] - y[1::2])
    quiet, loud = tall[x[::2] < x.max() / 2 - 2], tall[x[::2] > x.max() / 2 + 2]
    assert loud.min() > 0.8 * loud.max() and quiet.min() > 0.8 * quiet.max()
    assert quiet.max() == pytest.approx(loud.max() / 10, rel=0.1)


def test_a_step_is_called_by_its_row_of_the_file(browser: Any, tmp_path: Path) -> None:
    shown = Shown(browser, written(tmp_path, of_a_table(2, times=numbered(range(101, 302), "row"))))
    shown.press("Home", "ArrowRight")
    assert "Row 102 · step 2" in shown.tab.inner_text("#details")
    assert shown.tab.get_attribute("#figure", "aria-valuetext") == "row 102 · step 2"
    assert "101" in [text.text for text in drawing(shown).findall(f".//{SVG}text")]


def test_a_column_can_be_shown_alone(browser: Any, tmp_path: Path) -> None:
    shown = Shown(browser, written(tmp_path, of_a_table(12)))
    assert shown.tab.locator("#column option").first.text_content() == "the first 8 of 12"
    assert shown.ask("lanesOf(scene).length") == 8
    shown.tab.select_option("#column", "11")
    assert shown.ask("lanesOf(scene).map((lane) => lane.name)") == ["column 11"]
    words = [text.text for text in drawing(shown).findall(f".//{SVG}text")]
    assert "column 11" in words
    assert "column 0, degC" not in words


def count_of_texts_apart(shown: Shown, letter: float = 0.62) -> int:
    """The number of texts of the strip, none of which covers another.

    Args:
        letter: the width of a letter, of its height.
    """
    boxes: list[tuple[float, float, float, float]] = []
    for text in drawing(shown).findall(f".//{SVG}text"):
        size, x, y = (float(text.get(name, "")) for name in ("font-size", "x", "y"))
        wide = letter * size * len(text.text or "")
        left = {"start": x, "middle": x - wide / 2, "end": x - wide}[text.get("text-anchor", "start")]
        boxes.append((left, left + wide, y - size / 2, y + size / 2))
    for i, (left, right, top, bottom) in enumerate(boxes):
        for other in boxes[:i]:
            apart = right <= other[0] or other[1] <= left or bottom <= other[2] or other[3] <= top
            assert apart, f"{boxes[i]} covers {other}"
    return len(boxes)


@pytest.mark.parametrize("steps", [20, 50, 70, 85, 99])
@pytest.mark.parametrize("names", [("lo", "hi"), ("l", "h"), ("<b>hi</b>", "lo")])
def test_no_class_covers_another(browser: Any, tmp_path: Path, steps: int, names: tuple[str, str]) -> None:
    found = made_up(steps, legend=Legend("wave", classes=names, channels=("value",)))
    found = replace(found, input=found.input[:, :1], prediction=found.prediction[:, :2], target=None)
    shown = Shown(browser, written(tmp_path, found))
    assert count_of_texts_apart(shown, 0.602) > 5


@pytest.mark.parametrize("width", [390, 1280])
def test_no_name_covers_another(browser: Any, tmp_path: Path, width: int) -> None:
    names = [
        "HUFL",
        "HULL",
        "MUFL",
        "MULL",
        "LUFL",
        "the oil temperature of the " + "very " * 40 + "old transformer",
        "OT",
    ]
    explanation = of_a_table(7)
    assert explanation.forecast is not None
    legend = replace(explanation.legend, channels=tuple(names), units=())
    shown = Shown(
        browser, written(tmp_path, replace(explanation, legend=legend)), viewport={"width": width, "height": 844}
    )
    assert count_of_texts_apart(shown) > 15
    assert shown.ask("document.documentElement.scrollWidth") <= width
