"""Signals that ask a run to stop: it stops after the current update, with everything saved."""

from __future__ import annotations

import signal
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

STOPPING = ("SIGINT", "SIGTERM", "SIGHUP")
"""Ctrl-C, the request of a scheduler or a shutdown, and the end of a terminal."""


@dataclass
class Interrupt:
    """Whether the run was asked to stop, and by which signal first, such as "SIGTERM"."""

    requested: bool = False
    signal: str = ""


@contextmanager
def interruptible() -> Generator[Interrupt]:
    """Let a signal request a stop after the current update. A Ctrl-C after that interrupts at once, as usual.

    A signal that the process was told to ignore, as nohup does, stays ignored.
    """
    interrupt, previous = Interrupt(), dict[int, Any]()

    def ask(number: int, _: FrameType | None) -> None:
        interrupt.requested = True
        interrupt.signal = interrupt.signal or signal.Signals(number).name
        if signal.SIGINT in previous:
            signal.signal(signal.SIGINT, previous[signal.SIGINT])

    try:
        for number in (getattr(signal, name) for name in STOPPING if hasattr(signal, name)):
            if signal.getsignal(number) not in (signal.SIG_IGN, None):
                previous[number] = signal.signal(number, ask)
    except ValueError:  # not the main thread, where signals do not arrive
        yield interrupt
        return
    try:
        yield interrupt
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
