"""The page on the command line has every command and every option."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

from docs import command_pages
from reminding import cli
from reminding.lab.bench.kinds.serve import ServeOptions
from reminding.lab.bench.options import BenchOptions, GpuOptions
from reminding.lab.explain.explanation import ExplainOptions
from reminding.lab.runs.config import ModelOptions, TrainOptions
from reminding.lab.train.sweep.sweep import SweepOptions


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("pages")
    command_pages.write(folder)
    return (folder / "commands.md").read_text(encoding="utf-8")


def test_every_verb_has_its_part(page: str) -> None:
    assert re.findall(r"^## (\w+)$", page, re.MULTILINE) == list(cli.VERBS) == list(command_pages.SHOWN)


@pytest.mark.parametrize(
    ("verb", "options"),
    [
        ("train", ModelOptions),
        ("train", TrainOptions),
        ("explain", ExplainOptions),
        ("sweep", SweepOptions),
        ("bench", BenchOptions),
        ("bench", GpuOptions),
        ("bench", ServeOptions),
    ],
)
def test_every_option_is_there(page: str, verb: str, options: type) -> None:
    part = page.split(f"## {verb}\n")[1].split("\n## ")[0]
    told = set(re.findall(r"--([\w-]+)", part))
    assert {field.name.replace("_", "-") for field in fields(options)} <= told


def test_nothing_of_the_machine_it_was_made_on_is_told(page: str) -> None:
    assert not re.search(r"/tmp|\x1b", page)
    assert str(Path.home()) not in page
