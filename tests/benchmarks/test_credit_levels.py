"""The number of hops that credit takes, compared with a plain search over all chains of recalls."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.places import BENCHMARKS


@pytest.fixture(scope="module")
def levels() -> Any:
    path = BENCHMARKS / "credit_levels.py"
    spec = importlib.util.spec_from_file_location("credit_levels", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def chains(step: Any, lent: Any, wanted: Any, k_trunc: int) -> dict[int, set[int]]:
    """The lengths of all chains of hops to a segment, found by following every chain from every loss."""
    found: dict[int, set[int]] = {}

    def follow(t: int, hops: int) -> None:
        segment = t // k_trunc
        found.setdefault(segment, set()).add(hops)
        for before in range(t, segment * k_trunc - 1, -1):
            for memory in step[before, lent[before]] - 1:
                follow(int(memory), hops + (memory // k_trunc < segment))

    for t in np.flatnonzero(wanted):
        follow(int(t), 0)
    return found


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("k_trunc", [1, 3, 4])
def test_levels_are_those_of_all_chains(levels: Any, seed: int, k_trunc: int) -> None:
    draw = np.random.default_rng(seed)
    T = 11
    step = np.stack([draw.integers(1, max(t, 2), (1, 2)) for t in range(T)])  # (T, 1, 2): steps before
    lent = draw.random((T, 1, 2)) < 0.5
    lent[:2] = False
    wanted = draw.random((T, 1)) < 0.3
    every = chains(step[:, 0], lent[:, 0], wanted[:, 0], k_trunc)
    assert levels.levels_of(step, lent, wanted, k_trunc) == {
        "segments": -(-T // k_trunc),
        "reached": len(every),
        "levels": max((max(hops) + 1 for hops in every.values()), default=0),
        "sweeps": sum(map(len, every.values())),
    }


def test_the_counts_are_written_with_their_command(levels: Any, tmp_path: Path) -> None:
    levels.main(["--layers", "48", "--out", str(tmp_path)])
    measured = json.loads((tmp_path / "measured.json").read_text())
    assert measured["command"].endswith(f"--layers 48 --out {tmp_path}")
    everywhere, last = measured["counts"]
    assert everywhere["segments"] == everywhere["reached"] == 3
    assert 1 <= last["levels"] <= last["reached"] <= 3
