"""CIFAR10 read pixel by pixel, in row order.

Shapes: N examples, T steps, C channels a step.
"""

from __future__ import annotations

import io
import pickle
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from reminding.checks import one_of
from reminding.tasks.data.datasets import DATASETS, DataFile
from reminding.tasks.data.download import locate_or_fetch
from reminding.tasks.data.packed import check_raw, read_raw
from reminding.tasks.kinds.base import Split
from reminding.tasks.kinds.classification import Examples, PixelClassification

Channels = Literal["together", "apart"]
SIDE = 32
PIXELS = SIDE * SIDE
COLOURS = 3
CLASSES = 10
PEAK = 255
IMAGES_PER_FILE = 10_000
VALID_EXAMPLES = 5000


@dataclass(frozen=True)
class CIFAR10(PixelClassification):
    """Sequential CIFAR10, in colour.   [Krizhevsky 2009; as a sequence, Trinh et al. 2018]

    Input (1024, B, 3) in [0, 1]: a step shows the red, green and blue of one pixel, row by row. With the channels
    apart, input (3072, B, 1): the red of all pixels in row order, then the green, then the blue, as in the files.
    Ten classes. 45,000 train; the last 5,000 of the official training images are valid; 10,000 test.

    Args:
        data_dir: folder with the six official python batches, packed or not, or with cifar-10-python.tar.gz, or
            with a folder "cifar10" or "cifar-10-batches-py" that holds them; nothing is downloaded. None:
            REMINDING_DATA or the user's cache; missing files are downloaded and checked.
        channels: together: one pixel per step, 1,024 steps; apart: one value per step, 3,072 steps.
        verify: whether the files must be the published ones, by checksum. Without it other files of the same layout
            are accepted, such as a lossy copy; results on them are not those of the data set.

    Raises (when examples are asked for):
        FileNotFoundError: a file is missing and cannot be downloaded; the message lists the names tried.
        ValueError: a file is damaged or is not the official one; the message shows the difference.
    """

    name: ClassVar[str] = "cifar10"
    number_of_classes: ClassVar[int] = CLASSES
    side: ClassVar[int] = SIDE

    data_dir: Path | None = None
    channels: Channels = "together"
    verify: bool = True

    def __post_init__(self) -> None:
        """Check the options."""
        one_of("channels", self.channels, get_args(Channels))

    @property
    def input_size(self) -> int:
        """Features per step: 3 with the channels together, 1 with them apart."""
        return COLOURS if self.channels == "together" else 1

    @property
    def shape(self) -> tuple[int, int]:
        """Steps of an image, and values of a step."""
        return COLOURS * PIXELS // self.input_size, self.input_size

    def examples(self, split: Split) -> Examples:
        """Return one split: pixels (N, 1024, 3) or (N, 3072), label (N,)."""
        paths = tuple(locate_or_fetch("cifar10", self.data_dir).values())
        return splits(paths, self.channels, self.verify)[split]


@lru_cache(maxsize=1)
def splits(paths: tuple[Path, ...], channels: Channels, verify: bool) -> dict[Split, Examples]:
    """All splits, read once per process: pixels (N, 1024, 3), or with the channels apart (N, 3072)."""
    total = IMAGES_PER_FILE * len(paths)
    shape = (total, PIXELS, COLOURS) if channels == "together" else (total, COLOURS * PIXELS)
    pixels, label = np.empty(shape, np.uint8), np.empty(total, np.int64)
    for i, (file, path) in enumerate(zip(DATASETS["cifar10"].files, paths, strict=True)):
        here = slice(i * IMAGES_PER_FILE, (i + 1) * IMAGES_PER_FILE)
        planes, label[here] = _read(file, path, verify)
        # The file has one plane per colour.
        pixels[here] = planes.reshape(-1, COLOURS, PIXELS).swapaxes(1, 2) if channels == "together" else planes
    test = IMAGES_PER_FILE * (len(paths) - 1)
    borders: dict[Split, tuple[int, int]] = {
        "train": (0, test - VALID_EXAMPLES),
        "valid": (test - VALID_EXAMPLES, test),
        "test": (test, total),
    }
    whole = Examples(torch.from_numpy(pixels), torch.from_numpy(label), PEAK)  # pyright: ignore[reportUnknownMemberType]
    return {
        split: Examples(whole.pixels[begin:end], whole.label[begin:end], PEAK)
        for split, (begin, end) in borders.items()
    }


def _read(file: DataFile, path: Path, verify: bool) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Planes (n, 3072) and labels (n,) of one file."""
    raw = read_raw(path, file.plain_name, file.raw_size)
    if verify:
        check_raw(raw, file, path)  # before the file is parsed
    return parse_batch(raw, path)


def parse_batch(raw: bytes, source: Path | str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Read one of CIFAR10's python batches: a pickled dictionary with "data" and "labels".

    Only arrays, numbers, texts and plain containers are unpickled, so that a file cannot run code.

    Args:
        raw: the contents of the file, unpacked.
        source: the origin of `raw`, for messages.

    Returns:
        planes (n, 3072) uint8, red, green, blue; labels (n,), 0 to 9.

    Raises:
        ValueError: `raw` is not such a pickle; the message names `source` and shows the difference.
    """
    try:
        content: Any = _ArrayUnpickler(io.BytesIO(raw), encoding="bytes").load()
    except Exception as error:  # damaged bytes can make the unpickler raise nearly anything
        raise ValueError(
            f"{source}: cannot be read as a CIFAR10 python batch of {len(raw)} bytes: {error}"
        ) from error
    if not isinstance(content, dict):
        raise ValueError(f"{source}: holds a {type(content).__name__}, expected a dictionary with data and labels")
    entries: dict[Any, Any] = {_text(key): value for key, value in content.items()}  # pyright: ignore[reportUnknownVariableType]
    if missing := [name for name in ("data", "labels") if name not in entries]:
        raise ValueError(f"{source}: has {', '.join(map(str, entries))}, expected {' and '.join(missing)} as well")
    return _planes(entries["data"], source), _labels(entries["labels"], source)


def _planes(data: Any, source: Path | str) -> NDArray[np.uint8]:
    expected = f"uint8 {(IMAGES_PER_FILE, COLOURS * PIXELS)}"
    found = f"{data.values.dtype} {data.values.shape}" if isinstance(data, _Array) else type(data).__name__
    if found != expected:
        raise ValueError(f"{source}: data is {found}, expected {expected}")
    return data.values


def _labels(labels: Any, source: Path | str) -> NDArray[np.int64]:
    expected = f"{IMAGES_PER_FILE} integers from 0 to {CLASSES - 1}"
    try:
        found = np.asarray(labels.values if isinstance(labels, _Array) else labels)
    except ValueError:  # lists of unequal length
        raise ValueError(f"{source}: labels are lists of unequal length, expected {expected}") from None
    if found.shape != (IMAGES_PER_FILE,) or found.dtype.kind not in "iu":
        raise ValueError(f"{source}: labels are {found.dtype} {found.shape}, expected {expected}")
    if found.min() < 0 or found.max() >= CLASSES:
        raise ValueError(f"{source}: labels from {found.min()} to {found.max()}, expected {expected}")
    return found.astype(np.int64)


def _text(key: Any) -> Any:
    """A key as text; Python 2 wrote keys as bytes."""
    return key.decode("latin1") if isinstance(key, bytes) else key


class _ArrayUnpickler(pickle.Unpickler):
    """Unpickles numpy arrays and plain containers, written by any version of Python and numpy.

    numpy's own functions are not called; stand-ins check every value that they use.
    """

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        allowed: dict[tuple[str, str], Any] = {
            ("numpy", "ndarray"): "ndarray",  # occurs only as an argument
            ("numpy", "dtype"): _Kind,
            ("numpy.multiarray", "_reconstruct"): _Array,
            ("numpy.numeric", "_frombuffer"): _array_of,
            ("_codecs", "encode"): _encoded,
        }
        # numpy moved its functions from core to _core.
        module = module_name.replace(".core.", ".").replace("._core.", ".")
        if (module, global_name) not in allowed:
            raise pickle.UnpicklingError(f"{module_name}.{global_name} is not allowed in it")
        return allowed[module, global_name]


class _Kind:
    """Stands in for a pickled dtype; only numbers are allowed."""

    def __init__(self, code: Any, *_: Any) -> None:
        self.dtype = np.dtype(_text(code))
        if self.dtype.kind not in "biuf":
            raise pickle.UnpicklingError(f"arrays of {self.dtype} are not allowed in it")

    def __setstate__(self, state: Any) -> None:
        self.dtype = self.dtype.newbyteorder(_text(state[1]))


class _Array:
    """Stands in for a pickled array; its contents come with its state."""

    def __init__(self, *_: Any) -> None:
        self.values: NDArray[Any] = np.empty(0)

    def __setstate__(self, state: Any) -> None:
        _, shape, kind, by_column, buffer = state
        self.values = np.frombuffer(buffer, kind.dtype).reshape(shape, order="F" if by_column else "C")


def _array_of(buffer: Any, kind: _Kind, shape: Any, order: Any) -> _Array:
    array = _Array()
    array.__setstate__((1, shape, kind, _text(order) == "F", buffer))
    return array


def _encoded(text: str, encoding: str) -> bytes:
    """Bytes that Python 3 wrote as text, for Python 2 to read."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"bytes as {encoding!r}, expected latin1")
    return text.encode(encoding)
