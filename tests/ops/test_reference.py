"""The reference's equations, one at a time.

Shapes: B batch, I input, H hidden, D score width, M memory slots.
"""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from reminding.ops import reference
from tests.nn.samples import draw
from tests.tolerance import assert_equal

B, H, D, M = 2, 4, 3, 5
KEYS, QUERY, MEMORY, WEIGHTS = draw(B, M, D, seed=1), draw(B, D, seed=2), draw(B, M, H, seed=3), draw(B, M, seed=4)


def weights_of(cell: nn.RNNCellBase, bias: bool) -> tuple[Tensor | None, ...]:
    return cell.weight_ih, cell.weight_hh, *((cell.bias_ih, cell.bias_hh) if bias else (None, None))


@pytest.mark.parametrize("bias", [True, False])
def test_the_cells_are_pytorchs(bias: bool) -> None:
    x, h, c = draw(B, 3), draw(B, H, seed=5), draw(B, H, seed=6)
    lstm, gru, rnn = (kind(3, H, bias=bias).double() for kind in (nn.LSTMCell, nn.GRUCell, nn.RNNCell))
    got = reference.lstm_cell(x, h, c, weights_of(lstm, bias))
    for mine, theirs in zip(got, lstm(x, (h, c)), strict=True):
        assert_equal(mine, theirs, "lstm")
    assert_equal(reference.gru_cell(x, h, weights_of(gru, bias)), gru(x, h), "gru")
    assert_equal(reference.rnn_cell(x, h, weights_of(rnn, bias)), rnn(x, h), "rnn")


def test_scores_are_what_the_equations_say() -> None:
    out = draw(D, seed=7)
    additive, dot = reference.additive_scores(KEYS, QUERY, out), reference.dot_scores(KEYS, QUERY)
    for b in range(B):
        for m in range(M):
            assert_equal(additive[b, m], out @ torch.tanh(KEYS[b, m] + QUERY[b]), "additive")
            assert_equal(dot[b, m], KEYS[b, m] @ QUERY[b] / math.sqrt(D), "dot")


def test_the_two_terms_of_a_separable_score_make_the_releases() -> None:
    w, query = draw(2 * H, seed=8), draw(B, H, seed=9)
    both = reference.separable_term(query, w[:H]).unsqueeze(1) + reference.separable_term(MEMORY, w[H:])
    whole = torch.cat([query.unsqueeze(1).expand(B, M, H), MEMORY], dim=2).tanh() @ w
    assert_equal(both, whole, "score")


def test_a_projection_is_a_matrix_product() -> None:
    weight = draw(D, H)
    assert_equal(reference.project(MEMORY, weight), MEMORY @ weight.T, "keys")


def test_the_summary_is_the_weighted_sum() -> None:
    wanted = torch.stack([sum((WEIGHTS[b, m] * MEMORY[b, m] for m in range(M)), torch.zeros(H)) for b in range(B)])
    assert_equal(reference.summarize(WEIGHTS, MEMORY), wanted, "summary")


@pytest.mark.parametrize(
    ("function", "inputs"),
    [
        (reference.additive_scores, (KEYS, QUERY, draw(D))),
        (reference.dot_scores, (KEYS, QUERY)),
        (reference.separable_term, (MEMORY, draw(H))),
        (reference.project, (MEMORY, draw(D, H))),
        (reference.summarize, (WEIGHTS, MEMORY)),
    ],
)
def test_gradients_are_the_derivatives(function: Any, inputs: tuple[Tensor, ...]) -> None:
    check: Any = torch.autograd.gradcheck
    assert check(function, tuple(tensor.clone().requires_grad_() for tensor in inputs))


def test_where_the_gradient_is_cut() -> None:
    """The paper's segments have k_trunc steps; the first segment of the release has one fewer."""
    steps = range(1, 12)
    assert [t for t in steps if reference.cuts_before(t, 4, "paper")] == [5, 9]
    assert [t for t in steps if reference.cuts_before(t, 4, "release")] == [4, 8]
    assert [t for t in steps if reference.cuts_before(t, 1, "paper")] == list(range(2, 12))
    assert [t for t in steps if reference.cuts_before(t, 1, "release")] == list(range(1, 12))
    for semantics in ("paper", "release"):
        assert not any(reference.cuts_before(t, None, semantics) for t in steps)


def test_when_a_memory_is_stored() -> None:
    assert [t for t in range(1, 12) if reference.stores_after(t, 3)] == [3, 6, 9]
    assert all(reference.stores_after(t, 1) for t in range(1, 5))
