"""n-back MNIST: the images as they are in the files, and the label of the one `back` before.

Shapes: T time, B batch.
"""

from __future__ import annotations

import math
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from reminding.tasks import MNIST, Batch, EvalSplit, NBack, Split, mean_metrics
from reminding.tasks.kinds.asked import EVAL_ROWS, UNASKED


def joined(batches: list[Batch]) -> tuple[Tensor, Tensor]:
    return torch.cat([batch.input for batch in batches]), torch.cat([batch.target for batch in batches])


def read(task: NBack, images: int, rows: int = 3, seed: int = 0) -> tuple[Tensor, Tensor]:
    """The first images of the training stream: input (T, B, I), target (T, B)."""
    chunks = math.ceil(images * task.item_steps / task.chunk)
    return joined(list(islice(task.train_batches(rows, seed), chunks)))


def recognised(task: NBack, frames: Tensor, split: Split) -> list[int]:
    """The number of each image shown in a row of frames (T, I), which begins with an image."""
    examples = MNIST(task.data_dir).examples(split)
    known = {pixels.numpy().tobytes(): number for number, pixels in enumerate(examples.pixels)}
    images = (frames * 255).round().to(torch.uint8).flatten()
    return [known[images[i : i + 784].numpy().tobytes()] for i in range(0, len(images) - 783, 784)]


@pytest.mark.parametrize(
    ("back", "frame", "chunk"), [(0, 28, 28), (1, 1, 300), (2, 28, 13), (5, 56, 99), (3, 784, 1)]
)
def test_at_the_end_of_an_image_the_label_of_the_one_before(
    fake_mnist: Path, back: int, frame: int, chunk: int
) -> None:
    task = NBack(fake_mnist, back=back, frame=frame, chunk=chunk)
    values, target = read(task, 20)
    label = MNIST(fake_mnist).examples("train").label
    for row in range(3):
        asked = (target[:, row] != UNASKED).nonzero().flatten()
        assert torch.equal(asked.diff(), torch.full((len(asked) - 1,), task.item_steps)), "at each image's end"
        first = int(asked[0]) + 1 - (back + 1) * task.item_steps
        assert 0 <= first < task.item_steps, "the images begin within as many steps"
        assert not values[:first, row].any(), "nothing is shown before the first"
        images = recognised(task, values[first : int(asked[-1]) + 1, row], "train")
        assert len(images) == len(asked) + back
        assert target[asked, row].numpy().tolist() == [int(label[image]) for image in images[: len(asked)]]


def test_rows_begin_at_steps_of_their_own_and_show_their_own_images(fake_mnist: Path) -> None:
    task = NBack(fake_mnist, back=0, frame=28, chunk=28)
    _, target = read(task, 40, rows=40)
    ends = {int((row != UNASKED).nonzero()[0]) for row in target.T}
    assert len(ends) > 15
    labels = {tuple(row[row != UNASKED].numpy().tolist()[:30]) for row in target.T}
    assert len(labels) == 40


def test_images_are_drawn_evenly_from_the_split(fake_mnist: Path) -> None:
    task = NBack(fake_mnist, back=0, frame=784, chunk=1000)
    _, target = read(task, 5000, rows=8)
    counts = torch.bincount(target[target != UNASKED], minlength=8).double()
    assert len(counts) == 8, "the labels of the 8 training images, once each"
    expected = float(counts.sum()) / 8
    assert ((counts - expected).abs() < 5 * math.sqrt(expected)).all()


def test_any_chunk_is_reached_without_those_before(fake_mnist: Path) -> None:
    task = NBack(fake_mnist, back=2, frame=196, chunk=37)
    batches = list(islice(task.train_batches(3, 1), 60))
    for start in (0, 1, 23, 59):
        again = next(task.train_batches(3, 1, start))
        assert torch.equal(again.input, batches[start].input)
        assert torch.equal(again.target, batches[start].target)
    assert [bool(batch.reset.any()) for batch in batches if batch.reset is not None] == [True, *[False] * 59]
    assert not torch.equal(next(task.train_batches(3, 2)).input, batches[0].input)


@pytest.mark.parametrize("batch_size", [1, 7, 100])
def test_evaluation_does_not_depend_on_the_batch_size(fake_mnist: Path, batch_size: int) -> None:
    task = NBack(fake_mnist, back=2, frame=112, chunk=20)
    fixed = torch.randn(112, 10, generator=torch.Generator().manual_seed(0))

    def metrics(size: int) -> dict[str, float]:
        return mean_metrics(task.metrics(batch.input @ fixed, batch) for batch in task.eval_batches("valid", size))

    assert metrics(batch_size) == pytest.approx(metrics(32), rel=1e-5)
    count = sum(task.metrics(torch.zeros(20, 32, 10), b)["accuracy"][1] for b in task.eval_batches("valid", 32))
    assert EVAL_ROWS * 30 <= count <= EVAL_ROWS * 34


def test_splits_show_their_own_images(fake_mnist: Path) -> None:
    task = NBack(fake_mnist, back=0, frame=784, chunk=10)
    wanted_labels: dict[EvalSplit, set[int]] = {"valid": {8, 9, 0, 1}, "test": set(range(6))}
    for split, wanted in wanted_labels.items():
        _, target = joined(list(task.eval_batches(split, 32)))
        assert set(target[target != UNASKED].numpy().tolist()) == wanted


def test_too_short_an_evaluation_is_refused(fake_mnist: Path) -> None:
    task = NBack(fake_mnist, back=2, frame=28, chunk=10)
    with pytest.raises(ValueError, match="limit must be at least 12 chunks of 10 steps, got 11: an item has 28"):
        task.eval_batches("test", 32, limit=11)
    _, target = joined(list(task.eval_batches("test", 32, limit=12)))
    assert ((target != UNASKED).sum(0) >= 1).all()


def test_missing_files_are_told_at_the_call(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="4 of 4 files are missing"):
        NBack(tmp_path).train_batches(1, 0)
    with pytest.raises(FileNotFoundError, match="4 of 4 files are missing"):
        NBack(tmp_path).eval_batches("test", 1)


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("back", -1, "back must be an integer of at least 0"),
        ("chunk", 0, "chunk must be"),
        ("frame", 0, "frame must be an integer of at least 1"),
        ("frame", 27, "frame must divide 784, the pixels of an image, got 27"),
    ],
)
def test_options_out_of_range_are_named(option: str, value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        NBack(**{option: value})


def test_real_images(real_data: Path) -> None:
    if not (real_data / "mnist").is_dir():
        pytest.skip(f"no real MNIST in {real_data}")
    task = NBack(real_data, back=1, frame=28, chunk=56)
    values, target = joined(list(islice(task.eval_batches("test", 2), 8)))
    asked = (target[:, 0] != UNASKED).nonzero().flatten()
    first = int(asked[0]) + 1 - 56
    images = recognised(task, values[first : int(asked[-1]) + 1, 0], "test")
    labels = MNIST(real_data).examples("test").label[images]
    assert target[asked, 0].numpy().tolist() == labels[:-1].numpy().tolist()
