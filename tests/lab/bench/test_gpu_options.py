"""The options of the benchmark for a GPU."""

from __future__ import annotations

import re
from typing import Any

import pytest

from reminding.lab.bench.options import GpuOptions


def test_the_defaults_are_the_sizes_that_matter() -> None:
    sizes = [(size.T, size.H) for size in GpuOptions().sizes()]
    assert sizes == [(1024, 128), (1024, 256), (1024, 512), (4096, 128), (16_384, 128), (65_536, 128)]
    assert {(size.B, size.I) for size in GpuOptions().sizes()} == {(64, 128)}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"H": ()}, "H must be one or more different numbers, got []"),
        ({"lengths": (0,)}, "lengths must be integers of at least 1, got [0]"),
        ({"k_att": 0}, "k_att must be an integer of at least 1, got 0"),
        ({"capacity": 0}, "capacity must be an integer of at least 1, or None, got 0"),
        ({"max_seconds": 0.0}, "max_seconds must be above 0, got 0.0"),
        ({"models": ("gru",)}, "got ['gru']"),
        ({"device": "cudax"}, "device must be 'cuda' or 'cuda:N', got 'cudax'"),
    ],
)
def test_what_cannot_be_measured_is_refused_by_name(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        GpuOptions(**options)
