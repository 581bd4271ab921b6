"""Audio files: WAV of every kind, FLAC, and anything else libsndfile reads. The one file that imports soundfile.

Shapes: n samples, channels averaged.
"""

from __future__ import annotations

import importlib
import io
import re
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reminding.tasks.data.reading import FileSteps, Reading
from reminding.tasks.data.sources import MU, Growth, Identity, Source, mu_law, read_range

SUFFIXES = (".wav", ".flac", ".aiff", ".aif", ".aifc", ".au", ".ogg", ".w64", ".rf64", ".caf")
"""Suffixes of audio files, in lower case."""
_UNBOUNDED = ("FLOAT", "DOUBLE")
"""Sample types whose values may lie beyond -1 and 1."""
_BLOCK = 1 << 16
"""Samples per channel that are read at once."""
_CUT = re.compile(
    r"^ *(?:data|SSND|Data Size|(?P<all>riff|Riff size)) *: (?P<declared>\d+) \(should be (?P<present>\d+)\)",
    re.MULTILINE,
)
"""What libsndfile notes of a file that is shorter than its header says: WAV, AIFF, AU; W64 and RF64 as a whole."""
_UNKNOWN = (1 << 63) - 1
"""What libsndfile says the samples are of which the header of a FLAC file does not say the number."""
_COPY_AGAIN = "copy the file again, or write its header anew with an audio editor"
_PAGE = 27
"""Bytes of the head of a page of an Ogg file, before the sizes of its segments."""
_MIRRORED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
_RIFF = 12
"""Bytes before the first chunk of a WAV file."""


@dataclass(frozen=True)
class AudioForm:
    """How an audio file is written.

    Args:
        frames: samples per channel.
        rate: samples per second.
        subtype: libsndfile's name of the sample type, such as "PCM_24".
    """

    frames: int
    rate: int
    channels: int
    format: str
    subtype: str

    @property
    def settings(self) -> tuple[tuple[str, str], ...]:
        """For a reader."""
        kind = f"{self.format} {self.subtype}"
        return (("sample rate", f"{self.rate} Hz"), ("channels", str(self.channels)), ("samples", kind))


def audio_form(path: Path) -> AudioForm:
    """The form of an audio file.

    Raises:
        ImportError: soundfile is missing; the message says what to install.
        ValueError: the file is no audio, is cut off, or holds no samples; the message names it.
    """
    with _opened(path) as file:
        form = AudioForm(file.frames, file.samplerate, file.channels, file.format, file.subtype)
        if cut := _CUT.search(file.extra_info):
            declared, present = int(cut["declared"]), int(cut["present"])
            if declared > present:
                what = "bytes" if cut["all"] else "bytes of samples"
                raise ValueError(
                    f"data: {path} is cut off: its header says {declared} {what}, it holds {present}; {_COPY_AGAIN}"
                )
        if re.search("Last page lacks an end-of-stream bit", file.extra_info):
            raise ValueError(f"data: {path} is cut off: its last page does not end the recording; {_COPY_AGAIN}")
        if form.frames == _UNKNOWN:
            raise ValueError(
                f"data: the header of {path} does not say how long it is, as where a recording was written through a "
                "pipe; write it anew with an audio editor"
            )
        if not form.frames:
            raise ValueError(
                f"data: {path} holds no samples by its header; a recording that was not finished can be read by "
                "`reminding train stream --follow`"
            )
    if form.format == "OGG":
        _check_pages(path)
    return form


def _check_pages(path: Path) -> None:
    """Refuse an Ogg file in which a page is damaged or missing: its decoders pass it over in silence.

    Raises:
        ValueError: names the byte at which the page begins.
    """
    following: dict[int, int] = {}
    place, ends = 0, False
    with path.open("rb") as file:
        while head := file.read(_PAGE):
            if ends and not head.startswith(b"OggS"):
                return  # a tag behind the recording
            sizes = file.read(head[-1]) if len(head) == _PAGE and head.startswith(b"OggS") else b""
            body = file.read(sum(sizes))
            stream, number, checksum = (int.from_bytes(head[at : at + 4], "little") for at in (14, 18, 22))
            whole = head[:22] + bytes(4) + head[26:] + sizes + body
            if checksum != _page_checksum(whole) or number != following.get(stream, number):
                raise ValueError(f"data: {path} is damaged at byte {place}, or lacks what stood there; {_COPY_AGAIN}")
            following[stream] = number + 1
            place, ends = place + len(whole), bool(head[5] & 4)


def _page_checksum(page: bytes) -> int:
    """The checksum of a page of an Ogg file: a CRC of zlib's polynomial, but of bits in the opposite order."""
    mirrored = zlib.crc32(page.translate(_MIRRORED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int(f"{mirrored:032b}"[::-1], 2)


def read_audio(path: Path) -> tuple[NDArray[np.float64], int]:
    """All samples of an audio file, from -1 to 1, (n,), and the sample rate, Hz.

    Raises:
        ImportError: soundfile is missing.
        ValueError: the file is no audio, is cut off or damaged, holds no samples, or one that is not finite.
    """
    form = audio_form(path)
    with _opened(path) as file:
        samples = _read(path, file, form.frames)
    return samples, form.rate


class AudioSource(Source):
    """An audio file as mu-law levels, one sample per step.

    Neighbouring mu-law levels have a constant ratio, so that 256 of them sound like 14 bits. A model predicts a
    distribution over levels, which says more than the mean of the next sample.

    Args:
        fixed: see `Identity`.

    Raises:
        ImportError: soundfile is missing.
        ValueError: the file is no audio, or is cut off.
    """

    vocabulary = MU + 1
    unit = "sample"

    def __init__(self, path: Path, fixed: bool = False) -> None:
        super().__init__(path)
        self._identity = Identity.of(path, fixed or path.suffix.lower() != ".wav")
        self.form = audio_form(path)
        self._notes = _clipped(path, self.form)

    @property
    def features(self) -> int:
        """256."""
        return MU + 1

    def steps(self) -> int:
        """Samples per channel."""
        return self.form.frames

    def read(self, start: int, stop: int) -> NDArray[np.uint8]:
        """Levels, (n,) uint8."""
        self._identity.check(self.path)
        with _opened(self.path) as file:
            _seek(self.path, file, start)
            return mu_law(_read(self.path, file, stop - start, start))

    def like(self, path: Path) -> AudioSource:
        """Another audio file.

        Raises:
            ValueError: its sample rate differs.
        """
        other = AudioSource(path)
        same_rate(self.path, self.form.rate, path, other.form.rate)
        return other

    def reading(self) -> Reading:
        """What was read."""
        files = (FileSteps(str(self.path), self.steps()),)
        return Reading(files, "audio", self.unit, self.form.settings, notes=self._notes)


class FollowedAudio(AudioSource):
    """A WAV file that is still being written: its samples are found by the size of the file, not by its header."""

    def __init__(self, path: Path) -> None:
        Source.__init__(self, path)
        self._growth = Growth(path)
        self._notes = ()
        self._begin = _begin_of_samples(path)
        with _opened(path) as file:
            self.form = AudioForm(0, file.samplerate, file.channels, file.format, file.subtype)
            self._kind = {
                "samplerate": file.samplerate,
                "channels": file.channels,
                "subtype": file.subtype,
                "endian": "LITTLE",
            }
        widths = {"PCM_U8": 1, "PCM_16": 2, "PCM_24": 3, "PCM_32": 4, "FLOAT": 4, "DOUBLE": 8, "ULAW": 1, "ALAW": 1}
        if self.form.subtype not in widths:
            raise ValueError(f"follow: {path} holds {self.form.subtype} samples, expected one of {', '.join(widths)}")
        self._frame = widths[self.form.subtype] * self.form.channels

    def steps(self) -> int:
        """Complete samples per channel so far."""
        return max(self._growth.size() - self._begin, 0) // self._frame

    def read(self, start: int, stop: int) -> NDArray[np.uint8]:
        """Levels, (n,) uint8."""
        raw = read_range(self.path, self._begin + start * self._frame, self._begin + stop * self._frame)
        with _opened(io.BytesIO(raw), self.path, format="RAW", **self._kind) as file:
            return mu_law(_read(self.path, file, stop - start, start))


def _clipped(path: Path, form: AudioForm) -> tuple[str, ...]:
    """A note on samples of a file that lie beyond -1 and 1, where the mu-law ends; none if there are none."""
    if form.subtype not in _UNBOUNDED:
        return ()
    peak, beyond = 0.0, 0
    with _opened(path) as file:
        for start in range(0, form.frames, _BLOCK):
            sizes = np.abs(_read(path, file, min(_BLOCK, form.frames - start), start))
            peak, beyond = max(peak, float(sizes.max(initial=0))), beyond + int((sizes > 1).sum())
    if not beyond:
        return ()
    share = f"{beyond / form.frames:.3%}"
    return (
        f"{path.name}: {beyond:,} of {form.frames:,} samples ({share}) lie beyond -1 and 1, up to {peak:.4g}, and "
        "are clipped there; scale the recording for them to be read",
    )


def audio_files(folder: Path) -> list[Path]:
    """The audio files in a folder, at any depth, sorted by name; not the hidden ones, and none in a hidden folder."""
    found = [path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file()]
    return sorted(path for path in found if not any(part[0] == "." for part in path.relative_to(folder).parts))


def check_rate(known: int | None, path: Path, rate: int | None) -> None:
    """Refuse a file of another sample rate than the training data's; None: one of them is no audio."""
    if known is not None and rate is not None:
        same_rate(Path("the training data"), known, path, rate)


def same_rate(first: Path, rate: int, second: Path, other: int) -> None:
    """Raise a ValueError unless two files have the same sample rate."""
    if rate != other:
        raise ValueError(
            f"data: {second} has {other} samples a second, {first} has {rate}; convert them to one sample rate"
        )


def _opened(file: Any, path: Path | None = None, **kind: Any) -> Any:
    try:
        soundfile: Any = importlib.import_module("soundfile")
    except ImportError as error:
        raise ImportError('audio files need soundfile: pip install "reminding[data]"') from error
    except OSError as error:
        raise ImportError(f"soundfile does not find libsndfile: {error}") from error
    try:
        return soundfile.SoundFile(file if path is not None else str(file), **kind)
    except soundfile.LibsndfileError as error:
        raise ValueError(f"data: {path or file} cannot be read as audio: {error.error_string}") from error


def _seek(path: Path, file: Any, start: int) -> None:
    """Place an opened file at sample `start`.

    Raises:
        ValueError: the file is damaged, or its samples can only be read from the first on.
    """
    if not file.seekable():
        raise ValueError(
            f"data: {path}: {file.subtype} samples cannot be read from any place; convert the file to PCM or FLAC"
        )
    try:
        file.seek(start)
    except RuntimeError as error:  # which soundfile's own error is
        raise ValueError(f"data: {path} is damaged, sample {start + 1} is not found: {error}") from error


def _read(path: Path, file: Any, count: int, start: int = 0) -> NDArray[np.float64]:
    """Samples of an opened file that stands at sample `start`, as the mean of its channels, (n,).

    They are read block by block, since a damaged header may claim any number of them.
    """
    blocks: list[NDArray[np.float64]] = []
    left = count
    while left > 0:
        try:
            block = file.read(min(left, _BLOCK), dtype="float64", always_2d=True)  # (n, channels)
        except (RuntimeError, ValueError) as error:  # soundfile's own error, or that of a place behind the end
            raise ValueError(f"data: {path} is damaged: {error}") from error
        if not len(block):
            raise ValueError(f"data: {path} ends {left} samples early; copy the file again")
        if len(bad := np.flatnonzero(~np.isfinite(block).all(1))):
            raise ValueError(f"data: {path}: sample {start + count - left + int(bad[0]) + 1} is not finite")
        blocks.append(block.mean(1))
        left -= len(block)
    return np.concatenate(blocks) if blocks else np.empty(0)


def _begin_of_samples(path: Path) -> int:
    """The byte at which the samples of a WAV file begin: after the head of the chunk "data"."""
    with path.open("rb") as file:
        head = file.read(_RIFF)
        place = _RIFF
        while head[:4] in (b"RIFF", b"RF64") and head[8:12] == b"WAVE":
            file.seek(place)
            chunk = file.read(8)
            if len(chunk) < 8:
                break
            if chunk[:4] == b"data":
                return place + 8
            size = int.from_bytes(chunk[4:], "little")
            place += 8 + size + size % 2
    raise ValueError(f"follow: {path} is no WAV file with samples, expected one that is being written")
