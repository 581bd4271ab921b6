"""What defines a run: the task, the model and how it is trained, as the command line and config.json have it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

from reminding.tasks import TASKS

FORMAT_VERSION = 1
STREAM_CAPACITY = 128
"""Memories on a stream: with the default of one every 10 steps, 1,280 steps of the past."""
EXTENDABLE = {"train.steps", "train.max_seconds"}
"""What a resumed run may have more of."""


@dataclass(frozen=True)
class ModelOptions:
    """The network. k_top, k_att, k_trunc and what follows them concern the models that have them.

    Args:
        model: sab: Sparse Attentive Backtracking; lstm: full BPTT; tbptt: BPTT truncated every k_trunc
            steps; attention: softmax attention over all past states with full BPTT; transformer: causal.
        cell: recurrent cell of every model but the transformer.
        forget_scale: what an LSTM's forget gate is multiplied by; below 1 its c cannot run away over sequences much
            longer than those of training.
        hidden_size: features of the hidden state.
        num_layers: layers on top of one another.
        embedding_size: features of a learned embedding of the input; None: one-hot tokens, or the real
            values as they are.
        k_top: memories a step may recall.
        k_att: a state is stored every k_att steps; None: every k_trunc, at the end of each segment.
        k_trunc: the recurrent gradient is cut every k_trunc steps; None: never.
        score: how memories are scored; None: additive, or separable with semantics release.
        score_size: width of the score's projections; None: hidden_size.
        normalizer: scores to weights; None: softmax over the k_top best, or the release's own rule with
            semantics release; threshold: the paper's rule; softmax1: softmax with recalling nothing among the
            choices.
        recall_scale: what the weights of a recall are multiplied by; below 1 the state stays bounded on a stream
            without end.
        semantics: the paper's algorithm, or what the authors' published code does.
        capacity: at most this many memories; None: no limit, which a stream cannot have.
        evict: which memory goes when the capacity is full.
        horizon: steps back into earlier chunks of a stream that credit may travel; None: as far as anything is
            remembered; 0: none, as where sequences are whole.
        backtrack: whether gradients flow into what is recalled (no: the paper's ablation).
        dropout: between layers, a probability.
        backend: which code computes the recurrence; auto: the fastest that can.
        engine: how the backward pass is done; auto: the best that can.
    """

    model: Literal["sab", "lstm", "tbptt", "attention", "transformer"] = "sab"
    cell: Literal["lstm", "gru", "rnn"] = "lstm"
    forget_scale: float = 1.0
    hidden_size: int = 128
    num_layers: int = 1
    embedding_size: int | None = None
    k_top: int = 5
    k_att: int | None = None
    k_trunc: int | None = 10
    score: Literal["additive", "dot", "separable"] | None = None
    score_size: int | None = None
    normalizer: Literal["softmax", "softmax1", "threshold"] | None = None
    recall_scale: float = 1.0
    semantics: Literal["paper", "release"] = "paper"
    capacity: int | None = None
    evict: Literal["fifo", "least_recalled"] = "fifo"
    horizon: int | None = 0
    backtrack: bool = True
    dropout: float = 0.0
    backend: Literal["auto", "reference", "cpu", "cuda"] = "auto"
    engine: Literal["auto", "autograd", "replay"] = "auto"


@dataclass(frozen=True)
class TrainOptions:
    """How it is trained: Adam, one update a batch.

    Args:
        steps: updates, at most.
        max_seconds: stop at the first update after so much training time; None: no limit.
        batch_size: sequences an update.
        lr: Adam's learning rate.
        anneal: the learning rate falls to 0 in a straight line over this last share of the updates, or of the time
            where that is limited; 0: it stays.
        clip: bound on the gradient norm; 0: no clipping.
        clip_kind: adaptive: twice the running mean of the clipped norm, never above clip; fixed: clip.
        seed: of the weights and of the training data.
        eval_every: updates between evaluations on the validation split.
        eval_sequences: validation sequences an evaluation, of streams chunks; None: the task's own number.
        test_sequences: test sequences at the end, of streams chunks; None: the task's own number.
        patience: stop after this many evaluations without a better main metric; None: never.
        target: stop when the main metric on the validation split is this good; None: never.
        check_finite: refuse a batch, a loss or a gradient that is not finite, and stop with the last good
            weights saved.
        device: auto takes a GPU where there is one.
        threads: CPU threads; None: PyTorch's own choice. Networks of this size gain little from more than one,
            and lose much on a busy machine.
    """

    steps: int = 5000
    max_seconds: float | None = None
    batch_size: int = 32
    lr: float = 3e-3
    anneal: float = 0.0
    clip: float = 1.0
    clip_kind: Literal["adaptive", "fixed"] = "adaptive"
    seed: int = 0
    eval_every: int = 250
    eval_sequences: int | None = 200
    test_sequences: int | None = None
    patience: int | None = None
    target: float | None = None
    check_finite: bool = True
    device: str = "auto"
    threads: int | None = 1

    def __post_init__(self) -> None:
        """Check what no other part checks."""
        for name in ("steps", "batch_size", "eval_every"):
            _require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        for name in ("eval_sequences", "test_sequences", "patience", "threads"):
            value = getattr(self, name)
            _require(value is None or value >= 1, name, value, "at least 1, or None")
        limit = self.max_seconds
        _require(limit is None or limit > 0, "max_seconds", limit, "above 0, or None")
        _require(self.lr > 0, "lr", self.lr, "above 0")
        _require(0 <= self.anneal <= 1, "anneal", self.anneal, "between 0 and 1")
        _require(self.clip >= 0, "clip", self.clip, "at least 0")
        _require(self.seed >= 0, "seed", self.seed, "at least 0")


@dataclass(frozen=True)
class RunConfig:
    """All of a run.

    Args:
        task: a task of `reminding.tasks`, with its options.
    """

    task: Any
    model: ModelOptions = field(default_factory=ModelOptions)
    train: TrainOptions = field(default_factory=TrainOptions)

    def save(self, path: Path) -> None:
        """Write config.json."""
        content = {
            "format": FORMAT_VERSION,
            "task": {"name": self.task.name, **plain(self.task)},
            "model": plain(self.model),
            "train": plain(self.train),
        }
        path.write_text(json.dumps(content, indent=2) + "\n")

    def settings(self) -> dict[str, Any]:
        """Every option by a name such as "train.lr"; the task's own name is "task.name"."""
        task = {"name": self.task.name, **plain(self.task)}
        parts = {"task": task, "model": plain(self.model), "train": plain(self.train)}
        return {f"{part}.{name}": value for part, values in parts.items() for name, value in values.items()}

    @staticmethod
    def load(path: Path) -> RunConfig:
        """Read config.json.

        Raises:
            FileNotFoundError: there is none, so the folder is no run; or the task's data is not there.
            ValueError: it cannot be read; the message says why.
        """
        content = read_config(path)
        try:
            return RunConfig(
                task=load_task(content["task"]),
                model=ModelOptions(**content["model"]),
                train=TrainOptions(**content["train"]),
            )
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path} cannot be read: {error}") from error


def read_config(path: Path) -> dict[str, Any]:
    """What config.json holds: the options of "task" (and its "name"), "model" and "train".

    Raises:
        FileNotFoundError: there is none, so the folder is no run.
        ValueError: it cannot be read; the message says why.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path.parent} is not a run: it has no {path.name}")
    try:
        content = json.loads(path.read_text())
        if content["format"] != FORMAT_VERSION:
            raise ValueError(f"format {content['format']}, expected {FORMAT_VERSION}")
        return {part: dict(content[part]) for part in ("task", "model", "train")}
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error


def load_task(options: Mapping[str, Any]) -> Any:
    """The task of its options as config.json has them, the "name" among them."""
    rest = {name: value for name, value in options.items() if name != "name"}
    return make_task(options.get("name", ""), rest)


def model_defaults(task: type[Any]) -> ModelOptions:
    """The network that a task is trained with where nothing else is said: on a stream, a bounded memory.

    There credit crosses the borders of chunks, as far as anything is remembered.
    """
    if not task.streamed:
        return ModelOptions()
    return ModelOptions(capacity=STREAM_CAPACITY, horizon=None, recall_scale=0.5)


def make_task(name: str, options: dict[str, Any]) -> Any:
    """A task by name, its paths given as strings.

    Raises:
        ValueError: there is no such task, or an option is out of range.
    """
    if name not in TASKS:
        raise ValueError(f"task must be one of {sorted(TASKS)}, got {name!r}")
    paths = {key: Path(options[key]) for key in ("data_dir", "data", "test") if options.get(key) is not None}
    return TASKS[name](**{**options, **paths})


def plain(options: Any) -> dict[str, Any]:
    """A dataclass as JSON can hold it; paths are absolute, so that a run can be gone on with from any folder."""
    values = dataclasses.asdict(options)
    return {name: str(value.absolute()) if isinstance(value, Path) else value for name, value in values.items()}


def command(config: RunConfig) -> list[str]:
    """The arguments after `reminding` that train this run; options at their defaults are left out."""
    kind = TASKS[config.task.name]
    given = [
        *_changed(plain(config.task), {field.name: field.default for field in dataclasses.fields(kind)}),
        *_changed(plain(config.model), plain(model_defaults(kind))),
        *_changed(plain(config.train), plain(TrainOptions())),
    ]
    return ["train", config.task.name, *(word for name, value in given for word in option(name, value))]


def _changed(values: dict[str, Any], defaults: dict[str, Any]) -> list[tuple[str, Any]]:
    return [(name, value) for name, value in values.items() if value != defaults[name]]


def option(name: str, value: Any) -> list[str]:
    """One option as it is typed."""
    flag = name.replace("_", "-")
    if isinstance(value, bool):
        return [f"--{flag}" if value else f"--no-{flag}"]
    values = cast("list[Any]", value) if isinstance(value, list | tuple) else [value]
    return [f"--{flag}", *map(str, values)]


def _require(holds: bool, name: str, value: object, wanted: str) -> None:
    if not holds:
        raise ValueError(f"{name} must be {wanted}, got {value!r}")
