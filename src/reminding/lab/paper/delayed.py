"""Experiments beyond the paper: questions asked long after the event, on streams and on padded images.

SAB's rivals here are truncated BPTT, which cannot see past a chunk; an LSTM that remembers and is trained within a
chunk; and RTU, whose exact online gradients reach any distance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from reminding.lab.paper.methods import TUNED, Experiment, Setting, grid, methods
from reminding.lab.runs.config import ModelOptions, RunConfig, TrainOptions
from reminding.lab.runs.parity import matched, parameters
from reminding.tasks import Cue, MatchSpeaker, NBack, NoisyCIFAR10

REMARKS = (
    TUNED,
    "lstm is full BPTT within a chunk. sab-horizon-0 keeps credit within the chunk; sab-no-credit recalls memories, "
    "which receive no gradient; sab-credit-10 sends credit into earlier chunks once every ten chunks.",
    "No chunk holds both an event and the question about it, so BPTT within a chunk has no gradient from one to the "
    "other.",
)
MEMORY = ModelOptions(
    hidden_size=64, embedding_size=64, normalizer="softmax1", stored="proposal", horizon=None, capacity=64
)
"""Of SAB on a stream; a step may recall nothing, and the state stays bounded."""


def _streamed(task: Any, sab: ModelOptions, train: TrainOptions, reach: int) -> Setting:
    """SAB, its ablations and its rivals on a stream whose questions are `reach` steps behind their events."""
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
    runs = {name: RunConfig(task, model, train) for name, model in models.items()}
    return Setting("", runs, grid=grid(reach, share=0.5))


def cue(data_dir: Path | None, verify: bool) -> Experiment:
    """A cue and the question about it, 500 and 5,000 steps apart, read in chunks of 100."""
    settings: list[Setting] = []
    for lag, updates in ((500, 1500), (5000, 5000)):
        model = replace(MEMORY, capacity=64 if lag == 500 else 640)
        train = TrainOptions(steps=updates, eval_every=250, target=0.99)
        settings.append(replace(_streamed(Cue(lag=lag), model, train, lag), name=f"lag{lag}"))
    return Experiment("cue", "Cue: accuracy of the answers (chance 0.125)", settings, REMARKS, "cue")


def nback(data_dir: Path | None, verify: bool) -> Experiment:
    """MNIST pixel by pixel in chunks of a quarter image: the digit of one and of three images ago."""
    settings: list[Setting] = []
    for back in (1, 3):
        model = replace(MEMORY, k_trunc=14, capacity=64 * (back + 1), embedding_size=None, hidden_size=128)
        train = TrainOptions(steps=20_000, lr=1e-3, eval_every=1000)
        task = NBack(data_dir, back=back)
        settings.append(replace(_streamed(task, model, train, 784 * back), name=f"back{back}"))
    return Experiment("nback", "n-back MNIST: accuracy (chance 0.1)", settings, REMARKS, "nback")


def match(data_dir: Path | None, verify: bool) -> Experiment:
    """Spoken digits as a stream of clips: is this the speaker of one and of four clips ago?"""
    settings: list[Setting] = []
    for back in (1, 4):
        model = replace(MEMORY, capacity=40 * (back + 1), embedding_size=None, hidden_size=128)
        train = TrainOptions(steps=10_000, lr=1e-3, eval_every=500)
        task = MatchSpeaker(data_dir, back=back)
        settings.append(replace(_streamed(task, model, train, 250 * back), name=f"back{back}"))
    return Experiment("match", "Match to sample: accuracy (chance 0.5)", settings, REMARKS, "match")


def noisy_cifar10(data_dir: Path | None, verify: bool) -> Experiment:
    """CIFAR10's 32 rows, then 968 rows of one fixed noise; the class is asked at the end."""
    task = NoisyCIFAR10(data_dir, verify=verify)
    model = ModelOptions(k_trunc=16, k_att=8, normalizer="softmax1", score_size=32)
    train = TrainOptions(steps=1_000_000, max_seconds=4.5 * 3600, batch_size=50, lr=2e-3, eval_sequences=1000)
    runs = methods(task, model, train, (16, 128))
    del runs["attention"]  # which would hold 26 GB
    remarks: Sequence[str] = (
        TUNED,
        "The protocol is that of the published figures: LSTM 11.6%, coRNN and Lipschitz RNN 59.0%, LEM 60.5%, with a "
        "hidden size of 128; theirs has 47,000 training and 3,000 validation images, this one 45,000 and 5,000.",
        "Each run has four and a half hours.",
        *(() if verify else ("The files were not the published ones (--no-verify).",)),
    )
    setting = Setting("T1000", runs, grid=grid(1000, share=0.1))
    return Experiment("noisy-cifar10", "Noise-padded CIFAR10: accuracy", [setting], remarks, "noisy-cifar10")
