"""The files around the code agree with the code and with each other: version, rooms, address, records of results."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

import reminding
from reminding.disk.records import read_json, read_lines
from tests.places import RESULTS, ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
HOME = "https://github.com/reminding/reminding"


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def test_every_file_has_the_same_version() -> None:
    version = reminding.__version__
    assert PROJECT["version"] == version
    assert f"\nversion: {version}\n" in text("CITATION.cff")
    assert re.search(rf"^## \[{re.escape(version)}\] - \d{{4}}-\d\d-\d\d$", text("CHANGELOG.md"), re.MULTILINE)
    assert re.search(r"^## \[Unreleased\]$", text("CHANGELOG.md"), re.MULTILINE)


def test_the_workflow_tests_the_oldest_and_the_newest_supported_versions() -> None:
    tested = re.findall(r'\{ python: "([\d.]+)", torch: "([\d.]+)" \}', text(".github/workflows/tests.yml"))
    (oldest_torch,) = re.findall(r"torch>=([\d.]+)", " ".join(PROJECT["dependencies"]))
    (newest_torch,) = re.findall(r"^torch==(\d+\.\d+)", text("requirements.lock"), re.MULTILINE)
    pythons = [line.split()[-1] for line in PROJECT["classifiers"] if re.search(r"Python :: 3\.\d+$", line)]
    assert PROJECT["requires-python"] == f">={pythons[0]}"
    assert tested == [(pythons[0], oldest_torch), (pythons[-1], newest_torch)]


def test_hooks_use_the_pinned_ruff() -> None:
    (pinned,) = re.findall(r"^ruff==(.+)$", text("requirements.lock"), re.MULTILINE)
    assert f"rev: v{pinned} " in text(".pre-commit-config.yaml")


def test_the_map_of_contributors_has_every_room() -> None:
    listed = set(re.findall(r"^\| `([\w/]+)` \|", text("CONTRIBUTING.md"), re.MULTILINE))
    package = ROOT / "src" / "reminding"
    rooms = {path.parent.relative_to(package).as_posix() for path in package.glob("*/**/__init__.py")}
    assert rooms == listed


def test_the_repository_has_one_address() -> None:
    found: set[str] = set()
    names = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "CITATION.cff", "pyproject.toml"]
    pages = [
        path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").glob("**/*.md") if "_" not in path.parts[-2][0]
    ]
    for name in [*names, *pages]:
        found |= set(re.findall(r"https://github\.com/[\w-]+/[\w-]+", text(name)))
    assert found == {HOME}
    assert all(url.startswith(HOME) for name, url in PROJECT["urls"].items() if name != "Paper")


@pytest.mark.parametrize(
    "folder", sorted(path.parent for path in RESULTS.glob("*/README.md")), ids=lambda path: path.name
)
def test_every_record_of_results_is_as_it_was_written(folder: Path) -> None:
    """Else `reminding report`, which the pages name, calls a run damaged and leaves it out."""
    for path in folder.rglob("*.json"):
        read_json(path)
    assert [path for path in folder.rglob("*.jsonl") if read_lines(path).damaged] == []


def test_every_picture_of_results_is_on_a_page() -> None:
    pages = [*RESULTS.rglob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "README.md"]
    shown = {
        (page.parent / each).resolve()
        for page in pages
        for each in re.findall(r"\]\(([^)\s]+\.png)\)", text(str(page)))
    }
    shown |= {
        RESULTS / each for page in pages for each in re.findall(r"_generated/results/([^)\s]+\.png)", text(str(page)))
    }
    assert [str(path) for path in RESULTS.rglob("*.png") if path not in shown] == []
