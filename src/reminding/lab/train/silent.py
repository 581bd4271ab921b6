"""Log and display of the processes that leave both to process 0."""

from __future__ import annotations

from typing import Any

from reminding.lab.runs.runlog import LogSize, RunLog
from reminding.lab.show.terminal import LiveDisplay


class SilentLog(RunLog):
    """A log that is not written."""

    def __init__(self) -> None:
        self.earlier: list[dict[str, Any]] = []
        self.damaged: list[int] = []
        self.missing = 0

    def write(self, kind: str, step: int, values: dict[str, float]) -> None:
        """Do nothing."""

    def warn(self, step: int, trouble: Any) -> None:
        """Do nothing."""

    def sync(self) -> LogSize:
        """Do nothing; only process 0 knows the size."""
        return LogSize(0, 0)

    def close(self) -> None:
        """Do nothing."""


class SilentDisplay(LiveDisplay):
    """A display that is not shown."""

    def __init__(self, *_: Any) -> None: ...

    def __enter__(self) -> SilentDisplay:
        return self

    def __exit__(self, *_: object) -> None: ...

    def resumed(self, records: Any, metric: str) -> None:
        """Do nothing."""

    def update(self, step: int, loss: float, steps: int = 0, running: str = "") -> None:
        """Do nothing."""

    def warn(self, step: int, text: str) -> None:
        """Do nothing."""

    def evaluated(self, step: int, metric: str, value: float, norm: float | None = None) -> None:
        """Do nothing."""
