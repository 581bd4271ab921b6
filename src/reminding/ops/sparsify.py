"""Scores to sparse attention weights: the normalisers of the recall step.

Shapes: B batch, M memory slots, K k_top.

`count` (B,) says how many slots of each row are filled, oldest first; the slots behind them are
padding, score nothing and weigh 0. None means that every slot of every row is filled, and saves the
masking. `k_top=None` stands for "as many as there are".
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

RELEASE_EPSILON = 1e-7


def threshold_weights(scores: Tensor, k_top: int | None, count: Tensor | None = None) -> Tensor:
    """The paper's sparse weights: what exceeds the (k_top+1)-th best score.   [Ke et al. 2018, Algorithm 1]

    w_i = relu(a_i - thr) / sum_j relu(a_j - thr), with thr the (k_top+1)-th largest score of the row, or
    its smallest while there are fewer.

    Args:
        scores: one score per slot, (B, M), M >= 1.
        k_top: how many slots may get a weight, at least 1.
        count: filled slots per row, (B,); None: all M.

    Returns:
        weights (B, M): rows sum to 1, or are all 0 where every kept score ties.
    Gradient: reaches the k_top best scores and, through thr, the (k_top+1)-th; none in rows of zeros.
    """
    scores, filled = mask_padding(scores, count)
    limit = _ranked_score(scores, _rank(k_top, scores, extra=1), filled)  # (B, 1)
    excess = torch.relu(scores - limit)  # (B, M)
    total = excess.sum(1, keepdim=True)
    return excess / torch.where(total > 0, total, torch.ones_like(total))


def softmax_weights(scores: Tensor, k_top: int | None, count: Tensor | None = None) -> Tensor:
    """Softmax over the k_top best scores, over all while there are fewer; 0 for the others.

    Unlike the paper's rule it has no denominator that vanishes when scores tie, so its gradient stays bounded.

    Args and shapes as `threshold_weights`.

    Returns:
        weights (B, M): rows sum to 1; all 0 in rows without a filled slot.
    Gradient: reaches the k_top best scores only.
    """
    scores, filled = mask_padding(scores, count)
    best = scores.topk(_rank(k_top, scores, extra=0), dim=1)
    kept = best.values  # (B, K)
    if filled is None:
        return torch.zeros_like(scores).scatter(1, best.indices, kept.softmax(1))
    # A row without memories has only -inf to offer, whose softmax is not a number.
    empty = (filled == 0).unsqueeze(1)
    weights = kept.masked_fill(empty, 0.0).softmax(1).masked_fill(empty, 0.0)
    return torch.zeros_like(scores).scatter(1, best.indices, weights)


def softmax1_weights(scores: Tensor, k_top: int | None, count: Tensor | None = None) -> Tensor:
    """Softmax over the k_top best scores and over recalling nothing, whose score is 0.   [Miller 2023, "softmax1"]

    w_i = exp(a_i) / (1 + sum_j exp(a_j)): as if one more memory, of zeros, were always among those recalled
    (`add_zero_attn` of `nn.MultiheadAttention`). So a step can leave its memories alone.

    Args and shapes as `threshold_weights`.

    Returns:
        weights (B, M): rows sum to less than 1; all 0 in rows without a filled slot.
    Gradient: reaches the k_top best scores only.
    """
    scores = mask_padding(scores, count)[0]
    best = scores.topk(_rank(k_top, scores, extra=0), dim=1)
    nothing = torch.zeros_like(best.values[:, :1])
    weights = torch.cat([nothing, best.values], dim=1).softmax(1)[:, 1:]  # (B, K); the padding's -inf weighs 0
    return torch.zeros_like(scores).scatter(1, best.indices, weights)


def release_weights(scores: Tensor, k_top: int | None, count: Tensor | None = None) -> Tensor:
    """What the authors' published code computes in the place of `threshold_weights`.

    With more than k_top memories: thr is the k_top-th best score plus 1e-7, so k_top - 1 survive, and
    the sum gets another 1e-7. With k_top memories or fewer: the raw scores themselves, signed and
    unnormalised.

    Args and shapes as `threshold_weights`.
    Gradient: as autograd gives it for these equations; through thr into the k_top-th score.
    """
    scores, filled = mask_padding(scores, count)
    slots = scores.shape[1]
    raw = scores if filled is None else scores.masked_fill(scores.isneginf(), 0.0)
    if k_top is None or slots <= k_top:
        return raw
    limit = _ranked_score(scores, k_top, filled) + RELEASE_EPSILON
    excess = torch.relu(scores - limit)
    weights = excess / (excess.sum(1, keepdim=True) + RELEASE_EPSILON)
    if filled is None:
        return weights
    return torch.where((filled <= k_top).unsqueeze(1), raw, weights)


def _rank(k_top: int | None, scores: Tensor, extra: int) -> int:
    slots = scores.shape[1]
    return slots if k_top is None else min(k_top + extra, slots)


def mask_padding(scores: Tensor, count: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Scores with -inf on the padding, and the filled slots per row on the scores' device, (B,)."""
    if count is None:
        return scores, None
    filled = count.to(scores.device)
    slot = torch.arange(scores.shape[1], device=scores.device)
    return scores.masked_fill(slot >= filled.unsqueeze(1), float("-inf")), filled


def _ranked_score(scores: Tensor, rank: int, filled: Tensor | None) -> Tensor:
    """The rank-th largest score of each row, its smallest while there are fewer, (B, 1)."""
    best = scores.topk(rank, dim=1).values  # (B, rank)
    if filled is None:
        return best[:, -1:]
    last = filled.clamp(1, rank).unsqueeze(1) - 1
    # In a row without memories the limit would be -inf, and -inf minus itself is not a number.
    return best.gather(1, last).masked_fill((filled == 0).unsqueeze(1), 0.0)


Normalizer = Callable[[Tensor, int | None, Tensor | None], Tensor]
SOFTMAX: dict[str, Normalizer] = {"softmax": softmax_weights, "softmax1": softmax1_weights}
"""The normalisers that no score behind the k_top best takes part in, by name."""
NORMALIZERS = ("threshold", *SOFTMAX)
"""What `normalizer` may be."""


def choose_normalizer(name: str, semantics: str) -> Normalizer:
    """The function for `normalizer` and `semantics`: each semantics has its own "threshold"."""
    if name != "threshold":
        return SOFTMAX[name]
    return release_weights if semantics == "release" else threshold_weights
