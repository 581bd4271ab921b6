"""What an exported layer is compared with, and how.

Shapes: T time, B batch, I input.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from reminding import SAB, SABState
from reminding.nn.export import SequenceModule, State, StepModule
from tests.nn.samples import draw

Run = Callable[[Tensor, State], tuple[Tensor, State]]

OLDEST = torch.__version__.startswith("2.6.")

LAYERS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "paper": {"score": "dot", "normalizer": "threshold", "k_top": 2, "k_att": 1, "recall_scale": 0.5},
    "release": {"semantics": "release", "k_top": 2, "k_att": 2},
    "release softmax": {"semantics": "release", "normalizer": "softmax", "score": "dot", "k_top": 3, "cell": "gru"},
    "two layers": {"num_layers": 2, "k_top": 2, "k_att": 2, "normalizer": "softmax1", "forget_scale": 0.9},
    "oldest goes": {"k_top": 5, "k_att": 1, "capacity": 2, "normalizer": "threshold", "recall_scale": 0.5},
    "least recalled goes": {"k_top": 2, "k_att": 1, "capacity": 3, "evict": "least_recalled", "forget_scale": 0.9},
    "every memory": {"cell": "rnn", "k_top": None, "k_att": 2, "score": "separable", "normalizer": "softmax1"},
    "gated proposals": {"normalizer": "softmax1", "null_score": 0.5, "summary_gate": 0.1, "stored": "proposal"},
    "no memory": {"k_top": 0, "num_layers": 2, "batch_first": True},
}


def stepped(step: Run) -> Run:
    """A loop over time around one step: a module, or what a compiler made of it."""

    def run(x: Tensor, state: State) -> tuple[Tensor, State]:
        outputs: list[Tensor] = []
        for x_t in x:
            y, state = step(x_t, state)
            outputs.append(y)
        return torch.stack(outputs), state

    return run


def largest(got: Tensor, want: Tensor) -> float:
    """The largest difference, relative to the numbers if these exceed 1."""
    assert got.shape == want.shape
    return float(((got - want).abs() / want.abs().clamp(min=1)).max()) if want.numel() else 0.0


def check(layer: SAB, module: SequenceModule | StepModule, run: Run, sizes: tuple[int, int], within: float) -> None:
    """Compare outputs and last states with the layer's, starting from a state that the layer has reached."""
    steps, rows = sizes
    like = layer.like()
    x = draw(9 + steps, rows, layer.input_size, dtype=like.dtype)
    reset = torch.zeros(9, rows, dtype=torch.bool)
    reset[4, :1] = True  # rows of several ages

    def turned(part: Tensor) -> Tensor:
        return part.transpose(0, 1) if layer.batch_first else part

    with torch.no_grad():
        _, before = layer(turned(x[:9]), reset=turned(reset))
        want, after = layer(turned(x[9:]), before)
        got, tensors = run(turned(x[9:]), module.tensors_of(before, steps=steps))
    assert largest(got, want) <= within, "output"
    check_state(module.state_of(tensors), after, within)


def check_state(got: SABState, want: SABState, within: float) -> None:
    assert torch.equal(got.step, want.step), "step counts"
    assert torch.equal(got.memory_step, want.memory_step), "steps in memory"
    for mine, theirs in zip(got.layers, want.layers, strict=True):
        pairs = zip(
            (mine.h, *mine.cell_state, mine.memory.value, mine.memory.weight),
            (theirs.h, *theirs.cell_state, theirs.memory.value, theirs.memory.weight),
            strict=True,
        )
        assert max(largest(one, other) for one, other in pairs) <= within, "state"
        assert torch.equal(mine.memory.count, theirs.memory.count), "filled slots"
