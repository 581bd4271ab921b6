"""Several campaigns at a time, each in a process of its own, those that took longest the last time first."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from tests.reliability.table import HEAD, command, record, recorded

ROOT = Path(__file__).parents[2]


def run_at_once(names: Sequence[str], jobs: int, out: Path | None, options: Sequence[str]) -> bool:
    """Run campaigns, print what came of each as it ends, and record all of them.

    Args:
        names: of the campaigns; jobs: so many at a time.
        out: folder for the record; None: nothing is recorded.
        options: of this command. Those given again after them count.

    Returns:
        whether anything was wrong.
    """
    began, failed = time.monotonic(), False
    found: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as place, ThreadPoolExecutor(jobs) as threads:
        waiting = {threads.submit(_run, name, options, Path(place)): name for name in longest_first(names, out)}
        for done in as_completed(waiting):
            name = waiting[done]
            status, said = done.result()
            print(said.replace(f"{HEAD}\n", ""), end="", flush=True)
            found |= recorded(Path(place, name))
            if name not in found:
                print(f"  {name} ended with status {status} before its result", flush=True)
            failed |= status != 0 or name not in found
    minutes = round((time.monotonic() - began) / 60, 1)
    print(f"{len(found)} campaigns in {minutes} minutes, {jobs} at a time", flush=True)
    if out is not None:
        whole = {"command": command(), "command_minutes": minutes}
        record(out, {name: {**found[name], **whole} for name in names if name in found})
    return failed


def longest_first(names: Sequence[str], out: Path | None) -> list[str]:
    """The campaigns by the minutes they took the last time; those without a record come first."""
    last = {} if out is None else recorded(out)
    return sorted(names, key=lambda name: -last[name]["minutes"] if name in last else -float("inf"))


def _run(name: str, options: Sequence[str], place: Path) -> tuple[int, str]:
    """Run a campaign: the exit status, and what it printed."""
    words = ["-m", "tests.reliability", *options, "--jobs", "1", "--only", name, "--out", str(place / name)]
    said = subprocess.run(
        [sys.executable, *words], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    return said.returncode, said.stdout
