"""The network of an experiment: encoder, recurrent layer, and the paper's readout.

Shapes: B batch, T time, I input features, E embedding, H hidden, C outputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reminding.checks import at_least, at_least_or_none
from reminding.lab.runs.config import READ, RECALLING, RECURRENT, SCORING, ModelOptions
from reminding.lab.runs.own_code import is_own, own, own_modules
from reminding.nn import (
    RTU,
    SAB,
    CarriedState,
    MinGRU,
    Recall,
    SABState,
    Transformer,
    full_attention,
    full_bptt,
    truncated_bptt,
)
from reminding.tasks import Batch

StreamState = SABState | CarriedState
"""The state that a model carries from chunk to chunk of a stream."""
TBPTT_CUT = 10
"""Steps between the cuts of tbptt on a stream. Cut once a chunk, it would be lstm."""


class OneHot(nn.Module):
    """Token ids (...) to one-hot vectors (..., vocabulary)."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.vocabulary = vocabulary

    def forward(self, token: Tensor) -> Tensor:
        """Float32 vectors with a single 1."""
        return F.one_hot(token, self.vocabulary).float()


class Residual(nn.Module):
    """A residual connection from the input: the last values of what is predicted, and their change.

    Args:
        places: where these values stand in the input, C of them.
        change: by what a change is multiplied, (C,).
    """

    change: Tensor

    def __init__(self, places: Sequence[int], change: Tensor) -> None:
        super().__init__()
        self.places = list(places)
        self.register_buffer("change", change, persistent=False)  # of the task

    @staticmethod
    def of_task(task: Any, readouts: SequenceModel) -> Residual:
        """The connection that a task needs. The readouts are set to 0, so that training begins with no change.

        Raises:
            ValueError: the task has no columns to predict, or reads 0 in the place of a missing value.
        """
        continued = getattr(task, "continued", None)
        if continued is None:
            raise ValueError(f"residual is for tables, whose columns have last values, not for {task.name}")
        if task.missing == "zero":
            raise ValueError("residual needs missing carry: with missing zero, a gap has no last value to change")
        for readout in (readouts.hidden_readout, readouts.summary_readout):
            for parameter in () if readout is None else readout.parameters():
                nn.init.zeros_(parameter)
        places, change = continued
        usual = torch.as_tensor(change).float()
        return Residual(places, usual.where(usual > 0, torch.ones_like(usual)))

    def forward(self, input: Tensor, change: Tensor) -> Tensor:
        """The prediction (T, B, C) of the input (T, B, I) and its change (T, B, C)."""
        return input[..., self.places] + self.change * change


class SequenceModel(nn.Module):
    """y = V1 h + V2 s + b over an encoded sequence.   [Ke et al. 2018, section 3.1]

    Models that recall nothing have no V2.

    Args:
        task: gives the vocabulary or the input features, and the output size.
        options: which layer, and its settings.
    """

    def __init__(self, task: Any, options: ModelOptions) -> None:
        super().__init__()
        if task.streamed:
            _check_bounded(options)
            options = _cut_into_chunks(options, task.chunk)
        at_least_or_none("embedding_size", options.embedding_size, 1)
        features = options.embedding_size or task.input_size
        self.layer = build_layer(options, features, build_encoder(task, options.embedding_size))
        self.hidden_readout = nn.Linear(options.hidden_size, task.output_size)
        reminded = isinstance(self.layer, SAB) and self.layer.k_top != 0
        self.summary_readout = nn.Linear(options.hidden_size, task.output_size, bias=False) if reminded else None
        self.residual = Residual.of_task(task, self) if options.residual else None

    def forward(self, input: Tensor, state: Any = None, *, reset: Tensor | None = None) -> tuple[Tensor, Any, Recall]:
        """Read a batch.

        Args:
            input: token ids (T, B) or real values (T, B, I).
            state: the state that the last call returned, to continue its streams.
            reset: where new streams begin, (B,) or (T, B).

        Returns:
            prediction (T, B, C), state, and the recalls.
        """
        h, state, recall = self.layer(input, state, reset=reset, return_recall=True)
        y = self.hidden_readout(h)
        y = y if self.summary_readout is None else y + self.summary_readout(recall.summary)
        return y if self.residual is None else self.residual(input, y), state, recall

    def read(self, batch: Batch, state: StreamState | None = None) -> tuple[Tensor, StreamState | None]:
        """Predict a batch: whole sequences, or the chunk of streams that follows `state`.

        Returns:
            prediction (T, B, C), and the state for the next chunk; None after whole sequences.
        """
        if batch.reset is None:
            return self(batch.input)[0], None
        # When all streams begin anew, their number may differ from that in the last batch.
        continued = state is not None and not bool(batch.reset.all())
        prediction, after, _ = self(batch.input, state, reset=batch.reset) if continued else self(batch.input)
        return prediction, after

    def read_in_chunks(self, batch: Batch, steps_at_once: int) -> Tensor:
        """Predict whole sequences a piece at a time; the result is that of `read`.

        Args:
            steps_at_once: steps per piece, at least 1.

        Raises:
            ValueError: steps_at_once is below 1, or the batch is a chunk of streams.
        """
        at_least("steps_at_once", steps_at_once, 1)
        if batch.reset is not None:
            raise ValueError("steps_at_once is for whole sequences: the batches of a stream are chunks already")
        pieces: list[Tensor] = []
        state: Any = None
        for piece in torch.split(batch.input, steps_at_once):
            prediction, state, _ = self(piece, state)
            pieces.append(prediction)
        return torch.cat(pieces)


def recalls_of(recall: Recall, layer: int = -1) -> tuple[Tensor, Tensor]:
    """The step and the weight of what a layer recalled, (T, B, K) each."""
    one = recall.step.dim() == 3
    return (recall.step, recall.weight) if one else (recall.step[layer], recall.weight[layer])


def _check_bounded(options: ModelOptions) -> None:
    """Refuse a model that keeps all of a stream, which has no end."""
    if options.model in ("attention", "transformer"):
        raise ValueError(
            f"model: {options.model} keeps everything it has read, and a stream has no end; use sab with a capacity"
        )
    if options.model == "sab" and options.capacity is None and options.k_top != 0:
        raise ValueError("capacity must be a number on a stream, which has no end, got None")


def _cut_into_chunks(options: ModelOptions, chunk: int) -> ModelOptions:
    """The options of a stream's network: cut at the borders of chunks, unless it is cut otherwise."""
    if options.k_trunc is not None:
        return options
    return replace(options, k_trunc=TBPTT_CUT if options.model == "tbptt" else chunk)


def build_encoder(task: Any, embedding_size: int | None) -> nn.Module | None:
    """The encoder of the task's input: an embedding, one-hot vectors, a linear map, or None."""
    if task.vocabulary is not None:
        return OneHot(task.vocabulary) if embedding_size is None else nn.Embedding(task.vocabulary, embedding_size)
    return None if embedding_size is None else nn.Linear(task.input_size, embedding_size)


def build_layer(options: ModelOptions, input_size: int, encoder: nn.Module | None) -> nn.Module:
    """The layer that `--model` names."""
    if options.model in ("transformer", "mingru", "rtu"):
        return _build_unlike_sab(options, input_size, encoder)
    size = (input_size, options.hidden_size, options.num_layers)
    common = {**_taken(options, RECURRENT), "cell": _cell(options, input_size)}
    crosses = "horizon" in READ[options.model]  # uncut, all would be kept
    common |= {"horizon": options.horizon if crosses else 0, "encoder": encoder}
    if options.model == "lstm":
        return full_bptt(*size, **common)
    if options.model == "tbptt":
        return truncated_bptt(*size, k_trunc=options.k_trunc, **common)
    scoring = {**_taken(options, SCORING), "score": _score(options)}
    if options.model == "attention":
        return full_attention(*size, **scoring, **common)
    recalling = {**_taken(options, RECALLING), "evict": _evict(options)}
    return SAB(*size, **scoring, **recalling, **common)


def _taken(options: ModelOptions, names: Sequence[str]) -> dict[str, Any]:
    """Some of the options, which have the names of the layer's arguments."""
    return {name: getattr(options, name) for name in names}


def _cell(options: ModelOptions, input_size: int) -> Any:
    """The name of a built-in cell, or one module of a user's own per layer."""
    if not is_own(options.cell):
        return options.cell
    hidden = options.hidden_size
    above = [(hidden, hidden)] * (options.num_layers - 1)
    return own_modules("cell", options.cell, [(input_size, hidden), *above])


def _score(options: ModelOptions) -> Any:
    """The name of a built-in score, or one scorer of a user's own per layer."""
    if options.score is None or not is_own(options.score):
        return options.score
    return own_modules("score", options.score, [(options.hidden_size,)] * options.num_layers)


def _evict(options: ModelOptions) -> Any:
    """The name of a built-in way to evict, or a function of a user's own."""
    return own("evict", options.evict) if is_own(options.evict) else options.evict


def _build_unlike_sab(options: ModelOptions, input_size: int, encoder: nn.Module | None) -> nn.Module:
    """A layer that is not the SAB layer with other settings."""
    size = (input_size, options.hidden_size)
    if options.model == "rtu":
        return RTU(*size, min_radius=options.min_radius, encoder=encoder)
    if options.model == "mingru":
        return MinGRU(*size, options.num_layers, dropout=options.dropout, encoder=encoder)
    return Transformer(
        *size,
        options.num_layers,
        dropout=options.dropout,
        positions=options.positions,
        feedforward_size=options.feedforward_size,
        encoder=encoder,
    )
