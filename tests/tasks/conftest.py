"""Fixtures: small data sets in place of published ones."""

from __future__ import annotations

import gzip
import hashlib
import os
import struct
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from reminding.tasks import DATASETS, mnist
from reminding.tasks.data.datasets import DataFile, Dataset

MNIST_NAMES = tuple(file.name for file in DATASETS["mnist"].files)


def idx_bytes(array: NDArray[np.uint8]) -> bytes:
    return bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def md5(raw: bytes) -> str:
    return hashlib.md5(raw, usedforsecurity=False).hexdigest()


@pytest.fixture
def fake_mnist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a tiny MNIST, 12 train (4 of them valid) and 6 test images, and its registry."""
    rng = np.random.default_rng(0)
    raws: list[bytes] = []
    for count in (12, 6):
        raws.append(idx_bytes(rng.integers(0, 256, size=(count, 28, 28), dtype=np.uint8)))
        raws.append(idx_bytes(np.arange(count, dtype=np.uint8) % 10))
    folder = tmp_path / "files"
    folder.mkdir()
    files: list[DataFile] = []
    for name, raw in zip(MNIST_NAMES, raws, strict=True):
        (folder / name).write_bytes(gzip.compress(raw, mtime=0))
        files.append(DataFile(name, md5(gzip.compress(raw, mtime=0)), md5(raw), len(raw)))
    fake = Dataset("mnist", "tiny", "none", ("https://one.invalid/", "https://two.invalid/"), tuple(files))
    monkeypatch.setitem(DATASETS, "mnist", fake)
    monkeypatch.setattr(mnist, "VALID_EXAMPLES", 4)
    monkeypatch.delenv("REMINDING_DATA", raising=False)
    return folder


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes a test that would use the network fail; tests of downloads replace this."""
    if find_spec("pooch") is None:
        return
    import pooch

    def refuse(url: str, **_: object) -> str:
        raise AssertionError(f"a test tried to download {url}")

    monkeypatch.setattr(pooch, "retrieve", refuse)


@pytest.fixture
def repack(fake_mnist: Path) -> Callable[[int, bytes], Path]:
    """Overwrite file number `i` of the tiny MNIST with these bytes; returns its path."""

    def write(i: int, contents: bytes) -> Path:
        path = fake_mnist / MNIST_NAMES[i]
        path.write_bytes(contents)
        return path

    return write


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data, with one folder per data set, as given to `--data-dir`."""
    beside = Path(__file__).resolve().parents[2] / ".." / "shared" / "data"
    named = os.environ.get("REMINDING_TEST_DATA") or os.environ.get("REMINDING_DATA")
    folder = Path(named) if named else beside
    if not folder.is_dir():
        pytest.skip(f"no real data in {folder}; REMINDING_TEST_DATA can name the folder")
    return folder
