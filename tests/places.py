"""Paths in the repository, in one place, so that tests can move between folders."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parent.parent
BENCHMARKS = ROOT / "benchmarks"
RESULTS = ROOT / "results"
GOLDEN = ROOT / "tests" / "golden"
