"""The page on the command line has every command and every option."""

from __future__ import annotations

import ast
import inspect
import re
from dataclasses import fields
from pathlib import Path

import pytest

from docs import command_pages
from reminding import cli
from reminding.lab.bench.kinds.serve import ServeOptions
from reminding.lab.bench.kinds.stream import StreamOptions
from reminding.lab.bench.options import BenchOptions, GpuOptions
from reminding.lab.explain.explanation import ExplainOptions
from reminding.lab.paper.reproduce import ReproduceOptions
from reminding.lab.runs.config import ModelOptions, TrainOptions
from reminding.lab.runs.evaluation import EvalOptions
from reminding.lab.train.sweep.sweep import SweepOptions
from reminding.tasks import TASKS


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
        ("bench", StreamOptions),
    ],
)
def test_every_option_is_there(page: str, verb: str, options: type) -> None:
    part = page.split(f"## {verb}\n")[1].split("\n## ")[0]
    told = set(re.findall(r"--([\w-]+)", part))
    assert {field.name.replace("_", "-") for field in fields(options)} <= told


def test_nothing_of_the_machine_it_was_made_on_is_told(page: str) -> None:
    assert not re.search(r"/tmp|\x1b", page)
    assert str(Path.home()) not in page


def described(path: Path) -> list[tuple[str, str]]:
    """The classes and functions of a file, with their docstrings."""
    kinds = (ast.ClassDef, ast.FunctionDef)
    nodes = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, kinds)]
    return [(node.name, text) for node in nodes if (text := ast.get_docstring(node))]


def test_no_help_text_is_broken_within_a_sentence() -> None:
    """The parser takes a line that begins with no letter for an item of a list, and shows it as a line of its own."""
    options = [
        *TASKS.values(),
        ModelOptions,
        TrainOptions,
        EvalOptions,
        ExplainOptions,
        SweepOptions,
        ReproduceOptions,
    ]
    options += [BenchOptions, GpuOptions, ServeOptions, StreamOptions]
    files = {*Path(cli.__file__).parent.glob("*.py"), *(Path(inspect.getfile(each)) for each in options)}
    names = {each.__name__ for each in options} | {"run"}
    for path in files:
        for name, text in described(path):
            found = re.search(r"^(?:Args|Attributes):\n((?:    .*\n?|\n)*)", text, re.MULTILINE)
            lines: list[str] = re.findall(r"^ {7,}(\S.*)", found[1], re.MULTILINE) if found and name in names else []
            assert [line for line in lines if not line[0].isalpha()] == [], (path, name)
