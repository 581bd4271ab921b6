"""What the campaign makes of a run under the sanitizers, whose own tests take minutes: `make sanitize`."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest

from tests.reliability import suites

REPORT = "op.cpp:7:3: runtime error: null pointer passed as argument 2"


@pytest.mark.parametrize(
    ("status", "said", "right", "wrong", "crashed"),
    [
        (0, "143 passed in 9s\npytest ended with 0, 0 reports; see log", 143, 0, 0),
        (1, "FAILED tests/a.py::test_b - R...\n1 failed, 142 passed in 9s", 142, 1, 0),
        (1, f"12 passed in 9s\n{REPORT}\n{REPORT}", 12, 0, 1),
        (1, "==5==ERROR: AddressSanitizer: heap-buffer-overflow on address 0x1", 0, 0, 1),
        (-11, "", 0, 0, 1),
        (2, "g++: not found", 0, 0, 1),
        (0, "20 deselected in 1s", 0, 1, 0),
    ],
)
def test_a_run_under_the_sanitizers_is_counted(
    status: int, said: str, right: int, wrong: int, crashed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ran(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        assert command[1:4] == ["tests/ops/sanitize.py", "--out", "build/sanitize"]
        return subprocess.CompletedProcess(command, status, said, "")

    monkeypatch.setattr(suites.subprocess, "run", ran)
    tally = suites.sanitized()
    assert (tally.right, len(tally.wrong), len(tally.crashed)) == (right, wrong, crashed)
