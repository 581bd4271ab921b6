"""The page of a report in a browser: it draws, reacts to the pointer, and needs no other file."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from reminding.lab.report.writing import write_report
from tests.lab.browser import Tab
from tests.places import RESULTS

READY = "document.documentElement.dataset.drawn"
BENCH = RESULTS / "bench" / "growth-T"


@pytest.fixture(scope="module")
def written(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report on two seeds and a benchmark. The name of the second run, unescaped, would end a script."""
    folder = tmp_path_factory.mktemp("report")
    for name in ("</script> & co-seed0", "</script> & co-seed1"):
        shutil.copytree(finished, folder / name.replace("/", "_"))
    shutil.copytree(BENCH, folder / "bench")
    write_report([folder], folder / "report", title="Seeds </script> & more", remarks=["Careful <b>."])
    return folder / "report" / "index.html"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_draws_every_chart_without_complaint_or_network(browser: Any, written: Path, scheme: str) -> None:
    shown = Tab(browser, written, READY, color_scheme=scheme)
    assert shown.complaints == []
    assert [url for url in shown.requests if not url.startswith(("file:", "data:", "blob:"))] == []
    assert shown.ask("document.querySelectorAll('.chart').length") == 4
    marks = "path.js-line, path.point"
    drawn = f"[...document.querySelectorAll('.chart')].map((each) => each.querySelectorAll('{marks}').length)"
    assert all(lines > 0 for lines in shown.ask(drawn))
    assert shown.tab.title() == "reminding: Seeds </script> & more"
    assert "Careful <b>." in shown.tab.inner_text("body")


def test_the_pointer_gets_the_numbers(browser: Any, written: Path) -> None:
    shown = Tab(browser, written, READY)
    chart = shown.tab.locator(".chart").nth(1)
    chart.scroll_into_view_if_needed()
    place = chart.bounding_box()
    shown.tab.mouse.move(place["x"] + place["width"] * 0.97, place["y"] + place["height"] * 0.5)
    chart.locator(".hoverlayer text").first.wait_for(timeout=10_000)
    assert "2 seeds" in chart.locator(".hoverlayer").text_content()


def test_every_seed_is_a_dot_in_the_row_of_its_method(browser: Any, written: Path) -> None:
    shown = Tab(browser, written, READY)
    chart = shown.tab.locator(".chart").first
    assert chart.locator(".ytick text").all_text_contents() == ["<_script> & co"]
    assert chart.locator("path.point").count() == 3  # two seeds and their mean


def test_the_numbers_can_be_had_without_pointing(browser: Any, written: Path) -> None:
    shown = Tab(browser, written, READY)
    summary = shown.tab.locator("details summary").first
    summary.focus()
    shown.tab.keyboard.press("Enter")
    table = shown.tab.locator("details[open] table").first
    assert table.locator("tbody tr").count() == 2  # evaluated twice


def test_it_fits_a_phone(browser: Any, written: Path) -> None:
    shown = Tab(browser, written, READY, viewport={"width": 390, "height": 844})
    assert shown.ask("document.documentElement.scrollWidth") <= 390


def test_it_can_be_turned_dark_and_light(browser: Any, written: Path) -> None:
    shown = Tab(browser, written, READY, color_scheme="light")
    paper = "getComputedStyle(document.body).backgroundColor"
    before = shown.ask(paper)
    shown.tab.click("#theme")
    shown.tab.wait_for_function(f"{paper} !== {json.dumps(before)}", timeout=10_000)
    assert shown.complaints == []


def test_without_charts_there_is_no_library(tmp_path: Path, finished: Path) -> None:
    shutil.copytree(finished, tmp_path / "run", ignore=shutil.ignore_patterns("log.jsonl"))
    write_report([tmp_path / "run"], tmp_path / "report")
    assert (tmp_path / "report" / "index.html").stat().st_size < 1_000_000


def test_the_test_result_is_in_view_on_a_phone(browser: Any, finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "a-method-with-a-rather-long-name-seed0")
    shutil.copytree(finished, tmp_path / "a-method-with-a-rather-long-name-seed1")
    write_report([tmp_path], tmp_path / "report")
    shown = Tab(browser, tmp_path / "report" / "index.html", READY, viewport={"width": 390, "height": 844})
    head = shown.tab.locator("#methods table").first.locator("th", has_text="test").first.bounding_box()
    cell = shown.tab.locator("#methods tbody tr td").nth(1)
    assert " ± " in cell.text_content()
    assert head["x"] + head["width"] <= 390
    assert cell.bounding_box()["x"] + cell.bounding_box()["width"] <= 390


@pytest.mark.parametrize("width", [390, 1100])
def test_long_names_of_many_methods_leave_room(browser: Any, finished: Path, tmp_path: Path, width: int) -> None:
    for number in range(8):
        name = f"method_{number}_whose_name_says_of_every_option_what_it_was_and_so_goes_on_for_long"
        for seed in range(2):
            shutil.copytree(finished, tmp_path / f"{name}-seed{seed}")
    write_report([tmp_path], tmp_path / "report")
    shown = Tab(browser, tmp_path / "report" / "index.html", READY, viewport={"width": width, "height": 844})
    assert shown.complaints == []
    assert shown.ask("document.documentElement.scrollWidth") <= width
    plots = shown.tab.locator(".chart .nsewdrag").all()
    assert len(plots) == 2  # every seed, and curves
    for each in plots:
        box = each.bounding_box()
        assert box["width"] > 0.3 * width
        assert box["height"] > 150
    bars = shown.tab.locator(".chart .legend .scrollbar").all()
    assert all(float(bar.get_attribute("height") or 0) == 0 for bar in bars), "no legend is scrolled"
