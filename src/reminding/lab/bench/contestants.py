"""Who is compared, and what one training step of each is.

Shapes: B batch, T time, I input, H hidden.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from reminding.lab.bench.options import BenchOptions, Loss, Name, Size
from reminding.nn import SAB, Transformer, full_attention, truncated_bptt

Build = Callable[[Size, BenchOptions], nn.Module]


@dataclass(frozen=True)
class Contestant:
    """One way of training on sequences.

    Args:
        label: for people.
        family: what its variants share; a figure draws them in one colour.
        build: the module, called as `nn.LSTM` is.
    """

    label: str
    family: str
    build: Build


@dataclass(frozen=True)
class Problem:
    """Random input, (T, B, I), and the gradient of a made-up loss with respect to the output, (T, B, H)."""

    input: Tensor
    d_output: Tensor

    @staticmethod
    def random(size: Size, options: BenchOptions) -> Problem:
        """The same numbers for the same seed and size."""
        source = torch.Generator().manual_seed(options.seed)
        kind: dict[str, Any] = {"generator": source, "dtype": getattr(torch, options.dtype)}
        return Problem(torch.randn(size.T, size.B, size.I, **kind), torch.randn(size.T, size.B, size.H, **kind))

    def beginning(self, steps: int) -> Problem:
        """The first steps of it."""
        return Problem(self.input[:steps], self.d_output[:steps])


@dataclass(frozen=True)
class TrainingStep:
    """Forward and backward on one problem. The input needs no gradient; no optimizer takes part."""

    module: nn.Module
    problem: Problem
    loss: Loss

    def forward(self) -> Tensor:
        """What the loss sees: the output (T, B, H), or its last step (B, H)."""
        self.module.zero_grad(set_to_none=True)
        output = self.module(self.problem.input)[0]
        return output if self.loss == "everywhere" else output[-1]

    def backward(self, seen: Tensor) -> None:
        """Gradients of all parameters."""
        d_output = self.problem.d_output
        seen.backward(d_output if self.loss == "everywhere" else d_output[-1])

    def run(self) -> None:
        """Both."""
        self.backward(self.forward())


def build(name: Name, size: Size, options: BenchOptions) -> nn.Module:
    """A contestant's module with parameters drawn from the seed.

    Raises:
        ValueError: it cannot run here or at this size; the message says why.
    """
    torch.manual_seed(options.seed)
    return CONTESTANTS[name].build(size, options).to(getattr(torch, options.dtype))


def _lstm(size: Size, options: BenchOptions) -> nn.Module:
    return nn.LSTM(size.I, size.H)


def _tbptt(size: Size, options: BenchOptions) -> nn.Module:
    return truncated_bptt(size.I, size.H, k_trunc=options.k_trunc)


def _attention(size: Size, options: BenchOptions) -> nn.Module:
    return full_attention(size.I, size.H, backend="reference")


def _transformer(size: Size, options: BenchOptions) -> nn.Module:
    return Transformer(size.I, size.H)


def _sab(**chosen: Any) -> Build:
    def build(size: Size, options: BenchOptions) -> nn.Module:
        return SAB(
            size.I,
            size.H,
            k_top=options.k_top,
            k_att=options.k_att,
            k_trunc=options.k_trunc,
            normalizer=options.normalizer,
            dtype=getattr(torch, options.dtype),
            **chosen,
        )

    return build


# Backend and engine are named, never "auto": what cannot run must say so, and not be measured as something else.
CONTESTANTS: dict[Name, Contestant] = {
    "lstm": Contestant("nn.LSTM", "lstm", _lstm),
    "sab-additive": Contestant("SAB additive", "additive", _sab(score="additive", backend="cpu", engine="autograd")),
    "sab-additive-replay": Contestant(
        "SAB additive, replay", "additive", _sab(score="additive", backend="cpu", engine="replay")
    ),
    "sab-additive-reference": Contestant(
        "SAB additive, plain autograd", "additive", _sab(score="additive", backend="reference", engine="autograd")
    ),
    "sab-dot": Contestant("SAB dot", "dot", _sab(score="dot", backend="cpu", engine="autograd")),
    "sab-dot-replay": Contestant("SAB dot, replay", "dot", _sab(score="dot", backend="cpu", engine="replay")),
    "sab-separable": Contestant(
        "SAB separable", "separable", _sab(score="separable", backend="cpu", engine="autograd")
    ),
    "sab-separable-replay": Contestant(
        "SAB separable, replay", "separable", _sab(score="separable", backend="cpu", engine="replay")
    ),
    "tbptt": Contestant("truncated BPTT", "tbptt", _tbptt),
    "attention": Contestant("LSTM, full attention", "attention", _attention),
    "transformer": Contestant("Transformer", "transformer", _transformer),
}
