"""Where the gradient goes, and where it must not go.

Shapes: T time, B batch, I input, H hidden.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from reminding import SAB
from reminding.nn.credit.bank import Bank
from reminding.nn.parts.memory import FAR, NOTHING
from tests.nn.samples import assert_same_gradients, assert_same_recall, draw, gradients, make
from tests.tolerance import assert_equal


def reach(layer: SAB, x: Tensor, step: int) -> list[int]:
    """The steps whose input receives gradient from the output of `step`; all steps count from 1."""
    x = x.clone().requires_grad_()
    (found,) = torch.autograd.grad(layer(x)[0][step - 1].sum(), x)
    return [t + 1 for t in range(len(x)) if found[t].any()]


def test_one_memory_gives_credit_to_its_own_segment_only() -> None:
    """k_trunc=4, and each segment ends with a memory. Step 10 recalls the one of step 8, of step 4, or both."""
    x = draw(12, 1, 3)
    layer = make(k_top=1, k_trunc=4)
    recalled = int(layer(x, return_recall=True)[2].step[9, 0, 0])
    own = {9, 10}
    hop = set(range(recalled - 3, recalled + 1))
    assert recalled in (4, 8)
    assert own | hop <= set(reach(layer, x, 10))
    assert reach(layer, x, 4) == [1, 2, 3, 4]


@pytest.mark.parametrize("normalizer", ["softmax", "softmax1", "threshold"])
def test_without_backtracking_nothing_older_than_the_segment_gets_credit(normalizer: str) -> None:
    options: dict[str, Any] = {"k_top": 3, "k_att": 2, "k_trunc": 5, "normalizer": normalizer}
    free, blind = make(**options), make(**options, backtrack=False)
    x = draw(14, 2, 3)
    assert_equal(blind(x)[0], free(x)[0], "output")
    assert_same_recall(blind(x, return_recall=True)[2], free(x, return_recall=True)[2])
    for step in (3, 5, 6, 10, 11, 14):
        segment = [s for s in range(1, step + 1) if (s - 1) // 5 == (step - 1) // 5]
        assert reach(blind, x, step) == segment
    everything = [*range(1, 5), *range(6, 15)]  # step 5 ends a segment but is not stored, so nothing can recall it
    assert reach(free, x, 14) == everything


def test_without_backtracking_the_memories_inside_a_segment_give_no_gradient_either() -> None:
    """One segment whose state is carried nowhere: only a read memory could carry credit past the cut."""
    layer = make(k_top=1, k_att=1, k_trunc=1, backtrack=False)
    x = draw(6, 1, 3)
    assert [reach(layer, x, step) for step in range(1, 7)] == [[1], [2], [3], [4], [5], [6]]


def test_the_scorer_still_learns_without_backtracking() -> None:
    layer = make(k_top=2, k_att=2, k_trunc=3, backtrack=False)
    found = gradients(layer, layer(draw(12, 2, 3))[0].pow(2).sum())
    for name in ("score_memory_l0", "score_query_l0", "score_out_l0"):
        assert found[name].any(), name


def test_the_best_alone_teaches_the_papers_scorer_nothing() -> None:
    """k_top=1 with the paper's rule: the one weight is always 1 once there are two memories."""
    layer = make(k_top=1, k_att=1, normalizer="threshold")
    output, _, recall = layer(draw(12, 2, 3), return_recall=True)
    assert_equal(recall.weight[2:], torch.ones_like(recall.weight[2:]), "weights")
    found = gradients(layer, output.pow(2).sum())
    for name in ("score_memory_l0", "score_query_l0", "score_out_l0"):
        assert_equal(found[name], torch.zeros_like(found[name]), name)


def test_in_the_release_the_best_alone_recalls_nothing() -> None:
    recall = make(k_top=1, k_att=1, semantics="release")(draw(12, 2, 3), return_recall=True)[2]
    assert not recall.summary[1:].any()
    assert not recall.step.any()


def test_in_the_release_the_query_does_not_choose() -> None:
    """The separable score: with more than k_top memories, the weights depend on the memories only."""
    layer = make(k_top=3, k_att=6, k_trunc=50, semantics="release")
    recall = layer(draw(35, 2, 3), return_recall=True)[2]
    for t in (19, 20, 21, 22, 25, 26, 27, 28):  # memories were stored after steps 6, 12, 18, 24, 30
        if t < 23:
            assert torch.equal(recall.step[t], recall.step[18])
            assert_equal(recall.weight[t], recall.weight[18], "weights")
        else:
            assert torch.equal(recall.step[t], recall.step[24])


@pytest.mark.parametrize("k_top", [0, 3])
def test_backward_may_run_twice(k_top: int) -> None:
    layer = make(k_top=k_top, k_att=1)
    x = draw(9, 2, 3).requires_grad_()
    loss = layer(x)[0].pow(2).sum()
    first, second = gradients(layer, loss, x=x), gradients(layer, loss, x=x)
    assert_same_gradients(first, second)
    loss.backward(retain_graph=True)
    loss.backward()
    assert x.grad is not None
    assert_equal(x.grad, 2 * first["x"], "accumulated gradient")


def test_the_summary_is_differentiable_and_is_what_was_added() -> None:
    """h = h_hat + s, so the summary is the output minus that of the cell alone."""
    layer = make(cell="rnn", k_top=2, k_att=1)
    x = draw(8, 2, 3).requires_grad_()
    output, _, recall = layer(x, return_recall=True)
    w = dict(layer.named_parameters())
    before = torch.cat([torch.zeros(1, 2, 4, dtype=torch.float64), output[:-1]])
    h_hat = torch.tanh(
        x @ w["weight_ih_l0"].T + w["bias_ih_l0"] + before @ w["weight_hh_l0"].T + w["bias_hh_l0"],
    )
    assert_equal(recall.summary, output - h_hat, "summary")
    assert gradients(layer, recall.summary.sum(), x=x)["x"].any()


def test_the_recall_names_the_steps_and_weighs_their_states() -> None:
    """s is the sum of the weights times the outputs of the steps that the recall names."""
    layer = make(k_top=3, k_att=2, k_trunc=4)
    output, _, recall = layer(draw(15, 2, 3), return_recall=True)
    for t in range(15):
        for b in range(2):
            steps, weights = recall.step[t, b], recall.weight[t, b]
            told = weights @ output[steps - 1, b]  # where nothing was recalled the weight is 0
            assert_equal(told, recall.summary[t, b], f"summary of step {t + 1}")
            assert (steps % 2 == 0).all()
            assert (steps <= t).all()
            assert weights.tolist() == sorted(weights.tolist(), reverse=True)


def test_nothing_is_recalled_before_something_was_stored() -> None:
    recall = make(k_top=2, k_att=5)(draw(7, 2, 3), return_recall=True)[2]
    assert not recall.step[:5].any()
    assert not recall.weight[:5].any()
    assert not recall.summary[:5].any()
    assert recall.step[5:, :, 0].tolist() == [[5, 5], [5, 5]]
    assert recall.weight[5:, :, 0].tolist() == [[1, 1], [1, 1]]


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("shift", [0, 2])
def test_credit_of_consecutive_memories_goes_where_that_of_single_ones_goes(shift: int, padded: bool) -> None:
    """Rows that are alike take a shorter way; rows that are not, or end in padding, go memory by memory."""
    torch.manual_seed(0)
    step = torch.arange(2, 22, 2).repeat(3, 1)
    step[1] += shift
    one, other = (Bank(torch.randn(3, 10, 4), step) for _ in range(2))
    asked, credit = step[:, 4:9].clone(), torch.randn(3, 5, 4)
    credit[0, 2] = 0
    if padded:
        asked[2, 3:], credit[2, 3:] = FAR, 0
    for _ in range(2):
        one.add_memories(torch.arange(3), asked, credit)
        rows = torch.arange(3).repeat_interleave(5)
        flat = asked.masked_fill(asked == FAR, NOTHING).view(1, -1)
        other.add(other.places(flat, rows)[0], credit.flatten(0, 1))
    assert one.credit is not None and other.credit is not None
    assert_equal(one.credit, other.credit, "credit")
    assert torch.equal(one.credited, other.credited)
    assert int(one.credited.sum()) == 14 - 2 * padded
