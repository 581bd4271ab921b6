"""Match to sample on spoken digits: who speaks, who is asked for, and who is held out.

Shapes: T time, B batch, I samples per step.
"""

from __future__ import annotations

import wave
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from reminding.tasks import Batch, MatchSpeaker
from reminding.tasks.kinds.asked import UNASKED
from reminding.tasks.kinds.base import Split
from reminding.tasks.series import read_recordings

NAMES = ("anna", "ben", "cleo", "dan", "eve", "finn")
LENGTHS = (35, 64, 90)


def write_wav(path: Path, samples: list[int]) -> None:
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", "not compressed"))
        file.writeframes(np.array(samples, "<i2").tobytes())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Recordings of six speakers, two digits, takes 0, 9, 10 and 11; each has samples of its own."""
    place = tmp_path_factory.mktemp("fsdd")
    rng = np.random.default_rng(0)
    for name in NAMES:
        for digit in (0, 1):
            for take in (0, 9, 10, 11):
                length = LENGTHS[(take + digit) % 3]
                write_wav(place / f"{digit}_{name}_{take}.wav", rng.integers(-9000, 9000, length).tolist())
    return place


def small(folder: Path, **options: Any) -> MatchSpeaker:
    usual: dict[str, Any] = {"frame": 8, "samples": 64, "chunk": 5}
    return MatchSpeaker(folder, **{**usual, **options})


def joined(batches: list[Batch]) -> tuple[Tensor, Tensor]:
    return torch.cat([batch.input for batch in batches]), torch.cat([batch.target for batch in batches])


class Slots(NamedTuple):
    """Samples (N, 64), and the speaker of each."""

    values: Tensor
    speaker: list[str]


def slots(folder: Path, split: Split, fold: int | None) -> Slots:
    """The slot of each recording of a split, recomputed; with no fold takes are held out."""
    held = () if fold is None else NAMES[2 * fold : 2 * fold + 2]
    recordings = read_recordings(folder)
    heard = [each.values[:64] for each in recordings if each.speaker not in held and each.take >= 10]
    mean, deviation = np.concatenate(heard).mean(), np.concatenate(heard).std()
    values: list[Tensor] = []
    speaker: list[str] = []
    for each in recordings:
        kind = "test" if each.speaker in held else "valid" if each.take < 10 else "train"
        if fold is None and each.take < 5:
            kind = "test"
        if kind == split:
            shown = torch.as_tensor((each.values[:64] - mean) / deviation)
            frames = -(-len(shown) // 8)
            values.append(torch.zeros(64))
            values[-1][64 - 8 * frames :][: len(shown)] = shown
            speaker.append(each.speaker)
    return Slots(torch.stack(values), speaker)


def speakers(known: Slots, values: Tensor, target: Tensor, back: int) -> list[str]:
    """Who speaks in one row, (T, I), recording by recording, up to its last question."""
    asked = (target != UNASKED).nonzero().flatten()
    first = int(asked[0]) + 1 - (back + 1) * 8
    assert 0 <= first < 8
    assert not values[:first].any()
    heard = values[first : int(asked[-1]) + 1].reshape(-1, 64)
    far = torch.cdist(heard, known.values, compute_mode="donot_use_mm_for_euclid_dist")
    assert far.min(1).values.max() < 1e-4, "each is a recording of the split"
    return [known.speaker[int(number)] for number in far.argmin(1)]


@pytest.mark.parametrize("back", [1, 3])
@pytest.mark.parametrize("fold", [0, 2, None])
@pytest.mark.parametrize("split", ["train", "valid", "test"])
def test_the_question_is_whether_the_speaker_is_that_of_before(
    folder: Path, split: Split, fold: int | None, back: int
) -> None:
    """With speakers held out, and with takes."""
    task = small(folder, back=back, **({"hold_out": "takes"} if fold is None else {"fold": fold}))
    batches = task.train_batches(4, 0) if split == "train" else task.eval_batches(split, 4)
    values, target = joined(list(islice(batches, 40)))
    known = slots(folder, split, fold)
    voices: set[str] = set()
    for row in range(4):
        said = speakers(known, values[:, row], target[:, row], back)
        voices.update(said)
        answers = target[:, row][target[:, row] != UNASKED].numpy().tolist()
        same = [int(now == then) for now, then in zip(said[back:], said[:-back], strict=True)]
        assert answers == same
    held: set[str] = set() if fold is None else set(NAMES[2 * fold : 2 * fold + 2])
    assert voices == (held if held and split == "test" else set(NAMES) - held)


def test_what_cannot_be_held_out_is_refused(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"hold_out must be one of \['speakers', 'takes'\], got 'digits'"):
        small(folder, hold_out="digits")
    assert small(folder, hold_out="takes", fold=1).unread() == {"fold": "is of speakers, and hold_out is takes"}
    assert small(folder, fold=1).unread() == {}


def test_a_step_may_read_the_spectrum_of_its_frame(folder: Path) -> None:
    """Of the same recordings in the same order, each relative to its own mean power."""
    values, target = joined(list(islice(small(folder).train_batches(3, 0), 50)))
    spectra, again = joined(list(islice(small(folder, spectrum=True).train_batches(3, 0), 50)))
    assert small(folder, spectrum=True).input_size == spectra.shape[2] == 5
    assert torch.equal(target, again)
    first = int((target[:, 0] != UNASKED).nonzero()[0]) + 1 - 16  # of the first slot of row 0: 8 steps
    heard = values[first : first + 8, 0].double().numpy()
    power = np.abs(np.fft.rfft(heard * np.hanning(8))) ** 2
    wanted = np.log1p(100 * power / power[heard.any(1)].mean()) / np.log1p(100)
    assert spectra[first : first + 8, 0].numpy() == pytest.approx(wanted, abs=1e-5)


def test_a_frame_too_short_for_a_spectrum_is_refused(folder: Path) -> None:
    with pytest.raises(ValueError, match="frame with spectrum must be an integer of at least 8, got 7"):
        small(folder, frame=7, spectrum=True)


def test_half_the_speakers_are_the_same_and_all_recordings_come(folder: Path) -> None:
    task = small(folder, back=2, frame=64, samples=64, chunk=50)
    drawn = task.items("train", 0, 200, 0, 399)
    assert drawn.answer.mean() == pytest.approx(0.5, abs=0.01)
    counts = np.bincount(drawn.number.ravel())
    assert len(counts) == 16, "4 speakers, 2 digits, 2 takes"
    assert counts == pytest.approx(np.full(16, 5000), rel=0.08)


def test_any_items_are_drawn_without_those_before(folder: Path) -> None:
    """In any order, also beyond the blocks in which they are drawn."""
    task = small(folder, back=3)
    whole = task.items("train", 5, 4, 0, 999)
    for first, last in ((700, 800), (0, 3), (190, 193), (950, 999)):
        part = task.items("train", 5, 4, first, last)
        assert np.array_equal(part.number, whole.number[first : last + 1])
        assert np.array_equal(part.answer, whole.answer[first : last + 1])
    assert not np.array_equal(task.items("train", 6, 4, 0, 99).number, whole.number[:100])


def test_chunks_are_resumed_anywhere(folder: Path) -> None:
    task = small(folder, chunk=13)
    batches = list(islice(task.train_batches(3, 1), 90))
    for start in (0, 41, 89):
        again = next(task.train_batches(3, 1, start))
        assert torch.equal(again.input, batches[start].input)
        assert torch.equal(again.target, batches[start].target)


def test_five_speakers_are_refused(tmp_path: Path) -> None:
    for name in NAMES[:5]:
        write_wav(tmp_path / f"1_{name}_20.wav", [1, 2, 3])
    with pytest.raises(ValueError, match="has recordings of anna, ben, cleo, dan, eve, expected 6 speakers"):
        MatchSpeaker(tmp_path).train_batches(1, 0)


def test_no_recordings(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="data_dir: no recordings such as"):
        MatchSpeaker(tmp_path).eval_batches("test", 1)
    with pytest.raises(ValueError, match="data_dir: the folder with the recordings is needed"):
        MatchSpeaker().train_batches(1, 0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"back": 0}, "back must be an integer of at least 1, got 0"),
        ({"frame": 0}, "frame must be"),
        ({"chunk": 0}, "chunk must be"),
        ({"samples": 9}, "samples must be an integer of at least 16, got 9"),
        ({"fold": 3}, "fold must be below 3, got 3"),
        ({"fold": -1}, "fold must be an integer of at least 0, got -1"),
    ],
)
def test_options_out_of_range_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MatchSpeaker(**options)


def test_real_recordings(real_data: Path) -> None:
    task = MatchSpeaker(real_data)
    try:
        batch = next(task.train_batches(2, 0))
    except FileNotFoundError as error:
        pytest.skip(f"no real recordings: {error}")
    assert batch.input.shape == (100, 2, 16)
    drawn = task.items("test", 0, 8, 0, 199)
    assert len(np.unique(drawn.number)) > 600, "two speakers have 1,000 recordings"
