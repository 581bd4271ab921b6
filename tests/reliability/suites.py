"""Tests of the repository as campaigns: how many passed, and which did not."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from pathlib import Path

from tests.reliability.trials import Tally

ROOT = Path(__file__).parents[2]
PATIENCE_SECONDS = 3600
SERVER = ("tests/tasks/data/test_local_server.py",)
STATES = ("tests/nn/state/test_damage.py", "tests/nn/layer/test_damaged_states.py", "tests/nn/state/test_resumed.py")
SANITIZED = ("tests/ops/cpu_op", "tests/reliability/test_shape_fuzz.py", "-m", "not slow")


def tested(name: str, words: tuple[str, ...]) -> Tally:
    """Run tests in a process of its own. Skipped tests are no trials."""
    tally = Tally(name)
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-q", f"--junitxml={report}", *words]
        try:
            ended = subprocess.run(command, cwd=ROOT, capture_output=True, check=False, timeout=PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            tally.hung.append(" ".join(words))
            return tally
        if not report.exists():
            tally.crashed.append(f"pytest ended with {ended.returncode}")
            return tally
        for case in ElementTree.parse(report).iter("testcase"):
            told = [each.tag for each in case if each.tag in ("failure", "error", "skipped")]
            if not told:
                tally.right += 1
            elif "skipped" not in told:
                tally.wrong.append(f"{case.get('classname')}::{case.get('name')}")
    return tally


def sanitized(words: Sequence[str] = SANITIZED, folder: str = "build/sanitize") -> Tally:
    """Run tests under both sanitizers; by default the op's, and drawn calls of layers.

    Args:
        words: for `tests/ops/sanitize.py`, which passes those on to pytest that it does not know.
        folder: for the build.
    """
    tally = Tally("AddressSanitizer and UndefinedBehaviorSanitizer")
    command = [sys.executable, "tests/ops/sanitize.py", "--out", folder, *words]
    try:
        ended = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=2 * PATIENCE_SECONDS
        )
    except subprocess.TimeoutExpired:
        tally.hung.append(" ".join(command))
        return tally
    told = ended.stdout + ended.stderr
    passed, failed = re.search(r"(\d+) passed", told), re.findall(r"^(?:FAILED|ERROR) .*", told, re.MULTILINE)
    reports = re.findall(r".*(?:ERROR: AddressSanitizer|runtime error:).*", told)
    tally.right = int(passed[1]) if passed else 0
    tally.wrong += [line[:300] for line in failed]
    tally.crashed += [line[:300] for line in dict.fromkeys(reports)]
    if ended.returncode and not tally.problems:
        tally.crashed.append(told[-500:])
    elif not ended.returncode and not passed:
        tally.wrong.append(f"no test ran: {told[-500:]}")
    return tally
