"""Data sets on this machine: finding and downloading their files. The one file with network access.

An existing file is never overwritten or deleted, even if it is damaged. The one file that imports pooch.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from reminding import checks
from reminding.disk import lock, operations
from reminding.disk.writing import discard, is_leftover, naming, write_file
from reminding.tasks.data.datasets import DATASETS, Archive, DataFile, Dataset
from reminding.tasks.data.packed import SUFFIXES, check_raw, open_raw, read_raw

DATA_VARIABLE = "REMINDING_DATA"
PARTIAL = ".partial"
"""The end of the name of a download that is not complete."""
POOCHS = re.compile(r"tmp\w{8}")
"""The names of pooch's temporary files, which stay empty here until a download is complete."""
PAST_THE_END = 416
"""The status of a request that begins behind the end of a file."""
PACKING = 1 << 20
"""Bytes that an archive may add to its files."""


@dataclass(frozen=True)
class FileStatus:
    """The state of one file on this machine.

    Args:
        file: of the data set.
        state: "ok", "damaged" (the content is not the published data) or "missing".
        path: of the file; None if it is missing.
        detail: the problem; "" if there is none.
    """

    file: DataFile
    state: Literal["ok", "damaged", "missing"]
    path: Path | None
    detail: str


def data_folder(data_dir: Path | str | None = None) -> Path:
    """Return the folder of the data sets: `data_dir`, else REMINDING_DATA, else the user's cache.

    Raises:
        ImportError: neither is given, and pooch, which knows the cache, is missing.
        ValueError: it is in a home folder, and there is none.
    """
    chosen = Path(data_dir or os.environ.get(DATA_VARIABLE) or _pooch().os_cache("reminding"))
    try:
        return chosen.expanduser()
    except RuntimeError as error:
        raise ValueError(
            f"data_dir: {chosen} is in an unknown home folder; name a folder with --data-dir or {DATA_VARIABLE}"
        ) from error


def locate(name: str, data_dir: Path | str | None = None, *, beginning: bool = False) -> dict[str, Path]:
    """Find the files of a data set without the network.

    Args:
        name: of the data set.
        data_dir: see `data_folder`; it holds the files itself, or in a folder `name`, or in the folder that the
            archive unpacks to; plain, packed as .gz, .xz or .zip, or still in the archive.
        beginning: whether the file with only the beginning is accepted if the whole file is missing.

    Returns:
        Published file name -> path, in the data set's order; the path may be that of the archive. The contents are
        not checked.

    Raises:
        FileNotFoundError: some files are missing; the message lists every name and folder tried.
        ValueError: there is no such data set.
    """
    dataset, folder = _dataset(name), data_folder(data_dir)
    paths = {file.name: _find(file, dataset, folder, beginning) for file in dataset.files}
    if missing := [name for name, path in paths.items() if path is None]:
        raise FileNotFoundError(_missing(dataset, folder, missing))
    return {name: path for name, path in paths.items() if path is not None}


def fetch(name: str, data_dir: Path | str | None = None, *, beginning: bool = False) -> dict[str, Path]:
    """Find the files of a data set, and download missing ones.

    Args:
        name: of the data set.
        data_dir: see `data_folder`; downloads go to its folder `name`, where archives are unpacked.
        beginning: as for `locate`.

    Returns:
        Published file name -> path, in the data set's order.

    Raises:
        FileNotFoundError: a file could not be downloaded.
        ValueError: a download is not the published file, or there is no such data set.
        ImportError: a file must be downloaded, and pooch is missing.
    """
    dataset, folder = _dataset(name), data_folder(data_dir)
    # All are searched for first: a downloaded archive would count as the path of the other files.
    paths = [_find(file, dataset, folder, beginning) for file in dataset.files]
    if all(paths):
        return {file.name: path for file, path in zip(dataset.files, paths, strict=True) if path is not None}
    with _alone(folder / name):
        return {
            file.name: path or _obtain(file, dataset, folder / name)
            for file, path in zip(dataset.files, paths, strict=True)
        }


def locate_or_fetch(name: str, data_dir: Path | None, *, beginning: bool = False) -> dict[str, Path]:
    """The files of a task: `locate` in a folder that the user names, `fetch` if there is none."""
    return (fetch if data_dir is None else locate)(name, data_dir, beginning=beginning)


def status(name: str, data_dir: Path | str | None = None) -> list[FileStatus]:
    """Check whether each file of a data set exists and is the published one. Changes nothing.

    A file with only the beginning is listed if it exists.

    Args:
        name: of the data set.
        data_dir: see `data_folder`.

    Raises:
        ValueError: there is no such data set.
    """
    dataset, folder = _dataset(name), data_folder(data_dir)
    states = [_file_status(file, _find(file, dataset, folder), folder) for file in dataset.files]
    start = dataset.beginning
    path = None if start is None else _find(start, dataset, folder)
    return states if start is None or path is None else [*states, _file_status(start, path, folder)]


def _dataset(name: str) -> Dataset:
    return DATASETS[checks.one_of("name", name, sorted(DATASETS))]


def _find(file: DataFile, dataset: Dataset, folder: Path, beginning: bool = False) -> Path | None:
    """The path of the file itself, else of the packed file, else of the data set's archive."""
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
        hint = f" {path} holds only the beginning, which prefix={start.raw_size} accepts."
    return (
        f"data set {dataset.name}: {len(files)} of {len(dataset.files)} files are missing; looked for {looked_for} "
        f"in {folder} and {folder / dataset.name} (plain, or packed as {', '.join(SUFFIXES)}{archive}).{hint} Give "
        "the folder that holds them as --data-dir, or leave --data-dir out to have them downloaded."
    )


def _file_status(file: DataFile, path: Path | None, folder: Path) -> FileStatus:
    if path is None:
        return FileStatus(file, "missing", None, f"no {' or '.join(file.names)} in {folder}")
    try:
        check_raw(open_raw(path, file.plain_name, file.raw_size), file, path)
    except (ValueError, OSError) as error:
        return FileStatus(file, "damaged", path, str(error))
    return FileStatus(file, "ok", path, "")


@contextmanager
def _alone(folder: Path) -> Generator[None]:
    """Wait until no other process downloads to a folder, and remove what killed ones have left there."""
    with naming(folder):
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = operations.open_to_append(folder / lock.LOCK_NAME)
    try:
        lock.wait(descriptor)
        for path in folder.rglob("*"):
            empty = POOCHS.fullmatch(path.name) is not None and path.is_file() and path.stat().st_size == 0
            if empty or is_leftover(path):
                discard(path)
        yield
    finally:
        operations.close(descriptor)


def _obtain(file: DataFile, dataset: Dataset, folder: Path) -> Path:
    """Download one file, or download the archive and extract the file; another process may have done so by now."""
    archive = dataset.archive
    if archive is None:
        return _download(file.name, f"md5:{file.md5}", _most([file]), dataset, folder)
    packed = folder / archive.name  # it exists if another file has just been extracted
    if not packed.is_file():
        packed = _download(archive.name, archive.checksum, _most(dataset.files), dataset, folder)
    return _unpack(packed, archive, file, folder)


def _most(files: Sequence[DataFile]) -> int:
    """More bytes than some files can have when they are packed."""
    return sum(file.raw_size for file in files) * 101 // 100 + PACKING


def _unpack(packed: Path, archive: Archive, file: DataFile, folder: Path) -> Path:
    """Extract one file of an archive; it gets its name when it is complete and known to be the published one."""
    target = folder / archive.folder / file.name
    if target.is_file():
        return target
    _check_free(target)
    raw = read_raw(packed, file.name, file.raw_size)
    check_raw(raw, file, packed)
    with naming(target):
        target.parent.mkdir(parents=True, exist_ok=True)
    write_file(target, raw)
    return target


def _download(name: str, checksum: str, most: int, dataset: Dataset, folder: Path) -> Path:
    """Download a file, going on from what an interrupted download has left.

    Args:
        most: bytes at which a download is broken off.
    """
    target = folder / name
    if target.is_file():
        return target
    _check_free(target)
    partial, failures = folder / f".{name}{PARTIAL}", list[Exception]()
    for url in (url + name for url in dataset.urls):
        for _ in range(2 if partial.exists() else 1):  # from what is there; if that is of no use, anew
            try:
                # pooch gives the file its name when the checksum is right.
                get = partial_downloader(partial, most)
                return Path(_pooch().retrieve(url, known_hash=checksum, fname=name, path=folder, downloader=get))
            except (OSError, ValueError) as error:  # no network, no such file, no space; wrong checksum
                failures.append(error)
                if isinstance(error, OSError) and not _is_past_the_end(error):
                    break
                discard(partial)
    wrong = any(not isinstance(error, OSError) for error in failures)
    wanted = ", ".join(each.name for each in dataset.files)
    if dataset.archive is not None:
        wanted = f"{dataset.archive.name}, or {wanted}"
    raise (ValueError if wrong else FileNotFoundError)(
        f"data set {dataset.name}: could not download {name} ({checksum.replace(':', ' ')}) to {folder}: "
        f"{'; '.join(map(str, failures))}. Without a network, put {wanted} (packed or not) in a folder and "
        f"give it as --data-dir or {DATA_VARIABLE}."
    ) from failures[-1]


def _is_past_the_end(error: OSError) -> bool:
    """Whether a server says that it has no more than there is already."""
    return getattr(getattr(error, "response", None), "status_code", None) == PAST_THE_END


@dataclass
class _Bounded:
    """A file that is written to, up to a number of bytes."""

    file: Any
    most: int

    def write(self, data: bytes) -> None:
        """Write, or refuse.

        Raises:
            ValueError: the file would become too large.
        """
        if self.file.tell() + len(data) > self.most:
            raise ValueError(f"the download is larger than {self.most} bytes")
        self.file.write(data)

    def flush(self) -> None:
        """Hand on what was written."""
        self.file.flush()


def partial_downloader(partial: Path, most: int) -> Callable[[str, str, Any], None]:
    """A downloader for pooch that keeps what it has got when it is interrupted, and goes on from there.

    Args:
        partial: the file that is kept; most: its greatest size, bytes.
    """

    def download(url: str, output_file: str, caller: Any) -> None:
        done = partial.stat().st_size if partial.exists() else 0
        headers = {"Accept-Encoding": "identity", **({"Range": f"bytes={done}-"} if done else {})}
        with partial.open("ab") as file:
            _pooch().HTTPDownloader(headers=headers)(url, _Bounded(file, most), caller)
        operations.rename(partial, Path(output_file))

    return download


def _check_free(target: Path) -> None:
    if os.path.lexists(target):  # pooch would replace a broken link by its download
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
