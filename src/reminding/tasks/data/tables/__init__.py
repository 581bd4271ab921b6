"""Tables as streams of steps, one row per step: CSV, other text tables and Parquet, read by DuckDB.

`source` opens a file; `dialect` and `cells` say how a text table is written; `follow` reads one that is growing.
May import: `tasks.data`, `tasks.data.times`.
"""

from reminding.tasks.data.tables.follow import FollowedTable
from reminding.tasks.data.tables.header import Asked
from reminding.tasks.data.tables.source import TableSource, Wanted

__all__ = ["Asked", "FollowedTable", "TableSource", "Wanted"]
