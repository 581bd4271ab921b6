"""The benchmark of the search among many memories, at a small size."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import recall_search
from reminding.lab.train.trainer import train
from tests.lab.conftest import small


def test_both_ways_are_timed_from_the_same_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train(small(steps=1), tmp_path / "run")
    monkeypatch.setattr(recall_search, "SEQUENCES", 2)
    monkeypatch.setattr(recall_search, "STEPS_AT_ONCE", 300)
    recall_search.main([str(tmp_path / "run"), "--memories", "120", "60", "--out", str(tmp_path)])
    rows = json.loads((tmp_path / "measured.json").read_text())["rows"]
    assert [row["memories"] for row in rows] == [60, 120]
    assert all(0 < row[way]["median"] <= row[way]["p90"] for row in rows for way in ("auto", "scan"))
