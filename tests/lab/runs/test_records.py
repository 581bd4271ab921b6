"""Runs are found in folders and read back."""

from __future__ import annotations

from pathlib import Path

from reminding.lab.runs.records import find_runs
from tests.lab.conftest import small
from tests.lab.report.conftest import write


def test_sizes_are_in_the_order_of_numbers(tmp_path: Path) -> None:
    for size in (1000, 200, 30):
        write(tmp_path / f"T{size}" / "sab-seed0", small(), [(2, 1.0, 0.5)])
    assert [folder.parent.name for folder in find_runs([tmp_path])] == ["T30", "T200", "T1000"]
