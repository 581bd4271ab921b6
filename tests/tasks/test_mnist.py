"""MNIST: reading a folder, messages about a bad folder, and the real data if available."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from reminding.tasks import DATASETS, MNIST, PermutedMNIST, Split
from reminding.tasks.mnist import pixel_permutation

MNIST_NAMES = tuple(file.name for file in DATASETS["mnist"].files)
Repack = Callable[[int, bytes], Path]


def test_split(fake_mnist: Path) -> None:
    task = MNIST(data_dir=fake_mnist)
    labels: dict[Split, list[int]] = {"train": list(range(8)), "valid": [8, 9, 0, 1], "test": list(range(6))}
    for split, expected in labels.items():
        assert task.examples(split).label.numpy().tolist() == expected


@pytest.mark.parametrize("where", ["folder", "mnist inside", "unpacked", "REMINDING_DATA"])
def test_layouts_that_are_found(fake_mnist: Path, where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = MNIST(data_dir=fake_mnist).examples("test").pixels
    data_dir: Path | None = fake_mnist
    if where == "mnist inside":
        data_dir = fake_mnist.parent / "data"
        data_dir.mkdir()
        fake_mnist.rename(data_dir / "mnist")
    elif where == "unpacked":
        for name in MNIST_NAMES:
            packed = fake_mnist / name
            (fake_mnist / name.removesuffix(".gz")).write_bytes(gzip.decompress(packed.read_bytes()))
            packed.unlink()
    elif where == "REMINDING_DATA":
        monkeypatch.setenv("REMINDING_DATA", str(fake_mnist))
        data_dir = None
    assert torch.equal(MNIST(data_dir=data_dir).examples("test").pixels, expected)


def test_a_repacked_gzip_is_the_same_data(fake_mnist: Path, repack: Repack) -> None:
    raw = gzip.decompress((fake_mnist / MNIST_NAMES[2]).read_bytes())
    repack(2, gzip.compress(raw, compresslevel=1, mtime=99))
    assert MNIST(data_dir=fake_mnist).examples("test").pixels.numpy().tobytes() == raw[16:]


def test_missing_files_list_the_names_looked_for(fake_mnist: Path) -> None:
    (fake_mnist / MNIST_NAMES[1]).unlink()
    wanted = r"data set mnist: 1 of 4 files are missing; looked for train-labels-idx1-ubyte.gz or "
    with pytest.raises(FileNotFoundError, match=wanted + "train-labels-idx1-ubyte in .*files.*--data-dir"):
        MNIST(data_dir=fake_mnist).train_batches(1, 0)


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"4 of 4 files are missing.*nowhere"):
        MNIST(data_dir=tmp_path / "nowhere").eval_batches("test", 1)


def damaged_contents(good: bytes) -> dict[str, tuple[bytes, str]]:
    raw = gzip.decompress(good)
    flipped = raw[:-1] + bytes([raw[-1] ^ 1])
    middle = len(good) // 2
    return {
        "cut short": (good[:-20], "damaged gzip of"),
        "bit flip": (good[:middle] + bytes([good[middle] ^ 255]) + good[middle + 1 :], "damaged gzip of"),
        "no such block": (good[:10] + b"\xff" + good[11:], "damaged gzip of .*invalid block type"),
        "only magic": (b"\x1f\x8b", "damaged gzip of 2 bytes"),
        "empty": (b"", r"starts with the bytes \(none\), expected 00 00 08 03"),
        "a web page": (b"<!doctype html>", "starts with the bytes 3c 21 64 6f, expected 00 00 08 03"),
        "half": (
            gzip.compress(raw[:3000]),
            r"3000 bytes, expected 4720 for its header's shape \(6, 28, 28\)",
        ),
        "other data": (
            gzip.compress(bytes((0, 0, 8, 3, 0, 0, 0, 5, 0, 0, 0, 28, 0, 0, 0, 28)) + bytes(5 * 784)),
            "3936 bytes decompressed, expected 4720",
        ),
        "one pixel": (gzip.compress(flipped), "md5 of the decompressed bytes is .*, expected [0-9a-f]{32}"),
    }


@pytest.mark.parametrize("damage", sorted(damaged_contents(gzip.compress(b"x" * 4720))))
def test_a_damaged_file_is_named_and_left_alone(fake_mnist: Path, repack: Repack, damage: str) -> None:
    contents, message = damaged_contents((fake_mnist / MNIST_NAMES[2]).read_bytes())[damage]
    path = repack(2, contents)
    with pytest.raises(ValueError, match=f"{path}: {message}"):
        MNIST(data_dir=fake_mnist).train_batches(1, 0)
    assert path.read_bytes() == contents


def test_permutation_is_fixed_for_good() -> None:
    order = pixel_permutation()
    assert sorted(order.numpy().tolist()) == list(range(784))
    assert order[:8].numpy().tolist() == [41, 452, 536, 30, 225, 314, 25, 737]


def test_permuted_shows_the_same_pixels_in_that_order(fake_mnist: Path) -> None:
    (plain,) = MNIST(data_dir=fake_mnist).eval_batches("test", 6)
    (permuted,) = PermutedMNIST(data_dir=fake_mnist).eval_batches("test", 6)
    assert torch.equal(permuted.input, plain.input[pixel_permutation()])
    assert torch.equal(permuted.target, plain.target)
    assert not torch.equal(permuted.input, plain.input)


@pytest.fixture
def real(real_data: Path) -> Path:
    if not (real_data / "mnist" / MNIST_NAMES[0]).exists():
        pytest.skip(f"no real MNIST in {real_data}")
    return real_data


def test_real_mnist(real: Path) -> None:
    task = MNIST(data_dir=real)
    parts = {split: task.examples(split) for split in ("train", "valid", "test")}
    assert [tuple(part.pixels.shape) for part in parts.values()] == [(55000, 784), (5000, 784), (10000, 784)]
    label = torch.cat([parts["train"].label, parts["valid"].label])
    assert label.bincount().numpy().tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert parts["test"].label.bincount().numpy().tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    pixels = torch.cat([parts["train"].pixels, parts["valid"].pixels])
    assert float(pixels.sum(dtype=torch.int64)) / pixels.numel() / 255 == pytest.approx(0.1307, abs=5e-5)


def test_real_batches(real: Path) -> None:
    train = next(MNIST(data_dir=real).train_batches(7, seed=0))
    assert train.input.shape == (784, 7, 1)
    assert train.input.dtype == torch.float32
    assert (train.input.min(), train.input.max()) == (0, 1)
    plain = next(MNIST(data_dir=real).eval_batches("test", 5))
    permuted = next(PermutedMNIST(data_dir=real).eval_batches("test", 5))
    assert plain.target.numpy().tolist() == [7, 2, 1, 0, 4], "the official order"
    assert torch.equal(permuted.input, plain.input[pixel_permutation()])
