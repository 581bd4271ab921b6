"""The errors of files."""

from __future__ import annotations

from pathlib import Path


class DamagedFileError(ValueError):
    """A file does not hold what was written to it.

    Attributes:
        path: of the file; field: the part of it that is wrong, "" if that is unknown.
    """

    def __init__(self, path: str | Path, problem: object, field: str = "") -> None:
        self.path, self.field = Path(path), field
        super().__init__(f"{path} is damaged: {field}{': ' if field else ''}{problem}")


class CannotWriteError(OSError):
    """A file could not be written: the disk is full or read-only, or permission is missing.

    Attributes:
        path: of the file, which is as it was before.
        advice: what can be done; "": none is given.
    """

    def __init__(self, path: Path, reason: OSError | str, advice: str = "") -> None:
        self.path, self.advice = path, advice
        self.reason = reason if isinstance(reason, str) else str(reason.strerror or reason)
        super().__init__(f"could not write {path}: {self.reason}{'; ' if advice else ''}{advice}")

    def with_advice(self, advice: str) -> CannotWriteError:
        """The same error, with what can be done after it."""
        return CannotWriteError(self.path, self.reason, advice)


def what_is_wrong(error: Exception) -> str:
    """What an error says of the values that were read: of an absent entry, a KeyError has the name alone."""
    return f"it has no {error.args[0]!r}" if isinstance(error, KeyError) and error.args else str(error)


class FolderInUseError(ValueError):
    """Another living process has locked the folder, or another folder has taken its place."""
