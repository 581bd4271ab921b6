"""Faults in the system calls that change a disk: one call fails, or the process is killed before or inside it."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from reminding.disk import operations

CHANGING = ("open", "write", "fsync", "ftruncate", "replace", "unlink", "mkdir", "rmdir")
Fault = Literal["none", "no space", "read-only", "kill before", "kill inside", "interrupt"]
ERRORS = {"no space": errno.ENOSPC, "read-only": errno.EROFS}


@dataclass
class FaultySystem:
    """Stands in for `os` in `reminding.disk.operations`.

    Attributes:
        fault: what happens at a call; at: the number of that call, from 1; after it, too, if errors last.
        calls: the names of the calls so far.
    """

    fault: Fault = "none"
    at: int = 0
    lasting: bool = False
    calls: list[str] = field(default_factory=list[str])

    def __getattr__(self, name: str) -> Any:
        called = getattr(os, name)
        if name not in CHANGING:
            return called

        def faulty(*arguments: Any) -> Any:
            self.calls.append(name)
            number = len(self.calls)
            if number == self.at or (self.lasting and number > self.at > 0):
                self._strike(name, called, arguments)
            return called(*arguments)

        return faulty

    def _strike(self, name: str, called: Any, arguments: tuple[Any, ...]) -> None:
        if self.fault == "kill inside" and name == "write":
            called(arguments[0], bytes(arguments[1])[: len(arguments[1]) // 2])
        if self.fault in ("kill before", "kill inside"):
            os.kill(os.getpid(), signal.SIGKILL)
        if self.fault == "interrupt":
            raise KeyboardInterrupt
        if self.fault in ERRORS and name not in ("unlink", "rmdir"):  # a full disk lets files go
            if self.fault == "no space" and name == "write":
                called(arguments[0], bytes(arguments[1])[: len(arguments[1]) // 2])
            raise OSError(ERRORS[self.fault], os.strerror(ERRORS[self.fault]))


@contextmanager
def faulty(fault: Fault = "none", at: int = 0, *, lasting: bool = False) -> Generator[FaultySystem]:
    """Replace the system calls of `reminding.disk.operations`."""
    system = FaultySystem(fault, at, lasting)
    before = operations.os
    operations.os = system  # pyright: ignore[reportAttributeAccessIssue]
    try:
        yield system
    finally:
        operations.os = before
