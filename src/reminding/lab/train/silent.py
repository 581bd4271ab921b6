"""Log and display of the processes that leave both to process 0."""

from __future__ import annotations

from typing import Any

from reminding.lab.runs.runlog import RunLog
from reminding.lab.show.terminal import LiveDisplay


class SilentLog(RunLog):
    """A log that is not written."""

    def __init__(self) -> None:
        self.earlier: list[dict[str, Any]] = []
        self.damaged: list[int] = []

    def write(self, kind: str, step: int, values: dict[str, float]) -> None:
        """Do nothing."""

    def warn(self, step: int, trouble: Any) -> None:
        """Do nothing."""

    def sync(self) -> None:
        """Do nothing."""

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
