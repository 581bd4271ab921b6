"""Noise-padded CIFAR10: the order of the values, the noise, and the real data where it is at hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from reminding.tasks import CIFAR10, NoisyCIFAR10
from reminding.tasks.delayed import noisy_cifar10
from reminding.tasks.kinds.classification import Examples


@pytest.fixture
def planes(monkeypatch: pytest.MonkeyPatch) -> torch.Tensor:
    """The test split of a tiny CIFAR10, (4, 3072)."""
    drawn = np.random.default_rng(0).integers(0, 256, (4, 3072), dtype=np.uint8)
    part = Examples(torch.as_tensor(drawn), torch.arange(4), 255)

    def found(_name: str, _folder: Path | None) -> dict[str, Path]:
        return {"file": Path("file")}

    def read(_paths: Any, channels: str, _verify: bool) -> dict[str, Examples]:
        assert channels == "apart"
        return {"train": part, "test": part}

    monkeypatch.setattr(noisy_cifar10, "locate_or_fetch", found)
    monkeypatch.setattr(noisy_cifar10, "splits", read)
    return part.pixels


def test_a_step_is_a_row_of_the_image_in_three_colours(planes: torch.Tensor) -> None:
    (batch,) = NoisyCIFAR10().eval_batches("test", 4)
    assert batch.input.shape == (1000, 4, 96)
    assert batch.target.numpy().tolist() == [0, 1, 2, 3]
    for row in (0, 1, 31):
        for colour in range(3):
            for column in (0, 5, 31):
                value = planes[:, 1024 * colour + 32 * row + column] / 255
                assert torch.equal(batch.input[row, :, 32 * colour + column], value)


def test_the_noise_is_one_for_all_images_batches_and_lengths(planes: torch.Tensor) -> None:
    (batch,) = NoisyCIFAR10().eval_batches("test", 4)
    noise = batch.input[32:]
    assert torch.equal(noise, noise[:, :1].expand_as(noise))
    trained = next(NoisyCIFAR10().train_batches(2, seed=7))
    assert torch.equal(trained.input[32:], noise[:, :2])
    shorter = next(NoisyCIFAR10(T=50).train_batches(2, seed=0))
    assert torch.equal(shorter.input[32:], noise[:18, :2])
    drawn = np.random.RandomState(1905).standard_normal(968 * 96).reshape(968, 96).astype(np.float32)
    assert torch.equal(noise[:, 0], torch.as_tensor(drawn))
    assert float(noise.mean()) == pytest.approx(0, abs=0.02)
    assert float(noise.std()) == pytest.approx(1, abs=0.02)


def test_the_class_is_asked_for_at_the_last_step(planes: torch.Tensor) -> None:
    task = NoisyCIFAR10(T=40)
    batch = next(task.train_batches(3, 0))
    prediction = torch.zeros(40, 3, 10, requires_grad=True)
    task.loss(prediction, batch).backward()
    assert prediction.grad is not None
    assert prediction.grad.abs().sum((1, 2)).nonzero().flatten().numpy().tolist() == [39]


def test_fewer_steps_than_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="T must be an integer of at least 32, got 31"):
        NoisyCIFAR10(T=31)


def test_real_images(real_data: Path) -> None:
    try:
        (batch,) = NoisyCIFAR10(real_data, verify=False).eval_batches("test", 5, limit=5)
        (rows,) = CIFAR10(real_data, verify=False).eval_batches("test", 5, limit=5)
    except (FileNotFoundError, ValueError) as error:
        pytest.skip(f"no real CIFAR10: {error}")
    shown = batch.input[:32].view(32, -1, 3, 32).permute(0, 3, 1, 2).flatten(0, 1)  # (1024, B, 3)
    assert torch.equal(shown, rows.input)
    assert torch.equal(batch.target, rows.target)
