"""A small benchmark on the CPU with invented costs."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from reminding.lab.bench import suite
from reminding.lab.bench.meter import Cost
from reminding.lab.bench.options import BenchOptions, Name, Size
from reminding.lab.bench.process import Refusal
from reminding.lab.bench.suite import Point, measure

SMALL = BenchOptions(
    T=(4, 8), B=(2,), H=(8,), I=3, models=("sab-additive-reference", "tbptt", "attention"), repetitions=2
)
SIZE = Size(T=4, B=2, I=3, H=8)


def quiet(text: str) -> None:
    """Shows no progress."""


def costs(monkeypatch: pytest.MonkeyPatch, cost: Callable[[Name, Size], Cost | Refusal]) -> list[tuple[Name, Size]]:
    """Replace measurements in processes by `cost(name, size)`; returns the list of contestants that were asked."""
    asked: list[tuple[Name, Size]] = []

    def answer(name: Name, size: Size, options: BenchOptions) -> Cost | Refusal:
        asked.append((name, size))
        return cost(name, size)

    monkeypatch.setattr(suite, "cost_in_own_process", answer)
    return asked


@pytest.fixture
def points(monkeypatch: pytest.MonkeyPatch) -> list[Point]:
    """The small options, with measured times and invented peaks: 1000 bytes a step for nn.LSTM, 2000 for others."""
    costs(monkeypatch, lambda name, size: Cost(size.T * (1000 if name == "lstm" else 2000), 0.001))
    return list(measure(SMALL, quiet))
