"""The options of the benchmark on the CPU."""

from __future__ import annotations

import re
from typing import Any

import pytest

from reminding.lab.bench.options import BenchOptions


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"T": (4, 8), "B": (1, 2)}, "T, B, H: only one of them may take several values, got T and B"),
        ({"T": (8, 4)}, "T must be one or more numbers in growing order, got [8, 4]"),
        ({"H": (0,)}, "H must be integers of at least 1, got [0]"),
        ({"B": ()}, "B must be one or more numbers in growing order, got []"),
        ({"k_att": 0}, "k_att must be an integer of at least 1, got 0"),
        ({"max_seconds": 0.0}, "max_seconds must be above 0, got 0.0"),
        ({"seed": -1}, "seed must be an integer of at least 0 and below 2**64, got -1"),
        ({"models": ("lstm", "gru")}, "got ['gru']"),
        ({"device": "tpu"}, "device must be 'cpu' or 'cuda', got 'tpu'"),
        ({"resets": 1.5}, "resets must be from 0 to 1, got 1.5"),
        ({"recurrent_dropout": -0.1}, "recurrent_dropout must be from 0 to 1, got -0.1"),
        ({"packed": True}, "with packed, got ['tbptt', 'attention', 'transformer']"),
        (
            {"packed": True, "models": ("sab-dot",), "loss": "last"},
            "loss must be 'everywhere' with packed, got 'last'",
        ),
    ],
)
def test_what_cannot_be_measured_is_refused_by_name(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        BenchOptions(**options)
