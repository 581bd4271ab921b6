"""Data sets: what their files are, where they lie, and fetching them. The one file with network access.

A file that is already there is never overwritten or deleted, even when it is damaged. The one file that
imports pooch.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

DATA_VARIABLE = "REMINDING_DATA"
_GZIP_MAGIC = b"\x1f\x8b"


@dataclass(frozen=True)
class DataFile:
    """One file of a data set.

    Args:
        name: as published, such as "train-labels-idx1-ubyte.gz".
        md5: of the published file, checked when it is downloaded.
        raw_md5: of its decompressed bytes, checked when it is read: a file may be unpacked, or packed
            again, and still be the data.
        raw_size: decompressed, bytes.
    """

    name: str
    md5: str
    raw_md5: str
    raw_size: int

    @property
    def names(self) -> tuple[str, ...]:
        """The names it may have in a folder: as published, and decompressed."""
        return tuple(dict.fromkeys((self.name, self.name.removesuffix(".gz"))))


@dataclass(frozen=True)
class Dataset:
    """A data set that is published somewhere.

    Args:
        name: of the data set, and of its folder.
        about: one line for the user.
        licence: one line for the user.
        urls: folders that hold all files, each ending in "/", tried in turn.
        files: in the order that `fetch` and `locate` return them.
    """

    name: str
    about: str
    licence: str
    urls: tuple[str, ...]
    files: tuple[DataFile, ...]


@dataclass(frozen=True)
class FileStatus:
    """What is known of one file on this machine.

    Args:
        file: which.
        state: "ok", "damaged" (there, but not the published data) or "missing".
        path: where it lies; None when missing.
        detail: what is wrong, "" when ok.
    """

    file: DataFile
    state: Literal["ok", "damaged", "missing"]
    path: Path | None
    detail: str


_MNIST = Dataset(
    name="mnist",
    about="60,000 + 10,000 handwritten digits, 28x28 grey pixels (LeCun, Cortes, Burges)",
    licence="CC BY-SA 3.0",
    urls=(
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
    ),
    files=(
        DataFile(
            "train-images-idx3-ubyte.gz",
            md5="f68b3c2dcbeaaa9fbdd348bbdeb94873",
            raw_md5="6bbc9ace898e44ae57da46a324031adb",
            raw_size=47_040_016,
        ),
        DataFile(
            "train-labels-idx1-ubyte.gz",
            md5="d53e105ee54ea40749a09fcbcd1e9432",
            raw_md5="a25bea736e30d166cdddb491f175f624",
            raw_size=60_008,
        ),
        DataFile(
            "t10k-images-idx3-ubyte.gz",
            md5="9fb629c4189551a2d022fa330f9573f3",
            raw_md5="2646ac647ad5339dbf082846283269ea",
            raw_size=7_840_016,
        ),
        DataFile(
            "t10k-labels-idx1-ubyte.gz",
            md5="ec29112dd5afa0611ce80d1b7f02629c",
            raw_md5="27ae3e4e09519cfbb04c329615203637",
            raw_size=10_008,
        ),
    ),
)

DATASETS: dict[str, Dataset] = {_MNIST.name: _MNIST}
"""The data sets that can be fetched, by name."""


def data_folder(data_dir: Path | str | None = None) -> Path:
    """Return the folder for data: `data_dir`, else the variable REMINDING_DATA, else the user's cache.

    Raises:
        ImportError: neither is given and pooch, which knows the cache, is missing.
    """
    chosen = data_dir or os.environ.get(DATA_VARIABLE)
    return Path(chosen).expanduser() if chosen else Path(_pooch().os_cache("reminding"))


def locate(name: str, data_dir: Path | str | None = None) -> dict[str, Path]:
    """Find the files of a data set without the network.

    Args:
        name: of the data set.
        data_dir: see `data_folder`; the files lie in it or in a folder `name` inside.

    Returns:
        Published file name -> path, in the data set's order. The contents are not looked at.

    Raises:
        FileNotFoundError: some are missing; lists every name and folder tried.
        ValueError: there is no such data set.
    """
    dataset, folder = _dataset(name), data_folder(data_dir)
    found = {file.name: _find(file, dataset, folder) for file in dataset.files}
    missing = [file for file in dataset.files if found[file.name] is None]
    if missing:
        looked_for = ", ".join(" or ".join(file.names) for file in missing)
        raise FileNotFoundError(
            f"data set {name}: {len(missing)} of {len(found)} files are missing; looked for {looked_for} "
            f"in {folder} and {folder / name}. Give the folder that holds them as --data-dir, or leave "
            f"--data-dir out to have them downloaded."
        )
    return {file: path for file, path in found.items() if path is not None}


def fetch(name: str, data_dir: Path | str | None = None) -> dict[str, Path]:
    """Find the files of a data set, downloading those that are not there.

    Args:
        name: of the data set.
        data_dir: see `data_folder`; downloads go to a folder `name` inside.

    Returns:
        Published file name -> path, in the data set's order.

    Raises:
        FileNotFoundError: a file could not be downloaded.
        ValueError: a download is not the published file, or there is no such data set.
        ImportError: something must be downloaded and pooch is missing.
    """
    dataset, folder = _dataset(name), data_folder(data_dir)
    return {
        file.name: _find(file, dataset, folder) or _download(file, dataset, folder / name) for file in dataset.files
    }


def status(name: str, data_dir: Path | str | None = None) -> list[FileStatus]:
    """Say of each file of a data set whether it is there and is what was published. Changes nothing.

    Args:
        name: of the data set.
        data_dir: see `data_folder`.

    Raises:
        ValueError: there is no such data set.
    """
    dataset, folder = _dataset(name), data_folder(data_dir)
    return [_file_status(file, _find(file, dataset, folder), folder) for file in dataset.files]


def read_raw(path: Path) -> bytes:
    """Read a file's bytes, decompressed if they are gzip, whatever its name says.

    Raises:
        ValueError: the gzip is damaged; names the file.
    """
    stored = path.read_bytes()
    if not stored.startswith(_GZIP_MAGIC):
        return stored
    try:
        return gzip.decompress(stored)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(
            f"{path}: damaged gzip of {len(stored)} bytes ({error}), expected one that unpacks"
        ) from error


def check_raw(raw: bytes, file: DataFile, path: Path) -> None:
    """Raise a ValueError that names `path` unless `raw` has the published size and md5."""
    if len(raw) != file.raw_size:
        raise ValueError(f"{path}: {len(raw)} bytes decompressed, expected {file.raw_size}")
    found = hashlib.md5(raw, usedforsecurity=False).hexdigest()
    if found != file.raw_md5:
        raise ValueError(f"{path}: md5 of the decompressed bytes is {found}, expected {file.raw_md5}")


def _dataset(name: str) -> Dataset:
    if name not in DATASETS:
        raise ValueError(f"name: got {name!r}, expected one of the data sets {', '.join(sorted(DATASETS))}")
    return DATASETS[name]


def _find(file: DataFile, dataset: Dataset, folder: Path) -> Path | None:
    places = [place / name for place in (folder, folder / dataset.name) for name in file.names]
    return next((path for path in places if path.is_file()), None)


def _file_status(file: DataFile, path: Path | None, folder: Path) -> FileStatus:
    if path is None:
        return FileStatus(file, "missing", None, f"no {' or '.join(file.names)} in {folder}")
    try:
        check_raw(read_raw(path), file, path)
    except (ValueError, OSError) as error:
        return FileStatus(file, "damaged", path, str(error))
    return FileStatus(file, "ok", path, "")


def _download(file: DataFile, dataset: Dataset, folder: Path) -> Path:
    target = folder / file.name
    if os.path.lexists(target):  # pooch would put its download in the place of a broken link
        raise ValueError(f"{target}: exists but is not a file, expected a file or nothing")
    retrieve, failures = _pooch().retrieve, list[Exception]()
    for url in dataset.urls:
        try:
            # pooch writes to a temporary file and moves it into place when the checksum is right.
            return Path(retrieve(url + file.name, known_hash=f"md5:{file.md5}", fname=file.name, path=folder))
        except (OSError, ValueError) as error:  # no network, no such file, no space; wrong checksum
            failures.append(error)
    wrong = any(not isinstance(error, OSError) for error in failures)
    wanted = ", ".join(each.name for each in dataset.files)
    raise (ValueError if wrong else FileNotFoundError)(
        f"data set {dataset.name}: could not download {file.name} (md5 {file.md5}) to {folder}: "
        f"{'; '.join(map(str, failures))}. Without a network, put {wanted} (gzipped or not) in a folder and "
        f"give it as --data-dir or {DATA_VARIABLE}."
    ) from failures[-1]


def _pooch() -> Any:
    try:
        import pooch  # pyright: ignore[reportMissingTypeStubs, reportMissingImports]
    except ImportError as error:
        raise ImportError(
            'downloading data needs pooch, which is missing: pip install "reminding[experiments]", '
            f"or give a folder that holds the files as --data-dir or {DATA_VARIABLE}"
        ) from error
    return pooch
