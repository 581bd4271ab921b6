"""Data sets on this machine: where their files lie, and fetching them. The one file with network access.

A file that is already there is never overwritten or deleted, even when it is damaged. The one file that
imports pooch.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from reminding.tasks.data.datasets import DATASETS, Archive, DataFile, Dataset
from reminding.tasks.data.packed import SUFFIXES, check_raw, open_raw, read_raw

DATA_VARIABLE = "REMINDING_DATA"


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


def data_folder(data_dir: Path | str | None = None) -> Path:
    """Return the folder for data: `data_dir`, else the variable REMINDING_DATA, else the user's cache.

    Raises:
        ImportError: neither is given and pooch, which knows the cache, is missing.
    """
    chosen = data_dir or os.environ.get(DATA_VARIABLE)
    return Path(chosen).expanduser() if chosen else Path(_pooch().os_cache("reminding"))


def locate(name: str, data_dir: Path | str | None = None, *, beginning: bool = False) -> dict[str, Path]:
    """Find the files of a data set without the network.

    Args:
        name: of the data set.
        data_dir: see `data_folder`; the files lie in it, in a folder `name` inside, or in the folder that its
            archive unpacks to; plain, packed as .gz, .xz or .zip, or still in the archive.
        beginning: whether a file that is known to hold the beginning alone will do where the whole is missing.

    Returns:
        Published file name -> path, in the data set's order; the path is the archive's where the file is inside.
        The contents are not looked at.

    Raises:
        FileNotFoundError: some are missing; lists every name and folder tried.
        ValueError: there is no such data set.
    """
    dataset, folder = _dataset(name), data_folder(data_dir)
    found = {file.name: _find(file, dataset, folder, beginning) for file in dataset.files}
    if any(path is None for path in found.values()):
        raise FileNotFoundError(_missing(dataset, folder, [key for key, path in found.items() if path is None]))
    return {file: path for file, path in found.items() if path is not None}


def fetch(name: str, data_dir: Path | str | None = None, *, beginning: bool = False) -> dict[str, Path]:
    """Find the files of a data set, downloading those that are not there.

    Args:
        name: of the data set.
        data_dir: see `data_folder`; downloads go to a folder `name` inside, where archives are unpacked.
        beginning: as for `locate`.

    Returns:
        Published file name -> path, in the data set's order.

    Raises:
        FileNotFoundError: a file could not be downloaded.
        ValueError: a download is not the published file, or there is no such data set.
        ImportError: something must be downloaded and pooch is missing.
    """
    dataset, folder = _dataset(name), data_folder(data_dir)
    # All are looked for first: once the archive has been downloaded, it would count as the place of the rest.
    found = [_find(file, dataset, folder, beginning) for file in dataset.files]
    return {
        file.name: path or _obtain(file, dataset, folder / name)
        for file, path in zip(dataset.files, found, strict=True)
    }


def locate_or_fetch(name: str, data_dir: Path | None, *, beginning: bool = False) -> dict[str, Path]:
    """`locate` in a folder that the user has named, `fetch` where none is named: what tasks do."""
    return (fetch if data_dir is None else locate)(name, data_dir, beginning=beginning)


def status(name: str, data_dir: Path | str | None = None) -> list[FileStatus]:
    """Say of each file of a data set whether it is there and is what was published. Changes nothing.

    A file with the beginning alone is listed where there is one.

    Args:
        name: of the data set.
        data_dir: see `data_folder`.

    Raises:
        ValueError: there is no such data set.
    """
    dataset, folder = _dataset(name), data_folder(data_dir)
    found = [_file_status(file, _find(file, dataset, folder), folder) for file in dataset.files]
    start = dataset.beginning
    path = None if start is None else _find(start, dataset, folder)
    return found if start is None or path is None else [*found, _file_status(start, path, folder)]


def _dataset(name: str) -> Dataset:
    if name not in DATASETS:
        raise ValueError(f"name must be one of the data sets {', '.join(sorted(DATASETS))}, got {name!r}")
    return DATASETS[name]


def _find(file: DataFile, dataset: Dataset, folder: Path, beginning: bool = False) -> Path | None:
    """Where the file lies: by itself, else packed, else in the data set's archive."""
    if (path := next(filter(Path.is_file, _candidates(file, dataset, folder)), None)) is not None:
        return path
    if beginning and dataset.beginning is not None:
        return _find(dataset.beginning, dataset, folder)
    return None


def _candidates(file: DataFile, dataset: Dataset, folder: Path) -> Iterator[Path]:
    names = dict.fromkeys((*file.names, *(file.plain_name + suffix for suffix in SUFFIXES)))
    places = (folder, folder / dataset.name)
    archive = dataset.archive
    if archive is not None and archive.folder:
        places = tuple(path for place in places for path in (place, place / archive.folder))
    yield from (place / name for place in places for name in names)
    if archive is not None and file in dataset.files:
        yield from (place / archive.name for place in places)


def _missing(dataset: Dataset, folder: Path, names: list[str]) -> str:
    files = [file for file in dataset.files if file.name in names]
    looked_for = ", ".join(" or ".join(file.names) for file in files)
    archive = f"; or {dataset.archive.name}" if dataset.archive is not None and dataset.archive.folder else ""
    start = dataset.beginning
    hint = ""
    if start is not None and (path := _find(start, dataset, folder)) is not None:
        hint = f" {path} holds the beginning alone: prefix={start.raw_size} takes that."
    return (
        f"data set {dataset.name}: {len(files)} of {len(dataset.files)} files are missing; looked for {looked_for} "
        f"in {folder} and {folder / dataset.name} (plain, or packed as {', '.join(SUFFIXES)}{archive}).{hint} Give "
        "the folder that holds them as --data-dir, or leave --data-dir out to have them downloaded."
    )


def _file_status(file: DataFile, path: Path | None, folder: Path) -> FileStatus:
    if path is None:
        return FileStatus(file, "missing", None, f"no {' or '.join(file.names)} in {folder}")
    try:
        check_raw(open_raw(path, file.plain_name), file, path)
    except (ValueError, OSError) as error:
        return FileStatus(file, "damaged", path, str(error))
    return FileStatus(file, "ok", path, "")


def _obtain(file: DataFile, dataset: Dataset, folder: Path) -> Path:
    """Download one file, or the archive and take the file out of it."""
    archive = dataset.archive
    if archive is None:
        return _download(file.name, f"md5:{file.md5}", dataset, folder)
    packed = folder / archive.name  # there already where another file has just been taken out of it
    if not packed.is_file():
        packed = _download(archive.name, archive.checksum, dataset, folder)
    return _unpack(packed, archive, file, folder)


def _unpack(packed: Path, archive: Archive, file: DataFile, folder: Path) -> Path:
    """Take one file out of an archive; it appears under its name when it is whole."""
    target = folder / archive.folder / file.name
    _check_free(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{target.name}.{os.getpid()}.part")
    try:
        part.write_bytes(read_raw(packed, file.name))
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
    return target


def _download(name: str, checksum: str, dataset: Dataset, folder: Path) -> Path:
    _check_free(folder / name)
    retrieve, failures = _pooch().retrieve, list[Exception]()
    for url in dataset.urls:
        try:
            # pooch writes to a temporary file and moves it into place when the checksum is right.
            return Path(retrieve(url + name, known_hash=checksum, fname=name, path=folder))
        except (OSError, ValueError) as error:  # no network, no such file, no space; wrong checksum
            failures.append(error)
    wrong = any(not isinstance(error, OSError) for error in failures)
    wanted = ", ".join(each.name for each in dataset.files)
    if dataset.archive is not None:
        wanted = f"{dataset.archive.name}, or {wanted}"
    raise (ValueError if wrong else FileNotFoundError)(
        f"data set {dataset.name}: could not download {name} ({checksum.replace(':', ' ')}) to {folder}: "
        f"{'; '.join(map(str, failures))}. Without a network, put {wanted} (packed or not) in a folder and "
        f"give it as --data-dir or {DATA_VARIABLE}."
    ) from failures[-1]


def _check_free(target: Path) -> None:
    if os.path.lexists(target):  # pooch would put its download in the place of a broken link
        raise ValueError(f"{target}: exists but is not a file, expected a file or nothing")


def _pooch() -> Any:
    try:
        import pooch  # pyright: ignore[reportMissingTypeStubs, reportMissingImports]
    except ImportError as error:
        raise ImportError(
            'downloading data needs pooch, which is missing: pip install "reminding[experiments]", '
            f"or give a folder that holds the files as --data-dir or {DATA_VARIABLE}"
        ) from error
    return pooch
