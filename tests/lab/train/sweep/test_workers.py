"""Two workers share a sweep; one is killed half-way, and no trial is lost or run twice."""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from reminding.lab.runs import checkpoint
from reminding.lab.runs.runlog import read_log
from reminding.lab.train.sweep.attempts import Attempt
from reminding.lab.train.sweep.record import SweepRecord
from reminding.lab.train.sweep.storage import Study
from tests.forked import Forked
from tests.lab.train.sweep.conftest import FIXED

TRIALS, UPDATES = 8, 40
PATIENCE_SECONDS = 120.0


def command(space: Path, storage: str, out: Path, study: str) -> list[str]:
    search = ["--trials", str(TRIALS), "--pruner", "none", "--grace", "2", "--study", study]
    run = [*FIXED, "--steps", str(UPDATES), "--eval-every", "5"]
    words = ["sweep", "copying", "--space", str(space), "--storage", storage, "--out", str(out), *search, *run]
    return [sys.executable, "-m", "reminding", *words]


def wait_for(study: Study, ready: Callable[[list[Attempt]], bool]) -> list[Attempt]:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        attempts = study.attempts()
        if ready(attempts):
            return attempts
        time.sleep(0.2)
    raise AssertionError(f"not ready: {study.attempts()}")


def test_trials_by_two_workers_of_whom_one_is_killed_half_way(
    postgres: str, space_file: Path, tmp_path: Path
) -> None:
    name = f"killed-{os.getpid()}"
    words = command(space_file, postgres, tmp_path / "out", name)
    console = tmp_path / "console.txt"
    with console.open("w") as file, Study(postgres, name, maximize=True) as study:
        doomed, survivor = (Forked(words, stdout=file, stderr=file) for _ in range(2))
        host = f":{doomed.process.pid}"

        def half_way(attempts: list[Attempt]) -> bool:
            done = sum(each.state == "complete" for each in attempts)
            own = [each for each in attempts if each.state == "running" and each.worker.endswith(host)]
            return done >= TRIALS // 2 and any(each.intermediate for each in own)

        before = wait_for(study, half_way)
        doomed.process.kill()
        doomed.wait()
        assert survivor.wait() == 0, console.read_text()
        attempts = study.attempts()
    killed = [each.number for each in before if each.state == "running" and each.worker.endswith(host)]

    complete = Counter(each.job for each in attempts if each.state == "complete")
    assert complete == {f"{number:04d}": 1 for number in range(TRIALS)}
    assert {each.state for each in attempts} <= {"complete", "void"}
    assert {each.worker for each in attempts if each.state == "complete"} > {before[killed[0]].worker}
    for number in killed:
        lost = attempts[number]
        (again,) = (each for each in attempts if each.job == lost.job and each.state == "complete")
        assert lost.notes["ended"] == "its worker showed no sign of life"
        assert again.params == lost.params
        assert lost.intermediate.items() <= again.intermediate.items()
        folder = tmp_path / "out" / "trials" / lost.job
        evaluations = [record["step"] for record in read_log(folder) if record["kind"] == "valid"]
        assert evaluations == list(range(5, UPDATES + 1, 5))  # continued, not begun again
    for job in complete:
        assert checkpoint.read_summary(tmp_path / "out" / "trials" / job)["steps"] == UPDATES
    record = SweepRecord.load(tmp_path / "out")
    assert {each.job for each in record.ranked()} == set(complete)
