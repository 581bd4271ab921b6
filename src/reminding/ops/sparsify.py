"""Scores to sparse attention weights: the normalisers of the recall step.

Each rule is written once, for scores that are ranked already, best first; `*_weights` applies it to the scores of all
memories. The C++ op (csrc/recall.h) and the Triton kernels (triton/device.py) have the same rules, by the same names.

Shapes: B batch, M memory slots, K ranks.

`count` (B,) says how many slots of each row are filled, oldest first; the slots behind them are
padding, score nothing and weigh 0. None means that every slot of every row is filled, and saves the
masking. `k_top=None` stands for "as many as there are".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

RELEASE_EPSILON = 1e-7
NOTHING = -1
"""In the place of a rank, a slot or a stream step where there is none."""
SORTED = 64
"""So many scores of a row are sorted to find the best; sorting more would take longer than computing them."""


class RankedWeights(NamedTuple):
    """The weights of ranked scores, and what else a backward pass by hand needs.

    Attributes:
        weights: of each score, (..., K).
        recalled: which of them were recalled, (..., K) bool; a recalled score may weigh 0.
        edge: the rank of the score that set the threshold, NOTHING where none did, (...) int64.
        inverse: what excesses over the threshold were multiplied by, 1 for a softmax; 0 where nothing was recalled,
            -1 where the scores themselves are the weights, (...).
    """

    weights: Tensor
    recalled: Tensor
    edge: Tensor
    inverse: Tensor


def rank_threshold(scores: Tensor, k_top: int, filled: Tensor) -> RankedWeights:
    """`threshold_weights` of ranked scores.

    Args:
        scores: best first, (..., K), K at most k_top + 1; -inf behind the filled ones.
        filled: how many scores are of memories, (...) int64.
    """
    return _excess(scores, (filled - 1).clamp(0, k_top), filled, 0.0)


def rank_release(scores: Tensor, k_top: int, filled: Tensor) -> RankedWeights:
    """`release_weights` of ranked scores; arguments as `rank_threshold`'s."""
    ranked = _excess(scores, (filled - 1).clamp(0, k_top - 1), filled, RELEASE_EPSILON)
    raw = (filled <= k_top) & (filled > 0)
    if not torch.compiler.is_compiling() and not bool(raw.any()):  # a graph for all inputs takes no such way out
        return ranked
    read = _places(scores) < filled.unsqueeze(-1)
    return RankedWeights(
        weights=torch.where(raw.unsqueeze(-1), scores.masked_fill(~read, 0.0), ranked.weights),
        recalled=torch.where(raw.unsqueeze(-1), read, ranked.recalled),
        edge=ranked.edge.masked_fill(raw, NOTHING),
        inverse=ranked.inverse.masked_fill(raw, -1.0),
    )


def rank_softmax(scores: Tensor, k_top: int, filled: Tensor) -> RankedWeights:
    """`softmax_weights` of ranked scores; arguments as `rank_threshold`'s, K at most k_top."""
    # A row without memories has only -inf to offer, whose softmax is not a number.
    empty = (filled == 0).unsqueeze(-1)
    weights = scores.masked_fill(empty, 0.0).softmax(-1).masked_fill(empty, 0.0)
    return _every(weights, filled)


def rank_softmax1(scores: Tensor, k_top: int, filled: Tensor) -> RankedWeights:
    """`softmax1_weights` of ranked scores; arguments as `rank_softmax`'s."""
    nothing = torch.zeros_like(scores[..., :1])
    weights = torch.cat([nothing, scores], dim=-1).softmax(-1)[..., 1:]  # the padding's -inf weighs 0
    return _every(weights, filled)


def _places(scores: Tensor) -> Tensor:
    return torch.arange(scores.shape[-1], device=scores.device)


def _every(weights: Tensor, filled: Tensor) -> RankedWeights:
    """Weights of a rule by which all that is ranked is recalled."""
    edge = torch.full_like(filled, NOTHING)
    return RankedWeights(weights, _places(weights) < filled.unsqueeze(-1), edge, (filled > 0).to(weights.dtype))


def _excess(scores: Tensor, last: Tensor, filled: Tensor, epsilon: float) -> RankedWeights:
    """What exceeds the score at rank `last`, (...), over the sum of it."""
    at_edge = scores.gather(-1, last.unsqueeze(-1)) + epsilon  # (..., 1)
    # In a row without memories the limit would be -inf, and -inf minus itself is not a number.
    limit = at_edge.masked_fill((filled == 0).unsqueeze(-1), 0.0)
    excess = torch.relu(scores - limit)
    total = excess.sum(-1, keepdim=True)
    positive = total > 0
    weights = excess / torch.where(positive, total + epsilon, torch.ones_like(total))
    with torch.no_grad():
        inverse = torch.where(positive, 1 / (total + epsilon), torch.zeros_like(total)).squeeze(-1)
    return RankedWeights(weights, excess > 0, last.masked_fill(~positive.squeeze(-1), NOTHING), inverse)


RankRule = Callable[[Tensor, int, Tensor], RankedWeights]


@dataclass(frozen=True)
class Normalizer:
    """A rule from scores to sparse weights.

    Attributes:
        rank: the rule for ranked scores.
        behind: how many scores behind the k_top best take part in it.
    """

    rank: RankRule
    behind: int

    def ranks(self, k_top: int) -> int:
        """How many of the best scores decide the weights."""
        return k_top + self.behind if k_top else 0

    def __call__(self, scores: Tensor, k_top: int | None, count: Tensor | None = None) -> Tensor:
        """The weight of every slot, (B, M), 0 where nothing is recalled.

        Args:
            scores: one score per slot, (B, M), M >= 1.
            k_top: how many slots may get a weight, at least 1; None: all.
            count: filled slots per row, (B,); None: all M.
        """
        scores, filled = mask_padding(scores, count)
        slots = scores.shape[1]
        top = slots if k_top is None else k_top
        best = best_places(scores, min(self.ranks(top), slots))
        if filled is None:
            filled = torch.full((len(scores),), slots, device=scores.device)
        ranked = self.rank(scores.gather(1, best), top, filled.clamp(max=best.shape[1]))
        return torch.zeros_like(scores).scatter(1, best, ranked.weights)


threshold_weights = Normalizer(rank_threshold, behind=1)
"""The paper's sparse weights: what exceeds the (k_top+1)-th best score.   [Ke et al. 2018, Algorithm 1]

w_i = relu(a_i - thr) / sum_j relu(a_j - thr), with thr the (k_top+1)-th largest score of the row, or its smallest
while there are fewer. Rows sum to 1, or are all 0 where every kept score ties.

Gradient: reaches the k_top best scores and, through thr, the (k_top+1)-th; none in rows of zeros.
"""
softmax_weights = Normalizer(rank_softmax, behind=0)
"""Softmax over the k_top best scores, over all while there are fewer; 0 for the others.

Unlike the paper's rule it has no denominator that vanishes when scores tie, so its gradient stays bounded. Rows sum
to 1; all 0 in rows without a filled slot.

Gradient: reaches the k_top best scores only.
"""
softmax1_weights = Normalizer(rank_softmax1, behind=0)
"""Softmax over the k_top best scores and over recalling nothing, whose score is 0.   [Miller 2023, "softmax1"]

w_i = exp(a_i) / (1 + sum_j exp(a_j)): as if one more memory, of zeros, were always among those recalled
(`add_zero_attn` of `nn.MultiheadAttention`). So a step can leave its memories alone: rows sum to less than 1.

Gradient: reaches the k_top best scores only.
"""
release_weights = Normalizer(rank_release, behind=1)
"""What the authors' published code computes in the place of `threshold_weights`.

With more than k_top memories: thr is the k_top-th best score plus 1e-7, so k_top - 1 survive, and the sum gets
another 1e-7. With k_top memories or fewer: the raw scores themselves, signed and unnormalised. The (k_top+1)-th best
score only distinguishes the two cases.

Gradient: as autograd gives it for these equations; through thr into the k_top-th score.
"""


def best_places(scores: Tensor, ranks: int) -> Tensor:
    """The slots of the best scores (B, M), best first, (B, ranks); of equal scores the oldest memory's is the best.

    `topk` leaves open which of equal scores it takes.
    """
    if scores.shape[1] <= SORTED or ranks == scores.shape[1]:
        return scores.detach().argsort(dim=1, descending=True, stable=True)[:, :ranks]
    place = best_by_age(scores, ranks)
    return place.gather(1, scores.detach().gather(1, place).argsort(dim=1, descending=True, stable=True))


def best_by_age(scores: Tensor, ranks: int) -> Tensor:
    """The same slots, oldest first, in operations that a graph for any number of slots can hold."""
    slots, scores = scores.shape[1], scores.detach().nan_to_num(torch.inf, torch.inf, -torch.inf)  # NaN is the best
    worst = scores.topk(ranks, dim=1).values[..., -1:]  # [:, -1:] would bound the batch where PyTorch 2.6 exports it
    above, level = scores > worst, scores == worst
    chosen = above | (level & (level.cumsum(1) <= ranks - above.sum(1, keepdim=True)))
    return (chosen * (slots - torch.arange(slots, device=scores.device))).topk(ranks, dim=1).indices


def mask_padding(scores: Tensor, count: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Scores with -inf on the padding, and the filled slots per row on the scores' device, (B,)."""
    if count is None:
        return scores, None
    filled = count.to(scores.device)
    slot = torch.arange(scores.shape[1], device=scores.device)
    return scores.masked_fill(slot >= filled.unsqueeze(1), float("-inf")), filled


_RULES = {"threshold": threshold_weights, "softmax": softmax_weights, "softmax1": softmax1_weights}
NORMALIZERS = tuple(_RULES)
"""What `normalizer` may be."""


def choose_normalizer(name: str, semantics: str) -> Normalizer:
    """The rule for `normalizer` and `semantics`: each semantics has its own "threshold"."""
    return release_weights if (name, semantics) == ("threshold", "release") else _RULES[name]
