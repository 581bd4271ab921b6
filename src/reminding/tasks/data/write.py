"""Tables written to Parquet files."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any


def write_parquet(frame: Any, path: Path) -> None:
    """Write a pandas table to a Parquet file.

    Raises:
        ImportError: DuckDB is missing; the message says what to install.
    """
    try:
        duckdb: Any = importlib.import_module("duckdb")
    except ImportError as error:
        raise ImportError('Parquet files need DuckDB: pip install "reminding[data]"') from error
    with duckdb.connect() as connection:
        connection.from_df(frame).write_parquet(str(path))
