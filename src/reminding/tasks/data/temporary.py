"""The folder of temporary files, which may be too small for a copy of a table."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Generator
from errno import EDQUOT, EFBIG, ENOSPC
from pathlib import Path

from reminding.disk.errors import CannotWriteError

FULL = (ENOSPC, EDQUOT, EFBIG)
"""Errors of a disk that is full, of a user who may have no more of it, and of a file that may be no larger."""


def temporary_folder() -> Path:
    """A new folder for temporary files.

    Raises:
        CannotWriteError: the disk is full.
    """
    with naming_temporary():
        return Path(tempfile.mkdtemp(prefix="reminding-"))


@contextlib.contextmanager
def naming_temporary() -> Generator[None]:
    """Turn the error of a full disk into one that names the folder of temporary files, and what moves it."""
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise CannotWriteError(
            Path(tempfile.gettempdir()),
            f"{error.strerror}; a table is copied to temporary files there, up to three times with 8 bytes a cell; "
            "set the environment variable TMPDIR to a folder with more space",
        ) from error
