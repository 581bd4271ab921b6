"""The record of the campaigns: measured.json, and README.md with the table."""

from __future__ import annotations

import datetime
import os
import platform
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from reminding.disk.records import read_json, write_json
from reminding.disk.writing import write_text
from tests.reliability.trials import Tally

HEAD = "| campaign | tried | right | refused | wrong | crashed | hung |\n|---|---|---|---|---|---|---|"
RECORD_NAME = "measured.json"


def command() -> str:
    """The one that is running."""
    return f"python -m tests.reliability {' '.join(sys.argv[1:])}"


def measured(tally: Tally, seconds: float, seed: int) -> dict[str, Any]:
    """What is recorded of a campaign."""
    return {
        "campaign": tally.name,
        **tally.numbers,
        "note": tally.note,
        "problems": tally.problems,
        "minutes": round(seconds / 60, 1),
        "seed": seed,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "command": command(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, "
        f"PyTorch {torch.__version__}",
    }


def recorded(out: Path) -> dict[str, dict[str, Any]]:
    """What is recorded in a folder, by campaign; nothing where there is no record."""
    path = out / RECORD_NAME
    return read_json(path) if path.is_file() else {}


def record(out: Path, campaigns: Mapping[str, Mapping[str, Any]]) -> None:
    """Add campaigns to measured.json and README.md; those of the same name are replaced, others stay."""
    out.mkdir(parents=True, exist_ok=True)
    content = {**recorded(out), **campaigns}
    write_json(out / RECORD_NAME, content)
    write_text(out / "README.md", page(content))


def page(content: Mapping[str, Mapping[str, Any]]) -> str:
    """The table of results, with the commands that made it."""
    lines = [
        "# Reliability",
        "",
        "Right: the result is that of an uninterrupted run or stream, or the file is read as it was written.",
        "Refused: by the documented error. Wrong: anything else. A process that crashed or hung is counted apart.",
        "",
        HEAD.replace(" hung |", " hung | minutes | date |") + "---|---|",
        *(_row(each) for each in content.values()),
        "",
        *(f"- {each['campaign']}: {each['note']}." for each in content.values() if each["note"]),
        *([""] if any(each["note"] for each in content.values()) else []),
        "A campaign that is not in the table has not been recorded here. Where a command ran several at a time, the",
        "minutes of a campaign are those it took beside others. Commands:",
        "",
        *(f"    {each}" for each in dict.fromkeys(_command(each) for each in content.values())),
        "",
        *(f"Machine: {machine}." for machine in dict.fromkeys(each["machine"] for each in content.values())),
        "",
    ]
    return "\n".join(lines)


def _row(each: Mapping[str, Any]) -> str:
    numbers = " | ".join(f"{each[kind]:,}" for kind in ("tried", "right", "refused", "wrong", "crashed", "hung"))
    return f"| {each['campaign']} | {numbers} | {each['minutes']} | {each['date']} |"


def _command(each: Mapping[str, Any]) -> str:
    """With the minutes it took for all of its campaigns, where it ran several at a time."""
    minutes = each.get("command_minutes")
    return each["command"] if minutes is None else f"{each['command']}  # {minutes} minutes"
