"""The campaigns at full size: `make test-reliability`. Any wrong trial makes it fail.

python -m tests.reliability --kills 300 --mutations 10000 --out results/reliability
"""

from __future__ import annotations

import argparse
import platform
import sys
import tempfile
import time
from pathlib import Path

import torch

from tests.reliability.campaigns import Campaigns
from tests.reliability.mutations import mutations
from tests.reliability.trials import Tally

HEAD = "| campaign | tried | right | refused | wrong |\n|---|---|---|---|---|"


def arguments() -> argparse.Namespace:
    """The sizes of the campaigns."""
    parser = argparse.ArgumentParser(prog="python -m tests.reliability", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=300, help="runs killed at random moments")
    parser.add_argument("--every", type=int, default=1, help="every how many file operations one is tried")
    parser.add_argument("--signals", type=int, default=120, help="runs that get signals")
    parser.add_argument("--disks", type=int, default=40, help="runs on a small tmpfs, where root may mount one")
    parser.add_argument("--together", type=int, default=60, help="runs that several processes resume")
    parser.add_argument("--mutations", type=int, default=10_000, help="damaged files")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=None, help="folder for the table of results")
    return parser.parse_args()


def main() -> None:
    """Run every campaign and print what came of it."""
    wanted, began = arguments(), time.monotonic()
    torch.set_num_threads(1)
    tallies: list[Tally] = []
    with tempfile.TemporaryDirectory() as place:
        campaigns = Campaigns(Path(place), wanted.seed)
        print(HEAD, flush=True)
        for campaign in (
            lambda: campaigns.kills_at_random_moments(wanted.kills),
            lambda: campaigns.kills_at_operations(wanted.every),
            lambda: campaigns.signals(wanted.signals),
            lambda: campaigns.full_disk(wanted.every),
            lambda: campaigns.small_disk(wanted.disks),
            lambda: campaigns.together(wanted.together),
            lambda: mutations(campaigns.whole, wanted.mutations, wanted.seed),
        ):
            tallies.append(campaign())
            print(tallies[-1].line(), flush=True)
    for tally in tallies:
        for wrong in tally.wrong:
            print(f"wrong, {tally.name}: {wrong}")
    if wanted.out is not None:
        wanted.out.mkdir(parents=True, exist_ok=True)
        (wanted.out / "README.md").write_text(_page(tallies, time.monotonic() - began))
    sys.exit(any(tally.wrong for tally in tallies))


def _page(tallies: list[Tally], seconds: float) -> str:
    """The table of results, with the command that made it."""
    lines = [
        "# Reliability",
        "",
        "Right: the result is that of an uninterrupted run, or the file is read as it was written. Refused: by the",
        "documented error. Wrong: anything else.",
        "",
        HEAD,
        *(tally.line() for tally in tallies),
        "",
        f"Command: `python -m tests.reliability {' '.join(sys.argv[1:])}`; {seconds / 60:.0f} minutes on "
        f"{platform.machine()}, Python {platform.python_version()}, PyTorch {torch.__version__}.",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
