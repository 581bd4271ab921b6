"""Published texts as streams: the splits, the characters read, and messages about bad files.

Shapes: B batch, T time.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import lzma
import math
import zipfile
from collections.abc import Callable
from itertools import islice, takewhile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from reminding.tasks import DATASETS, PTB, Batch, Enwik8, Split, Text8, mean_metrics, status
from reminding.tasks.characters import PTB_SYMBOLS, TEXT8_SYMBOLS, CharacterStream
from reminding.tasks.data.datasets import DataFile, Dataset

SIZE, BEGINNING = 2000, 400
"""The sizes of the tiny text8 and enwik8, and of their part with a checksum of its own."""
LINES = {
    "ptb.train.txt": b" the cat sat \n on <unk> N mats \n" * 20 + b" \n no. 9 \n",
    "ptb.valid.txt": b" a dog \n" * 9,
    "ptb.test.txt": b" it 's $ N \n" * 7,
}


def md5(raw: bytes) -> str:
    return hashlib.md5(raw, usedforsecurity=False).hexdigest()


def large(name: str) -> bytes:
    """The tiny text8 or enwik8."""
    symbols = TEXT8_SYMBOLS if name == "text8" else bytes(range(256))
    return bytes(np.random.default_rng(0).choice(list(symbols), SIZE).astype(np.uint8))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a tiny PTB, text8 and enwik8, and their registry."""
    place = tmp_path / "data"
    for name, raw in {**LINES, "text8": large("text8"), "enwik8": large("enwik8")}.items():
        path = place / name.split(".")[0] / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(raw)
    urls = ("https://one.invalid/",)
    files = tuple(DataFile(name, md5(raw), md5(raw), len(raw)) for name, raw in LINES.items())
    monkeypatch.setitem(DATASETS, "ptb", Dataset("ptb", "tiny", "none", urls, files))
    for name in ("text8", "enwik8"):
        raw = large(name)
        beginning = DataFile(f"{name}.first10M", None, md5(raw[:BEGINNING]), BEGINNING)
        file = DataFile(name, None, md5(raw), SIZE)
        monkeypatch.setitem(
            DATASETS, name, Dataset(name, "tiny", "none", urls, (file,), DATASETS[name].archive, beginning)
        )
    monkeypatch.delenv("REMINDING_DATA", raising=False)
    return place


def spelled(task: CharacterStream, tokens: torch.Tensor) -> bytes:
    numbers: list[int] = tokens.flatten().numpy().tolist()
    return bytes(task.symbols[number] for number in numbers)


def part(task: CharacterStream, split: Split) -> bytes:
    """All characters of a split, as read by one row; only the last is never an input."""
    if split == "train":
        batches = task.train_batches(1, 0)
        chunks = [next(batches), *takewhile(lambda batch: batch.reset is not None and not batch.reset.any(), batches)]
    else:
        chunks = list(task.eval_batches(split, 1))
    return spelled(task, chunks[0].input[:1]) + b"".join(spelled(task, chunk.target) for chunk in chunks)


def test_ptb_has_the_official_split_without_the_leading_spaces(folder: Path) -> None:
    task = PTB(data_dir=folder, chunk=13, eval_rows=1)
    assert part(task, "train") == b"the cat sat \non <unk> N mats \n" * 20 + b"\nno. 9 \n"
    assert part(task, "valid") == b"a dog \n" * 9
    assert part(task, "test") == b"it 's $ N \n" * 7


@pytest.mark.parametrize(("kind", "prefix"), [(Text8, None), (Enwik8, None), (Text8, 1234), (Enwik8, 1234)])
def test_large_texts_are_split_90_to_5_to_5(kind: type[Text8 | Enwik8], prefix: int | None, folder: Path) -> None:
    task = kind(data_dir=folder, chunk=17, eval_rows=1, prefix=prefix)
    whole = large(kind.name)[:prefix]
    valid, test = (1800, 1900) if prefix is None else (1110, 1172)
    assert part(task, "train") == whole[:valid]
    assert part(task, "valid") == whole[valid:test]
    assert part(task, "test") == whole[test:]


@pytest.mark.parametrize("rows", [1, 3, 7])
@pytest.mark.parametrize("chunk", [1, 10, 64, 5000])
def test_a_pass_reads_each_row_unbroken_and_begins_anew(rows: int, chunk: int, folder: Path) -> None:
    task = Text8(data_dir=folder, chunk=chunk)
    each = 1800 // rows
    chunks = math.ceil((each - 1) / chunk)
    batches = list(islice(task.train_batches(rows, 0), 2 * chunks))
    for first in (0, chunks):
        read = torch.cat([batch.input for batch in batches[first : first + chunks]])  # (each - 1, B)
        wanted = torch.cat([batch.target for batch in batches[first : first + chunks]])
        for row in range(rows):
            section = large("text8")[row * each : (row + 1) * each]
            assert spelled(task, read[:, row]) == section[:-1]
            assert spelled(task, wanted[:, row]) == section[1:]
    resets = [bool(batch.reset.all()) for batch in batches if batch.reset is not None]
    assert resets == [i % chunks == 0 for i in range(2 * chunks)]
    assert batches[0].input.dtype == torch.int64


@pytest.mark.parametrize("kind", [PTB, Text8, Enwik8])
def test_any_chunk_is_reached_without_those_before(kind: type[Any], folder: Path) -> None:
    task: CharacterStream = kind(data_dir=folder, chunk=9)

    def same(one: Batch, other: Batch) -> bool:
        return torch.equal(one.input, other.input) and torch.equal(one.target, other.target)

    batches = list(islice(task.train_batches(2, 0), 40))
    for start in (0, 1, 37, 39):
        again = next(task.train_batches(2, 0, start))
        assert same(again, batches[start])
        assert again.reset is not None
        assert bool(again.reset.all()) == (start == 0)


def test_symbols_and_metrics(folder: Path) -> None:
    tasks = (PTB(data_dir=folder), Text8(data_dir=folder), Enwik8(data_dir=folder))
    for task, size, metric in zip(
        tasks, (50, 27, 256), ("bits_per_character", "bits_per_character", "bits_per_byte"), strict=True
    ):
        assert task.vocabulary == task.input_size == task.output_size == size
        assert bytes(sorted(set(task.symbols))) == task.symbols
        batch = next(task.train_batches(2, 0))
        uniform = torch.zeros(*batch.input.shape, size)
        means = mean_metrics([task.metrics(uniform, batch)])
        assert set(means) == {metric, "accuracy"}
        assert means[task.metric] == pytest.approx(math.log2(size))
        assert (task.streamed, task.maximize) == (True, False)


def zipped(raw: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("text8", raw)
    return out.getvalue()


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".xz": lzma.compress,
    ".zip": zipped,
}


@pytest.mark.parametrize("packing", PACKERS)
@pytest.mark.parametrize("name", ["text8", "text8.first10M"])
def test_a_file_with_the_beginning_is_enough_for_a_prefix(name: str, packing: str, folder: Path) -> None:
    (folder / "text8" / "text8").unlink()
    (folder / "text8" / (name + packing)).write_bytes(PACKERS[packing](large("text8")[:BEGINNING]))
    for prefix in (BEGINNING, 123):
        assert part(Text8(data_dir=folder, prefix=prefix), "train") == large("text8")[: prefix * 90 // 100]
    said = "files are missing.*prefix=400 accepts" if "first" in name else "400 bytes decompressed, expected 2000"
    with pytest.raises((ValueError, FileNotFoundError), match=said):
        Text8(data_dir=folder).train_batches(1, 0)
    with pytest.raises(ValueError, match="400 bytes decompressed, expected at least 401, the prefix"):
        Text8(data_dir=folder, prefix=401).train_batches(1, 0)


def test_a_changed_character_is_found_where_a_checksum_is_known(folder: Path) -> None:
    path, raw = folder / "text8" / "text8", large("text8")
    changed = raw[:9] + (b"a" if raw[9:10] != b"a" else b"b") + raw[10:]
    path.write_bytes(changed)
    for prefix in (None, 20):
        with pytest.raises(ValueError, match=rf"{path}: md5 of the decompressed bytes is {md5(changed)}, expected"):
            Text8(data_dir=folder, prefix=prefix).train_batches(1, 0)


@pytest.mark.parametrize("length", [BEGINNING, BEGINNING + 100])
def test_of_a_file_cut_off_the_known_beginning_is_checked(length: int, folder: Path) -> None:
    raw = large("text8")
    changed = raw[:9] + (b"a" if raw[9:10] != b"a" else b"b") + raw[10:]
    (folder / "text8" / "text8").write_bytes(changed[:length])
    expected = rf"is {md5(changed[:BEGINNING])}, expected {md5(raw[:BEGINNING])}"
    with pytest.raises(ValueError, match=expected):
        Text8(data_dir=folder, prefix=20).train_batches(1, 0)


def test_of_a_shorter_file_only_the_symbols_are_checked(folder: Path) -> None:
    path = folder / "text8" / "text8"
    path.write_bytes(b"a short text with  a Capital")
    with pytest.raises(ValueError, match=rf"{path}: b'C' at character 21, expected one of the 27 symbols"):
        Text8(data_dir=folder, prefix=25).train_batches(1, 0)
    assert part(Text8(data_dir=folder, prefix=21), "train") == b"a short text with "


def damaged(raw: bytes) -> dict[str, tuple[bytes, str]]:
    return {
        "cut short": (raw[:-5], rf"{len(raw) - 5} bytes decompressed, expected {len(raw)}"),
        "empty": (b"", rf"0 bytes decompressed, expected {len(raw)}"),
        "changed": (raw[:-1] + b"!", r"md5 of the decompressed bytes is \w+, expected \w+"),
        "damaged gzip": (gzip.compress(raw)[:-9], r"damaged gzip of \d+ bytes"),
        "another text": (b"<!doctype html>", "15 bytes decompressed, expected"),
    }


@pytest.mark.parametrize("damage", damaged(b"some text"))
@pytest.mark.parametrize(("kind", "name"), [(PTB, "ptb.valid.txt"), (Text8, "text8"), (Enwik8, "enwik8")])
def test_a_damaged_file_is_named_and_left_alone(kind: type[Any], name: str, damage: str, folder: Path) -> None:
    path = folder / kind.name / name
    content, message = damaged(path.read_bytes())[damage]
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"{path}: {message}"):
        kind(data_dir=folder).train_batches(1, 0)
    assert path.read_bytes() == content
    assert [each.state for each in status(kind.name, folder) if each.file.name == name] == ["damaged"]


def test_missing_files_and_bad_options_are_named(folder: Path) -> None:
    (folder / "ptb" / "ptb.test.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"data set ptb: 1 of 3 files are missing; looked for ptb.test"):
        PTB(data_dir=folder).eval_batches("test", 1)
    with pytest.raises(FileNotFoundError, match=r"data set enwik8: 1 of 1 files are missing; looked for enwik8 in"):
        Enwik8(data_dir=folder / "ptb").train_batches(1, 0)
    with pytest.raises(ValueError, match="prefix must be at most 2000, all of text8, got 2001"):
        Text8(prefix=2001)
    with pytest.raises(ValueError, match="chunk must be an integer of at least 1, got 0"):
        PTB(chunk=0)
    with pytest.raises(ValueError, match=r"text8 has 5 characters, too few for 8 parallel .* a smaller --eval-rows$"):
        Text8(data_dir=folder, prefix=100).eval_batches("valid", 8)


def loaded(task: CharacterStream) -> CharacterStream:
    try:
        assert task.text
    except FileNotFoundError as error:
        pytest.skip(f"no real text: {error}")
    return task


def test_real_ptb(real_data: Path) -> None:
    text = loaded(PTB(data_dir=real_data)).text
    assert (text.valid, text.test, len(text.symbols)) == (5_059_550, 5_455_962, 5_902_146)
    assert bytes(np.unique(text.symbols[: text.valid]).tolist()) == PTB_SYMBOLS
    assert set(np.unique(text.symbols).tolist()) == set(PTB_SYMBOLS)


def test_real_text8(real_data: Path) -> None:
    text = loaded(Text8(data_dir=real_data, prefix=10_000_000)).text
    assert (text.valid, text.test, len(text.symbols)) == (9_000_000, 9_500_000, 10_000_000)
    assert bytes(np.unique(text.symbols).tolist()) == TEXT8_SYMBOLS
    assert text.symbols[:32].tobytes() == b" anarchism originated as a term "


def test_real_enwik8(real_data: Path) -> None:
    text = loaded(Enwik8(data_dir=real_data)).text
    assert (text.valid, text.test, len(text.symbols)) == (90_000_000, 95_000_000, 100_000_000)
    assert text.symbols[:10].tobytes() == b"<mediawiki"
