"""The benchmark of training on a stream: who takes part, what a repetition is, and what it writes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import Tensor

from reminding.lab.bench.kinds.stream import Stream, StreamMeasurement, StreamOptions, StreamRow, Trial, measure
from reminding.lab.runs.machine import processor
from reminding.nn import SAB, SABState
from tests.nn.samples import needs_op

SMALL: dict[str, Any] = {"T": 12, "B": 2, "H": 4, "I": 3, "k_top": 2, "k_att": 3, "k_trunc": 3, "capacity": 6}


def test_a_repetition_sends_credit_on_as_often_as_it_should() -> None:
    options = StreamOptions(credit_every=(1, 4, 6), **SMALL)
    assert options.block == 12
    assert options.warm_up == 24, "the memory is full after two chunks, which are part of a block"
    assert [trial.credit_every for trial in options.contestants()] == [None, 1, 4, 6, None]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"layers": ()}, "layers must be one or more different numbers"),
        ({"layers": (2, 1, 2)}, "layers must be one or more different numbers"),
        ({"credit_every": (0,)}, "credit_every must be integers of at least 1"),
        ({"capacity": 1}, "capacity must be an integer of at least 2, got 1"),
        ({"device": "cuda"}, "device must be 'cpu'"),
        ({"models": ("tbptt",)}, "models must be"),
    ],
)
def test_what_cannot_be_measured_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        StreamOptions(**{**SMALL, **given})


def test_what_was_left_out_is_told_with_its_number_of_layers() -> None:
    row = StreamRow(Trial("sab-within", None), 2, skipped="no op")
    measurement = StreamMeasurement(StreamOptions(layers=(2,), **SMALL), [row])
    assert measurement.tables()[0].notes == ["SAB, credit within the chunk, 2 layers: no op"]


@needs_op
def test_the_state_goes_from_chunk_to_chunk() -> None:
    options = StreamOptions(layers=(2,), credit_every=(3,), **SMALL)
    torch.manual_seed(1)
    x, d_output = torch.randn(12, 2, 3), torch.randn(12, 2, 4)
    stream = Stream(Trial("sab", 3), 2, options)
    for _ in range(4):
        stream.learn(x, d_output)
    assert isinstance(stream.module, SAB)
    assert isinstance(stream.state, SABState)
    assert stream.state.step.tolist() == [48, 48]
    assert stream.state.history.waits, "the credit of the fourth chunk"
    assert all(parameter.grad is not None for parameter in stream.module.parameters())
    plain = Stream(Trial("lstm", None), 2, options)
    plain.learn(x, d_output)
    h, c = cast("tuple[Tensor, Tensor]", plain.state)
    assert not h.requires_grad
    assert not c.requires_grad


@needs_op
def test_every_contestant_is_measured_and_written(tmp_path: Path) -> None:
    options = StreamOptions(layers=(1, 2), credit_every=(1, 2), repetitions=2, **SMALL)
    rows: list[StreamRow] = list(measure(options, lambda _: None))
    assert len(rows) == 2 * 4
    assert all(len(row.ms) == 2 and row.skipped is None for row in rows)
    assert all(row.ratios == (1.0, 1.0) for row in rows if row.trial.name == "lstm")
    measurement = StreamMeasurement(options, rows)
    measurement.write(tmp_path)
    record = json.loads((tmp_path / "measured.json").read_text())
    assert (record["kind"], record["processor"]) == ("stream", processor())
    assert record["options"]["credit_every"] == [1, 2]
    page = (tmp_path / "report.md").read_text()
    assert "SAB, credit into earlier chunks, every 2" in page
    assert "| 1 layer | 2 layers |" in page and f"; {processor()}." in page
