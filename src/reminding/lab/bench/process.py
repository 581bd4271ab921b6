"""Measuring in a process of its own, where a failure costs one figure only."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import TypeVar

from reminding.lab.runs.machine import conditions_of_training

Result = TypeVar("Result")

START_UP_SECONDS = 60.0
"""Time for a fresh process to load PyTorch and draw its input on a busy machine."""
LONGEST_WAIT = 2e6
"""The most seconds that the system can be told to wait, about: three weeks."""


@dataclass(frozen=True)
class Refusal:
    """Why a contestant has no figures at a size."""

    reason: str


def in_own_process(action: Callable[[], Result], seconds: float) -> Result | Refusal:
    """Run an action in a fresh process and return its result; a Refusal if it raises, dies, or takes too long.

    Args:
        action: can be pickled, as can its result.
        seconds: limit on its time, without the start of the process.
    """
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(there, action), daemon=True)
    process.start()
    there.close()
    try:
        if not here.poll(min(seconds + START_UP_SECONDS, LONGEST_WAIT)):
            return Refusal(f"stopped: it took more than {seconds:g} s")
        return here.recv()
    except EOFError:
        process.join()
        return Refusal(f"its process died with exit code {process.exitcode}, perhaps for lack of memory")
    finally:
        process.kill()
        process.join()
        here.close()


@conditions_of_training()
def _answer(connection: Connection, action: Callable[[], object]) -> None:
    try:
        answer = action()
    except Exception as error:  # a failure is the result
        lines = str(error).splitlines() or [""]
        answer = Refusal(f"it failed: {type(error).__name__}: {lines[0]}")
    connection.send(answer)
