"""Audio as a stream: reading returns what was written, from any starting point.

Shapes: n steps.
"""

from __future__ import annotations

import struct
import wave
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from reminding.tasks import FileStream, mean_metrics
from reminding.tasks.data.sources import WavSource, mu_law, pcm


def encode(samples: NDArray[np.float64], width: int) -> bytes:
    """Samples from -1 to 1, (n,), as PCM of the given width, encoded one by one."""
    if width == 1:
        return bytes(round(x * 127) + 128 for x in samples)
    peak = 2 ** (8 * width - 1) - 1
    return b"".join(round(x * peak).to_bytes(width, "little", signed=True) for x in samples)


def write_wav(path: Path, samples: NDArray[np.float64], width: int = 2) -> Path:
    """Samples (n, channels) as a WAV file."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(samples.shape[1])
        file.setsampwidth(width)
        file.setframerate(8000)
        file.writeframes(encode(samples.flatten(), width))
    return path


def tone(steps: int, channels: int = 1) -> NDArray[np.float64]:
    return np.sin(np.arange(steps * channels) * 0.3).reshape(steps, channels) * 0.9


@pytest.mark.parametrize("width", [1, 2, 3, 4])
def test_samples_of_every_width_are_read(width: int) -> None:
    samples = tone(100).flatten()
    found = pcm(encode(samples, width), width)
    np.testing.assert_allclose(found, samples, atol=2 * 2.0 ** (1 - 8 * width))
    extremes = encode(np.array([-1.0, 0.0, 1.0]), width)
    np.testing.assert_allclose(pcm(extremes, width), [-1, 0, 1], atol=2.0 ** (2 - 8 * width))


@pytest.mark.parametrize(("width", "channels"), [(1, 1), (2, 2), (3, 1), (4, 3)])
def test_audio_is_the_mean_of_its_channels_in_mu_law(tmp_path: Path, width: int, channels: int) -> None:
    samples = tone(300, channels)
    source = WavSource(write_wav(tmp_path / "a.wav", samples, width))
    assert source.steps() == 300
    wanted = mu_law(samples.mean(1))
    whole = source.read(0, 300)
    assert abs(whole.astype(int) - wanted.astype(int)).max() <= (20 if width == 1 else 1), "8 bits are coarse near 0"
    np.testing.assert_array_equal(source.read(123, 222), whole[123:222])


def test_mu_law_keeps_order_ends_and_silence() -> None:
    assert mu_law(np.array([-1.0, 0.0, 1.0])).tolist() == [0, 128, 255]
    levels = mu_law(np.linspace(-1, 1, 1001)).astype(int)
    assert (np.diff(levels) >= 0).all()
    np.testing.assert_array_equal(levels[501:], 255 - levels[499::-1])


def test_what_lies_behind_the_samples_is_not_read_and_a_growing_file_is(tmp_path: Path) -> None:
    path = write_wav(tmp_path / "a.wav", tone(200))
    with path.open("ab") as file:
        file.write(b"LIST" + struct.pack("<I", 40) + bytes(40))
    assert WavSource(path).steps() == 200
    assert WavSource(path, growing=True).steps() == 200 + 48 // 2


def test_no_wav_says_so(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(b"RIFF, so it says")
    with pytest.raises(ValueError, match="cannot be read as WAV"):
        WavSource(path)


def test_audio_is_a_task_in_bits_per_sample(tmp_path: Path) -> None:
    task = FileStream(write_wav(tmp_path / "a.wav", tone(500)))
    batch = next(task.train_batches(2, 0))
    uniform = torch.zeros(*batch.input.shape, 256)
    assert mean_metrics([task.metrics(uniform, batch)])["bits_per_sample"] == pytest.approx(8)
