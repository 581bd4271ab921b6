"""Seeded damage to files: each is read as it was written, or refused by the documented error that names the file.

Neither may need more memory than twice that of the honest file, of each kind: see `memory`.
"""

from __future__ import annotations

import os
import random
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from reminding.disk.errors import DamagedFileError
from tests.reliability.kinds import Kind
from tests.reliability.memory import EXCESS, Memory, measured
from tests.reliability.trials import Tally, forked

SECONDS = 10
"""After which a reader counts as hung."""
HONEST = 3
"""Readings of an honest file, of which the largest memory counts."""
BATCH = 250
"""Files that one process reads; if it is killed, the rest of its batch is read by the next."""
AGAIN = 3
"""Times that a file which took too much memory is read again, each in a process of its own. A reader that believes a
length does so every time; what an allocator has left over from other files, or gives to DuckDB's threads, differs."""


def _flip(raw: bytearray, draws: random.Random) -> None:
    raw[draws.randrange(len(raw))] ^= 1 << draws.randrange(8)


def _scatter(raw: bytearray, draws: random.Random) -> None:
    for _ in range(draws.randint(2, 8)):
        raw[draws.randrange(len(raw))] = draws.randrange(256)


def _block(raw: bytearray, draws: random.Random) -> slice:
    first = draws.randrange(len(raw))
    return slice(first, first + draws.choice((1, 8, 64, 512, 4096)))


def _zero(raw: bytearray, draws: random.Random) -> None:
    place = _block(raw, draws)
    raw[place] = bytes(len(raw[place]))


def _noise(raw: bytearray, draws: random.Random) -> None:
    place = _block(raw, draws)
    raw[place] = draws.randbytes(len(raw[place]))


def _cut(raw: bytearray, draws: random.Random) -> None:
    del raw[draws.randrange(len(raw)) :]


def _delete(raw: bytearray, draws: random.Random) -> None:
    del raw[_block(raw, draws)]


def _repeat(raw: bytearray, draws: random.Random) -> None:
    place = _block(raw, draws)
    raw[place.stop : place.stop] = raw[place]


def _add(raw: bytearray, draws: random.Random) -> None:
    raw += draws.randbytes(draws.randint(1, 64))


def _header(raw: bytearray, draws: random.Random) -> None:
    """A number in the first bytes, where safetensors has the size of its header."""
    raw[: min(8, len(raw))] = draws.getrandbits(64).to_bytes(8, "little")[: len(raw)]


def _count(raw: bytearray, draws: random.Random) -> None:
    """A number written in digits, as the sizes in a header of JSON are, becomes the largest of that length."""
    numbers = list(re.finditer(rb"[0-9]+", raw))
    if numbers:
        place = draws.choice(numbers)
        raw[slice(*place.span())] = b"9" * len(place[0])


def _large(raw: bytearray, draws: random.Random) -> None:
    """Four bytes become a large number, of either order, as sizes in a binary header are."""
    first = draws.randrange(len(raw))
    raw[first : first + 4] = draws.choice((b"\xff\xff\xff\x7f", b"\x7f\xff\xff\xff", b"\xff\xff\xff\xff"))[
        : len(raw) - first
    ]


MUTATIONS: tuple[Callable[[bytearray, random.Random], None], ...] = (
    *(_flip, _scatter, _zero, _noise, _cut, _delete, _repeat, _add, _header, _count, _large),
)


def mutations(kinds: list[Kind], place: Path, trials: int, seed: int = 0, name: str = "mutations of files") -> Tally:
    """Damage each kind of file in turn, and read it in a process of its own.

    Args:
        place: folder for what those processes tell.
    """
    tally, wanted, worst, number = Tally(name), [kind.read() for kind in kinds], 0, 0

    def read(numbers: range) -> tuple[int, list[tuple[str, int]]]:
        """In a process: its exit status, and the verdict and the share of memory of each file it has read."""
        verdicts = place / "verdicts"
        verdicts.unlink(missing_ok=True)
        child = forked(lambda: _read_all(kinds, wanted, numbers, seed, verdicts), place / "told")
        code = child.wait(patience=SECONDS * BATCH)
        lines = verdicts.read_text().splitlines() if verdicts.exists() else []
        return code, [(line, int(share)) for share, line in (line.split(" ", 1) for line in lines)]

    while number < trials:
        code, found = read(range(number, min(trials, number + BATCH)))
        for at, (verdict, share) in enumerate(found, number):
            for _ in range(AGAIN):
                if verdict.endswith(EXCESS):
                    verdict, share = next(iter(read(range(at, at + 1))[1]), (verdict, share))
            tally.right += verdict == "right"
            tally.refused += verdict == "refused"
            tally.wrong += [verdict] if verdict not in ("right", "refused") else []
            worst = max(worst, share)
        number += len(found)
        if code:
            told = f"mutation {number} of {kinds[number % len(kinds)].name} ended its reader with {code}"
            (tally.hung if code == -signal.SIGALRM else tally.crashed).append(told)
            number += 1
    tally.note = f"a damaged file needed at most {worst}% of what Python allocated for the honest one"
    return tally


def _read_all(kinds: list[Kind], wanted: list[Any], numbers: range, seed: int, verdicts: Path) -> None:
    """Damage, read and judge files; one line for each in a file, with its share of the honest file's memory."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # ends a reader that hangs
    whole = [kind.path.read_bytes() for kind in kinds]
    honest = [Memory.most(measured(kind.read)[2] for _ in range(HONEST)) for kind in kinds]
    for number in numbers:
        at = number % len(kinds)
        kind, draws, raw = kinds[at], random.Random(f"{seed}.{number}"), bytearray(whole[at])
        mutation = draws.choice(MUTATIONS)
        mutation(raw, draws)
        kind.path.write_bytes(raw)
        signal.alarm(SECONDS)
        got, error, memory = measured(kind.read)
        verdict = memory.excess(honest[at]) or _verdict(kind, got, error, wanted[at])
        signal.alarm(0)
        told = verdict if verdict in ("right", "refused") else f"{number} {kind.name} {mutation.__name__}: {verdict}"
        with verdicts.open("a") as file:
            file.write(f"{100 * memory.traced // honest[at].traced} {told}".replace("\n", " ") + "\n")
            file.flush()
            os.fsync(file.fileno()) if number == numbers[-1] else None
        kind.path.write_bytes(whole[at])


def _verdict(kind: Kind, got: Any, error: Exception | None, want: Any) -> str:
    if error is None:
        return "right" if kind.right(got, want) else "other values"
    if not isinstance(error, DamagedFileError | ValueError):  # a ValueError: a format that this version does not know
        return f"undocumented: {error!r}"
    return "refused" if str(kind.path) in str(error) else f"the file is not named: {error}"
