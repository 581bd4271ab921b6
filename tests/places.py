"""Where things are in the repository, so that a test may move to another folder."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parent.parent
BENCHMARKS = ROOT / "benchmarks"
RESULTS = ROOT / "results"
