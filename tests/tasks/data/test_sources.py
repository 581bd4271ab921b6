"""Bytes as a stream, files that change, and the mu-law."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from reminding.tasks.data.sources import BytesSource, Growth, mu_law


def test_bytes_are_read_from_anywhere(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(bytes(range(200)))
    source = BytesSource(path)
    assert source.steps() == 200
    assert source.read(10, 13).tolist() == [10, 11, 12]
    assert source.reading().steps == 200


@pytest.mark.parametrize("how", ["replaced", "cut", "written anew"])
def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path: Path, how: str) -> None:
    path = tmp_path / "a"
    path.write_bytes(bytes(200))
    source = BytesSource(path)
    source.read(0, 10)
    if how == "replaced":
        other = tmp_path / "b"
        other.write_bytes(bytes(200))
        os.replace(other, path)
    else:
        path.write_bytes(bytes(100 if how == "cut" else 200))
        os.utime(path, ns=(0, 1))
    with pytest.raises(ValueError, match=r"changed while it was read; give a copy that stays as it is$"):
        source.read(0, 10)


def test_bytes_that_are_added_meanwhile_are_no_steps_and_what_was_there_must_stay(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(bytes(range(200)))
    source = BytesSource(path)
    with path.open("ab") as file:
        file.write(b"xyz")
    assert source.steps() == 200
    assert source.read(198, 200).tolist() == [198, 199]
    path.write_bytes(bytes(range(1, 251)))
    with pytest.raises(ValueError, match="replaced, cut or written anew after 203 bytes"):
        source.read(0, 10)


def test_a_growing_file_may_only_grow(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"x" * 100)
    growth = Growth(path)
    assert growth.size() == 100
    with path.open("ab") as file:
        file.write(b"y" * 100)
    assert growth.size() == 200
    path.write_bytes(b"x" * 100)
    with pytest.raises(ValueError, match="replaced, cut or written anew after 200 bytes"):
        growth.size()


def test_a_growing_file_that_shrank_and_regrew_between_two_looks_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"x" * 100)
    growth = Growth(path)
    growth.size()
    path.write_bytes(b"z" * 300)  # in the same place on the disk, and longer
    with pytest.raises(ValueError, match="may only grow at its end"):
        growth.size()


def test_mu_law_keeps_order_ends_and_silence() -> None:
    assert mu_law(np.array([-1.0, 0.0, 1.0, 1.5])).tolist() == [0, 128, 255, 255]
    levels = mu_law(np.linspace(-1, 1, 1001)).astype(int)
    assert (np.diff(levels) >= 0).all()
    np.testing.assert_array_equal(levels[501:], 255 - levels[499::-1])
