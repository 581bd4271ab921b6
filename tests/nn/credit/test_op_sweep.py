"""Credit into past calls by the op equals plain PyTorch's, after the weights have changed in between.

Shapes: T time, B batch, H hidden.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from reminding import SAB
from reminding.nn.credit import past as credit
from reminding.ops import cpu_op
from tests.drawn import drawn
from tests.nn.samples import assert_same_gradients, draw, gradients, make, spread

pytestmark = pytest.mark.skipif(cpu_op.missing() is not None, reason=str(cpu_op.missing()))


@st.composite
def options(draw: st.DrawFn) -> dict[str, Any]:
    semantics = draw(st.sampled_from(["paper", "paper", "release"]))
    cell = draw(st.sampled_from(["lstm", "gru", "rnn"]))
    normalizer = draw(st.sampled_from(["softmax", "softmax1", "softmax1", "threshold"]))
    return {
        "cell": cell,
        "forget_scale": draw(st.sampled_from([1.0, 0.7])) if cell == "lstm" else 1.0,
        "score": draw(st.sampled_from(["additive", "dot", "separable"])),
        "normalizer": normalizer,
        "null_score": draw(st.sampled_from([None, 0.5])) if normalizer == "softmax1" else None,
        "summary_gate": draw(st.sampled_from([None, 0.1])),
        "stored": draw(st.sampled_from(["h", "proposal"])),
        "recall_scale": 0.3 if cell == "gru" else draw(st.sampled_from([1.0, 0.6])),  # a GRU adds up its reads
        "semantics": semantics,
        "k_top": draw(st.sampled_from([1, 2, 3])),
        "k_att": draw(st.sampled_from([None, 1, 2, 3])),
        "k_trunc": draw(st.sampled_from([None, 2, 3, 5])),
        "backtrack": draw(st.sampled_from([True, True, True, False])),
        "capacity": draw(st.sampled_from([None, 3, 5])),
        "evict": draw(st.sampled_from(["fifo", "least_recalled"])),
        "horizon": draw(st.sampled_from([None, None, 4, 9])),
    }


def after_a_change(layer: SAB, x: list[Tensor], reset: Tensor, loss: Tensor) -> dict[str, Tensor]:
    """The gradient of a loss on the last chunk. The weights changed before it, and row 1 was reset."""
    torch.manual_seed(0)  # for the masks of dropout
    spread(layer, 1, 0.4)
    state: Any = None
    for number, part in enumerate(x[:-1]):
        _, state = layer(part, state, reset=reset if number == 1 else None)
    with torch.no_grad():
        for number, parameter in enumerate(layer.parameters()):
            parameter += 0.1 * draw(*parameter.shape, seed=number)
    output, after = layer(x[-1], state)
    states = [h for part in after.layers for h in (part.h, *part.cell_state)]
    ends = sum((h * loss[0, :, : h.shape[1]]).sum() for h in states)
    return gradients(layer, (output * loss).sum() + ends)


def _cannot(*_: Any) -> None:
    """Replaces `in_range` of an op that would not be exact."""


def _let(*_: Any, automatic: bool) -> None:
    """Replaces the refusal of a backend that was asked for by name."""


def in_plain_torch(layer: SAB, monkeypatch: pytest.MonkeyPatch, *arguments: Any) -> dict[str, Tensor]:
    """The past is replayed segment by segment. The calls run on the op, so that both recall the same memories."""
    with monkeypatch.context() as patch:
        patch.setattr(credit, "credit_past", _cannot)
        patch.setattr(credit, "leave", _let)  # although the backend is asked for by name
        return after_a_change(layer, *arguments)


def on_the_op(layer: SAB, monkeypatch: pytest.MonkeyPatch, *arguments: Any) -> dict[str, Tensor]:
    with monkeypatch.context() as patch:
        patch.setattr(credit, "Sweep", None)  # no segment may be needed
        return after_a_change(layer, *arguments)


@drawn(150)
@given(
    options(),
    st.lists(st.integers(1, 8), min_size=2, max_size=4),
    st.integers(0, 99),
    st.booleans(),
    st.sampled_from([1, 1, 2, 3]),
    st.sampled_from([0.0, 0.4]),
)
def test_the_op_sends_the_same_credit(
    chosen: dict[str, Any], sizes: list[int], seed: int, encoded: bool, layers: int, dropout: float
) -> None:
    encoder = nn.Linear(3, 3, dtype=torch.float64) if encoded else None
    further: dict[str, Any] = {"dropout": dropout if layers > 1 else 0.0, "backend": "cpu", "engine": "autograd"}
    layer = make(3, 4, layers, encoder=encoder, **further, **chosen)
    x = [draw(size, 3, 3, seed=seed + number) for number, size in enumerate(sizes)]
    reset = torch.tensor([False, True, False])
    with pytest.MonkeyPatch.context() as patch:
        got = on_the_op(layer, patch, x, reset, draw(sizes[-1], 3, 4, seed=seed))
        want = in_plain_torch(layer, patch, x, reset, draw(sizes[-1], 3, 4, seed=seed))
    assert_same_gradients(got, want)


def test_credit_that_would_leave_the_ops_range_goes_in_plain_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only after the weights change are the scores so large that the op clamps its exponentials."""
    layer = make(3, 4, k_trunc=2, backend="auto")
    _, state = layer(draw(9, 2, 3))
    with torch.no_grad():
        for name, parameter in layer.named_parameters():
            parameter *= {"score_memory_l0": 2000, "score_query_l0": -2000}.get(name, 1)
    used: list[str] = []

    class Watched(credit.Sweep):
        def __init__(self, *given: Any) -> None:
            used.append("sweep")
            super().__init__(*given)

    monkeypatch.setattr(credit, "Sweep", Watched)
    output, _ = layer(draw(5, 2, 3, seed=2), state)
    gradients(layer, output.sum())
    assert used
