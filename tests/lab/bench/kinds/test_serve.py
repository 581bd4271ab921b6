"""`reminding bench --kind serve`: what is timed, and what is written."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from reminding import SAB, SABState
from reminding.cli import main
from reminding.lab.bench.kinds import serve
from reminding.lab.bench.kinds.serve import CallCost, ServeMeasurement, ServeOptions, ServePoint, prepared
from reminding.nn.layer.stepper import Stepper
from tests.nn.samples import needs_op

SMALL = ServeOptions(B=(2,), H=8, I=3, memories=5, k_att=2, calls=2, repetitions=2)


@needs_op
@pytest.mark.parametrize("name", SMALL.contestants)
def test_every_contestant_takes_one_step_with_full_memories(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[int] = []
    if name != "lstm":
        stepper = SAB.stepper

        def noted(self: SAB, state: SABState) -> Stepper:
            held.append(state.memory.shape[2])
            return stepper(self, state)

        monkeypatch.setattr(SAB, "stepper", noted)
    with torch.no_grad():
        call = prepared(name, 2, SMALL)
        call()
        call()
    assert held == ([] if name in ("lstm", "sab-additive-call") else [5])


@needs_op
def test_as_it_is_typed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sizes = ["--B", "1", "2", "--H", "8", "--I", "3", "--memories", "4", "--calls", "2", "--repetitions", "2"]
    main(["bench", "--kind", "serve", *sizes, "--models", "sab-dot", "--out", str(tmp_path)])
    record = json.loads((tmp_path / "measured.json").read_text())
    assert [point["rows"] for point in record["serve"]] == [1, 2]
    assert set(record["serve"][0]["measured"]) == {"lstm", "sab-dot"}
    assert "SAB dot, stepper" in (tmp_path / "report.md").read_text()
    assert "One step" not in capsys.readouterr().err


def test_a_ratio_is_the_median_of_those_within_a_repetition() -> None:
    measured = {"lstm": CallCost([1.0, 2.0, 4.0], [1.0] * 3), "sab-dot": CallCost([3.0, 8.0, 8.0], [1.0] * 3)}
    options = ServeOptions(models=("sab-dot",), B=(1,))
    measurement = ServeMeasurement(options, [ServePoint(1, measured)])
    assert measurement.ratio(measurement.points[0], "sab-dot") == 3.0
    assert measurement.tables()[0].rows[1] == ["SAB dot, stepper", "8.00 (3.00)"]


BAD: list[dict[str, Any]] = [
    {"memories": 0},
    {"calls": 0},
    {"B": (0,)},
    {"B": ()},
    {"B": (2, 2)},
    {"models": ("tbptt",)},
    {"device": "cuda"},
    {"seed": 2**64},
]


def test_a_contestant_that_cannot_run_is_left_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    usual = serve.prepared

    def without_op(name: str, rows: int, options: ServeOptions) -> serve.Call:
        if name != "lstm":
            raise ValueError("the C++ op was not built")
        return usual(name, rows, options)

    monkeypatch.setattr(serve, "prepared", without_op)
    options = replace(SMALL, models=("sab-dot",))
    measurement = ServeMeasurement(options, list(serve.measure(options, lambda _: None)))
    measurement.write(tmp_path)
    assert measurement.tables()[0].rows[1] == ["SAB dot, stepper", *("-" for _ in options.B)]
    page = (tmp_path / "report.md").read_text()
    assert f"- SAB dot, stepper, B={options.B[0]}: the C++ op was not built" in page
    point = json.loads((tmp_path / "measured.json").read_text())["serve"][0]
    assert list(point["measured"]) == ["lstm"] and list(point["skipped"]) == ["sab-dot"]


@pytest.mark.parametrize("bad", BAD)
def test_options_that_cannot_be_measured_are_named(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(bad))):
        ServeOptions(**bad)
