"""Seeded damage to every kind of file: each is read as it was written, or refused by the documented error."""

from __future__ import annotations

import json
import os
import random
import resource
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from reminding import SABState
from reminding.disk.commits import Commits
from reminding.disk.errors import DamagedFileError
from reminding.disk.records import read_json, read_lines
from reminding.lab.runs import checkpoint
from reminding.lab.runs.config import read_config
from reminding.lab.runs.facts import read_facts
from reminding.lab.runs.runlog import damaged_lines, read_log
from reminding.nn.state.storage import load_tensors
from tests.nn.samples import draw, make
from tests.reliability.trials import Tally, forked

SECONDS = 10
"""After which a reader counts as hung."""
BATCH = 250
"""Files that one process reads; if it is killed, the rest of its batch is read by the next."""


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


MUTATIONS: tuple[Callable[[bytearray, random.Random], None], ...] = (
    *(_flip, _scatter, _zero, _noise, _cut, _delete, _repeat, _add, _header),
)


@dataclass
class Kind:
    """A kind of file: how it is read, and whether what was read is what was written."""

    name: str
    path: Path
    read: Callable[[], Any]
    right: Callable[[Any, Any], bool]


def equal(got: Any, want: Any) -> bool:
    """Whether two readings are the same, tensors bit for bit."""
    if isinstance(want, Tensor):
        return isinstance(got, Tensor) and got.dtype == want.dtype and torch.equal(got, want)
    if isinstance(want, dict):
        return got.keys() == want.keys() and all(equal(got[name], want[name]) for name in want)  # pyright: ignore
    if isinstance(want, tuple | list):
        return len(got) == len(want) and all(map(equal, got, want))  # pyright: ignore
    return json.dumps(got) == json.dumps(want)


def some_of(got: Any, want: Any) -> bool:
    """Whether the records read are some of those written, in their order; the damaged ones are numbered."""
    rest = iter([json.dumps(record) for record in want[0]])
    return all(json.dumps(record) in rest for record in got[0])


def kinds_of(run: Path) -> list[Kind]:
    """Every kind of file of a run, and a state with credit that waits."""
    commits = Commits(run / checkpoint.CHECKPOINTS_NAME)
    number = commits.numbers()[0]
    state = run / "credit.safetensors"
    layer = make(k_top=2, k_att=2, k_trunc=3, horizon=None, credit_every=4)
    last = layer(draw(11, 3, 3))[1]
    output, last = layer(draw(7, 3, 3, seed=1), last)
    output.sum().backward()
    last.save(state)
    checkpoint.add_evaluation(run, {"accuracy": 0.5, "bits": [1, 2]})
    log, tests = run / "log.jsonl", run / checkpoint.EVALUATIONS_NAME
    plain: list[tuple[str, Path, Callable[[], Any]]] = [
        ("config.json", run / "config.json", lambda: read_config(run / "config.json")),
        ("facts.json", run / "facts.json", lambda: read_facts(run)),
        ("summary.json", run / "summary.json", lambda: checkpoint.read_summary(run)),
        ("weights", run / "model.safetensors", lambda: load_tensors(run / "model.safetensors")),
        ("state", state, lambda: _state(state)),
        ("manifest", commits.place(number) / "manifest.json", lambda: commits.manifest(number)),
    ]
    for name in (checkpoint.TRAINING_NAME, checkpoint.STATE_NAME, checkpoint.WEIGHTS_NAME):
        path = commits.place(number) / name
        plain.append((f"checkpoint's {name}", path, lambda name=name: load_tensors(commits.verified(number, name))))
    return [
        *(Kind(name, path, read, equal) for name, path, read in plain),
        Kind("log.jsonl", log, lambda: (read_log(run), damaged_lines(run)), some_of),
        Kind("eval.jsonl", tests, lambda: (read_lines(tests).records, read_lines(tests).damaged), some_of),
        Kind("any JSON", run / "summary.json", lambda: read_json(run / "summary.json"), equal),
    ]


def _state(path: Path) -> Any:
    SABState.load(path)
    return load_tensors(path)


def mutations(run: Path, trials: int, seed: int = 0) -> Tally:
    """Damage each kind of file in turn, and read it in a process of its own."""
    tally, kinds = Tally("mutations of files"), kinds_of(run)
    wanted = [kind.read() for kind in kinds]
    verdicts, number = run.with_name("verdicts"), 0
    while number < trials:
        verdicts.unlink(missing_ok=True)
        stop = min(trials, number + BATCH)
        child = forked(lambda: _read_all(kinds, wanted, range(number, stop), seed, verdicts), run.with_name("told"))  # noqa: B023
        code = child.wait()
        lines = verdicts.read_text().splitlines() if verdicts.exists() else []
        for line in lines:
            tally.right += line == "right"
            tally.refused += line == "refused"
            tally.wrong += [line] if line not in ("right", "refused") else []
        number += len(lines)
        if code:
            told = f"mutation {number} of {kinds[number % len(kinds)].name} ended its reader with {code}"
            (tally.hung if code == -signal.SIGALRM else tally.crashed).append(told)
            number += 1
    return tally


def _read_all(kinds: list[Kind], wanted: list[Any], numbers: range, seed: int, verdicts: Path) -> None:
    """Damage, read and judge files; one line for each in a file."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # ends a reader that hangs
    whole = [kind.path.read_bytes() for kind in kinds]
    most = max(map(len, whole))
    for number in numbers:
        kind, original = kinds[number % len(kinds)], whole[number % len(kinds)]
        draws, raw = random.Random(f"{seed}.{number}"), bytearray(original)
        mutation = draws.choice(MUTATIONS)
        mutation(raw, draws)
        kind.path.write_bytes(raw)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        signal.alarm(SECONDS)
        verdict = _verdict(kind, wanted[number % len(kinds)])
        signal.alarm(0)
        grown = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
        if grown > 2 * most + (16 << 20):  # what the allocator takes at once
            verdict = f"{grown} bytes of memory"
        told = verdict if verdict in ("right", "refused") else f"{number} {kind.name} {mutation.__name__}: {verdict}"
        with verdicts.open("a") as file:
            file.write(told.replace("\n", " ") + "\n")
            file.flush()
            os.fsync(file.fileno()) if number == numbers[-1] else None
        kind.path.write_bytes(original)


def _verdict(kind: Kind, want: Any) -> str:
    try:
        got = kind.read()
    except DamagedFileError as error:
        return "refused" if str(kind.path) in str(error) else f"the file is not named: {error}"
    except ValueError as error:  # a format that this version does not know
        return "refused" if str(kind.path) in str(error) else f"the file is not named: {error}"
    except BaseException as error:
        return f"undocumented: {error!r}"
    return "right" if kind.right(got, want) else "other values"
