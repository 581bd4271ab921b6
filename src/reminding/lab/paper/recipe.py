"""The choice of SAB's defaults: ways to recall nothing, widths of the scorer, and what is stored, on four tasks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from reminding.lab.paper.methods import Experiment, Setting
from reminding.lab.runs.config import ModelOptions, RunConfig, TrainOptions
from reminding.lab.runs.parity import matched, parameters
from reminding.tasks import PTB, Copying, Cue, PermutedMNIST

NARROW = 32
"""Score size, where it is not the hidden size."""
SHY = 3.0
"""A score of recalling nothing that begins well above those of five memories, which are near 0 at first."""
VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "softmax": {},
    "softmax-half": {"recall_scale": 0.5},
    "softmax1": {"normalizer": "softmax1"},
    "null": {"normalizer": "softmax1", "null_score": SHY},
    "gate": {"summary_gate": 0.0},
    "gate-0.1": {"summary_gate": 0.1},
    "narrow": {"score_size": NARROW},
    "narrow-softmax1": {"normalizer": "softmax1", "score_size": NARROW},
    "narrow-softmax1-half": {"normalizer": "softmax1", "score_size": NARROW, "recall_scale": 0.5},
    "narrow-softmax1-proposal": {"normalizer": "softmax1", "score_size": NARROW, "stored": "proposal"},
    "narrow-null": {"normalizer": "softmax1", "null_score": SHY, "score_size": NARROW},
    "narrow-null-proposal": {
        "normalizer": "softmax1",
        "null_score": SHY,
        "score_size": NARROW,
        "stored": "proposal",
    },
    "narrow-gate": {"summary_gate": 0.1, "score_size": NARROW},
    "narrow-proposal": {"score_size": NARROW, "stored": "proposal"},
}
"""Changes to SAB with a softmax over the best scores, a scorer as wide as the state, recall_scale 1, and h stored."""
CRITERION = (
    "Written before the runs: a variant becomes the default if on no task it is worse than another by more than the "
    "spread of the seeds, and on a long stream the norm of h does not grow. Among equals the one with the fewest "
    "changes to the paper's equations is taken."
)


def recipe(data_dir: Path | None, verify: bool) -> Experiment:
    """SAB's defaults: ways to recall nothing, widths of the scorer and what is stored, on four tasks."""
    settings = [
        _copying(),
        _text(data_dir),
        _pixels(data_dir),
        _stream(),
    ]
    remarks = (
        "All variants of a setting have as many parameters, within 3%, and the same rate, biases and updates.",
        f"null: the score of recalling nothing is learned, and begins at {SHY:g}. gate: a learned factor on each "
        f"feature of what is recalled begins at 0, or at the number that is named. narrow: score_size {NARROW}. "
        "proposal: the state that the cell proposes is stored in the place of h. half: recall_scale 0.5.",
        CRITERION,
    )
    return Experiment("recipe", "The choice of SAB's defaults", settings, remarks, "recipe")


def _copying() -> Setting:
    train = TrainOptions(steps=1500, lr=3e-3, anneal=0.25)
    return _setting("copying-T100", Copying(T=100, balanced=True), ModelOptions(embedding_size=64), train)


def _text(data_dir: Path | None) -> Setting:
    model = ModelOptions(hidden_size=128, embedding_size=64, capacity=64, horizon=0)
    train = TrainOptions(steps=800, lr=3e-3, eval_every=200, eval_sequences=100)
    return _setting("ptb", PTB(data_dir=data_dir), model, train)


def _pixels(data_dir: Path | None) -> Setting:
    train = TrainOptions(steps=400, lr=1e-3, eval_every=100, eval_sequences=1000)
    return _setting("pmnist", PermutedMNIST(data_dir), ModelOptions(k_trunc=14), train)


def _stream() -> Setting:
    model = ModelOptions(hidden_size=64, embedding_size=64, capacity=64, horizon=None)
    train = TrainOptions(steps=1500, lr=3e-3, eval_every=250)
    return _setting("cue-lag500", Cue(lag=500), model, train)


def _setting(name: str, task: Any, base: ModelOptions, train: TrainOptions) -> Setting:
    """All variants, with as many parameters as a base with today's wide scorer."""
    base = replace(base, normalizer="softmax", recall_scale=1.0)
    wanted = parameters(task, base)
    runs = {
        variant: RunConfig(task, matched(task, replace(base, **changes), wanted), train)
        for variant, changes in VARIANTS.items()
    }
    return Setting(name, runs)
