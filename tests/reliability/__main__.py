"""The campaigns at full size: `make test-reliability`. Anything wrong makes it fail.

python -m tests.reliability --jobs 2 --out results/reliability
python -m tests.reliability --only mutations together --mutations 1000
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from tests.ops.cpu_op.recorded_calls import CASES
from tests.reliability import direct_calls, kinds, million, pages, shape_fuzz, suites, together
from tests.reliability.at_once import run_at_once
from tests.reliability.campaigns import Campaigns
from tests.reliability.mutations import mutations
from tests.reliability.table import HEAD, measured, record
from tests.reliability.trials import Tally

DATA = "mutations of data files, which have no checksums: read, or refused"
Campaign = Callable[[], Tally]


def arguments() -> argparse.Namespace:
    """The sizes of the campaigns."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.reliability", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", default=None, help="the campaigns to run, by name; all if left out")
    parser.add_argument("--kills", type=int, default=300, help="runs killed at random moments")
    parser.add_argument("--every", type=int, default=1, help="every how many file operations one is tried")
    parser.add_argument("--signals", type=int, default=120, help="runs that get signals")
    parser.add_argument("--disks", type=int, default=40, help="runs on a small tmpfs, where root may mount one")
    parser.add_argument("--together", type=int, default=60, help="runs that several processes resume")
    parser.add_argument("--mutations", type=int, default=10_000, help="damaged files of a run")
    parser.add_argument("--data", type=int, default=2000, help="damaged files of data")
    parser.add_argument("--stride", type=int, default=7, help="every how many damaged calls of the op one is made")
    parser.add_argument("--draws", type=int, default=600, help="drawn calls of a layer, each on every backend")
    parser.add_argument("--trials", type=int, default=20, help="of threads, of each kind of process, and of DDP")
    parser.add_argument("--steps", type=int, default=1_000_000, help="of the stream that is killed")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1, help="campaigns at a time, each in a process of its own")
    parser.add_argument("--out", type=Path, default=None, help="folder for the table; other campaigns in it stay")
    return parser.parse_args()


def campaigns_of(wanted: argparse.Namespace, place: Path) -> dict[str, Campaign]:
    """Every campaign by name; the runs they share are trained when one first needs them."""
    made: list[Campaigns] = []

    def runs() -> Campaigns:
        made.extend([] if made else [Campaigns(place, wanted.seed)])
        return made[0]

    return {
        "kills": lambda: runs().kills_at_random_moments(wanted.kills),
        "operations": lambda: runs().kills_at_operations(wanted.every),
        "signals": lambda: runs().signals(wanted.signals),
        "full-disk": lambda: runs().full_disk(wanted.every),
        "tmpfs": lambda: runs().small_disk(wanted.disks),
        "processes": lambda: runs().together(wanted.together),
        "mutations": lambda: mutations(kinds.of_run(runs().whole), place, wanted.mutations, wanted.seed),
        "data": lambda: mutations(kinds.of_data(place / "data"), place, wanted.data, wanted.seed, DATA),
        "states": lambda: suites.tested("damaged, copied and resumed states", suites.STATES),
        "direct-calls": lambda: _direct_calls(wanted.stride, wanted.seed),
        "shapes": lambda: _shapes(wanted.draws, wanted.seed),
        "together": lambda: _together(wanted.trials, wanted.seed),
        "server": lambda: suites.tested("a hostile server", suites.SERVER),
        "pages": pages.hostile_names,
        "stream": lambda: million.run(wanted.steps, place, wanted.seed),
        "sanitizers": suites.sanitized,
    }


def _direct_calls(stride: int, seed: int) -> Tally:
    found: Counter[str] = Counter()
    problems: list[str] = []
    for case in CASES:
        counts, bad = direct_calls.run(case, seed % stride, stride)
        found += counts
        problems += bad
    return Tally.of("the C++ op's operators with a damaged argument", found, problems)


def _shapes(draws: int, seed: int) -> Tally:
    found = shape_fuzz.run(seed, 0, draws, longest=24)
    tally = Tally.of("drawn calls of a layer, on every backend and engine", found, [])
    tally.note = f"{found['rounding']} of those right differ by rounding"
    return tally


def _together(trials: int, seed: int) -> Tally:
    found: Counter[str] = Counter()
    problems: list[str] = []
    for way in together.WAYS:
        counts, bad = together.run(way, trials, seed)
        found += counts
        problems += bad
    return Tally.of("8 threads; fork, spawn and forkserver by a queue; DDP of two", found, problems)


def names_of(wanted: argparse.Namespace) -> list[str]:
    """The campaigns to run."""
    every = list(campaigns_of(wanted, Path()))
    names = wanted.only or every
    if unknown := [name for name in names if name not in every]:
        raise SystemExit(f"there is no campaign {', '.join(unknown)}; there are {', '.join(every)}")
    return names


def ran(wanted: argparse.Namespace) -> Iterator[tuple[str, Tally, float]]:
    """Run the campaigns: the name, what came of it, and the seconds it took."""
    with tempfile.TemporaryDirectory() as place:
        every = campaigns_of(wanted, Path(place))
        for name in names_of(wanted):
            began = time.monotonic()
            tally = every[name]()
            yield name, tally, time.monotonic() - began


def main() -> None:
    """Run the campaigns, print what came of each, and record it."""
    wanted = arguments()
    print(HEAD, flush=True)
    if wanted.jobs > 1:
        sys.exit(run_at_once(names_of(wanted), wanted.jobs, wanted.out, sys.argv[1:]))
    torch.set_num_threads(1)
    failed = False
    for name, tally, seconds in ran(wanted):
        print(tally.line(), *([f"  {tally.note}"] if tally.note else []), sep="\n", flush=True)
        for problem in tally.problems:
            print(f"  {problem}", flush=True)
        failed |= bool(tally.problems)
        if wanted.out is not None:
            record(wanted.out, {name: measured(tally, seconds, wanted.seed)})
    sys.exit(failed)


if __name__ == "__main__":
    main()
