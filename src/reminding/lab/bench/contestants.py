"""The contestants of the benchmark, and one training step of each.

Shapes: B batch, T time, I input, H hidden.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

from reminding.lab.bench.options import BenchOptions, Loss, Name, Size, StepOptions
from reminding.nn import SAB, Transformer, full_attention, truncated_bptt

Build = Callable[[Size, BenchOptions], nn.Module]


@dataclass(frozen=True)
class Contestant:
    """One way to train on sequences.

    Args:
        label: for people.
        family: the name that its variants share; a figure draws a family in one colour.
        build: makes the module, which is called as `nn.LSTM` is.
    """

    label: str
    family: str
    build: Build


@dataclass(frozen=True)
class Problem:
    """Random input, (T, B, I), and the gradient of a made-up loss with respect to the output, (T, B, H).

    Attributes:
        reset: where rows of SAB begin a new stream, (T, B) bool; None: nowhere.
        lengths: of the sequences, (B,) int64, which then come packed; None: all are T.
    """

    input: Tensor
    d_output: Tensor
    reset: Tensor | None = None
    lengths: Tensor | None = None

    @staticmethod
    def random(size: Size, options: StepOptions, device: torch.device | str = "cpu") -> Problem:
        """Draw a problem; it depends on the seed, the size and the device alone."""
        generator = torch.Generator(device).manual_seed(options.seed)
        kind: dict[str, Any] = {"generator": generator, "device": device, "dtype": getattr(torch, options.dtype)}
        problem = Problem(torch.randn(size.T, size.B, size.I, **kind), torch.randn(size.T, size.B, size.H, **kind))
        if not isinstance(options, BenchOptions):
            return problem
        begins = torch.rand(size.T, size.B, generator=generator) < options.resets
        lengths = torch.randint(1, size.T + 1, (size.B,), generator=generator)
        return replace(problem, reset=begins if options.resets else None, lengths=lengths if options.packed else None)

    def beginning(self, steps: int) -> Problem:
        """The first steps of the problem."""
        reset = None if self.reset is None else self.reset[:steps]
        lengths = None if self.lengths is None else self.lengths.clamp(max=steps)
        return Problem(self.input[:steps], self.d_output[:steps], reset, lengths)

    def given(self, tensor: Tensor) -> Tensor | PackedSequence:
        """A tensor (T, B, .) as it is given: packed, if the sequences have lengths."""
        if self.lengths is None:
            return tensor
        return pack_padded_sequence(tensor, self.lengths, enforce_sorted=False)


@dataclass(frozen=True)
class TrainingStep:
    """Forward and backward pass on one problem. The input needs no gradient; there is no optimizer."""

    module: nn.Module
    problem: Problem
    loss: Loss = "everywhere"

    def clear(self) -> None:
        """Drop the gradients of an earlier step."""
        self.module.zero_grad(set_to_none=True)

    def forward(self) -> Tensor:
        """The output that the loss sees: all of it, (T, B, H), packed (N, H), or its last step, (B, H)."""
        problem = self.problem
        options = {"reset": problem.reset} if problem.reset is not None and isinstance(self.module, SAB) else {}
        output = self.module(problem.given(problem.input), **options)[0]
        if isinstance(output, PackedSequence):
            return output.data
        return output if self.loss == "everywhere" else output[-1]

    def backward(self, output: Tensor) -> None:
        """The gradients of all parameters, from what `forward` returned."""
        d_output = self.problem.given(self.problem.d_output)
        if isinstance(d_output, PackedSequence):
            output.backward(d_output.data)
        else:
            output.backward(d_output if self.loss == "everywhere" else d_output[-1])

    def run(self) -> None:
        """A whole training step."""
        self.clear()
        self.backward(self.forward())


def build(name: Name, size: Size, options: BenchOptions) -> nn.Module:
    """A contestant's module, its parameters drawn from the seed.

    Raises:
        ValueError: the contestant cannot run here or at this size; the message says why.
    """
    torch.manual_seed(options.seed)
    return CONTESTANTS[name].build(size, options).to(getattr(torch, options.dtype))


def build_sab(size: Size, options: StepOptions, **settings: Any) -> SAB:
    """SAB with the benchmark's settings and some of its own."""
    shared = {name: getattr(options, name) for name in ("k_top", "k_att", "k_trunc", "normalizer")}
    return SAB(size.I, size.H, **shared, dtype=getattr(torch, options.dtype), **settings)


def _lstm(size: Size, options: BenchOptions) -> nn.Module:
    return nn.LSTM(size.I, size.H)


def _tbptt(size: Size, options: BenchOptions) -> nn.Module:
    return truncated_bptt(size.I, size.H, k_trunc=options.k_trunc)


def _attention(size: Size, options: BenchOptions) -> nn.Module:
    return full_attention(size.I, size.H, backend="reference")


def _transformer(size: Size, options: BenchOptions) -> nn.Module:
    return Transformer(size.I, size.H)


def _sab(label: str, score: str, engine: str = "autograd", backend: str = "cpu") -> Contestant:
    """A variant of SAB. Backend and engine are never "auto", which may run something else than the label says."""

    def build(size: Size, options: BenchOptions) -> nn.Module:
        own: dict[str, Any] = {"score": score, "engine": engine, "backend": backend}
        return build_sab(size, options, **own, recurrent_dropout=options.recurrent_dropout)

    return Contestant(label, score, build)


CONTESTANTS: dict[Name, Contestant] = {
    "lstm": Contestant("nn.LSTM", "lstm", _lstm),
    "sab-additive": _sab("SAB additive", "additive"),
    "sab-additive-replay": _sab("SAB additive, replay", "additive", "replay"),
    "sab-additive-reference": _sab("SAB additive, plain autograd", "additive", backend="reference"),
    "sab-dot": _sab("SAB dot", "dot"),
    "sab-dot-replay": _sab("SAB dot, replay", "dot", "replay"),
    "sab-separable": _sab("SAB separable", "separable"),
    "sab-separable-replay": _sab("SAB separable, replay", "separable", "replay"),
    "tbptt": Contestant("truncated BPTT", "tbptt", _tbptt),
    "attention": Contestant("LSTM, full attention", "attention", _attention),
    "transformer": Contestant("Transformer", "transformer", _transformer),
}
