"""The page of the command line, generated from --help, so that page and options cannot drift apart."""

from __future__ import annotations

import io
import os
import tempfile
from contextlib import redirect_stdout, suppress
from pathlib import Path
from unittest.mock import patch

from docs.figures.svg import write_if_changed
from reminding import cli
from reminding.lab.runs.checkpoint import CONFIG_NAME
from reminding.lab.runs.config import RunConfig
from reminding.tasks import Copying

WIDTH = 100
"""Columns of the terminal that the help is printed for."""
SHOWN = {
    "train": ("train copying",),
    "eval": ("eval RUN",),
    "predict": ("predict RUN",),
    "sample": ("sample RUN",),
    "report": ("report",),
    "explain": ("explain RUN",),
    "check": ("check",),
    "reproduce": ("reproduce copying",),
    "sweep": ("sweep copying",),
    "data": ("data",),
    "bench": ("bench", "bench --device cuda", "bench --kind serve", "bench --kind stream"),
}
"""Commands of each verb whose options are shown."""
INTRODUCTION = """# The command line

This page shows the output of `reminding VERB --help`. Options have the same names in Python. For an unknown verb,
task or option, the error lists the nearest names.
"""
TRAIN = (
    "All options but those of the task are the same for every task. On a stream some defaults differ: "
    "`reminding train stream --help` shows them."
)


def write(out: Path) -> None:
    """Write commands.md to a folder of the documentation's sources."""
    parts = [INTRODUCTION, _block(printed([])), "Tasks to train on, and experiments to reproduce:\n"]
    parts += [_block(printed(["train"])), _block(printed(["reproduce"]))]
    for verb, commands in SHOWN.items():
        parts += [f"## {verb}\n", *([TRAIN + "\n"] if verb == "train" else []), *map(_block, map(help_of, commands))]
    write_if_changed(out / "commands.md", "\n".join(parts))


def help_of(words: str) -> str:
    """The output of a command with --help; RUN stands for a run."""
    with tempfile.TemporaryDirectory() as folder:
        RunConfig(Copying()).save(Path(folder) / CONFIG_NAME)
        return printed([*words.replace("RUN", folder).split(), "--help"])


def printed(words: list[str]) -> str:
    """The output of a command line."""
    text = io.StringIO()
    with (
        patch.dict(os.environ, {"COLUMNS": str(WIDTH), "NO_COLOR": "1"}),
        redirect_stdout(text),
        suppress(SystemExit),
    ):
        cli.main(words)
    return text.getvalue()


def _block(text: str) -> str:
    lines = "\n".join(line.rstrip() for line in text.strip().splitlines())
    return f"```text\n{lines}\n```\n"
