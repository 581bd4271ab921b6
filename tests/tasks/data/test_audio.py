"""Audio: what is read is what was written, of every kind, wherever the reading begins; damage is named.

Shapes: n samples.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from reminding.tasks import FileStream, mean_metrics
from reminding.tasks.data.audio import AudioSource, FollowedAudio, audio_form, read_audio
from reminding.tasks.data.sources import mu_law
from tests.reliability.memory import measured

soundfile: Any = pytest.importorskip("soundfile")


def tone(steps: int, channels: int = 1) -> NDArray[np.float64]:
    return np.sin(np.arange(steps * channels) * 0.3).reshape(steps, channels) * 0.9


def write(path: Path, samples: NDArray[np.float64], subtype: str = "PCM_16", **kind: Any) -> Path:
    soundfile.write(path, samples, 8000, subtype=subtype, **kind)
    return path


@pytest.mark.parametrize(
    ("subtype", "error"),
    [("PCM_U8", 0.02), ("PCM_16", 1e-4), ("PCM_24", 1e-6), ("PCM_32", 1e-8), ("FLOAT", 1e-7), ("DOUBLE", 0)],
)
@pytest.mark.parametrize("kind", ["WAV", "WAVEX"])
def test_samples_of_every_width_are_read(tmp_path: Path, subtype: str, error: float, kind: str) -> None:
    samples = tone(300, 2)
    path = write(tmp_path / "a.WAV", samples, subtype, format=kind)
    found, rate = read_audio(path)
    assert rate == 8000
    np.testing.assert_allclose(found, samples.mean(1), atol=error)
    source = AudioSource(path)
    levels = source.read(0, source.steps())
    np.testing.assert_array_equal(levels, mu_law(found))
    np.testing.assert_array_equal(source.read(123, 222), levels[123:222])


@pytest.mark.parametrize("subtype", ["FLOAT", "DOUBLE"])
def test_samples_that_are_clipped_are_told(tmp_path: Path, subtype: str) -> None:
    samples = tone(70_000)
    samples[[3, 69_999]] = [[2.5], [-1.5]]
    (note,) = FileStream(write(tmp_path / "a.wav", samples, subtype)).reading().notes
    assert note == (
        "a.wav: 2 of 70,000 samples (0.003%) lie beyond -1 and 1, up to 2.5, and are clipped there; scale the "
        "recording for them to be read"
    )
    samples[[3, 69_999]] = [[1.0], [-1.0]]
    assert AudioSource(write(tmp_path / "b.wav", samples, subtype)).reading().notes == ()


def test_flac_is_audio_for_a_stream(tmp_path: Path) -> None:
    task = FileStream(write(tmp_path / "a.flac", tone(500)))
    batch = next(task.train_batches(2, 0))
    uniform = torch.zeros(*batch.input.shape, 256)
    assert mean_metrics([task.metrics(uniform, batch)])["bits_per_sample"] == pytest.approx(8)
    assert dict(task.reading().settings) == {"sample rate": "8000 Hz", "channels": "1", "samples": "FLAC PCM_16"}


def test_flac_that_does_not_say_its_length_is_no_damage(tmp_path: Path) -> None:
    path = write(tmp_path / "a.flac", tone(500))
    raw = bytearray(path.read_bytes())
    raw[21] &= 0xF0  # of the number of samples, 36 bits
    raw[22:26] = bytes(4)
    path.write_bytes(raw)
    for read in (read_audio, AudioSource):
        with pytest.raises(ValueError, match=r"the header of .*a\.flac does not say how long it is"):
            read(path)


def test_what_lies_behind_the_samples_is_not_read(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", tone(200))
    with path.open("ab") as file:
        file.write(b"LIST" + struct.pack("<I", 40) + bytes(40))
    assert AudioSource(path).steps() == 200


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "FLOAT"])
def test_a_growing_file_is_read_by_its_size(tmp_path: Path, subtype: str) -> None:
    whole = write(tmp_path / "b.wav", tone(300, 2), subtype)
    levels = AudioSource(whole).read(0, 300)
    raw = whole.read_bytes()
    begin = raw.index(b"data") + 8
    frame = (len(raw) - begin) // 300
    path = tmp_path / "a.wav"
    path.write_bytes(raw[: begin + 100 * frame + 1])
    source = FollowedAudio(path)
    assert source.steps() == 100
    np.testing.assert_array_equal(source.read(7, 100), levels[7:100])
    with path.open("ab") as file:
        file.write(raw[begin + 100 * frame + 1 : begin + 250 * frame])
    assert source.steps() == 250
    np.testing.assert_array_equal(source.read(90, 250), levels[90:250])


def test_damage_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", tone(2000))
    raw = path.read_bytes()
    path.write_bytes(raw[:-1000])
    with pytest.raises(ValueError, match=r"a\.wav is cut off: its header says 4000 bytes of samples, it holds 3000"):
        AudioSource(path)
    path.write_bytes(raw[:40] + bytes(4) + raw[44:])
    with pytest.raises(ValueError, match="holds no samples by its header"):
        AudioSource(path)
    path.write_bytes(b"RIFF, so it says")
    with pytest.raises(ValueError, match=r"a\.wav cannot be read as audio"):
        AudioSource(path)
    values = tone(20)
    values[7] = np.nan
    with pytest.raises(ValueError, match="sample 8 is not finite"):
        read_audio(write(tmp_path / "a.wav", values, "FLOAT"))


@pytest.mark.parametrize(
    ("kind", "subtype"),
    [("AIFF", "PCM_16"), ("AU", "PCM_16"), ("W64", "PCM_16"), ("RF64", "PCM_16"), ("OGG", "VORBIS")],
)
def test_a_file_that_is_cut_off_is_refused(tmp_path: Path, kind: str, subtype: str) -> None:
    path = tmp_path / "a.audio"
    noise = np.random.default_rng(0).normal(0, 0.1, 100_000)
    soundfile.write(path, noise, 8000, format=kind, subtype=subtype)
    raw = path.read_bytes()
    assert len(read_audio(path)[0]) == AudioSource(path).steps() == 100_000
    for end in (len(raw) * 9 // 10, len(raw) // 2):
        path.write_bytes(raw[:end])
        for read in (read_audio, AudioSource):
            with pytest.raises(ValueError, match=r"a\.audio is cut off: its .*; copy the file again"):
                read(path)


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_a_damaged_or_missing_page_of_an_ogg_file_is_refused(tmp_path: Path, subtype: str) -> None:
    path = tmp_path / "a.ogg"
    soundfile.write(path, np.random.default_rng(0).normal(0, 0.1, 100_000), 48_000, format="OGG", subtype=subtype)
    raw = path.read_bytes()
    pages = [at for at in range(len(raw)) if raw.startswith(b"OggS", at)]
    middle = pages[len(pages) // 2]
    end = pages[len(pages) // 2 + 1]
    changed = raw[: middle + 200] + bytes([raw[middle + 200] ^ 1]) + raw[middle + 201 :]
    for damaged in (changed, raw[:middle] + raw[end:], raw[: middle + 50] + raw[middle + 90 :]):
        path.write_bytes(damaged)
        with pytest.raises(
            ValueError, match=rf"a\.ogg is damaged at byte ({middle}|{end}), or lacks what stood there"
        ):
            audio_form(path)
    path.write_bytes(raw + b"TAG" + bytes(125))
    assert audio_form(path).frames == 100_000


@pytest.mark.skipif("MP3" not in soundfile.available_formats(), reason="libsndfile reads no MP3")
def test_an_mp3_file_whose_decoder_loses_its_place_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.mp3"
    samples = np.sin(np.arange(200_000) / 20) * 0.3 + np.random.default_rng(0).normal(0, 0.05, 200_000)
    soundfile.write(path, samples.clip(-1, 1), 16_000, format="MP3")
    raw = path.read_bytes()
    middle = len(raw) // 2
    path.write_bytes(raw[:middle] + np.random.default_rng(1).bytes(4000) + raw[middle + 4000 :])
    source = AudioSource(path)
    with pytest.raises(ValueError, match=r"^data: .*a\.mp3"):
        source.read(source.steps() - 1000, source.steps())


def test_a_header_that_claims_too_many_samples_asks_for_no_memory(tmp_path: Path) -> None:
    """The number of samples of a FLAC file is the low 36 bits of the eight bytes from byte 18."""
    path = write(tmp_path / "a.flac", tone(500))
    raw = bytearray(path.read_bytes())
    raw[21] |= 15  # the highest four of them
    path.write_bytes(raw)
    assert soundfile.info(path).frames > 1 << 35
    _, error, memory = measured(lambda: read_audio(path))
    assert isinstance(error, ValueError)
    assert "a.flac" in str(error)
    assert memory.traced < 4 << 20


def test_samples_are_read_over_the_borders_of_blocks(tmp_path: Path) -> None:
    values = np.random.default_rng(0).uniform(-1, 1, (150_000, 2))
    path = write(tmp_path / "a.wav", values, "DOUBLE")
    np.testing.assert_array_equal(read_audio(path)[0], values.mean(1))
    np.testing.assert_array_equal(AudioSource(path).read(60_000, 140_000), mu_law(values.mean(1)[60_000:140_000]))
    values[99_999, 1] = np.inf
    with pytest.raises(ValueError, match="sample 100000 is not finite"):
        AudioSource(write(tmp_path / "b.wav", values, "DOUBLE")).read(10, 140_000)


def test_a_place_that_is_not_found_is_said(tmp_path: Path) -> None:
    path = write(tmp_path / "a.flac", tone(40_000))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ValueError, match=r"a\.flac is damaged, sample 35001 is not found: "):
        AudioSource(path).read(35_000, 35_100)
    path = write(tmp_path / "a.wav", tone(400), "GSM610")
    with pytest.raises(ValueError, match=r"a\.wav: GSM610 samples cannot be read from any place; convert"):
        AudioSource(path).read(0, 100)
    assert len(read_audio(path)[0]) >= 400


def test_damage_in_a_held_out_part_is_found_before_training(tmp_path: Path) -> None:
    path = write(tmp_path / "a.flac", tone(40_000))
    raw = path.read_bytes()
    path.write_bytes(raw[: len(raw) * 98 // 100])
    with pytest.raises(ValueError, match=r"a\.flac"):
        FileStream(path).reading()


def test_what_to_install_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.wav", tone(20))
    monkeypatch.setitem(__import__("sys").modules, "soundfile", None)
    with pytest.raises(ImportError, match=r"pip install \"reminding\[data\]\""):
        AudioSource(path)
