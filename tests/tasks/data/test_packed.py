"""Plain and compressed files: the same bytes in either form, and messages about damaged files."""

from __future__ import annotations

import gzip
import io
import lzma
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from reminding.tasks.data.packed import open_raw, read_raw

CONTENT = np.random.default_rng(0).integers(0, 256, 5000, dtype=np.uint8).tobytes()


def zipped(*names: str) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            archive.writestr(name, CONTENT if name.endswith("text") else b"something else")
    return out.getvalue()


def tarred(*names: str) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name in names:
            content = CONTENT if name.endswith("text") else b"something else"
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return out.getvalue()


PACKED: dict[str, bytes] = {
    "plain": CONTENT,
    "gzip": gzip.compress(CONTENT),
    "xz": lzma.compress(CONTENT),
    "zip": zipped("readme", "folder/text"),
    "zip of one": zipped("another name of the text"),
    "tar": tarred("folder/readme", "folder/text"),
    "tar.gz": gzip.compress(tarred("folder/readme", "folder/text")),
    "tar.xz": lzma.compress(tarred("folder/text")),
}


@pytest.mark.parametrize("kind", PACKED)
@pytest.mark.parametrize("reader", [read_raw, open_raw])
def test_the_bytes_are_the_same_however_packed(
    kind: str, reader: Callable[[Path, str], bytes], tmp_path: Path
) -> None:
    path = tmp_path / "a name that says nothing"
    path.write_bytes(PACKED[kind])
    assert bytes(reader(path, "text")) == CONTENT


def test_a_plain_file_stays_on_disk_and_an_empty_one_is_empty(tmp_path: Path) -> None:
    (tmp_path / "plain").write_bytes(CONTENT)
    (tmp_path / "empty").write_bytes(b"")
    assert isinstance(open_raw(tmp_path / "plain"), np.memmap)
    assert len(open_raw(tmp_path / "empty")) == 0
    assert read_raw(tmp_path / "empty") == b""


@pytest.mark.parametrize("kind", ["gzip", "xz", "zip", "tar.gz", "tar.xz"])
@pytest.mark.parametrize("kept", [0.3, 0.97])
def test_a_file_cut_short_is_named(kind: str, kept: float, tmp_path: Path) -> None:
    path = tmp_path / "cut"
    path.write_bytes(PACKED[kind][: int(kept * len(CONTENT))])
    with pytest.raises(ValueError, match=rf"{path}: damaged \w+ of \d+ bytes \(.*\), expected one that unpacks"):
        read_raw(path, "text")


@pytest.mark.parametrize("content", [zipped("one", "two"), tarred("one", "two"), gzip.compress(tarred("one", "two"))])
def test_an_archive_without_the_file_says_what_it_holds(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "archive"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"{path}: holds one, two, expected text"):
        read_raw(path, "text")
