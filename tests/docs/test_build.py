"""The documentation builds without warnings, and its pages need no network."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from reminding.lab.explain.occlusion import ORDERS

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("docs")
    words = ["-W", "--keep-going", "-q", "-b", "html", "-d", str(folder / "trees"), "docs", str(folder / "html")]
    ran = subprocess.run(
        [sys.executable, "-m", "sphinx", *words], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    return folder / "html"


def test_it_is_built_with_warnings_as_errors(built: Path) -> None:
    pages = {path.relative_to(ROOT / "docs").with_suffix(".html") for path in (ROOT / "docs").rglob("*.md")}
    assert [page for page in pages if not (built / page).is_file()] == []


def test_a_page_loads_nothing_from_the_network(built: Path) -> None:
    loaded = re.compile(r"""<(?:script|link|img|iframe)\b[^>]*?(?:src|href)="((?:https?:)?//[^"]+)""")
    found = {(path.name, url) for path in built.rglob("*.html") for url in loaded.findall(path.read_text())}
    assert found == set()


def test_every_readme_of_results_is_a_page_with_its_pictures(built: Path) -> None:
    pages = built / "_generated" / "results"
    for readme in (ROOT / "results").rglob("README.md"):
        page = pages / readme.relative_to(ROOT / "results").with_suffix(".html")
        pictures: list[str] = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", readme.read_text())
        shown: list[str] = re.findall(r'<img[^>]*src="([^"]+)"', page.read_text())
        assert len(shown) == len(pictures), page
        assert all((page.parent / source).is_file() for source in shown), page


def test_pictures_are_part_of_the_page_and_say_what_they_show(built: Path) -> None:
    for page, pictures in (("index", 1), ("idea", 3), ("howto/choose", 3), ("howto/streams", 1), ("design", 3)):
        found: list[str] = re.findall(
            r'<svg class="picture"[^>]*aria-label="([^"]+)"', (built / f"{page}.html").read_text()
        )
        assert len(found) == pictures, page


@pytest.mark.parametrize(
    ("page", "runs"),
    [
        ("docs/howto/explanation.md", ["knocks"]),
        ("results/explanations/README.md", ["knocks", "spoken", "acsf1", "plaid"]),
    ],
)
def test_the_tables_of_explanations_are_the_measured_ones(page: str, runs: list[str]) -> None:
    text = (ROOT / page).read_text().replace("**", "")
    for run in runs:
        found = json.loads((ROOT / "results" / "explanations" / run / "occlusion.json").read_text())
        for order, values in found["blanked"].items():
            cells = " | ".join(f"{value:.3f}" for value in (found["untouched"], *values))
            assert f"| {ORDERS[order]} | {cells} |" in text
