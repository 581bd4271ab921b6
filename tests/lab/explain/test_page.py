"""The page of an explanation in a browser: it draws, reacts to mouse and keys, and needs no other file."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reminding.lab.explain.legend import Legend
from reminding.lab.explain.occlusion import Occlusion
from reminding.lab.explain.page import page, write_explanations
from reminding.lab.explain.summary import summary
from tests.lab.explain.pages import Shown, made_up, of_a_table, written

SLOWEST = 10_000
"""The limit until a long page responds, in milliseconds. The goal is 2,000; the rest is for a busy machine."""


def test_it_draws_arcs_without_complaint_or_network(browser: Any, tmp_path: Path) -> None:
    shown = Shown(browser, written(tmp_path, made_up(60)))
    drawn = shown.ask("window.explain.drawn")
    assert (drawn["recall"], drawn["credit"]) == (40, 40), "a few arcs, however many links there are"
    assert drawn["bundled"]
    assert shown.complaints == []
    assert [url.split(":")[0] for url in shown.requests] == ["file"]
    assert shown.ask("[...$('arcs').getContext('2d').getImageData(0, 0, 800, 200).data].some(Boolean)"), "painted"
    assert "</script> & co" in shown.tab.inner_text("#about")


def test_every_kind_of_sequence_is_drawn(browser: Any, tmp_path: Path) -> None:
    classes = tuple("0123456789")
    kinds = [
        Legend("pixels", classes=classes, side=8, order=np.arange(64)[::-1].copy()),
        Legend("wave", classes=classes, channels=("value",)),
        Legend("lines", channels=("warm", "cold")),
    ]
    for legend in kinds:
        shown = Shown(browser, written(tmp_path, made_up(64, legend=legend)))
        shown.press("End", "+", "+", "ArrowUp")
        assert shown.complaints == [], legend.kind
        assert shown.tab.is_visible("#image") == (legend.kind == "pixels")


def test_pointing_at_a_step_shows_its_numbers(browser: Any, tmp_path: Path) -> None:
    explanation = made_up(60)
    shown = Shown(browser, written(tmp_path, explanation))
    box = shown.tab.locator("#figure").bounding_box()
    shown.tab.mouse.move(box["x"] + box["width"] * 44.5 / 60, box["y"] + 20)
    assert shown.ask("window.explain.focus") == 45
    details = shown.tab.inner_text("#details")
    best = explanation.layers[0]
    heaviest = int(best.weight[44].argmax())
    assert "Step 45" in details
    assert f"{best.weight[44, heaviest]:.3f}" in details
    assert f"go to step {best.step[44, heaviest]}" in shown.tab.inner_html("#details")
    shown.tab.mouse.move(5, 5)
    assert shown.ask("window.explain.focus") is None


def test_keys_reach_every_step_and_speak(browser: Any, tmp_path: Path) -> None:
    explanation = made_up(60)
    shown = Shown(browser, written(tmp_path, explanation))
    shown.press("End", "ArrowLeft")
    assert shown.ask("window.explain.focus") == 59
    assert shown.tab.inner_text("#said").startswith("Step 59: read ")
    shown.press("ArrowUp")
    heaviest = explanation.layers[0].step[58, explanation.layers[0].weight[58].argmax()]
    assert shown.ask("window.explain.focus") == heaviest
    shown.press("+", "+")
    view = shown.ask("window.explain.view")
    assert view["span"] == 15
    assert view["left"] <= heaviest <= view["left"] + 15
    shown.press("0", "Escape")
    assert shown.ask("[window.explain.view.span, window.explain.focus]") == [60, None]
    assert shown.tab.get_attribute("#figure", "aria-valuenow") == str(heaviest)


def test_wheel_and_drag_move_the_view(browser: Any, tmp_path: Path) -> None:
    shown = Shown(browser, written(tmp_path, made_up(60)))
    box = shown.tab.locator("#figure").bounding_box()
    middle = box["x"] + box["width"] / 2
    shown.tab.mouse.move(middle, box["y"] + 50)
    shown.tab.mouse.wheel(0, -400)
    shown.tab.wait_for_function("window.explain.view.span < 40")
    before = shown.ask("window.explain.view")
    assert before["left"] + before["span"] / 2 == pytest.approx(30, abs=0.1), "what is under the pointer stays there"
    shown.tab.mouse.down()
    shown.tab.mouse.move(middle + box["width"] / 4, box["y"] + 50, steps=5)
    shown.tab.mouse.up()
    after = shown.ask("window.explain.view")
    assert after["left"] == pytest.approx(before["left"] - before["span"] / 4, abs=0.1)
    assert after["span"] == before["span"]


def test_every_arc_can_be_drawn(browser: Any, tmp_path: Path) -> None:
    explanation = made_up(60)
    shown = Shown(browser, written(tmp_path, explanation))
    shown.tab.locator("#most").fill("6")
    shown.tab.wait_for_function("!window.explain.drawn.bundled")
    layer = explanation.layers[0]
    assert shown.ask("window.explain.drawn.recall") == int(((layer.step > 0) & (layer.weight > 0)).sum())
    assert shown.tab.inner_text("#note").startswith(f"{shown.ask('window.explain.drawn.recall')} arcs of recalls")


def test_a_bundle_has_the_sum_of_its_links_and_keeps_its_memory(browser: Any, tmp_path: Path) -> None:
    explanation = made_up(2000, hubs=3)
    shown = Shown(browser, written(tmp_path, explanation))
    arcs = np.array(shown.ask("scene.arcs.recall.arcs"))
    layer = explanation.layers[0]
    assert arcs[-1, 2] == shown.ask("scene.arcs.recall.largest")
    assert (np.diff(arcs[:, 2]) >= 0).all(), "the weakest first"
    hubs = [float(layer.weight[layer.step == hub].sum()) for hub in (10, 20, 30)]
    for hub, weight in zip((10, 20, 30), hubs, strict=True):
        of_hub = arcs[np.abs(arcs[:, 1] - hub) < 1]
        assert 5 < len(of_hub) <= 40
        assert of_hub[:, 2].sum() <= weight + 1e-3
        spans = of_hub[:, 0]
        assert spans.max() - spans.min() > 1000, "from all over the sequence, not from its beginning alone"


def test_few_arcs_or_none_and_layers_can_be_shown(browser: Any, tmp_path: Path) -> None:
    shown = Shown(browser, written(tmp_path, made_up(60, layers=2)))
    shown.tab.locator("#most").fill("0")
    shown.tab.wait_for_function("window.explain.drawn.recall === 12")
    assert shown.tab.inner_text("#most-value") == "12"
    shown.tab.uncheck("#show-recall")
    shown.tab.wait_for_function("window.explain.drawn.recall === 0")
    shown.tab.select_option("#layer", "0")
    assert shown.complaints == []


def test_a_phone_shows_it_without_scrolling_sideways(browser: Any, tmp_path: Path) -> None:
    shown = Shown(browser, written(tmp_path, made_up(300)), viewport={"width": 390, "height": 844}, has_touch=True)
    assert shown.ask("document.documentElement.scrollWidth") <= 390
    box = shown.tab.locator("#figure").bounding_box()
    shown.tab.touchscreen.tap(box["x"] + 200, box["y"] + 100)
    assert shown.ask("window.explain.focus") is not None
    assert shown.ask("document.documentElement.scrollWidth") <= 390


def test_where_the_gradient_met_the_input_is_told(browser: Any, tmp_path: Path) -> None:
    met = np.zeros(60)
    met[[9, 29, 30]] = 6, 3, 1
    shown = Shown(browser, written(tmp_path, replace(made_up(60), reached=met), made_up(60)))
    rows = shown.tab.locator("table:has(caption.met) tbody tr").all_text_contents()
    assert rows == ["1060%", "3030%", "3110%"]
    paid, unpaid = shown.ask("""(() => {
        const [paper, scale] = [document.getElementById("strip"), devicePixelRatio];
        const row = paper.getContext("2d").getImageData(0, (layoutOf(scene).input + 3) * scale, paper.width, 1).data;
        return [10, 50].map((step) => [...row.slice(4 * Math.floor(xOf(scene, step) * scale)).slice(0, 3)]);
    })()""")
    assert paid[0] - paid[2] > 60, "orange"
    assert abs(unpaid[0] - unpaid[2]) < 10
    shown.press("Home", *["ArrowRight"] * 9)
    assert "60% of all" in shown.tab.locator("#details").inner_text()
    shown.tab.select_option("#sequence", "1")
    assert shown.tab.locator("caption.met").count() == 0
    assert shown.complaints == []


def test_what_blanking_does_stands_below_and_fits_a_phone(browser: Any, tmp_path: Path) -> None:
    found = Occlusion("accuracy", 7, "test", 10, 0.8, {"credit": (0.5, 0.4, 0.3, 0.1)}, 0.25)
    path = tmp_path / "page.html"
    path.write_text(page([made_up(60)], "a run", occlusion=found), encoding="utf-8")
    shown = Shown(browser, path, viewport={"width": 390, "height": 844})
    cells = shown.tab.locator("#check tbody tr td").all_text_contents()
    assert cells == ["the most credit first", "0.800", "0.500", "0.400", "0.300", "0.100"]
    assert "received 25% of the credit" in shown.tab.locator("#check").inner_text()
    assert shown.ask("document.documentElement.scrollWidth") <= 390
    assert shown.complaints == []


def test_the_summary_and_the_verdict_stand_in_the_header(browser: Any, tmp_path: Path) -> None:
    classes = tuple("0123456789")
    right = replace(made_up(60, legend=Legend("wave", classes=classes, channels=("value",))), at=(7,))
    target = np.full(60, -1)
    target[6] = right.prediction[6].argmax()
    right = replace(right, target=target)
    wrong = replace(right, target=np.where(target >= 0, (target + 1) % 10, -1))
    open_ = of_a_table(1)
    shown = Shown(browser, written(tmp_path, right, wrong, open_))
    for number, (found, mark) in enumerate(((right, "✓ right · "), (wrong, "✗ wrong · "), (open_, ""))):
        shown.tab.select_option("#sequence", str(number))
        assert shown.tab.inner_text("#summary") == mark + summary(found)
    box = shown.tab.locator("#summary").bounding_box()
    assert box["y"] < shown.tab.locator("#figure").bounding_box()["y"]


def test_dark_and_light_follow_the_reader(browser: Any, tmp_path: Path) -> None:
    path = written(tmp_path, made_up(30))
    paper = "getComputedStyle(document.body).backgroundColor"
    dark, light = (Shown(browser, path, color_scheme=scheme) for scheme in ("dark", "light"))
    assert light.ask(paper) == "rgb(255, 255, 255)"
    assert dark.ask(paper) == "rgb(20, 23, 27)"
    dark.tab.click("#theme")
    assert dark.ask(paper) == "rgb(255, 255, 255)"


def test_the_view_can_be_saved_for_a_paper(browser: Any, tmp_path: Path) -> None:
    shown = Shown(browser, written(tmp_path, made_up(60)), color_scheme="dark")
    with shown.tab.expect_download() as waiting:
        shown.tab.click("#save-svg")
    waiting.value.save_as(tmp_path / "view.svg")
    drawing = ElementTree.parse(tmp_path / "view.svg").getroot()
    paths = drawing.findall(".//{http://www.w3.org/2000/svg}path")
    drawn = shown.ask("window.explain.drawn")
    assert len(paths) == drawn["recall"] + drawn["credit"]
    assert drawing[0].get("fill") == "#ffffff", "paper is white, whatever the screen is"
    with shown.tab.expect_download() as waiting:
        shown.tab.click("#save-png")
    waiting.value.save_as(tmp_path / "view.png")
    assert (tmp_path / "view.png").read_bytes().startswith(b"\x89PNG")


def test_long_sequences_are_soon_there(browser: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown = Shown(browser, written(tmp_path, made_up(20_000, hubs=100)))
    ready = shown.ask("window.explain.readyMs")
    with capsys.disabled():
        print(f" [20,000 steps: {ready:.0f} ms until they can be pointed at] ", end="")
    assert ready < SLOWEST
    assert shown.ask("window.explain.drawn.bundled")
    shown.press("End", *"+" * 12)
    assert shown.ask("window.explain.drawn.bundled") is False
    assert shown.complaints == []


def test_figures_lie_beside_the_page(tmp_path: Path) -> None:
    files = write_explanations([made_up(40)], tmp_path / "new" / "folder", "a run")
    assert [path.name for path in files] == ["index.html", "recall-script-co.png", "credit-script-co.png"]
    assert all(path.stat().st_size > 5000 for path in files)
    with pytest.raises(ValueError, match="at least one"):
        page([], "a run")


def test_figures_of_a_file_with_a_long_name_have_shorter_ones(tmp_path: Path) -> None:
    explanation = replace(made_up(40), name=f"{'n' * 240}.ts series 12")
    _, *figures = write_explanations([explanation], tmp_path, "a run")
    assert [path.name for path in figures] == [f"{a}-{'n' * 107}.ts-series-12.png" for a in ("recall", "credit")]
