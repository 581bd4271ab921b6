"""Spectra in the place of sound: against the definition, and the same for loud and soft recordings.

Shapes: n samples, T steps, I values per step.
"""

from __future__ import annotations

import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import reminding
from reminding.lab.explain.legend import legend_of
from reminding.tasks import Series
from reminding.tasks.series import SpokenDigits
from tests.lab.explain.conftest import untrained

FRAME, RATE = 20, 8000


def speak(path: Path, tone: float, loudness: float, samples: int = 190) -> NDArray[np.float64]:
    """Write a tone with noise, and give its samples as they are read."""
    rng = np.random.default_rng(samples)
    sound = np.sin(2 * np.pi * tone * np.arange(samples) / RATE) + rng.normal(0, 0.1, samples)
    written = (sound * loudness * 2**13).astype("<i2")
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, RATE, samples, "NONE", ""))
        file.writeframes(written.tobytes())
    return written / 2**15


@pytest.fixture
def tones(tmp_path: Path) -> Path:
    """Low and high tones of several loudnesses and lengths."""
    for label, tone in (("low", 400), ("high", 2000)):
        for take in range(6):
            speak(tmp_path / "tones" / label / f"{take}.wav", tone, 0.2 + 0.3 * take, 200 - 10 * take)
    return tmp_path / "tones"


def test_it_is_the_log_power_of_each_frame_beside_the_mean_power(tones: Path, tmp_path: Path) -> None:
    task = Series(tones, frame=FRAME, spectrum=True)
    samples = speak(tmp_path / "new.wav", 1000, 0.5)
    found = task.form.prepared(samples)
    centred = (samples - task.form.cut.scale.mean) / task.form.cut.scale.deviation
    frames = np.append(centred, np.zeros(10)).reshape(10, FRAME)
    turns = np.exp(-2j * np.pi * np.outer(np.arange(FRAME), np.arange(FRAME // 2 + 1)) / FRAME)
    power = np.abs(frames * (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(FRAME) / (FRAME - 1))) @ turns) ** 2
    np.testing.assert_allclose(found, np.log(1 + 100 * power / power.mean()) / np.log(101), rtol=1e-4)
    assert task.input_size == FRAME // 2 + 1 == found.shape[1]


def test_loud_and_soft_recordings_are_alike_and_silence_is_zero(tones: Path) -> None:
    form = Series(tones, frame=FRAME, spectrum=True).form
    offset = form.cut.scale.mean  # the training mean is subtracted before the spectrum is taken
    sound = np.random.default_rng(0).normal(size=150)
    found = [form.prepared(loudness * sound + offset) for loudness in (0.01, 1, 30)]
    np.testing.assert_allclose(found[0], found[1], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found[2], found[1], rtol=1e-4, atol=1e-6)
    padding = len(found[0]) - 8
    assert padding == 2 and not found[0][:padding].any() and found[0][padding:].any()
    assert not form.prepared(np.zeros(60) + offset).any()


def test_new_recordings_get_the_labels_that_the_task_gives_them(tones: Path, tmp_path: Path) -> None:
    task = Series(tones, frame=FRAME, spectrum=True)
    run = untrained(tmp_path / "run", task)
    new = tmp_path / "new"
    for number, tone in enumerate((300, 1500)):
        speak(new / f"{number}.wav", tone, 0.4)
    model = reminding.load(run)
    found = model.predict(new)
    assert list(found.index) == ["0.wav", "1.wav"]
    arrays: list[Any] = [speak(tmp_path / "a.wav", tone, 0.4) for tone in (300, 1500)]
    np.testing.assert_allclose(found[["high", "low"]], model.predict(arrays)[["high", "low"]], rtol=1e-5)
    with pytest.raises(ValueError, match="stepper is not for runs with spectrum"):
        model.stepper()
    shown = legend_of(task).values(task.examples("test").values[0].numpy())
    assert shown.shape[1] == 1, "the page draws the mean of a spectrum"


@pytest.mark.parametrize("kind", [Series, SpokenDigits])
def test_frames_without_a_spectrum_are_refused(kind: Any) -> None:
    with pytest.raises(ValueError, match="frame with spectrum must be an integer of at least 8, got 7"):
        kind(frame=7, spectrum=True)


def test_missing_values_have_no_spectrum() -> None:
    with pytest.raises(ValueError, match="missing with spectrum must be error, got 'carry'"):
        Series(frame=8, spectrum=True, missing="carry")
