"""A stream of spoken digits: is this the speaker of m recordings ago?

Shapes: T steps of a chunk, B batch (rows, one stream each), L steps of a recording, N recordings, I samples per step.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reminding.checks import at_least, one_of, require
from reminding.tasks.data.labelled.arrays import SPECTRUM_FRAME, in_frames, log_spectrum
from reminding.tasks.kinds.base import Split, stream
from reminding.tasks.kinds.itemstream import Items, ItemStream
from reminding.tasks.series import Recording, find_recordings, read_recordings

SPEAKERS = 6
FOLDS = 3
HELD_OUT_TAKES = 10
"""Takes 0 to 9 of the speakers in training are not trained with."""
TEST_TAKES = 5
"""Takes 0 to 4 are the test of known speakers, as in the data set's own split."""
BLOCK = 64
"""Recordings drawn at a time, so that any chunk can be drawn without the chunks before it."""


@dataclass(frozen=True)
class MatchSpeaker(ItemStream):
    """Delayed match to sample on spoken digits: at the end of each recording, same speaker as `back` before?

    Each row shows recordings of the Free Spoken Digit Dataset [Jackson et al. 2018], one after the other, each at the
    end of a slot of `samples` samples, with silence before it; of longer recordings the beginning is shown. The digit
    is random. The speaker is that of `back` recordings before with probability 1/2, otherwise another one. Input
    (T, B, frame), standardised, in chunks of `chunk` steps, state carried. Target (T, B) int64: at the last step of a
    recording 1 for the same speaker or 0 for another; -100 elsewhere, and for the first `back` recordings. Chance
    accuracy 0.5.

    The test is on two of the six speakers, whom neither training nor validation hears: a model must compare voices,
    not name them. The validation set is takes 0 to 9 of the four others, who train with takes 10 to 49. With
    `hold_out` takes all speakers are in all parts: takes 0 to 4 are the test, as in the data set's own split, takes 5
    to 9 validate.

    Args:
        data_dir: as for the task spoken.
        back: m, how many recordings before, at least 1.
        frame: samples per step, at least 1; 16 are two milliseconds.
        spectrum: whether a step reads the log power spectrum of its frame, frame // 2 + 1 values, in the place of its
            samples, of which at least 8 are needed then. It is relative to the mean power of the recording.
        samples: of a slot, at 8 kHz, at least `frame`; half of all recordings have less than 3,400.
        hold_out: what training does not hear of the test: speakers, or takes of all speakers alone.
        fold: 0, 1 or 2: which two speakers are held out, in the order of their names.
        chunk: steps per batch.
    Raises (when batches are asked for):
        FileNotFoundError: there are no recordings; the message says where to get them.
        ValueError: a file is damaged, or there are not six speakers; the message names it.
    """

    name: ClassVar[str] = "match"

    data_dir: Path | None = None
    back: int = 1
    frame: int = 16
    spectrum: bool = False
    samples: int = 4000
    hold_out: Literal["speakers", "takes"] = "speakers"
    fold: int = 0
    chunk: int = 100

    def __post_init__(self) -> None:
        """Check the options."""
        for name in ("back", "frame", "chunk"):
            at_least(name, getattr(self, name), 1)
        at_least("samples", self.samples, self.frame)
        if self.spectrum:
            at_least("frame with spectrum", self.frame, SPECTRUM_FRAME)
        one_of("hold_out", self.hold_out, ("speakers", "takes"))
        at_least("fold", self.fold, 0)
        require(self.fold < FOLDS, "fold", f"be below {FOLDS}", self.fold)

    def unread(self) -> dict[str, str]:
        """Return `fold` where no speaker is held out; see `Task.unread`."""
        return {"fold": "is of speakers, and hold_out is takes"} if self.hold_out == "takes" else {}

    @property
    def item_steps(self) -> int:
        """L, steps of a slot."""
        return -(-self.samples // self.frame)

    @property
    def input_size(self) -> int:
        """I = `frame` samples, or the frequencies of their spectrum."""
        return self.frame // 2 + 1 if self.spectrum else self.frame

    @property
    def output_size(self) -> int:
        """C = 2: another speaker, the same speaker."""
        return 2

    def items(self, split: Split, seed: int, rows: int, first: int, last: int) -> Items:
        """Recordings `first` to `last` of each row, and whether the speaker is that of `back` before."""
        voices = self._loaded()[split].voices
        length = BLOCK * self.back
        begin, end = first // length, last // length
        key = _Row(split, seed, rows, self.back, len(voices))
        parts = [key.block(number) for number in range(begin, end + 1)]
        here = slice(first - begin * length, last + 1 - begin * length)
        speaker, same, chance = (np.concatenate(columns)[here] for columns in zip(*parts, strict=True))
        counts = np.array([len(voice) for voice in voices])
        begins = np.cumsum(counts) - counts
        taken = (chance * counts[speaker]).astype(np.int64)
        return Items(np.concatenate(voices)[begins[speaker] + taken], same.astype(np.int64))

    def show(self, split: Split, number: NDArray[np.int64], place: NDArray[np.int64]) -> Tensor:
        """Frame `place` of the slot of recording `number`, (T, B, frame)."""
        return self._loaded()[split].values[torch.as_tensor(number), torch.as_tensor(place)]

    def _loaded(self) -> dict[Split, _Part]:
        fold = self.fold if self.hold_out == "speakers" else None
        return _load(find_recordings(self.data_dir), self.frame, self.samples, self.spectrum, fold)


class _Part(NamedTuple):
    """The recordings of a split.

    Attributes:
        values: of each slot, (N, L, I) float32, standardised.
        voices: the recordings of each speaker, in the order of their names.
    """

    values: Tensor
    voices: tuple[NDArray[np.int64], ...]


class _Row(NamedTuple):
    """The random numbers of some rows: `back` chains of speakers, interleaved.

    A speaker is the one before in the chain, moved by a step: 0 with probability 1/2, else 1 to `speakers` - 1.
    """

    split: Split
    seed: int
    rows: int
    back: int
    speakers: int

    def block(self, number: int) -> tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.float64]]:
        """Speaker, whether it is that of `back` before, and a number from 0 to 1 for the choice of the recording.

        Each (BLOCK * back, rows), of the recordings from number * BLOCK * back on.
        """
        ended = _ended(self)  # the last speakers of each chain, (back, rows), before each block
        while len(ended) <= number:
            ended.append((ended[-1] + self._moves(len(ended) - 1).sum(0)) % self.speakers)
        moves = self._moves(number)
        speaker = (ended[number] + moves.cumsum(0)) % self.speakers
        chance = stream(MatchSpeaker.name, self.split, self.seed, 3 + 2 * number).random(moves.shape)
        joined = (BLOCK * self.back, self.rows)
        return speaker.reshape(joined), (moves == 0).reshape(joined), chance.reshape(joined)

    def _moves(self, number: int) -> NDArray[np.int64]:
        """The moves within a block, (BLOCK, back, rows)."""
        rng = stream(MatchSpeaker.name, self.split, self.seed, 2 + 2 * number)
        shape = (BLOCK, self.back, self.rows)
        return np.where(rng.random(shape) < 0.5, 0, rng.integers(1, self.speakers, size=shape))


@lru_cache(maxsize=8)
def _ended(row: _Row) -> list[NDArray[np.int64]]:
    """The last speakers before each block; the list begins with those before block 0, and grows as it is needed."""
    rng = stream(MatchSpeaker.name, row.split, row.seed, 1)
    return [rng.integers(0, row.speakers, size=(row.back, row.rows))]


@lru_cache(maxsize=2)
def _load(folder: Path, frame: int, samples: int, spectrum: bool, fold: int | None) -> dict[Split, _Part]:
    recordings = read_recordings(folder)
    speakers = sorted({each.speaker for each in recordings})
    if len(speakers) != SPEAKERS:
        raise ValueError(f"data_dir: {folder} has recordings of {', '.join(speakers)}, expected {SPEAKERS} speakers")
    parts: dict[Split, list[Recording]] = {"train": [], "valid": [], "test": []}
    for each in recordings:
        tested = each.take < TEST_TAKES if fold is None else speakers.index(each.speaker) // 2 == fold
        parts["test" if tested else "valid" if each.take < HELD_OUT_TAKES else "train"].append(each)
    heard = np.concatenate([each.values[:samples] for each in parts["train"]])
    mean, deviation = heard.mean(), heard.std()

    def slot(values: NDArray[np.float32]) -> NDArray[np.float32]:
        frames = in_frames((values[:, None] - mean) / deviation, frame, -(-samples // frame))
        return log_spectrum(frames, 1, own=-(-len(values) // frame)) if spectrum else frames

    def pack(part: list[Recording]) -> _Part:
        by_speaker = {speaker: list[int]() for speaker in sorted({each.speaker for each in part})}
        for number, each in enumerate(part):
            by_speaker[each.speaker].append(number)
        slots = np.stack([slot(each.values[:samples]) for each in part])
        return _Part(torch.as_tensor(slots), tuple(np.array(own) for own in by_speaker.values()))

    return {split: pack(part) for split, part in parts.items()}
