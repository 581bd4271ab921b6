"""Every operator of the C++ op, called with one damaged argument each, in processes of their own.

    python -m tests.reliability.direct_calls

`tests.ops.cpu_op.direct_calls` makes the calls. Here a call that ended its process is counted, and the campaign goes
on behind it.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

from tests.ops.cpu_op.recorded_calls import CASES

ROOT = Path(__file__).parents[2]
PATIENCE_SECONDS = 600.0
KINDS = ("tried", "right", "refused", "wrong", "crashed", "hung")


def run(case: str, first: int = 0, stride: int = 1) -> tuple[Counter[str], list[str]]:
    """Make every n-th damaged call of a case: how many ended how, and which were wrong or ended a process."""
    found: Counter[str] = Counter()
    bad: list[str] = []
    number: int | None = first
    while number is not None:
        number = _run_from(case, number, stride, found, bad)
    found["tried"] = sum(found[kind] for kind in KINDS[1:])
    return found, bad


def _run_from(case: str, first: int, stride: int, found: Counter[str], bad: list[str]) -> int | None:
    """Make calls until one ends the process; the number of the call behind it, None where all were made."""
    words = ["-m", "tests.ops.cpu_op.direct_calls", case, "--first", str(first), "--stride", str(stride)]
    with tempfile.TemporaryFile("w+") as out:
        ran = subprocess.Popen([sys.executable, *words], cwd=ROOT, stdout=out, stderr=subprocess.DEVNULL)
        try:
            kind = "crashed" if ran.wait(PATIENCE_SECONDS) else ""
        except subprocess.TimeoutExpired:
            ran.kill()
            kind = "hung"
        out.seek(0)
        lines = [line.split(" ", 2) for line in out.read().splitlines()]
    found.update(line[1] for line in lines if line[0] in ("=", "WRONG"))
    bad += [f"{case}: wrong: {line[2]}" for line in lines if line[0] == "WRONG"]
    if not kind:
        return None
    calls = [line for line in lines if line[0].isdigit()]
    if not calls:
        raise RuntimeError(f"{case}: {kind} before any call, with status {ran.wait()}")
    found[kind] += 1
    bad.append(f"{case}: {kind}: {' '.join(calls[-1])}")
    return int(calls[-1][0]) + stride


def main() -> int:
    """Run the campaign and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--first", type=int, default=0, help="the first damage to make")
    parser.add_argument("--stride", type=int, default=1, help="and every so many-th from there")
    options = parser.parse_args()
    total: Counter[str] = Counter()
    for case in CASES:
        found, bad = run(case, options.first, options.stride)
        total += found
        print(case, dict(found), *bad, sep="\n  ", flush=True)
    print(" ".join(f"{kind} {total[kind]}" for kind in KINDS))
    return int(any(total[kind] for kind in KINDS[3:]))


if __name__ == "__main__":
    raise SystemExit(main())
