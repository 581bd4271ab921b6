"""README: short, with code that runs as pasted, numbers that were measured, and links that lead somewhere."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from tests.docs.pages import blocks_of

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
PYTHON = [block for block in blocks_of(ROOT / "README.md") if block.kind == "python"]
DEMO = {
    "copying-sab": "copying, SAB",
    "copying-tbptt": "copying, truncated BPTT",
    "copying-lstm": "copying, LSTM with full BPTT",
    "digits-sab": "digits",
}


def links_of(page: Path) -> list[str]:
    """The targets in the repository that a page links to."""
    targets: list[str] = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    return [" ".join(target.split()) for target in targets if "://" not in target]


def test_it_is_at_most_150_lines_long() -> None:
    assert len(TEXT.splitlines()) <= 150


def test_the_snippet_runs_as_pasted(tmp_path: Path) -> None:
    (block,) = PYTHON
    (tmp_path / "pasted.py").write_text(block.text)
    ran = subprocess.run([sys.executable, "pasted.py"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith("tensor([")


def test_the_lstm_it_speaks_of_gives_the_same_numbers() -> None:
    from reminding import SAB

    lstm = nn.LSTM(64, 128, num_layers=2, batch_first=True)
    layer = SAB(64, 128, num_layers=2, batch_first=True, k_top=0, k_trunc=None)
    layer.load_state_dict(lstm.state_dict())
    x = torch.randn(3, 12, 64)
    torch.testing.assert_close(layer(x)[0], lstm(x)[0])


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_pictures_and_pages_it_links_to_are_there(page: str) -> None:
    links = links_of(ROOT / page)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_files_that_pages_of_results_link_to_are_there() -> None:
    pages = [*(ROOT / "results").rglob("*.md")]
    links = [(page, link) for page in pages for link in links_of(page)]
    assert len(links) > 100
    assert [(page, link) for page, link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("run", DEMO)
def test_ranges_of_make_run_are_the_measured_ones(run: str) -> None:
    paths = (ROOT / "results/demo").glob(f"{run}*-seed?/summary.json")  # on the C++ op, and in plain PyTorch
    found = [json.loads(path.read_text()) for path in paths]
    assert {each["seed"] for each in found} == {0, 1, 2, 3, 4}
    lowest, highest = (f"{100 * choose(each['accuracy'] for each in found):.1f}" for choose in (min, max))
    (line,) = [line for line in TEXT.splitlines() if line.startswith(f"| {DEMO[run]}") and "%" in line]
    assert f"| {lowest} to {highest}% |" in line


def test_make_run_trains_what_the_ranges_were_measured_with() -> None:
    makefile = (ROOT / "Makefile").read_text()
    (copying,) = re.findall(r"^COPYING := (.*)$", makefile, re.MULTILINE)
    (digits,) = re.findall(r"reminding train (digits .*) --out", makefile)
    for run, words in (("copying-sab", f"{copying} --model sab"), ("digits-sab", digits)):
        command = json.loads((ROOT / f"results/demo/{run}-seed0/summary.json").read_text())["command"]
        assert set(words.split()) <= set(command.split()), run
