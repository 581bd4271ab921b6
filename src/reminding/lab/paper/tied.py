"""A process that stops when the process that started it ends, in whatever way: no run goes on without its worker."""

from __future__ import annotations

import os
import signal
import sys
import threading

TIED = "REMINDING_TIED"
"""Environment variable of a process whose standard input its starter holds open while it lives."""


def end_with_starter() -> None:
    """Ask this process to stop, as SIGTERM does, at the end of its standard input; does nothing unless it is tied.

    A process in the background of a script ignores SIGINT.
    """
    if os.environ.pop(TIED, None):
        threading.Thread(target=_wait, daemon=True, name="tied").start()


def _wait() -> None:
    # Not by sys.stdin: a thread that waits in its buffer holds a lock that Python needs at its own end.
    while os.read(sys.stdin.fileno(), 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
