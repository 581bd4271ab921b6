"""Folders of audio files: the label, the group and the split of each file, by its place and name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from reminding.tasks.data.audio import SUFFIXES, audio_files

SPLITS = {
    "train": "train",
    "training": "train",
    "valid": "valid",
    "validation": "valid",
    "val": "valid",
    "dev": "valid",
    "test": "test",
    "testing": "test",
}
"""Names of folders that hold a split, in lower case."""
FIELDS = ("label", "group", "split")


@dataclass(frozen=True)
class AudioFile:
    """An audio file in a folder.

    Args:
        label: its class.
        group: what it belongs to, such as a speaker; "" if that is not known.
        split: "train", "valid" or "test"; "" if its place does not say.
    """

    path: Path
    label: str
    group: str = ""
    split: str = ""


def list_recordings(folder: Path, pattern: str | None = None) -> list[AudioFile]:
    """The audio files of a folder, sorted by name.

    Args:
        pattern: of the places below the folder, such as "{label}/{group}/*.wav" or "{label}_{group}_*.wav"; None:
            files in one folder per label, or named LABEL_anything, below folders called train, valid and test or not.

    Raises:
        FileNotFoundError: there is no audio file.
        ValueError: the pattern does not fit, or the folders are nested so that the label is open.
    """
    files = audio_files(folder)
    if not files:
        raise FileNotFoundError(
            f"data: there is no audio file in {folder}; expected {', '.join(SUFFIXES[:2])} or others"
        )
    if pattern is not None:
        return _by_pattern(folder, files, pattern)
    found = [_by_place(folder, path) for path in files]
    flat = [recording.path for recording in found if not recording.label]
    if flat:
        depth = len(flat[0].relative_to(folder).parts)
        raise ValueError(
            f"data: {flat[0]} is {depth - 1} folders deep in {folder}, and which of them is the label is not known; "
            "say it by a pattern, such as --pattern '{label}/{group}/*' (a group is held out whole)"
        )
    return found


def _by_place(folder: Path, path: Path) -> AudioFile:
    """The label by the folder, or by the name up to the first underscore; "" if it is not known."""
    *above, _ = path.relative_to(folder).parts
    split = SPLITS.get(above[0].lower(), "") if above else ""
    inner = above[1:] if split else above
    if len(inner) > 1:
        return AudioFile(path, "")
    return AudioFile(path, inner[0] if inner else path.stem.split("_")[0], "", split)


def _by_pattern(folder: Path, files: Sequence[Path], pattern: str) -> list[AudioFile]:
    expression = _compiled(pattern)
    found: list[AudioFile] = []
    for path in files:
        place = PurePosixPath(path.relative_to(folder).as_posix())
        without = str(place.with_suffix(""))  # first, so that .wav belongs to no label or group at the end of a name
        match = expression.fullmatch(without) or expression.fullmatch(str(place))
        if match is None:
            raise ValueError(f"pattern: {place} in {folder} does not fit {pattern!r}")
        parts = match.groupdict()
        split = parts.get("split", "")
        if split and split.lower() not in SPLITS:
            raise ValueError(f"pattern: {place}: {split!r} is no split, expected one of {', '.join(SPLITS)}")
        found.append(AudioFile(path, parts["label"], parts.get("group", ""), SPLITS.get(split.lower(), "")))
    return found


def _compiled(pattern: str) -> re.Pattern[str]:
    names = re.findall(r"\{(.*?)\}", pattern)
    if "label" not in names or set(names) - set(FIELDS) or len(set(names)) < len(names):
        raise ValueError(
            f"pattern must have {{label}} once, and {{group}} and {{split}} at most once, got {pattern!r}"
        )
    parts = re.split(r"(\{.*?\}|\*\*|\*)", pattern)
    return re.compile("".join(_expression(part) for part in parts))


def _expression(part: str) -> str:
    """A part of a pattern as a regular expression. A field ends at the next character that is none of its own."""
    if part.startswith("{"):
        return f"(?P<{part[1:-1]}>[^/]+?)"
    return {"*": "[^/]*", "**": ".*"}.get(part, re.escape(part))
