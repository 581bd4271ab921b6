"""Runs the command line in forks of a process that has already imported what a run needs, which saves seconds each.

A test of the process itself (how it starts, how it handles a signal) uses `subprocess` instead.
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from reminding.cli import main

PRELOADED = [
    "reminding.cli",
    "reminding.lab.verbs.commands",
    "reminding.lab.train.trainer",
    "reminding.ops.cpu_op",
    "reminding.ops.cuda_op",
    "rich.progress",
    "torch._dynamo",
    "torch.utils.tensorboard",
    "tyro",
]
"""What a training run imports: the first fork waits for it, and the others begin with it."""
PATIENCE_SECONDS = 300.0


class Forked:
    """The part of `subprocess.Popen` that is needed to run `python -m reminding ...`.

    Args:
        arguments: the command; this Python, perhaps -P, and the package with its arguments.
        stdout: an open file, or None for the stdout of this process.
        stderr: `subprocess.STDOUT`, or an open file, or None as for stdout.
        others: other arguments of `Popen`, which change nothing.
    """

    stdin = None

    def __init__(self, arguments: Sequence[str], stdout: Any = None, stderr: Any = None, **others: Any) -> None:
        python, *given = arguments
        given = given[1:] if given[0] == "-P" else given
        assert (python, *given[:2]) == (sys.executable, "-m", "reminding"), arguments
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(PRELOADED)
        out = None if stdout is None else stdout.name
        error = out if stderr is subprocess.STDOUT else None if stderr is None else stderr.name
        self.process = context.Process(target=_run, args=(given[2:], out, error))
        self.process.start()

    @property
    def returncode(self) -> int | None:
        """The exit status, or None while the process runs."""
        return self.process.exitcode

    def poll(self) -> int | None:
        return self.process.exitcode

    def wait(self, timeout: float = PATIENCE_SECONDS) -> int:
        self.process.join(timeout)
        code = self.process.exitcode
        if code is None:
            self.process.kill()
            raise subprocess.TimeoutExpired("reminding", timeout)
        return code


def _run(words: list[str], out: str | None, error: str | None) -> None:
    sys.argv = ["reminding", *words]
    for path, number in ((out, 1), (error, 2)):
        if path is not None:
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    main(words)


def reminding(*words: str) -> subprocess.CompletedProcess[str]:
    """Run `reminding` with these words and wait until it ends."""
    with tempfile.TemporaryDirectory() as folder:
        out, error = Path(folder) / "out", Path(folder) / "error"
        with out.open("w") as stdout, error.open("w") as stderr:
            command = [sys.executable, "-m", "reminding", *words]
            code = Forked(command, stdout=stdout, stderr=stderr).wait()
        return subprocess.CompletedProcess(command, code, out.read_text(), error.read_text())
