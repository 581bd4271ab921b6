"""Experiments beyond the paper: questions asked long after the event, on streams and on padded images.

SAB's rivals here are truncated BPTT, which cannot see past a chunk; an LSTM that remembers and is trained within a
chunk; and RTU, whose exact online gradients reach any distance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from reminding.lab.paper import kiln as made
from reminding.lab.paper.methods import FINALS, FORGET_SCALE, TUNED, Experiment, Setting, grid, methods
from reminding.lab.paper.tuning import Grid
from reminding.lab.runs.config import STREAM, ModelOptions, RunConfig, TrainOptions
from reminding.lab.runs.parity import matched, parameters
from reminding.tasks import Cue, FileStream, MatchSpeaker, NBack, NoisyCIFAR10
from reminding.tasks.data.download import data_folder

REMARKS = (
    TUNED,
    "lstm is full BPTT within a chunk. sab-horizon-0 keeps credit within the chunk; sab-no-credit recalls memories, "
    "which receive no gradient; sab-credit-10 sends credit into earlier chunks once every ten chunks.",
    "No chunk holds both an event and the question about it, so BPTT within a chunk has no gradient from one to the "
    "other.",
)
MEMORY = replace(STREAM, hidden_size=64, embedding_size=64, k_trunc=10, capacity=64)
"""Of SAB on a stream. The cut every 10 steps is that of the results on cue and kiln, which are older than the default
of a cut at the borders of chunks alone."""
ROW = {"frame": 28, "chunk": 28}
"""An image of MNIST by rows, one image a chunk."""
CLIP: Any = {"spectrum": True, "frame": 128, "chunk": 32}
"""A spoken digit by spectra, one a chunk."""
FORGETS = f"SAB's forget gate is multiplied by {FORGET_SCALE:g}; without that it lost what it had learned of n-back."
OF_ITEMS = replace(MEMORY, k_trunc=None, embedding_size=None, hidden_size=128, forget_scale=FORGET_SCALE)
"""Of SAB on a stream of images or clips. Its cell state forgets, or it grows over the items without end, and what was
learned is lost."""
FITS = (
    "...-fits: an LSTM whose chunks have twice the items from an event to the question about it, both included. It "
    "has as many updates as the others, and so as many times their data as its chunks are longer."
)


def _streamed(name: str, task: Any, sab: ModelOptions, train: TrainOptions, tuned: Grid) -> Setting:
    """SAB, its ablations and its rivals on a stream."""
    lstm = replace(ModelOptions(model="lstm", hidden_size=sab.hidden_size), embedding_size=sab.embedding_size)
    wanted = parameters(task, sab)
    rtu = replace(lstm, model="rtu", embedding_size=None)
    models = {
        "sab": sab,
        "sab-credit-10": replace(sab, credit_every=10),
        "sab-horizon-0": replace(sab, horizon=0),
        "sab-no-credit": replace(sab, backtrack=False),
        "lstm": matched(task, lstm, wanted),
        "tbptt-10": matched(task, replace(lstm, model="tbptt", k_trunc=10), wanted),
        "rtu": matched(task, rtu, wanted),
    }
    runs = {method: RunConfig(task, model, train) for method, model in models.items()}
    return Setting(name, runs, grid=tuned)


def cue(data_dir: Path | None, verify: bool) -> Experiment:
    """A cue and the question about it, 500 and 5,000 steps apart, read in chunks of 100."""
    settings: list[Setting] = []
    for lag, updates in ((500, 1500), (5000, 5000)):
        model = replace(MEMORY, capacity=64 if lag == 500 else 640)
        train = TrainOptions(steps=updates, eval_every=250, target=0.99)
        settings.append(_streamed(f"lag{lag}", Cue(lag=lag), model, train, grid(lag, share=0.5)))
    return Experiment("cue", "Cue: accuracy of the answers (chance 0.125)", settings, REMARKS, "cue")


def kiln(data_dir: Path | None, verify: bool) -> Experiment:
    """A made-up table whose outcomes lie 300 rows after their causes, read in chunks of 100 rows."""
    table = made.table(data_folder(data_dir))
    task = FileStream(data=table, time="minute", target=("strength",), missing="carry", held_out=0.1)
    model = replace(MEMORY, hidden_size=32, embedding_size=None)
    train = TrainOptions(steps=3000, anneal=0.25, batch_size=16, eval_every=500)
    setting = _streamed("lag300", task, model, train, grid(300, share=1.0))
    remarks = (*REMARKS, "The table is made by the script of the page about it, docs/howto/kiln.md.")
    return Experiment("kiln", "Kiln: squared error of the strength, scaled", [setting], remarks, "kiln")


def nback(data_dir: Path | None, verify: bool) -> Experiment:
    """MNIST as a stream, by rows and pixel by pixel: the digit of one and of three images ago."""
    by_rows = TrainOptions(steps=10_000, anneal=0.25, eval_every=500)
    by_pixels = TrainOptions(steps=20_000, lr=1e-3, eval_every=1000)
    rows = [_of_images("rows-", NBack(data_dir, back, **ROW), by_rows, k_att=7) for back in (1, 3)]
    pixels = [_of_images("", NBack(data_dir, back), by_pixels, k_att=14) for back in (1, 3)]
    remarks = (
        *REMARKS,
        FORGETS,
        FINALS,
        "rows-...: a row of 28 pixels a step, and an image a chunk; back...: a pixel a step, and a quarter of an "
        "image a chunk.",
        FITS,
    )
    settings = [*rows, *map(_fitting, rows), *pixels]
    return Experiment("nback", "n-back MNIST: accuracy (chance 0.1)", settings, remarks, "nback")


def _of_images(name: str, task: NBack, train: TrainOptions, k_att: int) -> Setting:
    """SAB, which may remember twice the images from the one asked for to the question, and its rivals."""
    model = replace(OF_ITEMS, k_att=k_att, capacity=2 * (task.back + 1) * task.item_steps // k_att)
    tuned = grid(task.item_steps * task.back, share=0.25, finalists=2)
    return _streamed(f"{name}back{task.back}", task, model, train, tuned)


def _fitting(setting: Setting) -> Setting:
    """An LSTM with chunks so long that most questions are in the chunk of the item that they ask for."""
    run = setting.runs["lstm"]
    task = replace(run.task, chunk=2 * (run.task.back + 1) * run.task.item_steps)
    return replace(setting, name=f"{setting.name}-fits", runs={"lstm": replace(run, task=task)})


def _of_clips(name: str, task: MatchSpeaker, train: TrainOptions) -> Setting:
    """SAB, which has one memory a clip, of the clips from the one asked for to the question, and its rivals."""
    model = replace(OF_ITEMS, k_att=task.item_steps, capacity=task.back + 1)
    return _streamed(f"{name}back{task.back}", task, model, train, grid(task.item_steps * task.back, share=0.3))


def match(data_dir: Path | None, verify: bool) -> Experiment:
    """Spoken digits as a stream of clips: is this the speaker of one and of four clips ago?"""
    train = TrainOptions(steps=5000, anneal=0.25, eval_every=500)
    known = [_of_clips("", MatchSpeaker(data_dir, back, hold_out="takes", **CLIP), train) for back in (1, 4)]
    new = [_of_clips("new-voices-", MatchSpeaker(data_dir, back, **CLIP), train) for back in (1, 4)]
    settings = [*known, *map(_fitting, known), *new, *map(_fitting, new)]
    remarks = (
        *REMARKS,
        FORGETS,
        "A step reads the spectrum of 16 milliseconds, and a chunk is a clip of half a second.",
        "back...: six speakers, whose other clips are the test.",
        "new-voices-...: the test is on two speakers whom nobody heard in training, and validation on other clips of "
        "the four others.",
        FITS,
    )
    return Experiment("match", "Match to sample: accuracy (chance 0.5)", settings, remarks, "match")


def noisy_cifar10(data_dir: Path | None, verify: bool) -> Experiment:
    """CIFAR10's 32 rows, then 968 rows of one fixed noise; the class is asked at the end."""
    task = NoisyCIFAR10(data_dir, verify=verify)
    model = ModelOptions(k_trunc=16, k_att=8, normalizer="softmax1", score_size=32)
    train = TrainOptions(steps=1_000_000, max_seconds=4.5 * 3600, anneal=0.25, batch_size=50, eval_sequences=1000)
    runs = methods(task, model, train, (16, 128))
    del runs["attention"]  # which would hold 26 GB
    remarks: Sequence[str] = (
        TUNED,
        "The protocol is that of the published figures: LSTM 11.6%, coRNN and Lipschitz RNN 59.0%, LEM 60.5%, with a "
        "hidden size of 128; theirs has 47,000 training and 3,000 validation images, this one 45,000 and 5,000.",
        "Each run has four and a half hours.",
        *(() if verify else ("The files were not the published ones (--no-verify).",)),
    )
    setting = Setting("T1000", runs, grid=grid(1000, share=0.05))
    return Experiment("noisy-cifar10", "Noise-padded CIFAR10: accuracy", [setting], remarks, "noisy-cifar10")
