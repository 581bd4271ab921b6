"""The idx reader on files written here."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from reminding.tasks.data.idx import parse_idx


def idx_bytes(array: NDArray[np.uint8]) -> bytes:
    return bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


@given(shape=st.lists(st.integers(0, 5), min_size=1, max_size=4))
def test_reads_what_was_written(shape: list[int]) -> None:
    array = np.random.default_rng(0).integers(0, 256, size=shape, dtype=np.uint8)
    assert np.array_equal(parse_idx(idx_bytes(array), len(shape), "f"), array)


RAW = idx_bytes(np.arange(6, dtype=np.uint8).reshape(1, 2, 3))


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", r"f: starts with the bytes \(none\), expected 00 00 08 03"),
        (b"\x89PNG" + RAW[4:], "f: starts with the bytes 89 50 4e 47, expected 00 00 08 03"),
        (idx_bytes(np.zeros(3, np.uint8)), "f: starts with the bytes 00 00 08 01, expected 00 00 08 03"),
        (b"\0\0\x0d\x03" + RAW[4:], "f: starts with the bytes 00 00 0d 03"),
        (RAW[:11], "f: 11 bytes, expected an idx header of 16 bytes"),
        (RAW[:-1], r"f: 21 bytes, expected 22 for its header's shape \(1, 2, 3\)"),
        (RAW + b"\0", "f: 23 bytes, expected 22"),
        (b"\0\0\x08\x03" + struct.pack(">3I", 2**32 - 1, 28, 28), "f: 16 bytes, expected 3367254359296"),
    ],
)
def test_what_is_wrong_is_said(raw: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_idx(raw, 3, "f")
