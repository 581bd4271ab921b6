"""CIFAR10: the order of the pixels, the split, the accepted content of files, and messages about bad files."""

from __future__ import annotations

import hashlib
import os
import pickle
import struct
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from reminding.tasks import CIFAR10, DATASETS, Split, cifar10
from reminding.tasks.cifar10 import parse_batch
from reminding.tasks.data.datasets import Archive, DataFile, Dataset

NAMES = tuple(file.name for file in DATASETS["cifar10"].files)
IMAGES = 4
"""The number of images in each file of the tiny data set."""


def images(number: int) -> NDArray[np.uint8]:
    """The planes of file `number`, (n, 3072)."""
    return np.random.default_rng(number).integers(0, 256, (IMAGES, 3072), dtype=np.uint8)


def labels(number: int) -> list[int]:
    return [(number * IMAGES + i) % 10 for i in range(IMAGES)]


def python_2_pickle(data: NDArray[np.uint8], label: list[int]) -> bytes:
    """A pickle of protocol 2 as written by Python 2's cPickle and the numpy of 2009, assembled by hand."""

    def text(content: bytes) -> bytes:
        return b"U" + bytes([len(content)]) + content

    minus_one = b"J" + struct.pack("<i", -1)
    raw = data.tobytes()
    rows, columns = (b"M" + struct.pack("<H", size) for size in data.shape)
    empty = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85" + text(b"b") + b"\x87R"
    kind = b"cnumpy\ndtype\n" + text(b"u1") + b"K\x00K\x01\x87R"
    kind += b"(K\x03" + text(b"|") + b"NNN" + minus_one * 2 + b"K\x00tb"
    state = b"(K\x01" + rows + columns + b"\x86" + kind + b"\x89T" + struct.pack("<i", len(raw)) + raw + b"tb"
    numbers = b"](" + b"".join(b"K" + bytes([each]) for each in label) + b"e"
    return b"\x80\x02}(" + text(b"data") + empty + state + text(b"labels") + numbers + b"u."


def python_3_pickle(data: NDArray[np.uint8], label: list[int], protocol: int = 2) -> bytes:
    return pickle.dumps({b"batch_label": b"a batch", b"labels": label, b"data": data}, protocol)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a tiny CIFAR10, 17 train, 3 valid and 4 test images, and its registry."""
    place = tmp_path / "files" / "cifar-10-batches-py"
    place.mkdir(parents=True)
    files: list[DataFile] = []
    for number, name in enumerate(NAMES):
        raw = python_2_pickle(images(number), labels(number))
        (place / name).write_bytes(raw)
        files.append(DataFile(name, None, hashlib.md5(raw).hexdigest(), len(raw)))
    archive = Archive("cifar-10-python.tar.gz", "md5:0", "cifar-10-batches-py")
    fake = Dataset("cifar10", "tiny", "none", ("https://one.invalid/",), tuple(files), archive)
    monkeypatch.setitem(DATASETS, "cifar10", fake)
    monkeypatch.setattr(cifar10, "IMAGES_PER_FILE", IMAGES)
    monkeypatch.setattr(cifar10, "VALID_EXAMPLES", 3)
    monkeypatch.delenv("REMINDING_DATA", raising=False)
    return tmp_path / "files"


def test_the_last_of_the_training_images_are_valid(folder: Path) -> None:
    everything = [label for number in range(6) for label in labels(number)]
    parts: dict[Split, list[int]] = {
        "train": everything[:17],
        "valid": everything[17:20],
        "test": everything[20:],
    }
    for split, expected in parts.items():
        assert CIFAR10(data_dir=folder).examples(split).label.numpy().tolist() == expected


def test_a_step_is_one_pixel_in_colour_or_one_value_of_a_plane(folder: Path) -> None:
    planes = images(5).reshape(IMAGES, 3, 32, 32) / np.float32(255)
    (together,) = CIFAR10(data_dir=folder).eval_batches("test", IMAGES)
    (apart,) = CIFAR10(data_dir=folder, channels="apart").eval_batches("test", IMAGES)
    assert together.input.shape == (1024, IMAGES, 3)
    assert apart.input.shape == (3072, IMAGES, 1)
    for row, column in ((0, 0), (0, 31), (1, 0), (31, 31)):
        assert torch.equal(together.input[32 * row + column], torch.as_tensor(planes[:, :, row, column]))
        for colour in range(3):
            step = 1024 * colour + 32 * row + column
            assert torch.equal(apart.input[step, :, 0], torch.as_tensor(planes[:, colour, row, column]))
    assert (CIFAR10().input_size, CIFAR10(channels="apart").input_size) == (3, 1)


@pytest.mark.parametrize("where", ["folder", "inside", "the batches' own", "archive"])
def test_layouts_that_are_found(folder: Path, where: str) -> None:
    expected = CIFAR10(data_dir=folder).examples("test").pixels
    data_dir = folder
    if where == "inside":
        data_dir = folder.parent / "data"
        data_dir.mkdir()
        folder.rename(data_dir / "cifar10")
    elif where == "the batches' own":
        data_dir = folder / "cifar-10-batches-py"
    elif where == "archive":
        data_dir = folder.parent / "packed"
        data_dir.mkdir()
        with tarfile.open(data_dir / "cifar-10-python.tar.gz", "w:gz") as archive:
            archive.add(folder / "cifar-10-batches-py", "cifar-10-batches-py")
    assert torch.equal(CIFAR10(data_dir=data_dir).examples("test").pixels, expected)


def test_other_files_of_the_layout_are_read_only_when_asked_for(folder: Path) -> None:
    path = folder / "cifar-10-batches-py" / NAMES[5]
    path.write_bytes(python_3_pickle(images(77), labels(5)))
    with pytest.raises(ValueError, match=rf"{path}: \d+ bytes decompressed, expected \d+"):
        CIFAR10(data_dir=folder).examples("test")
    pixels = CIFAR10(data_dir=folder, verify=False, channels="apart").examples("test").pixels
    assert np.array_equal(pixels.numpy(), images(77))


def test_a_changed_byte_is_found_before_anything_is_unpickled(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = folder / "cifar-10-batches-py" / NAMES[2]
    path.write_bytes(path.read_bytes()[:-1] + b"!")

    def refuse(*_: object) -> None:
        raise AssertionError("unpickled")

    monkeypatch.setattr(cifar10, "parse_batch", refuse)
    monkeypatch.setattr(cifar10, "_read", only_the_third(cifar10._read))  # pyright: ignore[reportPrivateUsage]
    with pytest.raises(ValueError, match=rf"{path}: md5 of the decompressed bytes is [0-9a-f]+, expected"):
        CIFAR10(data_dir=folder).examples("test")


def only_the_third(read: Callable[..., Any]) -> Callable[..., Any]:
    def reading(file: DataFile, path: Path, verify: bool) -> Any:
        return read(file, path, verify) if file.name == NAMES[2] else (images(0), np.zeros(IMAGES, np.int64))

    return reading


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_any_python_and_numpy_may_have_written_it(folder: Path, protocol: int) -> None:
    for raw in (python_3_pickle(images(1), labels(1), protocol), python_2_pickle(images(1), labels(1))):
        planes, found = parse_batch(raw, "here")
        assert np.array_equal(planes, images(1))
        assert found.tolist() == labels(1)


class Harmful:
    def __init__(self, call: Callable[..., Any], *arguments: object) -> None:
        self.made = (call, arguments)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[object, ...]]:
        return self.made


@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_a_file_cannot_run_code(folder: Path, tmp_path: Path, protocol: int) -> None:
    mark = tmp_path / "code ran"
    for harmful in (Harmful(os.mkdir, str(mark)), Harmful(exec, f"import os; os.mkdir({str(mark)!r})")):
        raw = pickle.dumps({b"labels": labels(0), b"data": images(0), b"more": harmful}, protocol)
        with pytest.raises(ValueError, match=r"here: .* is not allowed in it"):
            parse_batch(raw, "here")
    assert not mark.exists()


def test_what_is_refused_is_told(folder: Path) -> None:
    data, label = images(0), labels(0)
    pairs = np.zeros((2, 2), object)
    bad: list[tuple[object, str]] = [
        ([1, 2], "holds a list, expected a dictionary"),
        ({b"labels": label}, "has labels, expected data as well"),
        ({b"data": data[:3], b"labels": label}, r"data is uint8 \(3, 3072\), expected uint8 \(4, 3072\)"),
        ({b"data": data.astype(float), b"labels": label}, r"data is float64 \(4, 3072\), expected uint8"),
        ({b"data": [1], b"labels": label}, "data is list, expected uint8"),
        ({b"data": data, b"labels": label[:2]}, r"labels are int64 \(2,\), expected 4 integers from 0 to 9"),
        ({b"data": data, b"labels": [[1], [2, 3]]}, "labels are lists of unequal length"),
        ({b"data": data, b"labels": [0, 1, 2, 10]}, "labels from 0 to 10, expected 4 integers from 0 to 9"),
        ({b"data": data, b"labels": [-1, 1, 2, 3]}, "labels from -1 to 3"),
        ({b"data": pairs, b"labels": label}, "arrays of object are not allowed in it"),
    ]
    for content, message in bad:
        with pytest.raises(ValueError, match=f"here: .*{message}"):
            parse_batch(pickle.dumps(content, 2), "here")
    for raw in (b"", b"<!doctype html>", python_2_pickle(data, label)[:-100]):
        with pytest.raises(ValueError, match=rf"here: cannot be read as a CIFAR10 python batch of {len(raw)} bytes"):
            parse_batch(raw, "here")


def test_missing_files_are_listed(folder: Path) -> None:
    (folder / "cifar-10-batches-py" / NAMES[3]).unlink()
    with pytest.raises(FileNotFoundError, match=r"1 of 6 files are missing; looked for data_batch_4 in .*tar\.gz"):
        CIFAR10(data_dir=folder).train_batches(1, 0)
    with pytest.raises(ValueError, match=r"channels must be one of \['together', 'apart'\], got 'grey'"):
        CIFAR10(channels="grey")  # pyright: ignore[reportArgumentType]


def test_real_cifar10(real_data: Path) -> None:
    try:
        task = CIFAR10(data_dir=real_data)
        parts = {split: task.examples(split) for split in ("train", "valid", "test")}
    except (FileNotFoundError, ValueError) as error:
        pytest.skip(f"no real CIFAR10: {error}")
    assert [len(part.label) for part in parts.values()] == [45_000, 5_000, 10_000]
    label = torch.cat([parts["train"].label, parts["valid"].label])
    assert label.bincount().numpy().tolist() == [5000] * 10
    assert parts["test"].label.bincount().numpy().tolist() == [1000] * 10
