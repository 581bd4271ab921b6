"""Tests of the repository as campaigns: how many passed, and which did not."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
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


def sanitized() -> Tally:
    """Run the op's tests, and drawn calls of layers, under both sanitizers."""
    tally = Tally("AddressSanitizer and UndefinedBehaviorSanitizer")
    command = [sys.executable, "tests/ops/sanitize.py", "--out", "build/sanitize", *SANITIZED]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    told = ended.stdout + ended.stderr
    passed = re.search(r"(\d+) passed", told)
    tally.right = int(passed[1]) if passed else 0
    if ended.returncode:
        tally.wrong.append(told[-500:])
    return tally
