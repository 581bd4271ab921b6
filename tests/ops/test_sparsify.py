"""From scores to weights, one operation at a time.

Shapes: B batch, M memory slots, K k_top.
"""

from __future__ import annotations

from typing import Any, cast

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from reminding.ops.sparsify import (
    RELEASE_EPSILON,
    Normalizer,
    best_by_age,
    best_places,
    choose_normalizer,
    release_weights,
    softmax1_weights,
    softmax_weights,
    threshold_weights,
)
from tests.drawn import drawn

RULES: dict[str, Normalizer] = {
    "threshold": threshold_weights,
    "softmax": softmax_weights,
    "softmax1": softmax1_weights,
    "release": release_weights,
}
every_rule = pytest.mark.parametrize("rule", RULES.values(), ids=RULES.keys())
INFINITY = float("inf")


def row(*scores: float) -> Tensor:
    return torch.tensor([scores], dtype=torch.float64, requires_grad=True)


def scores_of(rows: int, slots: int, seed: int = 0) -> Tensor:
    """Scores at least 0.1 apart, in random order, so that none are near a tie."""
    generator = torch.Generator().manual_seed(seed)
    ranked = torch.arange(slots, dtype=torch.float64) * 0.3 - 1
    order = torch.stack([torch.randperm(slots, generator=generator) for _ in range(rows)])
    jitter = torch.rand(rows, slots, generator=generator, dtype=torch.float64) * 0.2
    return (ranked[order] + jitter).requires_grad_()


def close(got: Tensor, want: list[float]) -> bool:
    return torch.allclose(got, torch.tensor([want], dtype=torch.float64), rtol=0, atol=1e-12)


def test_the_papers_rule_by_hand() -> None:
    """With k_top=2, the third best score, 1, is subtracted; 4 and 3 remain and are divided by their sum."""
    assert close(threshold_weights(row(5, 0, 1, 4), 2), [4 / 7, 0, 0, 3 / 7])
    assert close(threshold_weights(row(5, 1, 4), 3), [4 / 7, 0, 3 / 7])
    assert close(threshold_weights(row(5, 1, 4), None), [4 / 7, 0, 3 / 7])
    assert close(threshold_weights(row(5), 2), [0])
    assert close(threshold_weights(row(5, 4), 1), [1, 0])


def test_the_softmax_by_hand() -> None:
    e = 2.718281828459045
    assert close(softmax_weights(row(1, 0, -3), 2), [e / (e + 1), 1 / (e + 1), 0])
    assert close(softmax_weights(row(1, 0), 5), [e / (e + 1), 1 / (e + 1)])
    assert close(softmax_weights(row(1, 0), None), [e / (e + 1), 1 / (e + 1)])
    assert close(softmax_weights(row(7), 1), [1])


def test_softmax1_by_hand() -> None:
    """This is the softmax with one more score of 0, whose weight goes to no memory."""
    e = 2.718281828459045
    assert close(softmax1_weights(row(1, 0, -3), 2), [e / (e + 2), 1 / (e + 2), 0])
    assert close(softmax1_weights(row(0), 5), [1 / 2])
    assert close(softmax1_weights(row(-800, -900), None), [0, 0])
    assert close(softmax1_weights(row(900), 1), [1])


def test_the_releases_rule_by_hand() -> None:
    """Up to k_top memories: the raw scores, signed. More: k_top - 1 survive; limit and sum are raised by epsilon."""
    assert close(release_weights(row(5, -1, 4), 3), [5, -1, 4])
    assert close(release_weights(row(5, -1, 4), None), [5, -1, 4])
    above = 1 - RELEASE_EPSILON
    assert close(release_weights(row(5, 4, 1, 0), 2), [above / (above + RELEASE_EPSILON), 0, 0, 0])
    assert close(release_weights(row(5, 4), 1), [0, 0])


@drawn(60)
@given(st.integers(1, 4), st.integers(1, 9), st.one_of(st.none(), st.integers(1, 10)), st.integers(0, 99))
def test_weights_are_shares_of_the_best(rows: int, slots: int, k_top: int | None, seed: int) -> None:
    scores = scores_of(rows, slots, seed)
    ranked = scores.argsort(1, descending=True)
    kept = slots if k_top is None else min(k_top, slots)
    for rule in (threshold_weights, softmax_weights):
        weights = rule(scores, k_top, None)
        alone = rule is threshold_weights and slots == 1
        assert torch.allclose(weights.sum(1), torch.full((rows,), 0.0 if alone else 1.0, dtype=torch.float64))
        assert (weights >= 0).all()
        assert not weights.gather(1, ranked[:, kept:]).any(), "none but the best"
        in_order = weights.gather(1, ranked)
        assert (in_order.diff(dim=1) <= 0).all(), "a better score weighs no less"
        assert torch.allclose(rule(scores + 3, k_top, None), weights), "only differences count"


@every_rule
@pytest.mark.parametrize("k_top", [1, 2, 4, None])
@pytest.mark.parametrize("slots", [1, 2, 3, 6])
@pytest.mark.parametrize("padded", [False, True], ids=["full", "padded"])
def test_the_gradient_is_the_derivative(rule: Normalizer, k_top: int | None, slots: int, padded: bool) -> None:
    count = torch.tensor([slots, max(slots - 2, 0), max(slots - 1, 1)]) if padded else None

    def weights(scores: Tensor) -> Tensor:
        return rule(scores, k_top, count)

    check: Any = torch.autograd.gradcheck
    assert check(weights, (scores_of(3, slots),))


@every_rule
@pytest.mark.parametrize("k_top", [1, 2, 3, 5, None])
def test_padding_is_as_if_it_were_not_there(rule: Normalizer, k_top: int | None) -> None:
    """Whatever unfilled slots hold, values and gradients depend on filled slots only. A row may have none."""
    slots, counts = 6, [6, 4, 1, 0]
    scores = scores_of(4, slots).detach()
    for filler in (0.0, 1e9, -1e9, INFINITY, -INFINITY, float("nan")):
        given = scores.clone()
        for i, filled in enumerate(counts):
            given[i, filled:] = filler
        given.requires_grad_()
        weights = rule(given, k_top, torch.tensor(counts))
        (found,) = torch.autograd.grad((weights * torch.arange(6)).sum(), given)
        for i, filled in enumerate(counts):
            assert not weights[i, filled:].any()
            assert not found[i, filled:].any()
            if filled:
                alone = scores[i : i + 1, :filled].clone().requires_grad_()
                wanted = rule(alone, k_top, None)
                assert torch.allclose(weights[i, :filled], wanted[0])
                (derivative,) = torch.autograd.grad((wanted * torch.arange(filled)).sum(), alone)
                assert torch.allclose(found[i, :filled], derivative[0], atol=1e-12)


@every_rule
@pytest.mark.parametrize("rows", [0, 3])
def test_no_row_or_no_filled_slot(rule: Normalizer, rows: int) -> None:
    scores = torch.full((rows, 4), 2.0, dtype=torch.float64, requires_grad=True)
    weights = rule(scores, 2, torch.zeros(rows, dtype=torch.int64))
    assert weights.shape == (rows, 4)
    assert not weights.any()
    (found,) = torch.autograd.grad(weights.sum(), scores)
    assert not found.any()


@pytest.mark.parametrize("scores", [(2.0, 2.0, 2.0), (5.0,), (0.0, 0.0)])
@pytest.mark.parametrize("k_top", [1, 2, None])
def test_where_all_scores_tie_the_papers_rule_recalls_nothing(scores: tuple[float, ...], k_top: int | None) -> None:
    given = row(*scores)
    weights = threshold_weights(given, k_top)
    assert not weights.any()
    (found,) = torch.autograd.grad((weights * torch.arange(len(scores))).sum(), given)
    assert not found.any()


def test_ties_at_the_papers_threshold() -> None:
    """Scores equal to the (k_top+1)-th get weight 0. If the k_top best are all equal to it, nothing is recalled."""
    assert close(threshold_weights(row(3, 2, 2, 1), 2), [1, 0, 0, 0])
    given = row(3, 3, 3, 1)
    weights = threshold_weights(given, 2)
    assert not weights.any()
    (found,) = torch.autograd.grad(weights[0, 0], given)
    assert not found.any()


def test_ties_under_the_softmax_share_among_k_top() -> None:
    given = row(2, 2, 2, 1)
    weights = softmax_weights(given, 2)
    assert close(weights.sort(1).values, [0, 0, 0.5, 0.5])
    (found,) = torch.autograd.grad((weights * torch.arange(4)).sum(), given)
    assert found.isfinite().all()


@every_rule
def test_one_row_that_ties_leaves_the_others_alone(rule: Normalizer) -> None:
    """No NaN leaks from a degenerate row, as it would through a masked division."""
    scores = torch.stack([torch.zeros(4, dtype=torch.float64), scores_of(1, 4)[0].detach()]).requires_grad_()
    weights = rule(scores, 2, None)
    (found,) = torch.autograd.grad((weights * torch.arange(4)).sum(), scores)
    assert weights.isfinite().all()
    assert found.isfinite().all()
    assert torch.allclose(weights[1:], rule(scores[1:], 2, None))


def test_the_best_alone_weighs_1_and_teaches_nothing() -> None:
    """With k_top=1 in the paper's rule, the weight is constant."""
    given = scores_of(5, 7)
    weights = threshold_weights(given, 1)
    assert torch.equal(weights.max(1).values, torch.ones(5, dtype=torch.float64))
    (found,) = torch.autograd.grad((weights * torch.arange(7)).sum(), given)
    assert torch.allclose(found, torch.zeros_like(found), atol=1e-12)


def test_where_the_papers_gradient_goes() -> None:
    """It reaches the k_top best and, through the threshold, the next one; with softmax only the k_top best."""
    given = row(5, 4, 3, 2, 1)
    for rule, reached in ((threshold_weights, 3), (softmax_weights, 2)):
        (found,) = torch.autograd.grad((rule(given, 2, None) * torch.arange(5)).sum(), given)
        assert [bool(g) for g in found[0]] == [i < reached for i in range(5)]
        assert abs(float(found.sum())) < 1e-12, "a common shift changes nothing"


def test_the_softmax_keeps_its_gradient_small_where_the_papers_explodes() -> None:
    """The reason why softmax is the default: three scores are within 1e-6 of each other."""
    given = row(1e-6, 5e-7, 0)
    sizes: list[float] = []
    for rule in (threshold_weights, softmax_weights):
        (found,) = torch.autograd.grad(rule(given, 2, None)[0, 0], given)
        sizes.append(float(found.abs().max()))
    assert sizes[0] > 1e5
    assert sizes[1] < 1


@every_rule
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
def test_types_are_kept(rule: Normalizer, dtype: torch.dtype) -> None:
    scores = scores_of(3, 6).detach().to(dtype)
    for count in (None, torch.tensor([6, 2, 0])):
        weights = rule(scores, 3, count)
        assert weights.dtype == dtype
        assert weights.isfinite().all()


def test_each_semantics_has_its_own_threshold() -> None:
    assert choose_normalizer("threshold", "paper") is threshold_weights
    assert choose_normalizer("threshold", "release") is release_weights
    assert choose_normalizer("softmax", "paper") is softmax_weights
    assert choose_normalizer("softmax", "release") is softmax_weights


@drawn(150)
@given(st.integers(1, 3), st.integers(1, 200), st.data())
def test_of_equal_scores_the_oldest_is_the_best(rows: int, slots: int, data: st.DataObject) -> None:
    """Few slots are sorted and of many the best are selected, by the same rule; NaN is the best, as in a sort."""
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 1000)))
    ranks = data.draw(st.integers(1, slots))
    scores = torch.randint(-2, 3, (rows, slots), generator=generator).double()
    strange = data.draw(st.sampled_from([float("nan"), INFINITY, -INFINITY]))
    scores[torch.rand(rows, slots, generator=generator) < 0.1] = strange
    rank = cast("list[list[float]]", scores.nan_to_num(INFINITY, INFINITY, -INFINITY).tolist())
    want = [sorted(range(slots), key=lambda slot: (-row[slot], slot))[:ranks] for row in rank]
    assert best_places(scores, ranks).tolist() == want
    assert best_by_age(scores, ranks).tolist() == [sorted(places) for places in want]
