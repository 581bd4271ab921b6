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


def test_a_linked_run_is_found_once(tmp_path: Path) -> None:
    for name in ("runs/sab-seed0", "elsewhere/sab-seed1"):
        write(tmp_path / name, small(), [(2, 1.0, 0.5)])
    runs = tmp_path / "runs"
    for name, target in (("latest", "sab-seed0"), ("sab-seed1", "../elsewhere/sab-seed1"), ("gone", "nowhere")):
        (runs / name).symlink_to(target)
    (runs / "round").symlink_to(".")
    assert [folder.name for folder in find_runs([runs])] == ["sab-seed0", "sab-seed1"]


def test_digits_that_are_no_decimal_ones_are_letters_of_a_name(tmp_path: Path) -> None:
    for name in ("1²2", "1²10"):
        write(tmp_path / name, small(), [(2, 1.0, 0.5)])
    found = find_runs([tmp_path])
    assert [folder.name for folder in found] == ["1²2", "1²10"]
