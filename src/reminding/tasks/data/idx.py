"""The idx format of MNIST's files: a magic number, the size of each axis, then the bytes.

Source: http://yann.lecun.com/exdb/mnist/, "the IDX file format".
"""

from __future__ import annotations

import math
import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_UNSIGNED_BYTE = 8  # the format's code for this type of element


def parse_idx(raw: bytes, axes: int, source: Path | str) -> NDArray[np.uint8]:
    """Read an array of unsigned bytes.

    Args:
        raw: the file's contents, decompressed.
        axes: expected number of axes, 3 for images and 1 for labels.
        source: the origin of `raw`, for messages.

    Returns:
        An array of the shape that the header gives; read-only, it shares `raw`'s memory.

    Raises:
        ValueError: the magic number is wrong, or the length is not the header's; the message names `source` and shows
            the difference.
    """
    magic = bytes((0, 0, _UNSIGNED_BYTE, axes))
    if raw[:4] != magic:
        raise ValueError(
            f"{source}: starts with the bytes {raw[:4].hex(' ') or '(none)'}, expected {magic.hex(' ')}, "
            f"the magic number of an idx file of unsigned bytes with axes={axes}"
        )
    header = 4 + 4 * axes
    if len(raw) < header:
        raise ValueError(f"{source}: {len(raw)} bytes, expected an idx header of {header} bytes")
    shape: tuple[int, ...] = struct.unpack(f">{axes}I", raw[4:header])
    expected = header + math.prod(shape)
    if len(raw) != expected:
        raise ValueError(f"{source}: {len(raw)} bytes, expected {expected} for its header's shape {shape}")
    return np.ndarray(shape, dtype=np.uint8, buffer=raw, offset=header)
