"""A second implementation of Sparse Attentive Backtracking, independent of the library: a loop over rows and lists.

It follows the equations literally, for one row of the batch at a time, with vectors (H,) and a list of memories.
Autograd differentiates it, with the detaches written here. It has no batches, padding, chunks of tensors or stored
keys, which are where the library can go wrong.

Shapes: T time, B batch, I input, H hidden, K k_top.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import pairwise

import torch
from torch import Tensor

Weights = dict[str, Tensor]
Read = list[tuple[int, float]]


@dataclass(frozen=True)
class Config:
    """The layer's settings, named as in `SAB`."""

    cell: str = "lstm"
    k_top: int | None = 5
    k_att: int | None = None
    k_trunc: int | None = 10
    score: str = "additive"
    normalizer: str = "softmax"
    recall_scale: float = 1.0
    semantics: str = "paper"
    capacity: int | None = None
    evict: str = "fifo"
    backtrack: bool = True
    num_layers: int = 1
    horizon: int | None = None
    forget_scale: float = 1.0
    recurrent_dropout: float = 0.0
    null_score: float | None = None
    summary_gate: float | None = None
    stored: str = "h"

    def stores(self, step: int) -> bool:
        every = (self.k_trunc or 1) if self.k_att is None else self.k_att
        return self.k_top != 0 and step % every == 0

    def cuts(self, step: int) -> bool:
        if self.k_trunc is None:
            return False
        if self.semantics == "release":
            return step % self.k_trunc == 0
        return step > 1 and (step - 1) % self.k_trunc == 0


@dataclass
class Slot:
    """One memory: the state, the stream step it was stored at, and the weight it has received.

    `lent` holds a copy of the state for each step that read it, whose gradient came through that step alone.
    """

    value: Tensor
    step: int
    recalled: float = 0.0
    lent: dict[int, Tensor] = field(default_factory=dict[int, Tensor])


@dataclass
class Stream:
    """One row of one layer: h, c (unused by GRU and RNN) (H,), the memory, and the number of steps done.

    The states of steps up to `constant_to`, and memories stored at the steps in `constant`, receive no gradient.
    Recurrent dropout multiplies h by `factor`, (H,), before the cell's recurrent weights.
    """

    h: Tensor
    c: Tensor
    memory: list[Slot] = field(default_factory=list[Slot])
    step: int = 0
    constant_to: int = 0
    constant: frozenset[int] = frozenset()
    factor: Tensor | None = None

    def gives_credit(self) -> bool:
        return self.step > self.constant_to and self.step not in self.constant


@dataclass
class Answer:
    """The results of one row and layer: outputs and summaries per step (H,), and what was read, largest weight first.

    `gap` is the smallest difference that decided a choice, relative to the numbers compared. If it is as small as a
    rounding error, another order of summation may choose differently.
    """

    output: list[Tensor] = field(default_factory=list[Tensor])
    summary: list[Tensor] = field(default_factory=list[Tensor])
    read: list[Read] = field(default_factory=list[Read])
    gap: float = math.inf


def begin(config: Config, h: Tensor, c: Tensor) -> Stream:
    """A new stream. The release's memory starts with a zero vector."""
    zero = config.semantics == "release" and config.k_top != 0
    return Stream(h, c, [Slot(torch.zeros_like(h), 0)] if zero else [])


def cell(
    config: Config, weights: Weights, x: Tensor, h: Tensor, c: Tensor, factor: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The provisional state h_hat, and c, after one step."""
    from_x = weights["weight_ih"] @ x + weights.get("bias_ih", 0.0)
    from_h = weights["weight_hh"] @ (h if factor is None else factor * h) + weights.get("bias_hh", 0.0)
    size = len(h)
    if config.cell == "rnn":
        return torch.tanh(from_x + from_h), c
    if config.cell == "gru":
        reset = torch.sigmoid(from_x[:size] + from_h[:size])
        update = torch.sigmoid(from_x[size : 2 * size] + from_h[size : 2 * size])
        new = torch.tanh(from_x[2 * size :] + reset * from_h[2 * size :])
        return (1 - update) * new + update * h, c
    z = from_x + from_h
    i, f, o = (torch.sigmoid(z[gate * size : (gate + 1) * size]) for gate in (0, 1, 3))
    c = config.forget_scale * f * c + i * torch.tanh(z[2 * size : 3 * size])
    return o * torch.tanh(c), c


def score(name: str, weights: Weights, memory: Tensor, query: Tensor) -> Tensor:
    """The score of one memory."""
    if name == "separable":
        return weights["score_weight"] @ torch.tanh(torch.cat([query, memory]))
    key, asked = weights["score_memory"] @ memory, weights["score_query"] @ query
    if name == "dot":
        return (key * asked).sum() / math.sqrt(len(key))
    return weights["score_out"] @ torch.tanh(key + asked)


def weigh(scores: list[Tensor], config: Config) -> list[Tensor]:
    """The weight of each memory."""
    ranked = sorted(scores, key=lambda a: -a.item())
    k_top = len(scores) if config.k_top is None else config.k_top
    if config.normalizer == "softmax1":
        best = ranked[:k_top]
        total = 1 + torch.stack([a.exp() for a in best]).sum()
        return [a.exp() / total if any(a is b for b in best) else 0 * a for a in scores]
    if config.normalizer == "softmax":
        best = ranked[:k_top]
        total = torch.stack([(a - ranked[0].detach()).exp() for a in best]).sum()
        kept = [any(a is b for b in best) for a in scores]
        return [(a - ranked[0].detach()).exp() / total if k else 0 * a for a, k in zip(scores, kept, strict=True)]
    if config.semantics == "release":
        if len(scores) <= k_top:
            return scores
        excess = [torch.relu(a - (ranked[k_top - 1] + 1e-7)) for a in scores]
        total = torch.stack(excess).sum() + 1e-7
    else:
        excess = [torch.relu(a - ranked[min(k_top, len(scores) - 1)]) for a in scores]
        total = torch.stack(excess).sum()
        if total.item() == 0:
            return [torch.zeros_like(a) for a in scores]
    return [e / total for e in excess]


def closest(numbers: list[float]) -> float:
    """The smallest difference between neighbours, relative to their size if that exceeds 1."""
    ranked = sorted(numbers)
    return min(((b - a) / max(1.0, abs(a)) for a, b in pairwise(ranked)), default=math.inf)


def remind(stream: Stream, query: Tensor, weights: Weights, config: Config, answer: Answer) -> tuple[Tensor, Read]:
    """The summary, and what was read: (step, weight), largest weight first."""
    if not stream.memory or config.k_top == 0:
        return torch.zeros_like(query), []
    for slot in stream.memory:
        slot.lent[stream.step] = slot.value.clone()
    values = [slot.lent[stream.step] for slot in stream.memory]
    scores = [
        score(config.score, weights, value, query) - weights.get("null_score", query.new_zeros(1))[0]
        for value in values
    ]
    shares = [config.recall_scale * share for share in weigh(scores, config)]
    answer.gap = min(answer.gap, closest([a.item() for a in scores]))
    for slot, share in zip(stream.memory, shares, strict=True):
        slot.recalled += share.item()
    summary = torch.stack([w * value for w, value in zip(shares, values, strict=True)]).sum(0)
    if config.summary_gate is not None:
        summary = torch.tanh(weights["summary_gate"]) * summary
    read = [(slot.step, w.item()) for w, slot in zip(shares, stream.memory, strict=True) if w.item() != 0]
    return summary, sorted(read, key=lambda pair: -pair[1])


def store(stream: Stream, value: Tensor, config: Config, answer: Answer) -> None:
    """Append h or h_hat, after evicting a memory if the memory is full."""
    if config.capacity is not None and len(stream.memory) >= config.capacity:
        recalled = [slot.recalled for slot in stream.memory]
        del stream.memory[0 if config.evict == "fifo" else recalled.index(min(recalled))]
        answer.gap = min(answer.gap, closest([weight for weight in recalled if weight]))
    credited = config.backtrack and stream.gives_credit()
    stream.memory.append(Slot(value if credited else value.detach(), stream.step))


def run_row(xs: list[Tensor], stream: Stream, weights: Weights, config: Config) -> Answer:
    """Run one row of one layer over time; changes the stream."""
    answer = Answer()
    for x in xs:
        stream.step += 1
        if config.cuts(stream.step) or (stream.constant_to > 0 and stream.step == stream.constant_to + 1):
            stream.h, stream.c = stream.h.detach(), stream.c.detach()
        h_hat, stream.c = cell(config, weights, x, stream.h, stream.c, stream.factor)
        summary, read = remind(stream, h_hat, weights, config, answer)
        stream.h = h_hat + summary
        if config.stores(stream.step):
            store(stream, stream.h if config.stored == "h" else h_hat, config, answer)
        answer.output.append(stream.h)
        answer.summary.append(summary)
        answer.read.append(read)
    return answer


def run(
    x: Tensor, parameters: Weights, streams: list[list[Stream]], config: Config
) -> tuple[Tensor, Tensor, list[list[Answer]]]:
    """Run all rows and layers; changes `streams`, one per layer and row.

    Args:
        x: (T, B, I); parameters: by their names in the layer.

    Returns:
        output and the last layer's summary, (T, B, H), and the results of each layer and row.
    """
    answers: list[list[Answer]] = []
    rows = [list(row.unbind(0)) for row in x.unbind(1)]
    for number, layer in enumerate(streams):
        suffix = f"_l{number}"
        weights = {name.removesuffix(suffix): w for name, w in parameters.items() if name.endswith(suffix)}
        answers.append([run_row(xs, stream, weights, config) for xs, stream in zip(rows, layer, strict=True)])
        rows = [answer.output for answer in answers[-1]]
    size = streams[0][0].h.shape[0]

    def stacked(columns: list[list[Tensor]]) -> Tensor:
        return torch.stack([torch.stack(c) if c else x.new_zeros(0, size) for c in columns], dim=1)

    return stacked(rows), stacked([answer.summary for answer in answers[-1]]), answers
