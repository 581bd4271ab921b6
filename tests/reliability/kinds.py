"""The kinds of files that damage is done to: those of a run, and data of every format."""

from __future__ import annotations

import gzip
import json
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from reminding import SABState
from reminding.disk.commits import Commits
from reminding.disk.records import read_json, read_lines
from reminding.lab.runs import checkpoint
from reminding.lab.runs.config import read_config
from reminding.lab.runs.facts import read_facts
from reminding.lab.runs.runlog import damaged_lines, read_log
from reminding.nn.state.storage import load_tensors
from reminding.tasks.data.audio import read_audio
from reminding.tasks.data.idx import parse_idx
from reminding.tasks.data.packed import read_raw
from reminding.tasks.data.tables import TableSource
from reminding.tasks.data.tables.database import connect
from reminding.tasks.own import numbers_of_file
from tests.nn.samples import draw, make


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


def of_run(run: Path) -> list[Kind]:
    """Every kind of file of a run, and a state with credit that waits. Each has checksums."""
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


def of_data(folder: Path) -> list[Kind]:
    """Data of every format. Most have no checksums, so that any numbers may be read from a damaged file."""
    folder.mkdir()
    values = np.random.default_rng(0).normal(size=(300, 3)).round(3)
    rows = "\n".join(",".join(map(str, row)) for row in values)
    text = f"a,b,c\n{rows}\n".encode()
    (folder / "a.csv").write_bytes(text)
    (folder / "b.csv.gz").write_bytes(gzip.compress(text, mtime=0))
    connect().execute(f"COPY (SELECT * FROM '{folder / 'a.csv'}') TO '{folder / 'c.parquet'}' (FORMAT parquet)")
    np.save(folder / "d.npy", values)
    images = struct.pack(">BBBBIII", 0, 0, 8, 3, 9, 10, 10) + bytes(900)
    (folder / "e.idx.gz").write_bytes(gzip.compress(images, mtime=0))
    readers: dict[str, Callable[[Path], Any]] = {
        **dict.fromkeys(("a.csv", "b.csv.gz", "c.parquet"), _table),
        "d.npy": numbers_of_file,
        "e.idx.gz": lambda path: parse_idx(read_raw(path, size=len(images)), 3, path),
        **dict.fromkeys(_audio(folder, values[:, 0]), lambda path: read_audio(path)),
    }
    return [
        Kind(name, folder / name, lambda name=name, read=read: read(folder / name), lambda _, __: True)
        for name, read in readers.items()
    ]


def _table(path: Path) -> Any:
    source = TableSource(path)
    return source.read(0, source.steps())


def _audio(folder: Path, samples: Any) -> list[str]:
    """Write audio files; returns their names."""
    import soundfile

    names = ["f.wav", "g.flac", "h.ogg"]
    for name in names:
        soundfile.write(folder / name, samples / 5, 8000)  # pyright: ignore[reportUnknownMemberType]
    return names
