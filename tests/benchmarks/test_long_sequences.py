"""The benchmark of one long sequence, at a small size."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from benchmarks import long_sequences
from reminding.lab.train.trainer import train
from tests.lab.conftest import small


def test_both_searches_are_timed_beside_an_lstm(tmp_path: Path) -> None:
    train(small(steps=1), tmp_path / "run")
    words = ["--T", "120", "--B", "2", "--repetitions", "1", "--out", str(tmp_path)]
    long_sequences.main([str(tmp_path / "run"), *words])
    rows = json.loads((tmp_path / "measured.json").read_text())["rows"]
    assert list(rows) == ["nn.LSTM", "trained, auto", "trained, scan", "random, auto", "random, scan"]
    assert rows["nn.LSTM"]["ratio"] == 1
    assert all(row["seconds"] > 0 for row in rows.values())


def test_searches_that_differ_are_refused() -> None:
    ones, zeros = [torch.ones(2)], [torch.zeros(2)]
    results = {"trained, auto": ones, "trained, scan": ones, "random, auto": ones, "random, scan": zeros}
    with pytest.raises(ValueError, match="with random weights, the searches do not compute the same"):
        long_sequences.same(results)
