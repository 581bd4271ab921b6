"""What is measured in a process of its own: whatever goes wrong there costs one figure."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import TypeVar

Result = TypeVar("Result")

START_UP_SECONDS = 60.0
"""What a fresh process may take to load PyTorch and draw its input on a busy machine."""


@dataclass(frozen=True)
class Refusal:
    """Why a contestant has no figures at a size."""

    reason: str


def in_own_process(action: Callable[[], Result], seconds: float) -> Result | Refusal:
    """What an action returns in a fresh process; a Refusal where it raises, dies, or takes too long.

    Args:
        action: it and what it returns can be sent to another process.
        seconds: that it may take, besides starting up.
    """
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(there, action), daemon=True)
    process.start()
    there.close()
    try:
        if not here.poll(seconds + START_UP_SECONDS):
            return Refusal(f"stopped: it took more than {seconds:g} s")
        return here.recv()
    except EOFError:
        process.join()
        return Refusal(f"its process died with exit code {process.exitcode}, of too little memory perhaps")
    finally:
        process.kill()
        process.join()
        here.close()


def _answer(connection: Connection, action: Callable[[], object]) -> None:
    try:
        answer = action()
    except Exception as error:  # whatever goes wrong is the result
        lines = str(error).splitlines() or [""]
        answer = Refusal(f"it failed: {type(error).__name__}: {lines[0]}")
    connection.send(answer)
