"""Tables as streams of steps, one row per step: CSV and Parquet. The one file that imports pyarrow.

Shapes: n rows, C columns.
"""

from __future__ import annotations

import csv
import importlib
from collections import OrderedDict
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reminding.tasks.data.sources import Source

STRIDE = 256
"""Rows between two recorded places in a CSV file."""
BLOCK = 1 << 20
"""Bytes read at a time to find these places."""
GROUPS_KEPT = 64
"""Row groups of a Parquet file that are kept in memory. With fewer than a batch has rows, each chunk would read them
again."""


class CsvSource(Source):
    """Columns of a CSV file, one line per step, separated by comma, semicolon or tab, with or without a header line.

    Args:
        columns: names in the header, or numbers from 0 if there is no header; by default every column with a number
            in its first line.

    Raises:
        ValueError: a column does not exist or, on reading, a cell is not a number. The message names the line.
    """

    vocabulary = None
    unit = "row"

    def __init__(self, path: Path, columns: Sequence[str] = (), growing: bool = False) -> None:
        super().__init__(path, growing)
        with path.open("rb") as file:
            first, second = file.readline(), file.readline()
        self._separator = max(",;\t", key=first.decode("utf-8-sig").count)
        cells = self._cells([first])[0] if first.strip() else []
        named = not all(map(_is_number, cells))
        names = cells if named else [str(i) for i in range(len(cells))]
        values = self._cells([second])[0] if named and second.strip() else cells
        self.columns = self._choose(columns, names, values)
        self._chosen = [names.index(name) for name in self.columns]
        self._header = int(named)
        self._places = [len(first) if named else 0]  # byte offsets of rows 0, STRIDE, 2 STRIDE, ...
        self._rows, self._scanned = 0, self._places[0]
        self._find_rows()

    @property
    def features(self) -> int:
        """The columns chosen."""
        return len(self._chosen)

    def steps(self) -> int:
        """Lines below the header; of a growing file only complete ones."""
        if self.growing:
            self._find_rows()
        return self._rows

    def read(self, start: int, stop: int) -> NDArray[np.float64]:
        """Rows, (n, C)."""
        with self.path.open("rb") as file:
            file.seek(self._places[start // STRIDE])
            rows = self._cells(list(islice(file, start % STRIDE, start % STRIDE + stop - start)))
        if len(rows) != stop - start:
            raise ValueError(
                f"data: {self.path} has {len(rows)} rows in the {stop - start} lines from line "
                f"{1 + self._header + start} on; each row must be one line"
            )
        values = np.empty((len(rows), len(self._chosen)))
        for i, row in enumerate(rows):
            for j, column in enumerate(self._chosen):
                values[i, j] = self._number(row, column, self.columns[j], 1 + self._header + start + i)
        return values

    def _find_rows(self) -> None:
        """Record the offset of every STRIDE-th row, from the end of the last search on."""
        with self.path.open("rb") as file:
            while True:
                file.seek(self._scanned)
                block = file.read(BLOCK)
                ends = np.flatnonzero(np.frombuffer(block, np.uint8) == ord("\n")) + 1  # offsets of the next rows
                due = np.arange(-(self._rows + 1) % STRIDE, len(ends), STRIDE)
                self._places += (self._scanned + ends[due]).tolist()
                self._rows += len(ends)
                complete = int(ends[-1]) if len(ends) else 0
                self._scanned += complete
                if len(block) < BLOCK:
                    # A last line without a line end is a row, unless the file is growing.
                    self._rows += complete < len(block) and not self.growing
                    return
                if complete == 0:
                    raise ValueError(
                        f"data: {self.path} has a line of more than {BLOCK} bytes after row {self._rows}"
                    )

    def _choose(self, wanted: Sequence[str], names: list[str], first: list[str]) -> list[str]:
        if missing := [name for name in wanted if name not in names]:
            raise ValueError(
                f"columns: {self.path} has no {', '.join(map(repr, missing))}; it has {', '.join(names)}"
            )
        chosen = wanted or [name for name, cell in zip(names, first, strict=False) if _is_number(cell)]
        if not chosen:
            raise ValueError(f"data: {self.path} has no column of numbers in its first row")
        return list(chosen)

    def _cells(self, lines: Sequence[bytes]) -> list[list[str]]:
        return list(csv.reader((line.decode("utf-8-sig") for line in lines), delimiter=self._separator))

    def _number(self, row: list[str], column: int, name: str, line: int) -> float:
        try:
            return float(row[column])
        except (ValueError, IndexError):
            cell = repr(row[column]) if column < len(row) else "nothing"
            raise ValueError(f"data: {self.path}, line {line}, column {name!r}: {cell} is not a number") from None


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


class ParquetSource(Source):
    """Columns of a Parquet file, one row per step. A few row groups are in memory at a time.

    Args:
        columns: their names; by default every column of numbers.

    Raises:
        ImportError: pyarrow is missing; the message says what to install.
        ValueError: the file is not Parquet, a column does not exist or, on reading, a value is missing.
    """

    vocabulary = None
    unit = "row"

    def __init__(self, path: Path, columns: Sequence[str] = (), growing: bool = False) -> None:
        super().__init__(path, growing)
        if growing:
            raise ValueError(
                "follow: a Parquet file can only be read when it is complete; a CSV file can be followed"
            )
        try:
            parquet: Any = importlib.import_module("pyarrow.parquet")
        except ImportError as error:
            raise ImportError('Parquet files need pyarrow: pip install "reminding[parquet]"') from error
        try:
            self._file = parquet.ParquetFile(path)
        except Exception as error:  # pyarrow's own errors, which callers without pyarrow cannot name
            raise ValueError(f"data: {path} cannot be read as Parquet: {error}") from error
        groups: Any = self._file.metadata
        sizes = [int(groups.row_group(i).num_rows) for i in range(groups.num_row_groups)]
        self._borders = np.cumsum([0, *sizes])  # the first row of each group, and the end
        self.columns = self._choose(columns)
        self._held: OrderedDict[int, NDArray[np.float64]] = OrderedDict()

    @property
    def features(self) -> int:
        """The columns chosen."""
        return len(self.columns)

    def steps(self) -> int:
        """Rows."""
        return int(self._borders[-1])

    def read(self, start: int, stop: int) -> NDArray[np.float64]:
        """Rows, (n, C)."""
        first = int(np.searchsorted(self._borders, start, side="right")) - 1
        last = int(np.searchsorted(self._borders, stop, side="left"))
        parts = [self._group(i) for i in range(first, last)]
        begin = int(self._borders[first])
        return np.concatenate(parts)[start - begin : stop - begin]

    def _choose(self, wanted: Sequence[str]) -> list[str]:
        schema = self._file.schema_arrow
        if missing := [name for name in wanted if name not in schema.names]:
            raise ValueError(
                f"columns: {self.path} has no {', '.join(map(repr, missing))}; it has {', '.join(schema.names)}"
            )
        kinds = {field.name: str(field.type) for field in schema}
        numbers = [
            name for name, kind in kinds.items() if kind.startswith(("int", "uint", "float", "double", "half"))
        ]
        if not (wanted or numbers):
            raise ValueError(f"data: {self.path} has no column of numbers")
        return list(wanted or numbers)

    def _group(self, number: int) -> NDArray[np.float64]:
        """One row group, (n, C). The least recently used group is dropped to make room."""
        if number not in self._held:
            table = self._file.read_row_group(number, columns=self.columns)
            values = np.stack([np.asarray(table[name], np.float64) for name in self.columns], axis=1)
            if len(bad := np.argwhere(np.isnan(values))):
                row, column = int(self._borders[number] + bad[0, 0]), self.columns[int(bad[0, 1])]
                raise ValueError(f"data: {self.path}, row {row}, column {column!r}: the value is missing")
            if len(self._held) == GROUPS_KEPT:
                self._held.popitem(last=False)
            self._held[number] = values
        self._held.move_to_end(number)
        return self._held[number]
