"""The oracle: one plain function per equation of Sparse Attentive Backtracking.

Every faster path is tested against these. They are written to be read next to the paper
(Ke et al. 2018, arXiv 1809.03702, Algorithm 1), and autograd differentiates them as they stand.

Shapes: B batch, I input, H hidden, D score width, M memory slots, K k_top.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F


def lstm_cell(
    x: Tensor, h: Tensor, c: Tensor, weights: tuple[Tensor | None, ...], forget_scale: float = 1.0
) -> tuple[Tensor, Tensor]:
    """One LSTM step: h_hat, c = cell(x, (h, c)), gates in the order i, f, g, o.   [as torch.nn.LSTMCell]

    Args:
        x: input, (B, I); h, c: state, (B, H).
        weights: weight_ih (4H, I), weight_hh (4H, H), bias_ih, bias_hh (4H,) or None.
        forget_scale: what the forget gate is multiplied by, c = forget_scale * f * c + i * g.

    Returns:
        h_hat, c, both (B, H).
    """
    weight_ih, weight_hh, bias_ih, bias_hh = _recurrent(weights)
    if forget_scale == 1:
        return torch.lstm_cell(x, (h, c), weight_ih, weight_hh, bias_ih, bias_hh)
    gates = F.linear(x, weight_ih, bias_ih) + F.linear(h, weight_hh, bias_hh)
    i, f, g, o = gates.chunk(4, dim=1)
    c = forget_scale * torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(c), c


def gru_cell(
    x: Tensor, h: Tensor, weights: tuple[Tensor | None, ...], entering_gates: Tensor | None = None
) -> Tensor:
    """One GRU step, gates in the order r, z, n.   [as torch.nn.GRUCell]

    Args:
        x: input, (B, I); h: state, (B, H).
        weights: weight_ih (3H, I), weight_hh (3H, H), bias_ih, bias_hh (3H,) or None.
        entering_gates: what the gates take in the place of h, (B, H); None: h.

    Returns:
        h_hat (B, H).
    """
    weight_ih, weight_hh, bias_ih, bias_hh = _recurrent(weights)
    if entering_gates is None:
        return torch.gru_cell(x, h, weight_ih, weight_hh, bias_ih, bias_hh)
    from_x, from_h = F.linear(x, weight_ih, bias_ih), F.linear(entering_gates, weight_hh, bias_hh)
    (r_x, z_x, n_x), (r_h, z_h, n_h) = from_x.chunk(3, dim=1), from_h.chunk(3, dim=1)
    z = torch.sigmoid(z_x + z_h)
    return (1 - z) * torch.tanh(n_x + torch.sigmoid(r_x + r_h) * n_h) + z * h


def rnn_cell(x: Tensor, h: Tensor, weights: tuple[Tensor | None, ...]) -> Tensor:
    """One Elman step, h_hat = tanh(W_ih x + b_ih + W_hh h + b_hh).   [as torch.nn.RNNCell]

    Args:
        x: input, (B, I); h: state, (B, H).
        weights: weight_ih (H, I), weight_hh (H, H), bias_ih, bias_hh (H,) or None.

    Returns:
        h_hat (B, H).
    """
    weight_ih, weight_hh, bias_ih, bias_hh = _recurrent(weights)
    return torch.rnn_tanh_cell(x, h, weight_ih, weight_hh, bias_ih, bias_hh)


def _recurrent(weights: tuple[Tensor | None, ...]) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
    weight_ih, weight_hh, bias_ih, bias_hh = weights
    assert weight_ih is not None and weight_hh is not None, "only the biases may be left out"
    return weight_ih, weight_hh, bias_ih, bias_hh


def cuts_before(step: int, k_trunc: int | None, semantics: str) -> bool:
    """Whether (h, c) are detached before this step, counted from 1.   [Ke et al. 2018, section 3.2]

    In the paper's semantics a segment is k_trunc steps; in the release's the first has k_trunc - 1.
    """
    if k_trunc is None:
        return False
    if semantics == "release":
        return step % k_trunc == 0
    return step > 1 and (step - 1) % k_trunc == 0


def stores_after(step: int, k_att: int) -> bool:
    """Whether h is appended to the memory after this step, counted from 1."""
    return step % k_att == 0


def project(vectors: Tensor, weight: Tensor) -> Tensor:
    """W1 m (a key, computed once when a memory is stored) or W2 h_hat: (..., H) to (..., D)."""
    return F.linear(vectors, weight)


def additive_scores(keys: Tensor, query: Tensor, out: Tensor) -> Tensor:
    """a_i = W3 . tanh(W1 m_i + W2 h_hat).   [Ke et al. 2018, Algorithm 1]

    Args:
        keys: W1 m_i, (B, M, D); query: W2 h_hat, (B, D); out: W3, (D,).

    Returns:
        scores (B, M).
    """
    return torch.tanh(keys + query.unsqueeze(1)) @ out


def dot_scores(keys: Tensor, query: Tensor) -> Tensor:
    """a_i = W1 m_i . W2 h_hat / sqrt(D).   [scaled dot product, Vaswani et al. 2017]

    Args:
        keys: W1 m_i, (B, M, D); query: W2 h_hat, (B, D).

    Returns:
        scores (B, M).
    """
    return torch.bmm(keys, query.unsqueeze(2)).squeeze(2) / math.sqrt(query.shape[1])


def separable_term(vectors: Tensor, weight: Tensor) -> Tensor:
    """One side of the release's score, w . tanh([h_hat; m_i]): half of w against h_hat or m_i, (..., H) to (...)."""
    return torch.tanh(vectors) @ weight


def summarize(weights: Tensor, memory: Tensor) -> Tensor:
    """S = sum_i w_i m_i.   [Ke et al. 2018, Algorithm 1]

    Args:
        weights: (B, M); memory: (B, M, H).

    Returns:
        summary (B, H).
    """
    return torch.bmm(weights.unsqueeze(1), memory).squeeze(1)
