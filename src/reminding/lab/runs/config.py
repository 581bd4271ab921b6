"""The definition of a run: its task, its model and its training, as typed and as config.json has them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

from reminding import checks
from reminding.disk.errors import DamagedFileError, what_is_wrong
from reminding.disk.fields import from_plain, option, plain, to_json
from reminding.disk.records import read_json, write_json
from reminding.lab.runs.facts import informed
from reminding.tasks import DERIVED, TASKS

FORMAT_VERSION = 2
"""Of config.json and of the files beside it. Version 0.1 of this package, which wrote format 1, does not find the
checkpoints of format 2, so it must refuse them."""
READ_FORMATS = (1, 2)
EXTENDABLE = {"train.steps", "train.max_seconds"}
"""The limits that a resumed run may raise."""
ENDS = {"train.target", "train.patience"}
"""What may end a run early, which a resumed run may change: no update depends on it."""


@dataclass(frozen=True)
class ModelOptions:
    """The network. An option that means nothing to the model is refused.

    Args:
        model: sab: Sparse Attentive Backtracking; lstm: full BPTT; tbptt: BPTT truncated every k_trunc
            steps; attention: softmax attention over all past states with full BPTT; transformer: causal; mingru:
            minimal GRU by a parallel scan; rtu: diagonal linear recurrence by exact online gradients.
        cell: recurrent cell of sab, lstm, tbptt and attention: lstm, gru or rnn, or module:Name, a class of your own
            that is called with input_size and hidden_size.
        forget_scale: factor on an LSTM's forget gate; below 1 its cell state c stays bounded over sequences much
            longer than those of training.
        forget_bias: initial bias of an LSTM's forget gates, or of a GRU's z: a number, or chrono:T to remember over
            up to T steps (Tallec and Ollivier 2018); None: PyTorch's.
        hidden_size: features of the hidden state.
        num_layers: number of stacked layers.
        embedding_size: features of a learned embedding of the input; None: tokens are one-hot, and real values are
            read as they are.
        residual: whether a column of a table is predicted as its last value and a change: for columns that drift, or
            change little from row to row. A change is on the scale of the usual ones, and 0 at first. Not with
            missing zero, where a gap has no last value.
        k_top: memories that a step may recall.
        k_att: a state is stored every k_att steps; None: every k_trunc steps, at the end of each segment.
        k_trunc: the recurrent gradient is cut every k_trunc steps. None: never; on a stream once a chunk (tbptt: 10).
        score: how memories are scored: additive, dot or separable, or module:Name, a class of your own that is called
            with hidden_size. None: additive, or separable with semantics release.
        score_size: width of the score's projections; None: 32, or hidden_size if that is less.
        normalizer: how scores become weights. softmax1: a softmax over the k_top best scores that can also choose no
            memory; softmax: one that cannot; threshold: the paper's rule. None: softmax or, with semantics release,
            the release's rule.
        recall_scale: factor on the weights of a recall; below 1 the state stays bounded on an endless stream, but not
            that of a gru.
        null_score: initial score of recalling nothing, learned; for normalizer softmax1. None: 0, not learned.
        summary_gate: initial value, between -1 and 1, of a learned gate on each feature of what is recalled; near 0,
            recalls change nothing at first. None: no gate.
        stored: what goes to memory: h, or proposal, the state that the cell proposes before the recall is added, with
            which the state stays bounded on an endless stream, but not that of a gru.
        semantics: paper: the paper's algorithm; release: that of the authors' published code.
        capacity: at most this many memories; None: no limit, which is refused on a stream.
        evict: which memory is evicted when the capacity is reached: fifo or least_recalled, or module:name, a
            function of your own.
        horizon: how many steps back into earlier chunks of a stream credit may travel; 0: it stays within the chunk;
            None: to the oldest memory. Whole sequences have no earlier chunks.
        credit_every: chunks of a stream from one sending of credit into earlier chunks to the next; above 1: faster.
        positions: of a transformer. sinusoidal: absolute; alibi, t5: relative; none: the mask alone.
        feedforward_size: of a transformer, width of its feed-forward layers; None: 4 * hidden_size.
        min_radius: smallest modulus of an rtu's eigenvalues at initialisation, from 0 to below 1; near 1 its memory
            is long.
        backtrack: whether recalled memories receive gradient (no: the paper's ablation).
        dropout: probability of dropout between layers.
        recurrent_dropout: probability of dropping a feature of h on its way into the cell, one mask per sequence or
            chunk; backend cuda does not train with it.
        backend: the code that computes the recurrence; auto: the fastest that can run here.
        engine: how the backward pass is done; auto: the best that can run here.
    """

    model: Literal["sab", "lstm", "tbptt", "attention", "transformer", "mingru", "rtu"] = "sab"
    cell: str = "lstm"
    forget_scale: float = 1.0
    forget_bias: float | str | None = None
    hidden_size: int = 128
    num_layers: int = 1
    embedding_size: int | None = None
    residual: bool = False
    k_top: int = 5
    k_att: int | None = None
    k_trunc: int | None = 10
    score: str | None = None
    score_size: int | None = None
    normalizer: Literal["softmax", "softmax1", "threshold"] | None = None
    recall_scale: float = 1.0
    null_score: float | None = None
    summary_gate: float | None = None
    stored: Literal["h", "proposal"] = "h"
    semantics: Literal["paper", "release"] = "paper"
    capacity: int | None = None
    evict: str = "fifo"
    horizon: int | None = 0
    credit_every: int = 1
    backtrack: bool = True
    positions: Literal["sinusoidal", "alibi", "t5", "none"] = "sinusoidal"
    feedforward_size: int | None = None
    min_radius: float = 0.0
    dropout: float = 0.0
    recurrent_dropout: float = 0.0
    backend: Literal["auto", "reference", "cpu", "cuda"] = "auto"
    engine: Literal["auto", "autograd", "replay"] = "auto"

    def unread(self, *, streamed: bool) -> dict[str, str]:
        """The options that mean nothing to this model, whatever their value -> why.

        Args:
            streamed: whether its task is a stream.
        """
        found = dict(_RTU) if self.model == "rtu" else {}
        for name in {each.name for each in fields(self)} - {*COMMON, *READ[self.model], *found}:
            found[name] = f"is for {', '.join(model for model in READ if name in READ[model])}, not for {self.model}"
        projects = (self.score or {"paper": "additive"}.get(self.semantics)) in ("additive", "dot")
        for idle, names, why in (
            (self.k_top == 0, _REMEMBERING, "is of memories, and k_top 0 recalls none"),
            (not streamed, ("horizon", "credit_every"), "is for streams: whole sequences have no earlier chunks"),
            (self.horizon == 0, ("credit_every",), "needs a horizon above 0, without which no credit is sent back"),
            (self.capacity is None, ("evict",), "needs a capacity, without which no memory is evicted"),
            (not projects, ("score_size",), "is for the scores additive and dot, which have projections"),
            (
                self.num_layers == 1 and self.model != "transformer",
                ("dropout",),
                "acts between layers, and there is one",
            ),
        ):
            found = {**dict.fromkeys(names if idle else (), why), **found}
        return found


STREAM = ModelOptions(k_att=10, k_trunc=None, capacity=128, horizon=None, normalizer="softmax1", stored="proposal")
"""The defaults of a stream: memories reach 1,280 steps back, the state is bounded, and credit crosses chunks."""
COMMON = ("model", "hidden_size", "num_layers", "embedding_size", "residual", "dropout")
"""The options of every model."""
RECURRENT = ("cell", "forget_scale", "forget_bias", "dropout", "recurrent_dropout", "backend", "engine")
"""Those of the models that are the layer with other settings."""
SCORING = ("score", "score_size")
"""Those of models that score memories."""
RECALLING = (
    "k_top", "k_att", "k_trunc", "normalizer", "recall_scale", "null_score", "summary_gate", "stored", "semantics",
    "capacity", "evict", "backtrack", "credit_every",
)  # fmt: skip
"""Those of SAB alone."""
READ: Mapping[str, tuple[str, ...]] = {
    "sab": (*RECURRENT, *SCORING, *RECALLING, "horizon"),
    "lstm": RECURRENT,
    "tbptt": (*RECURRENT, "k_trunc", "horizon"),
    "attention": (*RECURRENT, *SCORING),
    "transformer": ("positions", "feedforward_size"),
    "mingru": (),
    "rtu": ("min_radius",),
}
"""The options that each model reads, beside those of every model."""
_REMEMBERING = {*SCORING, *RECALLING} - {"k_top", "k_trunc", "semantics", "credit_every"}
"""The options of memories."""
_RTU = {
    "num_layers": "must be 1 for rtu, whose gradient is exact for one layer",
    "dropout": "acts between layers, and rtu has one",
    "embedding_size": "must be None for rtu, whose input weights are an embedding, with an exact gradient",
}
"""The options of every model but rtu -> why."""


@dataclass(frozen=True)
class TrainOptions:
    """The training: Adam, one update per batch.

    Args:
        steps: greatest number of updates.
        max_seconds: limit on the training time, before and after --resume; the update or the evaluation that reaches
            it is the last one. None: no limit.
        batch_size: sequences per update.
        lr: Adam's learning rate.
        anneal: the last share of the run, over which the learning rate falls linearly to 0; of the updates, or of the
            time if that is limited. 0: the rate is constant.
        weight_decay: at each update, the weights shrink by the learning rate times this share of them, apart from the
            gradient, as in AdamW (Loshchilov and Hutter 2019). Biases and other vectors do not. 0: no decay.
        clip: bound on the gradient norm; 0: no clipping.
        clip_kind: adaptive: the bound is twice the running mean of the clipped norm, at most clip; fixed: it is clip.
        seed: of the weights and of the training data.
        eval_every: updates between evaluations on the validation split.
        eval_sequences: validation sequences per evaluation, or chunks of each stream; None: the task's own number.
        test_sequences: test sequences at the end, or chunks of each stream; None: the task's own number.
        patience: stop after this many evaluations without a better main metric; None: never.
        target: stop when the main metric on the validation split is this good; None: never.
        check_finite: stop at a batch or a loss that is not finite, skip an update whose gradient is not, and stop
            after ten of these in a row; the last finite weights are kept.
        device: auto: a GPU if there is one.
        threads: CPU threads; None: PyTorch's own choice. Networks of this size gain little from a second thread, and
            lose much on a busy machine.
    """

    steps: int = 5000
    max_seconds: float | None = None
    batch_size: int = 32
    lr: float = 3e-3
    anneal: float = 0.0
    weight_decay: float = 0.0
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

    def unread(self) -> dict[str, str]:
        """The options that mean nothing beside the others, whatever their value -> why."""
        return {"clip_kind": "is of clipping, and clip 0 means none"} if self.clip == 0 else {}

    def __post_init__(self) -> None:
        """Check the options that no other part checks."""
        for name in ("steps", "batch_size", "eval_every"):
            checks.at_least(name, getattr(self, name), 1)
        for name in ("eval_sequences", "test_sequences", "patience"):
            checks.at_least_or_none(name, getattr(self, name), 1)
        checks.at_least_or_none("threads", self.threads, 1, checks.MOST_THREADS)
        checks.above_zero_or_none("max_seconds", self.max_seconds)
        checks.above_zero("lr", self.lr, 1e30)  # Adam multiplies it by ten in float32
        checks.share("anneal", self.anneal)
        checks.at_least_zero("weight_decay", self.weight_decay, checks.LARGEST)
        checks.at_least_zero("clip", self.clip)
        checks.seed("seed", self.seed)
        checks.finite_or_none("target", self.target)


@dataclass(frozen=True)
class RunConfig:
    """The configuration of a run.

    Args:
        task: a task of `reminding.tasks`, with its options.
    """

    task: Any
    model: ModelOptions = field(default_factory=ModelOptions)
    train: TrainOptions = field(default_factory=TrainOptions)

    def save(self, path: Path, *, absolute: bool = True) -> None:
        """Write config.json, in one step, unless it has this content already.

        Args:
            absolute: whether paths become absolute, so that a run resumes from any folder.
        """
        content = {
            "format": FORMAT_VERSION,
            "task": {"name": self.task.name, **plain(self.task, absolute=absolute)},
            "model": plain(self.model),
            "train": plain(self.train),
        }
        write_json(path, content)

    def unread(self) -> dict[str, str]:
        """The options of the model that mean nothing to it on this task, whatever their value -> why."""
        return self.model.unread(streamed=self.task.streamed)

    def essential(self) -> RunConfig:
        """The same run, with the options that mean nothing at the defaults of the task."""
        defaults = model_defaults(self.task.__class__)
        return replace(self, model=replace(self.model, **{name: getattr(defaults, name) for name in self.unread()}))

    def check_read(self, names: Collection[str] | None = None) -> None:
        """Refuse options that are given and mean nothing: to the model, to the training, or to the task.

        Args:
            names: of the options that are given; None: those that are not at the default of the task.

        Raises:
            ValueError: names the option, and says why.
        """
        defaults = {field.name: field.default for field in fields(self.task)}
        for part, unread, usual in (
            (self.model, self.unread(), vars(model_defaults(self.task.__class__))),
            (self.train, self.train.unread(), vars(TrainOptions())),
            (self.task, self.task.unread(), defaults),
        ):
            for name, why in sorted(unread.items()):
                value = getattr(part, name)
                if value != usual[name] if names is None else name in names:
                    raise ValueError(f"{name} {why}; got {value}")

    def places(self) -> set[str]:
        """The options of the task that say where its files are, or follow from them, under names as in `settings`."""
        return {
            f"task.{field.name}"
            for field in fields(self.task)
            if DERIVED in field.metadata or isinstance(getattr(self.task, field.name), Path)
        }

    def settings(self) -> dict[str, Any]:
        """Every option under a name such as "train.lr"; the name of the task is "task.name"."""
        return named({"name": self.task.name, **plain(self.task)}, plain(self.model), plain(self.train))

    def changed(self) -> dict[str, Any]:
        """The name of the task, and the options that are read and not at their defaults, named as in `settings`."""
        task = {field.name: to_json(field.default) for field in fields(self.task)}
        defaults = named(task, plain(model_defaults(TASKS[self.task.name])), plain(TrainOptions()))
        unread = {f"model.{name}" for name in self.unread()}
        read = {name: value for name, value in self.settings().items() if name not in unread}
        return {name: value for name, value in read.items() if value != defaults.get(name)}

    @staticmethod
    def load(path: Path, *, facts: bool = True) -> RunConfig:
        """Read config.json.

        Args:
            facts: whether the task gets the facts that facts.json beside it holds, and needs its data for batches
                alone.

        Raises:
            FileNotFoundError: there is none, so that the folder is not a run.
            ValueError: it cannot be read; or the run has no facts.json, and its task's data are missing.
        """
        content = read_config(path)
        try:
            model, train = from_plain(ModelOptions, content["model"]), from_plain(TrainOptions, content["train"])
            task = load_task(content["task"])
            return RunConfig(informed(task, path.parent) if facts else task, model, train)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path} cannot be read: {error}") from error


def read_config(path: Path) -> dict[str, Any]:
    """The content of config.json: the options of "task" (with its "name"), "model" and "train".

    Raises:
        FileNotFoundError: there is none, so that the folder is not a run.
        ValueError: it is damaged or cannot be read; the message says why.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path.parent} is not a run: it has no {path.name}")
    try:
        content = read_json(path)
        if content["format"] not in READ_FORMATS:
            raise ValueError(f"format {content['format']}, expected one of {READ_FORMATS}")
        read = {part: dict(content[part]) for part in ("task", "model", "train")}
    except DamagedFileError:
        raise
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} cannot be read: {what_is_wrong(error)}") from error
    return read if content["format"] == FORMAT_VERSION else {**read, "model": _with_old_defaults(read["model"])}


def _with_old_defaults(model: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a model of version 0.1, whose scorer was as wide as the state, and whose steps had to recall."""
    old = {"score_size": model.get("hidden_size", ModelOptions.hidden_size), "normalizer": "softmax"}
    if model.get("semantics") == "release":
        del old["normalizer"]
    return {**model, **{name: value for name, value in old.items() if model.get(name) is None}}


def load_task(options: Mapping[str, Any]) -> Any:
    """The task that config.json describes by its options, with the "name" among them.

    Raises:
        ValueError: there is no such task or no such option, or an option is out of range.
    """
    rest = dict(options)
    name = checks.one_of("task", rest.pop("name", ""), sorted(TASKS))
    return from_plain(TASKS[name], rest)


def model_defaults(task: type[Any]) -> ModelOptions:
    """The default network of a task."""
    return STREAM if task.streamed else ModelOptions()


def command(config: RunConfig) -> list[str]:
    """The arguments after `reminding` that train a run; options at their defaults are left out, as are the unread."""
    own = {field.name for field in fields(config.task)}
    words = ["train", config.task.name]
    for setting, value in config.changed().items():
        part, name = setting.split(".")
        if setting != "task.name":
            words += option(f"train-{name}" if part == "train" and name in own else name, value)
    return words


def named(task: Mapping[str, Any], model: Mapping[str, Any], train: Mapping[str, Any]) -> dict[str, Any]:
    """The options of the three parts of a run under names such as "train.lr"."""
    parts = {"task": task, "model": model, "train": train}
    return {f"{part}.{name}": value for part, options in parts.items() for name, value in options.items()}
